"""The listing: a program on arrays as a list of values, each made from earlier ones.

    v5 = matmul(v1, v3)            (16, 64) float32
    v6 = add(v5, v4)               (16, 64) float32

A value is what happens to one array at one step of time. Equal values are one value: whoever asks for an operation on
the same operands a second time gets the first answer.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..backend import is_floating

_WORDS = frozenset({"slice", "step", "batch"})  # that the compiler itself uses in settings


class Value:
    """One line of a listing.

    op          what makes it: an operation, or where it comes from ("carry", "x", "constant", "scalar")
    inputs      the values it is made from
    attributes  the settings of the operation, as sorted pairs
    """

    __slots__ = ("attributes", "dtype", "inputs", "number", "op", "shape")

    def __init__(self, number: int, op: str, inputs: tuple, attributes: tuple, shape: tuple[int, ...], dtype: Any):
        self.number = number
        self.op = op
        self.inputs: tuple[Value, ...] = inputs
        self.attributes = attributes
        self.shape = shape
        self.dtype = dtype

    def __getitem__(self, attribute: str) -> Any:
        return dict(self.attributes)[attribute]

    def with_inputs(self, graph: Graph, inputs: Sequence[Value]) -> Value:
        """The same operation on other values."""
        if tuple(inputs) == self.inputs:
            return self
        sliced = inputs and inputs[0].op in ("transpose", "getitem", "broadcast_to")
        op = "rearrange" if self.op == "reshape" and sliced else self.op
        return graph.add(op, inputs, self.shape, self.dtype, **dict(self.attributes))

    def is_like(self, other: Value) -> bool:
        """Whether the two have one shape and dtype."""
        return self.shape == other.shape and self.dtype == other.dtype

    @property
    def name(self) -> str:
        return repr(self["value"]) if self.op == "scalar" else f"v{self.number}"

    def __repr__(self) -> str:
        settings = [f"{key}={value}" for key, value in self.attributes]
        text = f"{self.name} = {self.op}({', '.join([v.name for v in self.inputs] + settings)})"
        return f"{text:<44} {self.shape} {self.dtype}"


class Graph:
    """A growing list of values, and the arrays that the program was found to use from outside ("constant")."""

    def __init__(self, arrays: type = np.ndarray) -> None:
        self.arrays = arrays  # of which library those from outside are
        self.closed = False  # whether the trace is over, so that nobody is to compute with symbols any more
        self.values: list[Value] = []
        self._rows: list[Hashable] = []
        self.constants: list[Any] = []
        self._known: dict[Hashable, Value] = {}
        self._constants_by_identity: dict[int, Value] = {}

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.values))

    def add(
        self, op: str, inputs: Sequence[Value] = (), shape: tuple[int, ...] = (), dtype: Any = None, **attributes: Any
    ) -> Value:
        """The value of this operation: a new line, or the line that has it already."""
        pairs = tuple(sorted(attributes.items())) if attributes else ()
        if pairs and op != "scalar":
            pairs = tuple([(name, _plain(setting, op)) for name, setting in pairs])
        row = (op, tuple([v.number for v in inputs]), pairs, shape, dtype)
        value = self._known.get(row)
        if value is None:
            value = self._known[row] = Value(len(self.values), op, tuple(inputs), pairs, shape, dtype)
            self.values.append(value)
            self._rows.append(row)
        return value

    def scalar(self, number: float) -> Value:
        """A Python number: it takes the dtype of what it meets."""
        number = _plain(number, "scalar")
        if number != number:
            number = math.nan  # always the same one, for it equals nothing but itself
        return self.add("scalar", value=number, text=repr(number))

    def capture(self, array: Any) -> Value:
        """An array from outside, the same at every step; known again by its identity."""
        value = self._constants_by_identity.get(id(array))
        if value is None:
            value = self.add("constant", (), array.shape, array.dtype, position=len(self.constants))
            self.constants.append(array)
            self._constants_by_identity[id(array)] = value
        return value

    def zeros(self, like: Value) -> Value:
        """Zeros in the shape of a value: what has no gradient."""
        return self.add("zeros", (), like.shape, like.dtype)

    def forget(self) -> None:
        """Let go of the arrays from outside: others stand in their places at every call."""
        self.constants = [None] * len(self.constants)
        self._constants_by_identity.clear()

    def key(self) -> Hashable:
        """What two listings have in common that do the same to arrays of the same shapes."""
        return tuple(self._rows)


def _plain(setting: Any, op: str) -> Any:
    """A setting as plain numbers in tuples, which print as what they are: settings are written into source, and there a
    string would be executed, and a number of NumPy's or of a class of one's own has a name that means nothing."""
    if setting is None or type(setting) in (bool, int, float) or (type(setting) is str and setting in _WORDS):
        return setting
    if isinstance(setting, (tuple, list)):
        return tuple([_plain(item, op) for item in setting])
    if isinstance(setting, (bool, np.bool_)):
        return bool(setting)
    if isinstance(setting, Integral):
        return int(setting)
    if isinstance(setting, Real):
        return float(setting)
    raise TypeError(f"{op}: a setting is {setting!r}, a {type(setting).__name__}; expected numbers, or tuples of them")


def broadcast_shape(operands: Sequence[Value]) -> tuple[int, ...]:
    """The shape of an elementwise operation."""
    shapes = {v.shape for v in operands if v.shape}
    return shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)


def dtype_of(op: str, operands: Sequence[Value]) -> Any:
    """The dtype that NumPy gives the elementwise operation; Python numbers are weak."""
    arrays = {v.dtype for v in operands if v.op != "scalar"}
    if len(arrays) == 1:
        (dtype,) = arrays
        if is_floating(dtype):  # the common case, and for bfloat16 NumPy does not know that numbers are weak
            return dtype
    kinds = [v["value"] if v.op == "scalar" else v.dtype for v in operands]
    if op in ("where", "matmul", "concat"):
        return np.result_type(*kinds)
    return getattr(np, op)(*(np.empty(0, x) if isinstance(x, np.dtype) else x for x in kinds)).dtype
