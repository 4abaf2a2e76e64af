"""Graph IR: operations on arrays as values in SSA form, and programs that run a graph once per time step.

The step z = σ(x + h U), h' = (1 − z) ⊙ h + z ⊙ tanh x of a small gated recurrent unit:

    v0 = carry(position=0)                       (2, 4) float32
    v1 = x(position=0)                           (2, 4) float32
    v2 = constant(position=0)                    (4, 4) float32
    v3 = matmul(v0, v2)                          (2, 4) float32
    v4 = add(v1, v3)                             (2, 4) float32
    v6 = minimum(v4, 40.0)                       (2, 4) float32
    v7 = exp(v6)                                 (2, 4) float32
    v9 = add(1, v7)                              (2, 4) float32
    v10 = divide(v7, v9)                         (2, 4) float32
    v11 = subtract(1, v10)                       (2, 4) float32
    v12 = multiply(v11, v0)                      (2, 4) float32
    v13 = tanh(v1)                               (2, 4) float32
    v14 = multiply(v10, v13)                     (2, 4) float32
    v15 = add(v12, v14)                          (2, 4) float32

`Graph.add` does common subexpression elimination: the same operation on the same operands is one value.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from numbers import Integral, Real
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from ..backend import Backend, is_floating, resolve

_WORDS = frozenset({"slice"})  # the strings that the compiler itself uses as attributes
_SCALARS = frozenset({bool, int, float, type(None)})
_number, _inputs, _shape, _dtype = map(attrgetter, ("number", "inputs", "shape", "dtype"))


class Value:
    """A value of a graph: the result of one operation at one time step.

    op          the defining operation, or the source: "carry", "x", "constant", "cotangent", "scalar"
    inputs      its operands
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
        """The same operation on other operands."""
        inputs = tuple(inputs)
        if inputs == self.inputs:
            return self
        sliced = inputs and inputs[0].op in ("transpose", "getitem", "broadcast_to")
        op = "rearrange" if self.op == "reshape" and sliced else self.op
        return graph.intern(op, inputs, self.attributes, self.shape, self.dtype)

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
    """A growing list of values, and the arrays that the step closes over ("constant")."""

    def __init__(self, arrays: type = np.ndarray, backend: Backend | None = None) -> None:
        self.arrays = arrays  # the type of the constants
        self.backend = backend or resolve("numpy")  # theirs
        self.closed = False  # whether the trace is over, so that traced arrays can no longer be used
        self.values: list[Value] = []
        self.constants: list[Any] = []
        self.checks: list[Any] = []  # of indices, in the order in which the step asks for them
        self._rows: dict[Hashable, Value] = {}  # all that defines a value, in order
        self._constants_by_identity: dict[int, Value] = {}

    def __repr__(self) -> str:
        return "\n".join([repr(value) for value in self.values if value.op != "scalar"])

    def add(
        self, op: str, inputs: Sequence[Value] = (), shape: tuple[int, ...] = (), dtype: Any = None, **attributes: Any
    ) -> Value:
        """The value of this operation: a new one, or the one that the graph has already."""
        pairs = tuple(sorted(attributes.items())) if attributes else ()
        if pairs and op != "scalar":
            pairs = tuple([(name, x if type(x) in _SCALARS else _literal(x, op)) for name, x in pairs])
        return self.intern(op, tuple(inputs), pairs, shape, dtype)

    def intern(
        self, op: str, inputs: tuple[Value, ...], attributes: tuple, shape: tuple[int, ...], dtype: Any
    ) -> Value:
        """`add` for attributes that are sorted literals already."""
        row = (op, tuple(map(_number, inputs)), attributes, shape, dtype)
        value = self._rows.get(row)
        if value is None:
            value = self._rows[row] = Value(len(self.values), op, inputs, attributes, shape, dtype)
            self.values.append(value)
        return value

    def scalar(self, number: float) -> Value:
        """A Python scalar; weakly typed: it takes the dtype of the operands beside it."""
        number = _literal(number, "scalar")
        if number != number:
            number = math.nan  # always the same one, for it equals nothing but itself
        return self.add("scalar", value=number, text=repr(number))

    def capture(self, array: Any) -> Value:
        """A closed-over array as a constant; one value for one array."""
        value = self._constants_by_identity.get(id(array))
        if value is None:
            value = self.add("constant", (), array.shape, array.dtype, position=len(self.constants))
            self.constants.append(array)
            self._constants_by_identity[id(array)] = value
        return value

    def zeros(self, like: Value) -> Value:
        """Zeros in the shape of a value: the gradient of a value that has none."""
        return self.add("zeros", (), like.shape, like.dtype)

    def forget(self) -> None:
        """Drop the constants: every call passes its own."""
        self.constants = [None] * len(self.constants)
        self._constants_by_identity.clear()

    def key(self) -> Hashable:
        """Equal for two graphs that compute the same of arrays of the same shapes."""
        return tuple(self._rows)


def _literal(setting: Any, op: str) -> Any:
    """A setting as plain Python scalars in tuples, whose repr is safe to put into generated source.

    A string would be executed there, and the repr of a NumPy scalar or of a user's class need not evaluate to it.
    """
    if type(setting) in _SCALARS or (type(setting) is str and setting in _WORDS):
        return setting
    if isinstance(setting, (tuple, list)):
        return tuple([item if type(item) in _SCALARS else _literal(item, op) for item in setting])
    if isinstance(setting, (bool, np.bool_)):
        return bool(setting)
    if isinstance(setting, Integral):
        return int(setting)
    if isinstance(setting, Real):
        return float(setting)
    raise TypeError(f"{op}: a setting is {setting!r}, a {type(setting).__name__}; expected numbers, or tuples of them")


def broadcast_shape(operands: Sequence[Value]) -> tuple[int, ...]:
    """The shape of an elementwise operation."""
    shapes = set(map(_shape, operands))
    shapes.discard(())
    return shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)


def dtype_of(op: str, operands: Sequence[Value]) -> Any:
    """The dtype that NumPy gives the elementwise operation; Python scalars are weakly typed."""
    dtypes = set(map(_dtype, operands))
    dtypes.discard(None)  # a scalar's
    if len(dtypes) == 1:
        (dtype,) = dtypes
        if is_floating(dtype):  # the common case, and for bfloat16 NumPy does not know that scalars are weak
            return dtype
    types = [v["value"] if v.op == "scalar" else v.dtype for v in operands]
    if op in ("where", "matmul", "concat"):
        return np.result_type(*types)
    return getattr(np, op)(*(np.empty(0, x) if isinstance(x, np.dtype) else x for x in types)).dtype


def fits(x: np.float64, dtype: Any) -> bool:
    """Whether a number is in the range of a floating-point dtype, so that it is rounded there and not lost."""
    if dtype is None or not is_floating(dtype):
        return True
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return bool(abs(float(x.astype(dtype)) - x) <= 0.01 * abs(x))


class LinearPart(NamedTuple):
    """Parts of the carry that are linear and diagonal in themselves: their next value is a ⊙ carry + b.

    One part, or two that are the real and the imaginary part of complex numbers, as are then the two a and the two b.
    """

    positions: tuple[int, ...]
    a: tuple[Value, ...]
    b: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """A graph that runs once per time step, forward or backward: carry, xs → new_carry, ys, and sums over all steps.

    The forward pass is a program whose carry is the state. The backward pass is one, too: its carry is the cotangent
    of the state, its xs are the residuals that the forward pass stored, and it runs from the last step to the first.
    A value that depends on neither carry nor xs is loop-invariant.

    linear  the parts of the carry, if all are linear and diagonal, in an order in which each can be computed for all
            steps: a and b depend on parts before it alone (`passes/linear.py`)
    """

    graph: Graph
    carry: tuple[Value, ...]
    xs: tuple[Value, ...]
    new_carry: tuple[Value, ...]
    ys: tuple[Value, ...]
    sums: tuple[Value, ...]
    linear: tuple[LinearPart, ...] = ()

    def __repr__(self) -> str:
        """The values that are needed, and in the last line the update of the carry, and the outputs."""
        lines = [repr(value) for value in self.values() if value.op != "scalar"]
        names = {
            "carry": [f"{old.name} -> {new.name}" for old, new in zip(self.carry, self.new_carry)],
            **{name: [value.name for value in getattr(self, name)] for name in ("xs", "ys", "sums")},
            "linear": [_linear_text([self.carry[i] for i in part.positions], part) for part in self.linear],
        }
        return "\n".join([*lines, "; ".join(f"{key} {', '.join(found)}" for key, found in names.items() if found)])

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        return (*self.new_carry, *self.ys, *self.sums, *self.coefficients)

    @cached_property
    def coefficients(self) -> tuple[Value, ...]:
        """The a and b of all linear parts."""
        return tuple([value for part in self.linear for value in (*part.a, *part.b)])

    @cached_property
    def inputs(self) -> frozenset[Value]:
        """The carry and the xs."""
        return frozenset((*self.carry, *self.xs))

    @cached_property
    def _topological(self) -> tuple[Value, ...]:
        found: set[Value] = set()
        stack = list(self.outputs)
        while stack:
            value = stack.pop()
            if value not in found:
                found.add(value)
                if value not in self.inputs:
                    stack.extend(value.inputs)
        return tuple(sorted(found, key=_number))

    def values(self) -> tuple[Value, ...]:
        """All values that the outputs need, carry and xs included, in topological order."""
        return self._topological

    @cached_property
    def uses(self) -> Counter[Value]:
        """How often each value is an operand or an output."""
        return Counter(chain(chain.from_iterable(map(_inputs, self._topological)), self.outputs))

    @cached_property
    def users(self) -> dict[Value, list[Value]]:
        """The operations that have a value as an operand."""
        users: dict[Value, list[Value]] = defaultdict(list)
        for value in self._topological:
            for operand in value.inputs if value not in self.inputs else ():
                users[operand].append(value)
        return users

    def depending_on(self, sources: Collection[Value]) -> set[Value]:
        """The sources, and the values that depend on one of them."""
        return changing(self._topological, sources, self.inputs)

    def rewritten(self, rewrite: Callable[[Value], Value]) -> Program:
        """The program with each output replaced by `rewrite` of it."""
        return replace(
            self,
            new_carry=tuple(map(rewrite, self.new_carry)),
            ys=tuple(map(rewrite, self.ys)),
            sums=tuple(map(rewrite, self.sums)),
            linear=tuple([LinearPart(i, tuple(map(rewrite, a)), tuple(map(rewrite, b))) for i, a, b in self.linear]),
        )

    def rebuilt(
        self, rule: Callable[[Value, Mapping[Value, Value]], Value | None], zeros: Collection[Value] = ()
    ) -> Program:
        """The program with every value replaced by `rule(value, rebuilt)`, given a mapping from each of its
        operands to the rebuilt one; where the rule gives None the value only gets its rebuilt operands.

        zeros  parts of the carry that are replaced by zeros
        """
        done = _Rebuilt(self, rule)
        done.update({value: self.graph.zeros(value) for value in zeros})
        for value in self._topological:
            done[value]
        return self.rewritten(done.__getitem__)


def _linear_text(carry: Sequence[Value], part: LinearPart) -> str:
    old, a, b = (" + i ".join([value.name for value in values]) for values in (carry, part.a, part.b))
    return f"{old} -> {a} * {old} + {b}" if len(carry) == 1 else f"{old} -> ({a}) * ({old}) + ({b})"


class _Rebuilt(dict):
    """From values to rebuilt ones; each is rebuilt when it is first looked up."""

    def __init__(self, program: Program, rule: Callable[[Value, Mapping[Value, Value]], Value | None]):
        super().__init__(zip(program.inputs, program.inputs))
        self.graph, self.rule = program.graph, rule

    def __missing__(self, value: Value) -> Value:
        result = self.rule(value, self)
        if result is None:
            inputs = tuple(map(self.__getitem__, value.inputs))
            result = value if inputs == value.inputs else value.with_inputs(self.graph, inputs)
        self[value] = result
        return result


def changing(values: Collection[Value], sources: Collection[Value], excluded: Collection[Value] = ()) -> set[Value]:
    """The sources and those of the `values`, in topological order, that depend on one and are not `excluded`."""
    found = set(sources)
    for value in values:
        if value not in excluded and not found.isdisjoint(value.inputs):
            found.add(value)
    return found
