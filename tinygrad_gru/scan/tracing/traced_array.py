"""Traced arrays: duck arrays with a shape and a dtype and no values. What is done to one is added to a graph IR.

A traced array stands in for the array of a Tensor, so the formulas and rules of the ops run on it unchanged,
and every array operation in them becomes a value of the graph.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from ...backend import Backend, bfloat16, is_floating
from ...backend.duck_array import COMPARISONS, DuckArray, DuckNamespace
from ...backend.indexing import index_parts, is_mask
from ...tape import inspector
from ..ir import Graph, Value, broadcast_shape, dtype_of, fits
from .einsum import contraction
from .indexing import IndexCheck, Selection, has_arrays, selection


class Untraceable(Exception):
    """The step cannot be traced into a graph; the message says why. It runs in eager mode instead.

    advice  what to write instead, or nothing
    """

    def __init__(self, reason: str, advice: str = ""):
        super().__init__(reason, advice)
        self.reason, self.advice = reason, advice
        if (observer := inspector.get()) is not None:
            observer.refusing(self)

    def __str__(self) -> str:
        return self.reason


class NoTarget(Untraceable):
    """Nothing is compiled for such arrays, whatever the step does, nor in a step that is being traced itself."""


_NEEDS_VALUES = (
    "it makes a decision, or takes a scalar, from values that are known only when it runs",
    "`ops.where(condition, a, b)` chooses without `if`, and a Tensor of one element needs no `float()` or `.item()`",
)
_MASKS = (
    "it selects by a mask, so that the shape of the result depends on values",
    "`ops.where(mask, a, b)` keeps the shape; where the mask is the same at every step, so is `np.flatnonzero(mask)`",
)
_BITS = ("it computes with the bits of integers", "compute them before the scan, for all steps at once")

#: Functions whose results jump or cancel, so that it matters that NumPy computes in float64 beside its own scalars.
_EXACT = COMPARISONS | {"floor_divide", "remainder", "add", "subtract"}


class _Namespace(DuckNamespace):
    """The functions of the array API that the graph IR has."""

    __name__ = "traced"

    int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
    uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(
            f"the array function {name} cannot be compiled",
            "use ops that can be (a formula: exp, log, sqrt, tanh, abs, maximum, where and others of `xp_of(x)`), or "
            "compute it before or after the scan, for all steps at once",
        )

    @staticmethod
    def _values(*operands: Any) -> tuple[Graph, list[Value]]:
        """The graph of the traced arrays among the operands, and all operands as its values."""
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
        for x in operands:  # NumPy compares with an integer of any size, and refuses to compute with it
            for value in values if type(x) is int and not 0 <= x < 128 else ():
                kind = np.dtype(value.dtype).kind if value.op != "scalar" else ""
                if kind in ("i", "u") and not np.iinfo(value.dtype).min <= x <= np.iinfo(value.dtype).max:
                    raise Untraceable(f"the integer {x} is out of bounds for {value.dtype}")
        return graph, values

    def lift(self, arrays: Sequence[Any]) -> Sequence[TracedArray]:
        graph, values = self._values(*arrays)
        return [TracedArray(graph, value) for value in values]

    def elementwise(self, function: str, *operands: Any) -> TracedArray:
        graph, values = self._values(*operands)
        wide = [x for x in operands if type(x) is np.float64]
        if wide and (function in _EXACT or not all(fits(x, value.dtype) for x in wide for value in values)):
            values = [v if v.op == "scalar" else self.astype(TracedArray(graph, v), np.float64).value for v in values]
        shape = broadcast_shape(values)
        dtype = np.dtype(bool) if function in COMPARISONS else dtype_of(function, values)
        return TracedArray(graph, graph.add(function, values, shape, dtype))

    def where(self, condition: Any, a: Any, b: Any) -> TracedArray:
        graph, values = self._values(condition, a, b)
        shape = broadcast_shape(values)
        return TracedArray(graph, graph.add("where", values, shape, dtype_of("where", values[1:])))

    def floor_divide(self, a: Any, b: Any) -> TracedArray:
        return self.elementwise("floor_divide", a, b)

    def remainder(self, a: Any, b: Any) -> TracedArray:
        return self.elementwise("remainder", a, b)

    def isfinite(self, x: TracedArray) -> TracedArray:
        return self.less(self.abs(x), math.inf) if is_floating(x.dtype) else self.equal(x, x)

    def any(self, x: TracedArray, axis: Any = None, keepdims: bool = False) -> TracedArray:
        return self.max(self.astype(self.not_equal(x, 0), np.float32), axis, keepdims) > 0

    def all(self, x: TracedArray, axis: Any = None, keepdims: bool = False) -> TracedArray:
        return self.min(self.astype(self.not_equal(x, 0), np.float32), axis, keepdims) > 0

    def bitwise_and(self, a: Any, b: Any) -> TracedArray:
        a, b = _booleans(a, b)
        return self.where(a, b, False)

    def bitwise_or(self, a: Any, b: Any) -> TracedArray:
        a, b = _booleans(a, b)
        return self.where(a, True, b)

    def bitwise_xor(self, a: Any, b: Any) -> TracedArray:
        return self.not_equal(*_booleans(a, b))

    def bitwise_invert(self, x: TracedArray) -> TracedArray:
        return self.equal(*_booleans(x), False)

    def matmul(self, a: Any, b: Any) -> TracedArray:
        if isinstance(a, (int, float)) or isinstance(b, (int, float)):
            return NotImplemented
        graph, (left, right) = self._values(a, b)
        if len(left.shape) == len(right.shape) == 2 and left.shape[1] == right.shape[0]:
            shape: tuple[int, ...] = (left.shape[0], right.shape[1])
        else:
            shape = np.matmul(np.empty(left.shape, np.bool_), np.empty(right.shape, np.bool_)).shape
        return TracedArray(graph, graph.add("matmul", (left, right), shape, dtype_of("matmul", (left, right))))

    def einsum(self, subscripts: str, *arrays: Any, **_: Any) -> TracedArray:
        y = contraction(self, subscripts, self.lift(arrays))
        return self.__getattr__("einsum, but of one or two arrays of floats,") if y is None else y

    def reduction(self, function: str, x: TracedArray, axes: tuple[int, ...], keepdims: bool) -> TracedArray:
        axes = tuple(sorted(a % x.ndim for a in axes)) if x.ndim else ()
        if not axes:
            return x
        kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
        shape = tuple(kept) if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        if function == "sum" and not is_floating(x.dtype):
            x = self.astype(x, np.empty(0, x.dtype).sum().dtype)
        value = x.graph.add(function, (x.value,), shape, x.dtype, axis=axes, keepdims=keepdims)
        return TracedArray(x.graph, value)

    def argmax(self, x: TracedArray, axis: int | None = None, keepdims: bool = False) -> TracedArray:
        return self._position("argmax", x, axis, keepdims)

    def argmin(self, x: TracedArray, axis: int | None = None, keepdims: bool = False) -> TracedArray:
        return self._position("argmin", x, axis, keepdims)

    def _position(self, function: str, x: TracedArray, axis: int | None, keepdims: bool) -> TracedArray:
        """The index of the first extreme element along one axis, or of the flattened array."""
        kept = x.shape if axis is None else ()
        x, axis = (self.reshape(x, (-1,)), 0) if axis is None else (x, axis % x.ndim)
        x = self.astype(x, np.int32) if x.dtype == np.bool_ else x
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        y = TracedArray(x.graph, x.graph.add(function, (x.value,), shape, np.dtype(np.int64), axis=axis))
        return self.reshape(y, (1,) * len(kept)) if keepdims and kept else self.expand_dims(y, axis) if keepdims else y

    def reshape(self, x: TracedArray, shape: tuple[int, ...]) -> TracedArray:
        shape = np.empty(x.shape, np.bool_).reshape(shape).shape
        if shape == x.shape:
            return x
        # Only a C-contiguous array can be viewed in another shape; others are copied first.
        op = "rearrange" if x.value.op in ("transpose", "getitem", "broadcast_to") else "reshape"
        return TracedArray(x.graph, x.graph.add(op, (x.value,), shape, x.dtype))

    def repeat(self, x: TracedArray, repeats: int, axis: int) -> TracedArray:
        axis %= x.ndim
        before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        repeated = self.broadcast_to(self.expand_dims(x, axis + 1), (*before, n, repeats, *after))
        return self.reshape(repeated, (*before, n * repeats, *after))

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

    def concat(self, arrays: Any, axis: int = 0) -> TracedArray:
        graph, values = self._values(*arrays)
        axis %= len(values[0].shape)
        shape = list(values[0].shape)
        shape[axis] = sum(v.shape[axis] for v in values)
        return TracedArray(graph, graph.add("concat", values, tuple(shape), dtype_of("concat", values), axis=axis))

    def getitem(self, x: TracedArray, index: Any) -> TracedArray:
        parts = index if isinstance(index, tuple) else (index,)
        if all(isinstance(part, slice) and part == slice(None) for part in parts):
            return x
        if any(part is None for part in parts):
            shape = np.empty(x.shape, np.bool_)[index].shape
            return self.reshape(self.getitem(x, tuple(part for part in parts if part is not None)), shape)
        normalized = normalize_index(index, x.shape)
        shape = np.empty(x.shape, np.bool_)[as_index(normalized)].shape
        return TracedArray(x.graph, x.graph.add("getitem", (x.value,), shape, x.dtype, index=normalized))

    def astype(self, x: TracedArray, dtype: Any) -> TracedArray:
        dtype = np.dtype(dtype)
        return x if dtype == x.dtype else TracedArray(x.graph, x.graph.add("astype", (x.value,), x.shape, dtype))

    def asarray(self, x: Any, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        if isinstance(x, (list, tuple)):
            raise Untraceable(f"it makes an array of a {type(x).__name__}", "make it before the scan")
        return x


def _booleans(*operands: Any) -> tuple:
    """The operands, which must be booleans."""
    if any(getattr(x, "dtype", type(x)) not in (np.bool_, bool) for x in operands):
        raise Untraceable(*_BITS)
    return operands


NAMESPACE = _Namespace()


def is_array(graph: Graph, x: Any) -> bool:
    """Whether `x` can be a closed-over constant: it must be of the library that the trace is for."""
    return isinstance(x, graph.arrays) or (isinstance(x, np.generic) and graph.arrays is np.ndarray)


def closed_over(graph: Graph, x: Any) -> Value:
    """The closed-over constant `x` as a value of the graph."""
    return graph.capture(np.asarray(x) if graph.arrays is np.ndarray else x)


class TracingBackend(Backend):
    """The backend of the traced arrays of a graph."""

    def __init__(self, graph: Graph):
        super().__init__("traced", NAMESPACE)
        self.graph = graph

    def dtype(self, name: str) -> Any:
        return bfloat16() if name == "bfloat16" else super().dtype(name)

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        asarray = self.graph.backend.asarray if isinstance(value, (list, tuple)) else super().asarray
        return asarray(value, dtype)

    def to_host(self, array: Any) -> Any:
        raise Untraceable(*_NEEDS_VALUES)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> TracedArray:
        raise Untraceable("it makes an array to write into", "compute the array by ops, such as `ops.concatenate`")

    def arange(self, n: int) -> TracedArray:
        return TracedArray(self.graph, self.graph.add("arange", (), (n,), np.dtype(np.int64)))

    def check_within(self, index: Any, low: int, high: int, message: str) -> None:
        if not isinstance(index, TracedArray):
            self.graph.backend.check_within(index, low, high, message)
        elif index.size:
            self.graph.checks.append(IndexCheck(index.value, low, high, message))

    def advanced_index(self, array: Any, index: Any) -> TracedArray:
        chosen, x = self._selection(array.shape, index), self._lifted(array)
        x = NAMESPACE.getitem(NAMESPACE.reshape(x, chosen.shape), chosen.basic)
        x = NAMESPACE.reshape(NAMESPACE.permute_dims(x, chosen.order), chosen.merged)
        value = self.graph.add("gather", (x.value, chosen.rows.value), chosen.result, x.dtype, axis=chosen.axis)
        return TracedArray(self.graph, value)

    def scatter(self, shape: tuple[int, ...], indices: Any, arrays: Any) -> TracedArray:
        pieces = [self._without_new_axes(shape, *piece) for piece in zip(indices, map(self._lifted, arrays))]
        slices = [(normalize_index(index, shape), array.value) for index, array in pieces if not has_arrays(index)]
        added = [self._scattered(shape, index, array) for index, array in pieces if has_arrays(index)]
        if slices:
            at, values = zip(*slices)
            value = self.graph.add("scatter", values, tuple(shape), values[0].dtype, indices=at)
            added.insert(0, TracedArray(self.graph, value))
        return reduce(operator.add, added)

    @staticmethod
    def _without_new_axes(shape: tuple[int, ...], index: Any, array: TracedArray) -> tuple[Any, TracedArray]:
        """An index of slices without None, and the array that is added there without those axes."""
        parts = index_parts(index)
        if has_arrays(index) or not any(part is None for part in parts):
            return index, array
        index = tuple([part for part in parts if part is not None])
        return index, NAMESPACE.reshape(array, np.empty(shape, np.bool_)[index].shape)

    def _scattered(self, shape: tuple[int, ...], index: Any, array: TracedArray) -> TracedArray:
        """Zeros of a shape to which an array is added at an index with arrays."""
        chosen = self._selection(shape, index)
        added = NAMESPACE.broadcast_to(array, chosen.result)
        value = self.graph.add(
            "scatter_add", (added.value, chosen.rows.value), chosen.merged, added.dtype, axis=chosen.axis
        )
        y = NAMESPACE.reshape(TracedArray(self.graph, value), chosen.selected)
        y = NAMESPACE.permute_dims(y, tuple(map(int, np.argsort(chosen.order))))
        if y.shape != chosen.shape or any(part.step == -1 for part in chosen.basic):
            y = self.scatter(chosen.shape, [chosen.basic], [y])
        return NAMESPACE.reshape(y, tuple(shape))

    def _selection(self, shape: tuple[int, ...], index: Any) -> Selection:
        parts = [self._lifted(part) if hasattr(part, "dtype") else part for part in index_parts(index)]
        if any(map(is_mask, parts)):
            raise Untraceable(*_MASKS)
        chosen = selection(NAMESPACE, shape, type(index)(parts), self.check_within)
        if 0 in (*chosen.shape, *chosen.merged, *chosen.result):
            raise Untraceable("it indexes an array without elements")
        return chosen

    def _lifted(self, x: Any) -> TracedArray:
        return x if isinstance(x, TracedArray) else TracedArray(self.graph, closed_over(self.graph, x))

    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        raise Untraceable("it adds to an array in place", "`ops.scatter_add(x, values, index)` gives a new Tensor")


class TracedArray(DuckArray):
    """A value of a graph, as an array of which only shape and dtype are known."""

    __slots__ = ("dtype", "graph", "shape", "value")
    namespace = NAMESPACE

    @property
    def __backend__(self) -> Backend:
        return TracingBackend(self.graph)  # which the graph does not hold: that would be a cycle

    def __init__(self, graph: Graph, value: Value):
        if graph.closed:
            raise RuntimeError(
                "this is a traced array, without values, which a step of a scan stored while it was traced: return it "
                "from the step, or pass compiled=False"
            )
        self.graph = graph
        self.value = value
        self.shape = value.shape
        self.dtype = value.dtype

    def __getattr__(self, name: str) -> Any:
        what = f"a traced array has no {name!r}, which is not of the array API standard"
        if hasattr(np.ndarray, name) and not name.startswith("__"):
            Untraceable(f"it asks an array for its {name!r}, which a traced array has not")  # or `hasattr` says no
        raise AttributeError(f"{what}: write xp_of(x).{name}(x)" if hasattr(DuckNamespace, name) else what)

    def concretize(self, conversion: type) -> Any:
        reason, advice = _NEEDS_VALUES
        raise Untraceable(reason, advice + "; of a formula's x, `xp_of(x).abs` is `math.fabs`" * (conversion is float))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise Untraceable("it writes into an array in place", "compute a new Tensor, with `ops.where` for example")


def normalize_index(index: Any, shape: tuple[int, ...]) -> tuple:
    """A basic index with one hashable entry per axis: an integer, or ("slice", start, stop, step)."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(p, (int, np.integer, slice, type(Ellipsis))) or isinstance(p, bool) for p in parts):
        raise Untraceable(*_MASKS)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    return tuple(("slice", *p.indices(n)) if isinstance(p, slice) else int(p) for p, n in zip(parts, shape))


def as_index(normalized: tuple) -> tuple:
    """The index that NumPy understands."""
    return tuple([p if isinstance(p, int) else slice(p[1], None if p[2] < 0 else p[2], p[3]) for p in normalized])
