"""Symbols: arrays without numbers. What is done to one is written into a listing.

A symbol takes the place of an array inside a Tensor. The formulas and the rules of the ops, written against the array
namespace and operators alone, so run on it unchanged, and what they would have computed becomes lines of a listing.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend import Backend, bfloat16, is_floating, is_on_cuda
from ..ir import Graph, Value, broadcast_shape, dtype_of


class Untraceable(Exception):
    """This program cannot be written as a listing; the message says why. It runs in its plain reading instead."""


_DECIDES = "it makes a decision, or takes a number, from values that are known only when it runs"


def _binary(op: str, swap: bool = False) -> Callable:
    def operator(self: TracedArray, other: Any) -> Any:
        return NAMESPACE.binary(op, other, self) if swap else NAMESPACE.binary(op, self, other)

    return operator


class TracedArray:
    """An array of which only shape and dtype are known."""

    __slots__ = ("graph", "value")
    __array_ufunc__ = None  # array + Symbol is ours to answer
    __hash__ = object.__hash__

    def __init__(self, graph: Graph, value: Value):
        if graph.closed:
            raise RuntimeError(
                "this is an array without numbers, which a step of a scan has put somewhere while it was traced: let "
                "the step return what is wanted of it, or say compiled=False"
            )
        self.graph = graph
        self.value = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        return math.prod(self.value.shape)

    @property
    def mT(self) -> TracedArray:  # noqa: N802
        n = self.ndim
        return NAMESPACE.permute_dims(self, (*range(n - 2), n - 1, n - 2))

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return NAMESPACE

    @property
    def __backend__(self) -> Backend:
        return SYMBOLIC

    def astype(self, dtype: Any) -> TracedArray:
        return NAMESPACE.astype(self, dtype)

    def reshape(self, shape: tuple[int, ...]) -> TracedArray:
        return NAMESPACE.reshape(self, shape)

    def _refuse(self, *_: Any) -> Any:
        raise Untraceable(_DECIDES)

    __bool__ = __int__ = __float__ = __index__ = __len__ = __iter__ = __array__ = _refuse

    def __setitem__(self, index: Any, value: Any) -> None:
        raise Untraceable("it writes into an array in place")

    def __getitem__(self, index: Any) -> TracedArray:
        return NAMESPACE.getitem(self, index)

    def __neg__(self) -> TracedArray:
        return NAMESPACE.unary("negative", self)

    def __matmul__(self, other: Any) -> Any:
        return NAMESPACE.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return NAMESPACE.matmul(other, self)

    __add__, __radd__ = _binary("add"), _binary("add", swap=True)
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", swap=True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", swap=True)
    __truediv__, __rtruediv__ = _binary("divide"), _binary("divide", swap=True)
    __pow__, __rpow__ = _binary("power"), _binary("power", swap=True)
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __eq__, __ne__ = _binary("equal"), _binary("not_equal")  # type: ignore[assignment]


COMPARISONS = frozenset({"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"})


class _Namespace:
    """The functions of the array API that can be written into a listing."""

    __name__ = "symbols"
    float16, float32, float64 = np.float16, np.float32, np.float64

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(f"the array function {name} is not one that can be compiled")

    @staticmethod
    def _all(*operands: Any) -> tuple[Graph, list[Value]]:
        """The listing of the symbols among the operands, and all operands as its values."""
        for x in operands:
            if type(x) is TracedArray:
                graph = x.graph
                break
        values = []
        for x in operands:
            if type(x) is TracedArray:
                values.append(x.value)
            elif isinstance(x, (bool, int, float)):
                values.append(graph.scalar(x))
            elif is_array(graph, x):
                values.append(closed_over(graph, x))
            else:
                raise Untraceable(f"an operand is a {type(x).__name__}")
        return graph, values

    def elementwise(self, op: str, *operands: Any, dtype: Any = None) -> TracedArray:
        graph, values = self._all(*operands)
        shape = broadcast_shape(values)
        return TracedArray(graph, graph.add(op, values, shape, dtype or dtype_of(op, values)))

    def unary(self, op: str, x: TracedArray) -> TracedArray:
        return self.elementwise(op, x)

    def binary(self, op: str, a: Any, b: Any) -> Any:
        for x in (a, b):
            if not isinstance(x, (TracedArray, bool, int, float, np.ndarray, np.generic)) and not is_on_cuda(x):
                return NotImplemented
        return self.elementwise(op, a, b, dtype=np.dtype(bool) if op in COMPARISONS else None)

    def maximum(self, a: Any, b: Any) -> TracedArray:
        return self.elementwise("maximum", a, b)

    def minimum(self, a: Any, b: Any) -> TracedArray:
        return self.elementwise("minimum", a, b)

    def clip(self, x: TracedArray, low: Any, high: Any) -> TracedArray:
        x = x if low is None else self.maximum(x, low)
        return x if high is None else self.minimum(x, high)

    def where(self, condition: Any, a: Any, b: Any) -> TracedArray:
        graph, values = self._all(condition, a, b)
        shape = broadcast_shape(values)
        return TracedArray(graph, graph.add("where", values, shape, dtype_of("where", values[1:])))

    def matmul(self, a: Any, b: Any) -> TracedArray:
        if isinstance(a, (int, float)) or isinstance(b, (int, float)):
            return NotImplemented
        graph, (left, right) = self._all(a, b)
        if len(left.shape) == len(right.shape) == 2 and left.shape[1] == right.shape[0]:
            shape: tuple[int, ...] = (left.shape[0], right.shape[1])
        else:
            shape = np.matmul(np.empty(left.shape, np.bool_), np.empty(right.shape, np.bool_)).shape
        return TracedArray(graph, graph.add("matmul", (left, right), shape, dtype_of("matmul", (left, right))))

    def _reduce(self, op: str, x: TracedArray, axis: Any, keepdims: bool) -> TracedArray:
        axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        axes = tuple(sorted(a % x.ndim for a in axes)) if x.ndim else ()
        if not axes:
            return x
        kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
        shape = tuple(kept) if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        dtype = x.dtype if op != "sum" or is_floating(x.dtype) else np.empty(0, x.dtype).sum().dtype
        value = x.graph.add(op, (x.value,), shape, dtype, axis=axes, keepdims=keepdims)
        return TracedArray(x.graph, value)

    def sum(self, x: TracedArray, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> TracedArray:
        return self._reduce("sum", x, axis, keepdims)

    def max(self, x: TracedArray, axis: Any = None, keepdims: bool = False) -> TracedArray:
        return self._reduce("max", x, axis, keepdims)

    def min(self, x: TracedArray, axis: Any = None, keepdims: bool = False) -> TracedArray:
        return self._reduce("min", x, axis, keepdims)

    def reshape(self, x: TracedArray, shape: tuple[int, ...]) -> TracedArray:
        shape = np.empty(x.shape, np.bool_).reshape(shape).shape
        if shape == x.shape:
            return x
        # Only what lies in memory in its own order can be seen at another shape; the rest is copied into order.
        op = "rearrange" if x.value.op in ("transpose", "getitem", "broadcast_to") else "reshape"
        return TracedArray(x.graph, x.graph.add(op, (x.value,), shape, x.dtype))

    def broadcast_to(self, x: TracedArray, shape: tuple[int, ...]) -> TracedArray:
        shape = tuple(map(operator.index, shape))
        return x if shape == x.shape else TracedArray(x.graph, x.graph.add("broadcast_to", (x.value,), shape, x.dtype))

    def permute_dims(self, x: TracedArray, axes: tuple[int, ...]) -> TracedArray:
        axes = tuple(a % x.ndim for a in axes)
        if axes == tuple(range(x.ndim)):
            return x
        if x.value.op == "transpose":  # the transpose of a transpose
            before = x.value["axes"]
            inner = TracedArray(x.graph, x.value.inputs[0])
            return self.permute_dims(inner, tuple(before[a] for a in axes))
        shape = tuple(x.shape[a] for a in axes)
        return TracedArray(x.graph, x.graph.add("transpose", (x.value,), shape, x.dtype, axes=axes))

    def moveaxis(self, x: TracedArray, source: Any, destination: Any) -> TracedArray:
        sources = [s % x.ndim for s in (source if isinstance(source, tuple) else (source,))]
        targets = [d % x.ndim for d in (destination if isinstance(destination, tuple) else (destination,))]
        rest = [p for p in range(x.ndim) if p not in sources]
        for target, origin in sorted(zip(targets, sources)):
            rest.insert(target, origin)
        return self.permute_dims(x, tuple(rest))

    def expand_dims(self, x: TracedArray, axis: int = 0) -> TracedArray:
        axis %= x.ndim + 1
        return self.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    def squeeze(self, x: TracedArray, axis: Any = None) -> TracedArray:
        axes = {a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))}
        return self.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))

    def concat(self, arrays: Any, axis: int = 0) -> TracedArray:
        graph, values = self._all(*arrays)
        axis %= len(values[0].shape)
        shape = list(values[0].shape)
        shape[axis] = sum(v.shape[axis] for v in values)
        return TracedArray(graph, graph.add("concat", values, tuple(shape), dtype_of("concat", values), axis=axis))

    def stack(self, arrays: Any, axis: int = 0) -> TracedArray:
        ndim = next(x.ndim for x in arrays)
        axis %= ndim + 1
        graph, values = self._all(*arrays)
        expanded = [self.expand_dims(TracedArray(graph, v), axis) for v in values]
        return self.concat(expanded, axis)

    def getitem(self, x: TracedArray, index: Any) -> TracedArray:
        parts = index if isinstance(index, tuple) else (index,)
        if any(part is None for part in parts):
            shape = np.empty(x.shape, np.bool_)[index].shape
            return self.reshape(self.getitem(x, tuple(part for part in parts if part is not None)), shape)
        plain = plain_index(index, x.shape)
        shape = np.empty(x.shape, np.bool_)[as_index(plain)].shape
        return TracedArray(x.graph, x.graph.add("getitem", (x.value,), shape, x.dtype, index=plain))

    def astype(self, x: TracedArray, dtype: Any) -> TracedArray:
        dtype = np.dtype(dtype)
        return x if dtype == x.dtype else TracedArray(x.graph, x.graph.add("astype", (x.value,), x.shape, dtype))

    def asarray(self, x: Any, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        return x

    def isdtype(self, dtype: Any, kind: Any) -> bool:
        return is_floating(dtype) if kind == "real floating" else np.isdtype(dtype, kind)


for _name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "abs", "sign"):
    setattr(_Namespace, _name, lambda self, x, _op=_name: self.unary(_op, x))

setattr(_Namespace, "bool", np.bool_)  # noqa: B010  (as a class attribute it would hide the type from annotations)

NAMESPACE = _Namespace()


def is_array(graph: Graph, x: Any) -> bool:
    """Whether a listing can take `x` from outside: an array where those of the trace are."""
    return isinstance(x, graph.arrays) or (isinstance(x, np.generic) and graph.arrays is np.ndarray)


def closed_over(graph: Graph, x: Any) -> Value:
    return graph.capture(np.asarray(x) if graph.arrays is np.ndarray else x)


class _SymbolicBackend(Backend):
    def dtype(self, name: str) -> Any:
        return bfloat16() if name == "bfloat16" else super().dtype(name)

    def to_host(self, array: Any) -> Any:
        raise Untraceable(_DECIDES)

    def random(self, seed: int, position: int) -> Any:
        raise Untraceable("it draws random numbers at every step")

    def scatter(self, shape: tuple[int, ...], indices: Any, arrays: Any) -> TracedArray:
        graph, values = NAMESPACE._all(*arrays)
        plain = tuple(plain_index(index, shape) for index in indices)
        return TracedArray(graph, graph.add("scatter", values, tuple(shape), values[0].dtype, indices=plain))


SYMBOLIC = _SymbolicBackend("symbols", NAMESPACE)


def plain_index(index: Any, shape: tuple[int, ...]) -> tuple:
    """A basic index with one hashable entry an axis: an integer, or ("slice", start, stop, step)."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(p, (int, np.integer, slice, type(Ellipsis))) or isinstance(p, bool) for p in parts):
        raise Untraceable("it indexes with an array, a boolean or None")
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    return tuple(("slice", *p.indices(n)) if isinstance(p, slice) else int(p) for p, n in zip(parts, shape))


def as_index(plain: tuple) -> tuple:
    """The index that NumPy understands."""

    def entry(p: Any) -> Any:
        if isinstance(p, int):
            return p
        _, start, stop, step = p
        return slice(start, None if stop < 0 else stop, step)

    return tuple(map(entry, plain))
