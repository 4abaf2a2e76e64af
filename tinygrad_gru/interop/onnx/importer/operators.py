"""ONNX operators as our ops, a line or a few each.

An entry takes a `Node` and returns a function of the node's inputs (Tensors, None for an omitted optional one) to its
output, or a tuple of outputs. It reads every attribute of the operator, and the opset where ONNX changed a definition.
Functions are compositions of ops, so gradients flow through an imported graph.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np

from .... import ops
from ....backend import to_host, xp_of
from ....ops.op import unwrap
from ....tensor import Tensor
from ..activations import activation
from ..tensors import dtype_name, host_array
from .node import Node, constant, integers

Function = Callable[..., Any]


def _op(function: Function) -> Callable[[Node], Function]:
    """An operator without attributes."""
    return lambda node: function


def _activation(name: str, *attributes: str) -> Callable[[Node], Function]:
    """An operator that is an activation of recurrent nodes too."""
    return lambda node: activation(name, **{a: v for a in attributes if (v := node.attribute(a)) is not None})


def _fold(function: Function) -> Callable[[Node], Function]:
    """An operator of any number of inputs."""
    return lambda node: lambda *xs: reduce(function, xs)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    if not xp_of(a.data).isdtype(a.dtype, "integral"):
        return ops.divide(a, b)
    x, y = to_host(a.data), to_host(b.data)
    if not y.all():
        raise ZeroDivisionError("an integer is divided by 0")
    with np.errstate(over="ignore"):  # the smallest integer by −1 is itself: it wraps, as sums and products do
        quotient, remainder = x // y, x % y
    return constant(quotient + ((remainder != 0) & ((x < 0) != (y < 0))), a)  # towards 0, as in C


def _mean(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """The mean; of integers an integer, exactly, towards 0."""
    if not xp_of(x.data).isdtype(x.dtype, "integral"):
        return ops.mean(x, axis=axis, keepdims=keepdims)
    numbers = to_host(x.data)
    count = numbers.size // max(1, numbers.sum(axis=axis, dtype=np.int64).size)
    if not count:
        raise ValueError("the mean of an empty array is undefined")
    quotient, remainder = np.divmod(numbers, numbers.dtype.type(count))
    whole = quotient.sum(axis=axis, keepdims=keepdims, dtype=numbers.dtype)
    rest = remainder.sum(axis=axis, keepdims=keepdims, dtype=np.int64)
    whole = whole + (rest // count).astype(whole.dtype)
    return constant(whole + ((whole < 0) & (rest % count != 0)), x)


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a new array. Raises ValueError if it is negative, or larger than `_MAX_ELEMENTS`."""
    if min(shape, default=0) < 0 or math.prod(shape) > _MAX_ELEMENTS:
        raise ValueError(f"an array of shape {tuple(shape)} is requested: expected at most {_MAX_ELEMENTS:,} elements")
    return tuple(shape)


def _gelu(node: Node) -> Function:
    if node.attribute("approximate", "none") != "tanh":
        raise node.error("only its approximation by tanh is supported (approximate='tanh')")
    return ops.gelu


def _softmax(function: Function) -> Callable[[Node], Function]:
    def build(node: Node) -> Function:
        if node.opset >= 13:
            axis = node.attribute("axis", -1)
            return lambda x: function(x, axis=axis)
        first = node.attribute("axis", 1)

        def flattened(x: Tensor) -> Tensor:  # older opsets flatten the axes from that one on
            rows = math.prod(x.shape[:first])
            return function(x.reshape(rows, -1), axis=-1).reshape(x.shape)

        return flattened

    return build


def _clip(node: Node) -> Function:
    if node.opset < 11:
        low, high = node.attribute("min"), node.attribute("max")
        return lambda x: ops.clip(x, low=low, high=high)
    return lambda x, low=None, high=None: ops.clip(x, low=unwrap(low), high=unwrap(high))


def _dropout(node: Node) -> Function:
    node.attribute("ratio"), node.attribute("seed")
    if len([name for name in node.outputs if name]) > 1:
        raise node.error("its mask is an output, which an evaluated graph does not have")

    def identity(x: Tensor, ratio: Any = None, training_mode: Any = None) -> Tensor:
        if training_mode is not None and any(integers(training_mode)):
            raise node.error("training_mode is set: a graph is evaluated here, not trained")
        return x

    return identity


def _gemm(node: Node) -> Function:
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    transpose_a, transpose_b = node.flag("transA"), node.flag("transB")

    def product(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        if (a.ndim, b.ndim) != (2, 2) or (a.dtype.kind != "f" and (alpha, beta) != (1, 1)):
            raise node.error(f"expected matrices, of floating point if they are scaled, got {a.ndim} and {b.ndim} axes")
        y = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
        y = y if alpha == 1 else alpha * y
        return y if c is None else y + (c if beta == 1 else beta * c)

    return product


def _layer_norm(node: Node) -> Function:
    axis, eps = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    node.attribute("stash_type")
    if len([name for name in node.outputs if name]) > 1:
        raise node.error("its mean and deviation are outputs, which are not supported")

    def normalized(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if axis not in (-1, x.ndim - 1):
            raise node.error(f"axis {axis}: only the last axis can be normalized here")
        return ops.layer_norm(x, weight, bias, eps=eps)

    return normalized


def _reduction(function: Function, axes_are_an_input_from: int) -> Callable[[Node], Function]:
    def build(node: Node) -> Function:
        keepdims, noop = node.flag("keepdims", True), node.flag("noop_with_empty_axes")
        attribute = node.attribute("axes") if node.opset < axes_are_an_input_from else None

        def reduced(x: Tensor, axes: Tensor | None = None) -> Tensor:
            axis = attribute if axes is None else integers(axes)
            if not axis and noop:
                return x
            return function(x, axis=tuple(axis) if axis else None, keepdims=keepdims)

        return reduced

    return build


def _arg(function: Function) -> Callable[[Node], Function]:
    def build(node: Node) -> Function:
        axis, keepdims = node.attribute("axis", 0), node.flag("keepdims", True)
        if node.flag("select_last_index"):
            raise node.error("select_last_index: only the first of equal elements can be found here")

        def index(x: Tensor) -> Tensor:
            y = ops.astype(function(x, axis=axis), dtype="int64")
            return ops.expand_dims(y, axis=axis % x.ndim) if keepdims else y

        return index

    return build


def _cast(node: Node) -> Function:
    dtype = dtype_name(node.attribute("to"))
    node.attribute("saturate"), node.attribute("round_mode")  # they concern types that are not supported
    return lambda x: ops.astype(x, dtype=dtype)


def _constant(node: Node) -> Function:
    names = ("value", "value_float", "value_floats", "value_int", "value_ints")
    given = {name: value for name in names if (value := node.attribute(name)) is not None}
    if len(given) != 1:
        raise node.error("expected one of value, value_float, value_floats, value_int and value_ints")
    ((name, value),) = given.items()
    array = host_array(value) if name == "value" else np.array(value, "float32" if "float" in name else "int64")
    return lambda: constant(array)


def _constant_of_shape(node: Node) -> Function:
    value = node.attribute("value")
    filling = np.zeros(1, np.float32) if value is None else host_array(value)
    if filling.size != 1:
        raise node.error(f"its value has {filling.size} elements, expected one")
    filling = filling.ravel()
    return lambda shape: constant(np.full(_checked_shape(integers(shape)), filling[0], filling.dtype), shape)


def _shape(node: Node) -> Function:
    start, end = node.attribute("start", 0), node.attribute("end")
    return lambda x: constant(np.array(x.shape[start:end], np.int64), x)


def _reshape(node: Node) -> Function:
    zero_is_zero = node.flag("allowzero")

    def reshaped(x: Tensor, shape: Tensor) -> Tensor:
        sizes = integers(shape)
        return x.reshape(sizes if zero_is_zero else [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)])

    return reshaped


def _flatten(node: Node) -> Function:
    axis = node.attribute("axis", 1)
    return lambda x: x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(node: Node) -> Function:
    axes = node.attribute("perm")
    return lambda x: ops.transpose(x, axes=None if axes is None else tuple(axes))


def _with_axes(function: Function) -> Callable[[Node], Function]:
    """Squeeze and Unsqueeze, whose axes were an attribute before they were an input."""

    def build(node: Node) -> Function:
        attribute = node.attribute("axes") if node.opset < 13 else None

        def applied(x: Tensor, axes: Tensor | None = None) -> Tensor:
            axis = attribute if axes is None else integers(axes)
            return function(x, axis=None if axis is None else tuple(axis))

        return applied

    return build


def _concat(node: Node) -> Function:
    axis = node.attribute("axis")
    return lambda *xs: ops.concatenate(xs, axis=axis)


def _slice(node: Node) -> Function:
    attributes = [node.attribute(name) for name in ("starts", "ends", "axes")] if node.opset < 10 else None

    def sliced(x: Tensor, *given: Tensor | None) -> Tensor:
        starts, ends, *rest = attributes or [None if part is None else integers(part) for part in given]
        axes, steps = (*rest, None, None)[:2]
        index = [slice(None)] * x.ndim
        axes = list(range(len(starts))) if axes is None else axes
        is_repeated = len({axis % x.ndim for axis in axes}) < len(axes)
        if not len(starts) == len(ends) == len(axes) == len(steps or starts) or is_repeated:
            raise ValueError(f"starts, ends, axes and steps do not match: {starts}, {ends}, {axes}, {steps}")
        for i, axis in enumerate(axes):
            index[axis] = slice(starts[i], ends[i], steps[i] if steps else 1)
        return x[tuple(index)]

    return sliced


def _split(node: Node) -> Function:
    axis, count = node.attribute("axis", 0), len(node.outputs)
    if node.attribute("num_outputs", count) != count:
        raise node.error(f"it has {count} outputs, and its attribute num_outputs says {node.attribute('num_outputs')}")
    attribute = node.attribute("split") if node.opset < 13 else None

    def parts(x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        sizes = attribute if lengths is None else integers(lengths)
        if sizes is None:  # equal parts; the last may be shorter
            longest, n = -(-x.shape[axis] // count), x.shape[axis]
            sizes = [max(0, min(longest, n - k * longest)) for k in range(count)]
        if sum(sizes) != x.shape[axis] or min(sizes, default=-1) < 0 or len(sizes) != len(node.outputs):
            raise ValueError(f"{x.shape[axis]} elements cannot be split into {len(node.outputs)} parts of {sizes}")
        return tuple(ops.split(x, list(accumulate(sizes))[:-1], axis=axis))

    return parts


def _gather(node: Node) -> Function:
    axis = node.attribute("axis", 0)
    return lambda x, indices: ops.take(x, indices, axis=axis)


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = (value.item() for value in (start, limit, delta))
    (count,) = _checked_shape([max(0, math.ceil((last - first) / step))])
    return constant((first + np.arange(count) * step).astype(str(start.dtype)), start)


def _cumsum(node: Node) -> Function:
    exclusive, reverse = node.flag("exclusive"), node.flag("reverse")
    if exclusive or reverse:
        raise node.error("a sum that is exclusive or runs backwards is not supported")
    return lambda x, axis: ops.astype(ops.cumsum(x, axis=axis.item()), dtype=str(x.dtype))


def _einsum(node: Node) -> Function:
    equation = node.attribute("equation")
    if not re.fullmatch(r"[A-Za-z,.\->\s]*", equation):
        raise node.error(f"its equation {equation[:40]!r} is invalid")
    return lambda *xs: ops.einsum(equation, *xs)


def _power(a: Tensor, b: Tensor) -> Tensor:
    integral = xp_of(a.data).isdtype
    if integral(a.dtype, "integral") and integral(b.dtype, "signed integer") and (to_host(b.data) < 0).any():
        x, y = np.broadcast_arrays(to_host(a.data), to_host(b.data))
        if (x[y < 0] == 0).any():
            raise ZeroDivisionError("0 to a negative power")
        power = np.power(x, np.abs(y))
        return constant(np.where((y < 0) & (np.abs(x) != 1), 0, power).astype(x.dtype), a)  # towards 0
    return ops.astype(ops.power(a, b), dtype=str(a.dtype))


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return ops.broadcast_to(x, shape=_checked_shape(np.broadcast_shapes(x.shape, tuple(integers(shape)))))


#: The largest array whose size is a value in the graph.
_MAX_ELEMENTS = 2**27

OPERATORS: dict[str, Callable[[Node], Function]] = {
    "Abs": _op(ops.absolute), "Cos": _op(ops.cos), "Exp": _op(ops.exp), "Log": _op(ops.log),
    "Neg": _op(ops.negative), "Sign": _op(ops.sign), "Sin": _op(ops.sin), "Sqrt": _op(ops.sqrt),
    "Reciprocal": _op(lambda x: 1.0 / x), "Identity": _op(lambda x: x),
    "Relu": _activation("Relu"), "Tanh": _activation("Tanh"), "Sigmoid": _activation("Sigmoid"),
    "Softsign": _activation("Softsign"), "Softplus": _activation("Softplus"),
    "LeakyRelu": _activation("LeakyRelu", "alpha"), "Elu": _activation("Elu", "alpha"),
    "HardSigmoid": _activation("HardSigmoid", "alpha", "beta"),
    "Gelu": _gelu, "Softmax": _softmax(ops.softmax), "LogSoftmax": _softmax(ops.log_softmax),
    "Clip": _clip, "Dropout": _dropout,
    "Add": _op(ops.add), "Sub": _op(ops.subtract), "Mul": _op(ops.multiply), "Div": _op(_divide),
    "Pow": _op(_power), "Max": _fold(ops.maximum), "Min": _fold(ops.minimum), "Sum": _fold(ops.add),
    "Equal": _op(ops.equal), "Less": _op(ops.less), "LessOrEqual": _op(ops.less_equal),
    "Greater": _op(ops.greater), "GreaterOrEqual": _op(ops.greater_equal), "Where": _op(ops.where),
    "Not": _op(lambda x: ops.equal(x, False)),
    "MatMul": _op(ops.matmul), "Gemm": _gemm, "LayerNormalization": _layer_norm,
    "ReduceSum": _reduction(ops.sum, 13), "ReduceMean": _reduction(_mean, 18),
    "ReduceMax": _reduction(ops.max, 18), "ReduceMin": _reduction(ops.min, 18),
    "ArgMax": _arg(ops.argmax), "ArgMin": _arg(ops.argmin),
    "Cast": _cast, "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Shape": _shape,
    "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _with_axes(ops.squeeze),
    "Unsqueeze": _with_axes(ops.expand_dims), "Concat": _concat, "Slice": _slice, "Split": _split,
    "Gather": _gather, "Expand": _op(_expand), "Range": _op(_range), "CumSum": _cumsum, "Einsum": _einsum,
}  # fmt: skip
