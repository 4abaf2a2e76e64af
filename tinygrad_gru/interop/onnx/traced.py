"""Arrays that are computed and, on the way, written down as the nodes of an ONNX graph.

A `Traced` takes the place of an array inside a Tensor. The formulas of the ops are written against the array namespace
and operators alone, so that they run on it as they are: this is their reading as ONNX. It carries an example of its
value too, for a program looks at shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx

from ...backend import Backend
from ..errors import InteropError

LAST = np.iinfo(np.int64).max


class Node(NamedTuple):
    """A node to be written; `shapes` are those of what it read, in the example."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]


class Trace:
    """A graph that grows while a program runs.

    nodes      in the order in which they ran
    constants  arrays by name: parameters by theirs, others numbered
    depth      0 for a graph, 1 for the body of a node in it, and so on
    """

    def __init__(self, parameters: dict[str, np.ndarray], outer: Trace | None = None, reserved: Iterable[str] = ()):
        self.nodes: list[Node] = []
        self.root: Trace = outer.root if outer else self
        self.depth: int = outer.depth + 1 if outer else 0
        self._taken = set(reserved)  # names that values have, or will have
        self.constants: dict[str, np.ndarray] = {}
        self._known: dict[int, Traced] = {}  # by the array that stands for it
        self._count = 0
        self.parameters = {id(array): self._free(name) for name, array in parameters.items()}

    def body(self) -> Trace:
        """A trace for the body of a node; it sees the values of this one."""
        return Trace({}, self)

    def input(self, name: str, example: np.ndarray) -> Traced:
        """A value that comes from outside. Its example may stand for it: programs take ids as the arrays they are."""
        traced = Traced(self, name, example)
        self.root._known[id(example)] = traced
        return traced

    def find(self, array: Any, argument: str) -> Traced:
        """The value of the graph that is meant by `array`: one itself, or the example of an input."""
        if isinstance(array, Traced):
            return array
        found = self.root._known.get(id(array))
        if found is None:
            raise InteropError(
                f"{argument}: expected one of the inputs, or what was computed from them by Tensors, got an array that "
                "the graph cannot know (computed by NumPy in `forward`?)"
            )
        return found

    def constant(self, array: Any, name: str | None = None) -> str:
        """The name of a constant with these values."""
        known = self.root._known.get(id(array))
        if known is not None:
            return known.name
        root, array = self.root, np.asarray(array) if not hasattr(array, "dtype") else array
        if id(array) in root.parameters:
            name = root.parameters[id(array)]
        elif name is None:
            name = self.fresh("constant")
        elif name not in root.constants or not _same(root.constants[name], array):
            name = root._free(name)
        root.constants[name] = np.asarray(array)
        return name

    def emit(
        self, kind: str, inputs: Sequence[Any], examples: Iterable[Any], names: Sequence[str] = (), **settings: Any
    ) -> list[Traced]:
        """Add a node; returns its outputs, whose values in the example are given.

        inputs  Traced, arrays, names of constants, None for one that is left out
        """
        outputs = [Traced(self, self.fresh(kind.lower()), np.asarray(example)) for example in examples]
        read = tuple(self._name(x) for x in inputs)
        shapes = tuple(tuple(getattr(x, "shape", ())) for x in inputs)
        self.nodes.append(Node(kind, read, tuple(y.name for y in outputs), settings, shapes))
        return outputs

    def identity(self, x: Any) -> Traced:
        """The same value as one that a node of this trace has made, as graphs want their outputs."""
        return self.emit("Identity", (x,), [x.example if isinstance(x, Traced) else x])[0]

    def _name(self, x: Any) -> str:
        if x is None or isinstance(x, str):
            return x or ""
        return x.name if isinstance(x, Traced) else self.constant(x)

    def fresh(self, word: str) -> str:
        """A name that no other value has."""
        self.root._count += 1
        return self.root._free(f"{word}_{self.root._count}")

    def _free(self, name: str) -> str:
        """This name, or if it is taken one like it; it is taken then."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _binary(function: str, swap: bool = False) -> Callable[[Traced, Any], Any]:
    def operator(self: Traced, other: Any) -> Any:
        if not isinstance(other, (Traced, np.ndarray, np.generic, bool, int, float)):
            return NotImplemented
        return getattr(NAMESPACE, function)(*((other, self) if swap else (self, other)))

    return operator


class Traced:
    """A value of a graph: where it is written down, its name there, and its value in the example."""

    __slots__ = ("example", "name", "trace")
    __array_ufunc__ = None  # array + Traced is ours to answer
    __hash__ = object.__hash__

    def __init__(self, trace: Trace, name: str, example: np.ndarray):
        self.trace, self.name, self.example = trace, name, example

    @property
    def shape(self) -> tuple[int, ...]:
        return self.example.shape

    @property
    def dtype(self) -> np.dtype:
        return self.example.dtype

    @property
    def ndim(self) -> int:
        return self.example.ndim

    @property
    def size(self) -> int:
        return self.example.size

    @property
    def mT(self) -> Traced:  # noqa: N802
        n = self.ndim
        return NAMESPACE.permute_dims(self, (*range(n - 2), n - 1, n - 2))

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return NAMESPACE

    @property
    def __backend__(self) -> Backend:
        return TRACING

    def _refuse(self, *_: Any) -> Any:
        raise InteropError(
            "`forward` makes a decision, or takes numbers, from values that are known only when the graph runs (ids "
            "and lengths may be given as arrays, which stay arrays)"
        )

    __bool__ = __int__ = __float__ = __index__ = __array__ = __setitem__ = _refuse

    def __len__(self) -> int:
        return len(self.example)

    def __getitem__(self, index: Any) -> Traced:
        return NAMESPACE.getitem(self, index)

    def __neg__(self) -> Traced:
        return NAMESPACE.negative(self)

    __add__, __radd__ = _binary("add"), _binary("add", swap=True)
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", swap=True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", swap=True)
    __truediv__, __rtruediv__ = _binary("divide"), _binary("divide", swap=True)
    __pow__, __rpow__ = _binary("power"), _binary("power", swap=True)
    __matmul__, __rmatmul__ = _binary("matmul"), _binary("matmul", swap=True)
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __eq__, __ne__ = _binary("equal"), _binary("not_equal")  # type: ignore[assignment]


def _example(x: Any) -> Any:
    return x.example if isinstance(x, Traced) else x


def _trace_of(*operands: Any) -> Trace:
    """The innermost of the traces of the operands: a body may read what the graph around it has."""
    return max((x.trace for x in operands if isinstance(x, Traced)), key=lambda trace: trace.depth)


def _integers(numbers: Iterable[int]) -> np.ndarray:
    return np.array(list(numbers), np.int64)


class _Namespace:
    """The functions of the array API that ONNX has operators for."""

    __name__ = "onnx"
    float16, float32, float64 = np.float16, np.float32, np.float64
    int8, int16, int32, int64, uint8 = np.int8, np.int16, np.int32, np.int64, np.uint8
    isdtype = staticmethod(np.isdtype)

    def __getattr__(self, name: str) -> Any:
        if name in _UNARY:
            return lambda x: self._unary(_UNARY[name], getattr(np, name), x)
        if name in _BINARY:
            return lambda *xs: self._elementwise(_BINARY[name], getattr(np, name), *xs)
        if name in _REDUCTIONS:
            return lambda x, axis=None, keepdims=False: self._reduced(name, x, axis, keepdims)
        raise InteropError(f"there is no ONNX operator here for the array function {name}")

    def _unary(self, kind: str, function: Callable, x: Any) -> Traced:
        """A function of each element. Of integers it is one of floating point, as in NumPy."""
        with np.errstate(all="ignore"):
            dtype = function(_example(x)).dtype
        return self._one(kind, function, self._as(x, dtype))

    @staticmethod
    def _one(kind: str, function: Callable, x: Any, *more: Any, **settings: Any) -> Traced:
        """A node with one output."""
        with np.errstate(all="ignore"):
            example = function(_example(x))
        return _trace_of(x, *more).emit(kind, (x, *more), [example], **settings)[0]

    def _elementwise(self, kind: str, function: Callable, *xs: Any) -> Traced:
        """ONNX wants operands of one type; a Python number takes that of the others, as in NumPy."""
        examples = [_example(x) for x in xs]
        with np.errstate(all="ignore"):
            example = function(*examples)
        common = np.result_type(*examples) if example.dtype == bool else example.dtype  # a comparison's operands
        return _trace_of(*xs).emit(kind, [self._as(x, common) for x in xs], [example])[0]

    def _as(self, x: Any, dtype: np.dtype) -> Any:
        if isinstance(x, Traced):
            return self.astype(x, dtype)
        return x if isinstance(x, np.ndarray) and x.dtype == dtype else np.asarray(x, dtype)

    def not_equal(self, a: Any, b: Any) -> Traced:
        return self._one("Not", np.logical_not, self.equal(a, b))

    def where(self, condition: Any, a: Any, b: Any) -> Traced:
        common = np.result_type(_example(a), _example(b))
        a, b = self._as(a, common), self._as(b, common)
        example = np.where(_example(condition), _example(a), _example(b))
        return _trace_of(condition, a, b).emit("Where", (condition, a, b), [example])[0]

    def clip(self, x: Any, low: Any = None, high: Any = None) -> Traced:
        x = x if low is None else self.maximum(x, low)
        return x if high is None else self.minimum(x, high)

    def isfinite(self, x: Traced) -> Traced:
        return self.equal(x - x, 0)

    def expm1(self, x: Traced) -> Traced:
        """eˣ − 1, which is 2t / (1 − t), t = tanh(x/2); near 0 this loses nothing."""
        t = self.tanh(0.5 * x)
        return self.where(self.less(self.abs(x), 1), 2 * t / (1 - t), self.exp(x) - 1)

    def log1p(self, x: Traced) -> Traced:
        """log(1 + x); near 0 times x / ((1 + x) − 1), which makes up for what the sum 1 + x has lost (Kahan)."""
        u = 1 + x
        lost = u - 1
        is_near = self.less(self.abs(x), 1)
        factor = x / self.where(self.equal(lost, 0), 1, lost)
        near = self.where(self.equal(lost, 0), x, self.log(u) * factor)
        return self.where(is_near, near, self.log(u))

    def astype(self, x: Traced, dtype: Any) -> Traced:
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        to = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return self._one("Cast", lambda a: a.astype(dtype), x, to=to)

    def asarray(self, x: Any, dtype: Any = None, **_: Any) -> Any:
        return x if dtype is None else self.astype(x, dtype)

    # -- products and reductions ---------------------------------------------------------------------------------

    def matmul(self, a: Any, b: Any) -> Traced:
        return self._elementwise("MatMul", np.matmul, a, b)

    def einsum(self, subscripts: str, *xs: Any, **_: Any) -> Traced:
        example = np.einsum(subscripts, *map(_example, xs))
        return _trace_of(*xs).emit("Einsum", xs, [example], equation=subscripts)[0]

    def _reduced(self, name: str, x: Traced, axis: Any, keepdims: bool) -> Traced:
        axes = list(range(x.ndim)) if axis is None else list(axis) if isinstance(axis, tuple) else [axis]
        example = getattr(np, name)(x.example, axis=tuple(axes), keepdims=keepdims)
        x = self.astype(x, example.dtype)  # as NumPy widens small integers
        if name == "sum":  # whose axes became an input before those of the others did
            return x.trace.emit("ReduceSum", (x, _integers(axes)), [example], keepdims=int(keepdims))[0]
        return x.trace.emit(_REDUCTIONS[name], (x,), [example], axes=axes, keepdims=int(keepdims))[0]

    def argmax(self, x: Traced, axis: int | None = None, kind: str = "ArgMax") -> Traced:
        x, axis = (self.reshape(x, (-1,)), 0) if axis is None else (x, axis)
        return self._one(kind, lambda a: getattr(np, kind.lower())(a, axis=axis), x, axis=axis, keepdims=0)

    def argmin(self, x: Traced, axis: int | None = None) -> Traced:
        return self.argmax(x, axis, "ArgMin")

    def cumulative_sum(self, x: Traced, axis: int) -> Traced:
        x = self.astype(x, np.cumulative_sum(x.example, axis=axis).dtype)
        return self._one("CumSum", lambda a: np.cumulative_sum(a, axis=axis), x, np.array(axis, np.int64))

    # -- shape ---------------------------------------------------------------------------------------------------

    def reshape(self, x: Traced, shape: Sequence[int]) -> Traced:
        example = np.reshape(x.example, shape)
        wanted = example.shape if -1 not in shape else shape
        return self._one("Reshape", lambda a: example, x, _integers(wanted))

    def permute_dims(self, x: Traced, axes: Sequence[int]) -> Traced:
        axes = [axis % x.ndim for axis in axes]
        return self._one("Transpose", lambda a: np.transpose(a, axes), x, perm=axes)

    def moveaxis(self, x: Traced, source: Any, destination: Any) -> Traced:
        moved, places = (
            [axis % x.ndim for axis in (axes if isinstance(axes, (tuple, list)) else (axes,))]
            for axes in (source, destination)
        )
        order = [axis for axis in range(x.ndim) if axis not in moved]
        for place, axis in sorted(zip(places, moved)):
            order.insert(place, axis)
        return self.permute_dims(x, order)

    def expand_dims(self, x: Any, axis: Any) -> Any:
        axes = axis if isinstance(axis, tuple) else (axis,)
        if not isinstance(x, Traced):
            return np.expand_dims(x, axes)
        return self._one("Unsqueeze", lambda a: np.expand_dims(a, axes), x, _integers(axes)) if axes else x

    def squeeze(self, x: Traced, axis: Any) -> Traced:
        axes = axis if isinstance(axis, tuple) else (axis,)
        return self._one("Squeeze", lambda a: np.squeeze(a, axes), x, _integers(axes)) if axes else x

    def broadcast_to(self, x: Traced, shape: Sequence[int]) -> Traced:
        return self._one("Expand", lambda a: np.broadcast_to(a, shape), x, _integers(shape))

    def concat(self, xs: Sequence[Any], axis: int = 0) -> Traced:
        example = np.concatenate([_example(x) for x in xs], axis=axis)
        return _trace_of(*xs).emit("Concat", [self._as(x, example.dtype) for x in xs], [example], axis=axis)[0]

    def stack(self, xs: Sequence[Any], axis: int = 0) -> Traced:
        place = axis % (xs[0].ndim + 1)
        return self.concat([self.expand_dims(x, place) for x in xs], place)

    def flip(self, x: Traced, axis: Any = None) -> Traced:
        axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        return self._sliced(x, {a % x.ndim: slice(None, None, -1) for a in axes})

    def getitem(self, x: Traced, index: Any) -> Traced:
        """Of integers, slices, None and one ellipsis."""
        parts = list(index if isinstance(index, tuple) else (index,))
        place = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
        rest = x.ndim - sum(part is not None and part is not Ellipsis for part in parts)
        parts[place : place + 1] = [slice(None)] * rest
        reading = dict(enumerate(part for part in parts if part is not None))
        x = self._sliced(x, {axis: part for axis, part in reading.items() if isinstance(part, slice)})
        for axis, part in reversed(reading.items()):
            x = x if isinstance(part, slice) else self.take(x, np.array(part, np.int64), axis)
        kept = [part for part in parts if part is None or isinstance(part, slice)]
        return self.expand_dims(x, tuple(axis for axis, part in enumerate(kept) if part is None))

    def _sliced(self, x: Traced, slices: Mapping[int, slice]) -> Traced:
        slices = {axis: part for axis, part in slices.items() if part not in (slice(None), slice(None, None, 1))}
        if not slices:
            return x
        steps = {axis: part.step or 1 for axis, part in slices.items()}
        starts = [(0 if steps[a] > 0 else LAST) if part.start is None else part.start for a, part in slices.items()]
        ends = [(LAST if steps[a] > 0 else -LAST) if part.stop is None else part.stop for a, part in slices.items()]
        index = tuple(slices.get(axis, slice(None)) for axis in range(x.ndim))
        return self._one("Slice", lambda a: a[index], x, *map(_integers, (starts, ends, slices, steps.values())))

    def take(self, x: Any, indices: Any, axis: int) -> Traced:
        example = np.take(_example(x), _example(indices), axis=axis)
        return _trace_of(x, indices).emit("Gather", (x, indices), [example], axis=axis)[0]


_UNARY = {
    "abs": "Abs", "cos": "Cos", "exp": "Exp", "log": "Log", "negative": "Neg", "sign": "Sign", "sin": "Sin",
    "sqrt": "Sqrt", "tanh": "Tanh",
}  # fmt: skip
_BINARY = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "power": "Pow", "maximum": "Max",
    "minimum": "Min", "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}  # fmt: skip
_REDUCTIONS = {"sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin"}
NAMESPACE = _Namespace()


class _Tracing(Backend):
    """The backend of traced arrays."""

    def __init__(self) -> None:
        super().__init__("onnx", NAMESPACE)

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        return NAMESPACE.asarray(value, dtype) if isinstance(value, Traced) else np.asarray(value, dtype=dtype)

    def to_host(self, array: Any) -> Any:
        return array._refuse() if isinstance(array, Traced) else np.asarray(array)

    def copy(self, array: Any) -> Any:
        return array  # nothing is ever written into one

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.zeros(shape, dtype)

    def arange(self, n: int) -> np.ndarray:
        return np.arange(n)

    def advanced_index(self, array: Any, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        whole = [isinstance(part, slice) and part == slice(None) for part in parts]
        chosen = {axis: part for axis, part in enumerate(parts) if not whole[axis]}
        indices = next(iter(chosen.values()))
        if len(chosen) != 1 or getattr(indices, "dtype", np.dtype(bool)).kind not in "iu":
            raise InteropError("an index with arrays: only integers along one axis can be written as ONNX")
        return NAMESPACE.take(array, indices, *chosen)

    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        raise InteropError("scatter_add: there is no ONNX operator here for it")


TRACING = _Tracing()
