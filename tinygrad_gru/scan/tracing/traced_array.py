"""Traced arrays: duck arrays with a shape and a dtype and no values. What is done to one is added to a graph IR.

A traced array stands in for the array of a Tensor, so the formulas and rules of the ops run on it unchanged,
and every array operation in them becomes a value of the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend import Backend, bfloat16, is_floating
from ...backend.duck_array import COMPARISONS, DuckArray, DuckNamespace
from ..ir import Graph, Value, broadcast_shape, dtype_of


class Untraceable(Exception):
    """The step cannot be traced into a graph; the message says why. It runs in eager mode instead.

    advice  what to write instead, or nothing
    """

    def __init__(self, reason: str, advice: str = ""):
        super().__init__(reason, advice)
        self.reason, self.advice = reason, advice

    def __str__(self) -> str:
        return self.reason


class NoTarget(Untraceable):
    """Nothing is compiled for such arrays, whatever the step does, nor in a step that is being traced itself."""


_NEEDS_VALUES = (
    "it makes a decision, or takes a scalar, from values that are known only when it runs",
    "`ops.where(condition, a, b)` chooses without `if`, and a Tensor of one element needs no `float()` or `.item()`",
)
_INDEXES = (
    "it indexes with an array, a boolean or None",
    "look the rows up before the scan, for all steps at once, or use `ops.where` for a mask",
)


class _Namespace(DuckNamespace):
    """The functions of the array API that the graph IR has."""

    __name__ = "traced"

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
        return graph, values

    def lift(self, arrays: Sequence[Any]) -> Sequence[TracedArray]:
        graph, values = self._values(*arrays)
        return [TracedArray(graph, value) for value in values]

    def elementwise(self, function: str, *operands: Any) -> TracedArray:
        graph, values = self._values(*operands)
        shape = broadcast_shape(values)
        dtype = np.dtype(bool) if function in COMPARISONS else dtype_of(function, values)
        return TracedArray(graph, graph.add(function, values, shape, dtype))

    def where(self, condition: Any, a: Any, b: Any) -> TracedArray:
        graph, values = self._values(condition, a, b)
        shape = broadcast_shape(values)
        return TracedArray(graph, graph.add("where", values, shape, dtype_of("where", values[1:])))

    def matmul(self, a: Any, b: Any) -> TracedArray:
        if isinstance(a, (int, float)) or isinstance(b, (int, float)):
            return NotImplemented
        graph, (left, right) = self._values(a, b)
        if len(left.shape) == len(right.shape) == 2 and left.shape[1] == right.shape[0]:
            shape: tuple[int, ...] = (left.shape[0], right.shape[1])
        else:
            shape = np.matmul(np.empty(left.shape, np.bool_), np.empty(right.shape, np.bool_)).shape
        return TracedArray(graph, graph.add("matmul", (left, right), shape, dtype_of("matmul", (left, right))))

    def reduction(self, function: str, x: TracedArray, axes: tuple[int, ...], keepdims: bool) -> TracedArray:
        axes = tuple(sorted(a % x.ndim for a in axes)) if x.ndim else ()
        if not axes:
            return x
        kept = [1 if i in axes else n for i, n in enumerate(x.shape)]
        shape = tuple(kept) if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        dtype = x.dtype if function != "sum" or is_floating(x.dtype) else np.empty(0, x.dtype).sum().dtype
        value = x.graph.add(function, (x.value,), shape, dtype, axis=axes, keepdims=keepdims)
        return TracedArray(x.graph, value)

    def reshape(self, x: TracedArray, shape: tuple[int, ...]) -> TracedArray:
        shape = np.empty(x.shape, np.bool_).reshape(shape).shape
        if shape == x.shape:
            return x
        # Only a C-contiguous array can be viewed in another shape; others are copied first.
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

    def concat(self, arrays: Any, axis: int = 0) -> TracedArray:
        graph, values = self._values(*arrays)
        axis %= len(values[0].shape)
        shape = list(values[0].shape)
        shape[axis] = sum(v.shape[axis] for v in values)
        return TracedArray(graph, graph.add("concat", values, tuple(shape), dtype_of("concat", values), axis=axis))

    def getitem(self, x: TracedArray, index: Any) -> TracedArray:
        parts = index if isinstance(index, tuple) else (index,)
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


NAMESPACE = _Namespace()


def is_array(graph: Graph, x: Any) -> bool:
    """Whether the graph can have `x` as a closed-over constant: it must be of the library that the trace is for."""
    return isinstance(x, graph.arrays) or (isinstance(x, np.generic) and graph.arrays is np.ndarray)


def closed_over(graph: Graph, x: Any) -> Value:
    """The closed-over constant `x` as a value of the graph."""
    return graph.capture(np.asarray(x) if graph.arrays is np.ndarray else x)


class _TracingBackend(Backend):
    """The backend of traced arrays."""

    def dtype(self, name: str) -> Any:
        return bfloat16() if name == "bfloat16" else super().dtype(name)

    def to_host(self, array: Any) -> Any:
        raise Untraceable(*_NEEDS_VALUES)

    def _flat_positions(self, shape: tuple[int, ...], index: Any) -> Any:
        raise Untraceable(*_INDEXES)

    def scatter(self, shape: tuple[int, ...], indices: Any, arrays: Any) -> TracedArray:
        graph, values = NAMESPACE._values(*arrays)
        normalized = tuple(normalize_index(index, shape) for index in indices)
        return TracedArray(graph, graph.add("scatter", values, tuple(shape), values[0].dtype, indices=normalized))


TRACING = _TracingBackend("traced", NAMESPACE)


class TracedArray(DuckArray):
    """A value of a graph, as an array of which only shape and dtype are known."""

    __slots__ = ("dtype", "graph", "shape", "value")
    namespace = NAMESPACE
    __backend__ = TRACING

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
        raise AttributeError(f"{what}: write xp_of(x).{name}(x)" if hasattr(DuckNamespace, name) else what)

    def concretize(self, conversion: type) -> Any:
        reason, advice = _NEEDS_VALUES
        is_scalar = conversion is float  # as functions of `math` do
        raise Untraceable(reason, f"{advice}; of a formula's x, `xp_of(x).abs` is `math.fabs`" if is_scalar else advice)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise Untraceable("it writes into an array in place", "compute a new Tensor, with `ops.where` for example")


def normalize_index(index: Any, shape: tuple[int, ...]) -> tuple:
    """A basic index with one hashable entry per axis: an integer, or ("slice", start, stop, step)."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(p, (int, np.integer, slice, type(Ellipsis))) or isinstance(p, bool) for p in parts):
        raise Untraceable(*_INDEXES)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    return tuple(("slice", *p.indices(n)) if isinstance(p, slice) else int(p) for p, n in zip(parts, shape))


def as_index(normalized: tuple) -> tuple:
    """The index that NumPy understands."""
    return tuple([p if isinstance(p, int) else slice(p[1], None if p[2] < 0 else p[2], p[3]) for p in normalized])
