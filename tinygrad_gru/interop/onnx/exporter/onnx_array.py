"""ONNX arrays: duck arrays that compute on an example and add a node to an ONNX graph for every operation.

An ONNX array replaces the array inside a Tensor, so the formulas of the ops run on it unchanged. It has the example's
value, because `forward` may depend on shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ....backend import Backend
from ....backend.duck_array import DuckArray, DuckNamespace, as_tuple
from ...errors import InteropError

_LAST = np.iinfo(np.int64).max

_OP_TYPES = {
    "abs": "Abs", "cos": "Cos", "exp": "Exp", "log": "Log", "negative": "Neg", "sign": "Sign", "sin": "Sin",
    "sqrt": "Sqrt", "tanh": "Tanh",
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "power": "Pow", "maximum": "Max",
    "minimum": "Min", "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin",
}  # fmt: skip


def _example(x: Any) -> Any:
    return x.example if isinstance(x, OnnxArray) else x


def _integers(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), np.int64)


def _node(op_type: str, inputs: Sequence[Any], example: Any, **attributes: Any) -> OnnxArray:
    """A node with one output, in the innermost graph of its inputs: a subgraph can use the values of the outer one."""
    builder = max((x.builder for x in inputs if isinstance(x, OnnxArray)), key=lambda builder: builder.depth)
    return builder.add_node(op_type, inputs, [example], **attributes)[0]


class _Namespace(DuckNamespace):
    """The functions of the array API that ONNX has operators for."""

    __name__ = "onnx"
    int8, int16, int32, int64, uint8 = np.int8, np.int16, np.int32, np.int64, np.uint8

    def __getattr__(self, name: str) -> Any:
        raise InteropError(f"no ONNX operator is known here for the array function {name}")

    def elementwise(self, function: str, *operands: Any) -> OnnxArray:
        """ONNX's operands have one type, and a Python scalar takes that of the others, as in NumPy. Functions of
        integers with floating-point results are computed in the type of the result."""
        examples = [_example(x) for x in operands]
        with np.errstate(all="ignore"):
            example = getattr(np, function)(*examples)
        common = np.result_type(*examples) if example.dtype == bool else example.dtype  # a comparison's operands
        return _node(_OP_TYPES[function], [self._cast(x, common) for x in operands], example)

    def _cast(self, x: Any, dtype: np.dtype) -> Any:
        if isinstance(x, OnnxArray):
            return self.astype(x, dtype)
        return x if isinstance(x, np.ndarray) and x.dtype == dtype else np.asarray(x, dtype)

    def not_equal(self, a: Any, b: Any) -> OnnxArray:
        y = self.equal(a, b)
        return _node("Not", [y], np.logical_not(y.example))

    def where(self, condition: Any, a: Any, b: Any) -> OnnxArray:
        common = np.result_type(_example(a), _example(b))
        a, b = self._cast(a, common), self._cast(b, common)
        return _node("Where", [condition, a, b], np.where(_example(condition), _example(a), _example(b)))

    def isfinite(self, x: OnnxArray) -> OnnxArray:
        return self.equal(x - x, 0)

    def expm1(self, x: OnnxArray) -> OnnxArray:
        """eˣ − 1, which is 2t / (1 − t), t = tanh(x/2); near 0 this loses nothing."""
        t = self.tanh(0.5 * x)
        return self.where(self.less(self.abs(x), 1), 2 * t / (1 - t), self.exp(x) - 1)

    def log1p(self, x: OnnxArray) -> OnnxArray:
        """log(1 + x); near 0 times x / ((1 + x) − 1), which compensates for the rounding of 1 + x (Kahan)."""
        u = 1 + x
        lost = u - 1
        is_near = self.less(self.abs(x), 1)
        factor = x / self.where(self.equal(lost, 0), 1, lost)
        near = self.where(self.equal(lost, 0), x, self.log(u) * factor)
        return self.where(is_near, near, self.log(u))

    def astype(self, x: OnnxArray, dtype: Any) -> OnnxArray:
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        with np.errstate(all="ignore"):
            example = x.example.astype(dtype)
        return _node("Cast", [x], example, to=onnx.helper.np_dtype_to_tensor_dtype(dtype))

    def asarray(self, x: Any, dtype: Any = None, **_: Any) -> Any:
        return x if dtype is None else self.astype(x, dtype)

    # -- products and reductions ---------------------------------------------------------------------------------

    def matmul(self, a: Any, b: Any) -> OnnxArray:
        with np.errstate(all="ignore"):
            example = np.matmul(_example(a), _example(b))
        return _node("MatMul", [self._cast(a, example.dtype), self._cast(b, example.dtype)], example)

    def einsum(self, subscripts: str, *xs: Any, **_: Any) -> OnnxArray:
        return _node("Einsum", xs, np.einsum(subscripts, *map(_example, xs)), equation=subscripts)

    def reduction(self, function: str, x: OnnxArray, axes: tuple[int, ...], keepdims: bool) -> OnnxArray:
        example = getattr(np, function)(x.example, axis=axes, keepdims=keepdims)
        x = self.astype(x, example.dtype)  # NumPy sums small integers in a wider type
        if function == "sum":  # its axes became an input in an earlier opset than those of the others
            return _node("ReduceSum", [x, _integers(axes)], example, keepdims=int(keepdims))
        return _node(_OP_TYPES[function], [x], example, axes=axes, keepdims=int(keepdims))

    def argmax(self, x: OnnxArray, axis: int | None = None, op_type: str = "ArgMax") -> OnnxArray:
        x, axis = (self.reshape(x, (-1,)), 0) if axis is None else (x, axis)
        return _node(op_type, [x], getattr(np, op_type.lower())(x.example, axis=axis), axis=axis, keepdims=0)

    def argmin(self, x: OnnxArray, axis: int | None = None) -> OnnxArray:
        return self.argmax(x, axis, "ArgMin")

    def cumulative_sum(self, x: OnnxArray, axis: int) -> OnnxArray:
        example = np.cumulative_sum(x.example, axis=axis)
        return _node("CumSum", [self.astype(x, example.dtype), np.array(axis, np.int64)], example)

    # -- shape ---------------------------------------------------------------------------------------------------

    def reshape(self, x: OnnxArray, shape: Sequence[int]) -> OnnxArray:
        example = np.reshape(x.example, shape)
        return _node("Reshape", [x, _integers(shape if -1 in shape else example.shape)], example)

    def permute_dims(self, x: OnnxArray, axes: Sequence[int]) -> OnnxArray:
        axes = [axis % x.ndim for axis in axes]
        return _node("Transpose", [x], np.transpose(x.example, axes), perm=axes)

    def expand_dims(self, x: Any, axis: Any = 0) -> Any:
        axes = as_tuple(axis)
        if not isinstance(x, OnnxArray):
            return np.expand_dims(x, axes)
        return _node("Unsqueeze", [x, _integers(axes)], np.expand_dims(x.example, axes)) if axes else x

    def squeeze(self, x: OnnxArray, axis: Any) -> OnnxArray:
        axes = as_tuple(axis)
        return _node("Squeeze", [x, _integers(axes)], np.squeeze(x.example, axes)) if axes else x

    def broadcast_to(self, x: OnnxArray, shape: Sequence[int]) -> OnnxArray:
        return _node("Expand", [x, _integers(shape)], np.broadcast_to(x.example, shape))

    def concat(self, arrays: Sequence[Any], axis: int = 0) -> OnnxArray:
        example = np.concatenate([_example(x) for x in arrays], axis=axis)
        return _node("Concat", [self._cast(x, example.dtype) for x in arrays], example, axis=axis)

    def getitem(self, x: OnnxArray, index: Any) -> OnnxArray:
        """Of integers, slices, None and one ellipsis."""
        parts = list(index if isinstance(index, tuple) else (index,))
        ellipsis = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
        rest = x.ndim - sum(part is not None and part is not Ellipsis for part in parts)
        parts[ellipsis : ellipsis + 1] = [slice(None)] * rest
        by_axis = dict(enumerate(part for part in parts if part is not None))
        x = self._slice(x, {axis: part for axis, part in by_axis.items() if isinstance(part, slice)})
        for axis, part in reversed(by_axis.items()):
            x = x if isinstance(part, slice) else self.take(x, np.array(part, np.int64), axis)
        kept = [part for part in parts if part is None or isinstance(part, slice)]
        return self.expand_dims(x, tuple(axis for axis, part in enumerate(kept) if part is None))

    def _slice(self, x: OnnxArray, slices: Mapping[int, slice]) -> OnnxArray:
        slices = {axis: part for axis, part in slices.items() if part not in (slice(None), slice(None, None, 1))}
        if not slices:
            return x
        steps = {axis: part.step or 1 for axis, part in slices.items()}
        starts = [(0 if steps[a] > 0 else _LAST) if part.start is None else part.start for a, part in slices.items()]
        ends = [(_LAST if steps[a] > 0 else -_LAST) if part.stop is None else part.stop for a, part in slices.items()]
        index = tuple(slices.get(axis, slice(None)) for axis in range(x.ndim))
        return _node("Slice", [x, *map(_integers, (starts, ends, slices, steps.values()))], x.example[index])

    def take(self, x: Any, indices: Any, axis: int) -> OnnxArray:
        example = np.take(_example(x), _example(indices), axis=axis)
        return _node("Gather", [x, indices], example, axis=axis)


NAMESPACE = _Namespace()


class _OnnxBackend(Backend):
    """The backend of ONNX arrays."""

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        return NAMESPACE.asarray(value, dtype) if isinstance(value, OnnxArray) else np.asarray(value, dtype=dtype)

    def to_host(self, array: Any) -> Any:
        return array.concretize(np.ndarray) if isinstance(array, OnnxArray) else np.asarray(array)

    def copy(self, array: Any) -> Any:
        return array  # nothing is ever written into one

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.zeros(shape, dtype)

    def arange(self, n: int) -> np.ndarray:
        return np.arange(n)

    def advanced_index(self, array: Any, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        by_axis = {a: part for a, part in enumerate(parts) if not (isinstance(part, slice) and part == slice(None))}
        indices = next(iter(by_axis.values()))
        if len(by_axis) != 1 or getattr(indices, "dtype", np.dtype(bool)).kind not in "iu":
            raise InteropError("an index with arrays: only integers along one axis can be written as ONNX")
        return NAMESPACE.take(array, indices, *by_axis)

    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        raise InteropError("scatter_add: there is no ONNX operator here for it")


class OnnxArray(DuckArray):
    """A value of an ONNX graph: the builder of the graph, its name there, and its value in the example."""

    __slots__ = ("builder", "example", "name")
    namespace = NAMESPACE
    __backend__ = _OnnxBackend("onnx", NAMESPACE)

    def __init__(self, builder: Any, name: str, example: np.ndarray):
        self.builder, self.name, self.example = builder, name, example

    @property
    def shape(self) -> tuple[int, ...]:
        return self.example.shape

    @property
    def dtype(self) -> np.dtype:
        return self.example.dtype

    def concretize(self, conversion: type) -> Any:
        raise InteropError(
            "`forward` branches on values that are known only when the graph runs, or converts them to Python or NumPy "
            "numbers (ids and lengths may be given as arrays, which stay arrays)"
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        self.concretize(np.ndarray)
