"""ONNX operators as our ops, a line or a few each.

An entry takes a `Call` and gives a function of the node's inputs (Tensors, None for one that is left out) that returns
its output, or a tuple of them. It asks the call for every setting that the operator has; where ONNX changed a
definition, for the version too. All of it is made of ops, so that gradients flow through an imported graph.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import numpy as np

from ... import ops
from ...backend import to_host, xp_of
from ...ops.op import unwrap
from ...tensor import Tensor
from .activations import activation
from .call import Call, constant, dtype_name, host_array, integers

Function = Callable[..., Any]


def _plain(function: Function) -> Callable[[Call], Function]:
    """An operator without settings."""
    return lambda call: function


def _elementwise(name: str, *settings: str) -> Callable[[Call], Function]:
    """An operator that recurrent nodes have as an activation as well."""
    return lambda call: activation(name, **{s: v for s in settings if (v := call.setting(s)) is not None})


def _fold(function: Function) -> Callable[[Call], Function]:
    """An operator of any number of inputs."""
    return lambda call: lambda *xs: reduce(function, xs)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    if not xp_of(a.data).isdtype(a.dtype, "integral"):
        return ops.divide(a, b)
    x, y = to_host(a.data), to_host(b.data)
    if not y.all():
        raise ZeroDivisionError("an integer is divided by 0")
    with np.errstate(over="ignore"):  # the least number by −1 is itself: it wraps, as sums and products do
        quotient, remainder = x // y, x % y
    return constant(quotient + ((remainder != 0) & ((x < 0) != (y < 0))), a)  # towards 0, as in C


def _mean(x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """The mean; of integers an integer, exactly, towards 0."""
    if not xp_of(x.data).isdtype(x.dtype, "integral"):
        return ops.mean(x, axis=axis, keepdims=keepdims)
    numbers = to_host(x.data)
    count = numbers.size // max(1, numbers.sum(axis=axis, dtype=np.int64).size)
    if not count:
        raise ValueError("there is no mean of nothing")
    quotient, remainder = np.divmod(numbers, numbers.dtype.type(count))
    whole = quotient.sum(axis=axis, keepdims=keepdims, dtype=numbers.dtype)
    rest = remainder.sum(axis=axis, keepdims=keepdims, dtype=np.int64)
    whole = whole + (rest // count).astype(whole.dtype)
    return constant(whole + ((whole < 0) & (rest % count != 0)), x)


def _sized(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that a graph asks for; refused if it is none, or larger than any that is meant."""
    if min(shape, default=0) < 0 or math.prod(shape) > _MOST_ELEMENTS:
        raise ValueError(f"an array of shape {tuple(shape)} is asked for: expected at most {_MOST_ELEMENTS:,} elements")
    return tuple(shape)


def _gelu(call: Call) -> Function:
    if call.setting("approximate", "none") != "tanh":
        raise call.refused("only its approximation by tanh is known here (approximate='tanh')")
    return ops.gelu


def _softmax(function: Function) -> Callable[[Call], Function]:
    def prepared(call: Call) -> Function:
        if call.opset >= 13:
            axis = call.setting("axis", -1)
            return lambda x: function(x, axis=axis)
        first = call.setting("axis", 1)

        def over_the_rest(x: Tensor) -> Tensor:  # the axes from that one on were one long axis then
            rows = math.prod(x.shape[:first])
            return function(x.reshape(rows, -1), axis=-1).reshape(x.shape)

        return over_the_rest

    return prepared


def _clip(call: Call) -> Function:
    if call.opset < 11:
        low, high = call.setting("min"), call.setting("max")
        return lambda x: ops.clip(x, low=low, high=high)
    return lambda x, low=None, high=None: ops.clip(x, low=unwrap(low), high=unwrap(high))


def _dropout(call: Call) -> Function:
    call.setting("ratio"), call.setting("seed")
    if len([name for name in call.outputs if name]) > 1:
        raise call.refused("its mask is asked for, which a graph that is only evaluated does not have")

    def identity(x: Tensor, ratio: Any = None, training_mode: Any = None) -> Tensor:
        if training_mode is not None and any(integers(training_mode)):
            raise call.refused("training_mode is set: a graph is evaluated here, not trained")
        return x

    return identity


def _gemm(call: Call) -> Function:
    alpha, beta = call.setting("alpha", 1.0), call.setting("beta", 1.0)
    turn_a, turn_b = call.flag("transA"), call.flag("transB")

    def product(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        if (a.ndim, b.ndim) != (2, 2) or (a.dtype.kind != "f" and (alpha, beta) != (1, 1)):
            raise call.refused(
                f"expected matrices, of floating point if they are scaled, got {a.ndim} and {b.ndim} axes"
            )
        y = (a.T if turn_a else a) @ (b.T if turn_b else b)
        y = y if alpha == 1 else alpha * y
        return y if c is None else y + (c if beta == 1 else beta * c)

    return product


def _layer_norm(call: Call) -> Function:
    axis, eps = call.setting("axis", -1), call.setting("epsilon", 1e-5)
    call.setting("stash_type")
    if len([name for name in call.outputs if name]) > 1:
        raise call.refused("its mean and deviation are asked for as outputs")

    def normalized(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if axis not in (-1, x.ndim - 1):
            raise call.refused(f"axis {axis}: only the last axis can be normalized here")
        return ops.layer_norm(x, weight, bias, eps=eps)

    return normalized


def _reduction(function: Function, axes_are_an_input_from: int) -> Callable[[Call], Function]:
    def prepared(call: Call) -> Function:
        keepdims, nothing = call.flag("keepdims", True), call.flag("noop_with_empty_axes")
        fixed = call.setting("axes") if call.opset < axes_are_an_input_from else None

        def reduced(x: Tensor, axes: Tensor | None = None) -> Tensor:
            chosen = fixed if axes is None else integers(axes)
            if not chosen and nothing:
                return x
            return function(x, axis=tuple(chosen) if chosen else None, keepdims=keepdims)

        return reduced

    return prepared


def _arg(function: Function) -> Callable[[Call], Function]:
    def prepared(call: Call) -> Function:
        axis, keepdims = call.setting("axis", 0), call.flag("keepdims", True)
        if call.flag("select_last_index"):
            raise call.refused("select_last_index: only the first of equal elements can be found here")

        def chosen(x: Tensor) -> Tensor:
            y = ops.astype(function(x, axis=axis), dtype="int64")
            return ops.expand_dims(y, axis=axis % x.ndim) if keepdims else y

        return chosen

    return prepared


def _cast(call: Call) -> Function:
    dtype = dtype_name(call.setting("to"))
    call.setting("saturate"), call.setting("round_mode")  # they concern types that are not known here
    return lambda x: ops.astype(x, dtype=dtype)


def _constant(call: Call) -> Function:
    names = ("value", "value_float", "value_floats", "value_int", "value_ints")
    given = {name: value for name in names if (value := call.setting(name)) is not None}
    if len(given) != 1:
        raise call.refused("it is neither numbers nor a tensor of them, or both")
    ((name, value),) = given.items()
    array = host_array(value) if name == "value" else np.array(value, "float32" if "float" in name else "int64")
    return lambda: constant(array)


def _constant_of_shape(call: Call) -> Function:
    value = call.setting("value")
    filling = np.zeros(1, np.float32) if value is None else host_array(value)
    if filling.size != 1:
        raise call.refused(f"its value has {filling.size} elements, expected one")
    filling = filling.ravel()
    return lambda shape: constant(np.full(_sized(integers(shape)), filling[0], filling.dtype), shape)


def _shape(call: Call) -> Function:
    start, end = call.setting("start", 0), call.setting("end")
    return lambda x: constant(np.array(x.shape[start:end], np.int64), x)


def _reshape(call: Call) -> Function:
    zero_is_zero = call.flag("allowzero")

    def reshaped(x: Tensor, shape: Tensor) -> Tensor:
        wanted = integers(shape)
        kept = wanted if zero_is_zero else [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
        return x.reshape(kept)

    return reshaped


def _flatten(call: Call) -> Function:
    axis = call.setting("axis", 1)
    return lambda x: x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(call: Call) -> Function:
    axes = call.setting("perm")
    return lambda x: ops.transpose(x, axes=None if axes is None else tuple(axes))


def _with_axes(function: Function) -> Callable[[Call], Function]:
    """Squeeze and Unsqueeze, whose axes were a setting before they were an input."""

    def prepared(call: Call) -> Function:
        fixed = call.setting("axes") if call.opset < 13 else None

        def applied(x: Tensor, axes: Tensor | None = None) -> Tensor:
            chosen = fixed if axes is None else integers(axes)
            return function(x, axis=None if chosen is None else tuple(chosen))

        return applied

    return prepared


def _concat(call: Call) -> Function:
    axis = call.setting("axis")
    return lambda *xs: ops.concatenate(xs, axis=axis)


def _slice(call: Call) -> Function:
    fixed = [call.setting(name) for name in ("starts", "ends", "axes")] if call.opset < 10 else None

    def sliced(x: Tensor, *given: Tensor | None) -> Tensor:
        starts, ends, *rest = fixed or [None if part is None else integers(part) for part in given]
        axes, steps = (*rest, None, None)[:2]
        index = [slice(None)] * x.ndim
        axes = list(range(len(starts))) if axes is None else axes
        if not len(starts) == len(ends) == len(axes) == len(steps or starts) or len({a % x.ndim for a in axes}) < len(
            axes
        ):
            raise ValueError(f"starts, ends, axes and steps do not go together: {starts}, {ends}, {axes}, {steps}")
        for i, axis in enumerate(axes):
            index[axis] = slice(starts[i], ends[i], steps[i] if steps else 1)
        return x[tuple(index)]

    return sliced


def _split(call: Call) -> Function:
    axis, count = call.setting("axis", 0), len(call.outputs)
    if call.setting("num_outputs", count) != count:
        raise call.refused(f"it has {count} outputs, and its setting num_outputs says {call.setting('num_outputs')}")
    fixed = call.setting("split") if call.opset < 13 else None

    def parts(x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        chosen = fixed if lengths is None else integers(lengths)
        if chosen is None:  # equal ones; the last may be shorter
            longest, n = -(-x.shape[axis] // count), x.shape[axis]
            chosen = [max(0, min(longest, n - k * longest)) for k in range(count)]
        if sum(chosen) != x.shape[axis] or min(chosen, default=-1) < 0 or len(chosen) != len(call.outputs):
            raise ValueError(f"{x.shape[axis]} elements cannot be split into {len(call.outputs)} parts of {chosen}")
        return tuple(ops.split(x, list(accumulate(chosen))[:-1], axis=axis))

    return parts


def _gather(call: Call) -> Function:
    axis = call.setting("axis", 0)
    return lambda x, indices: ops.take(x, indices, axis=axis)


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, last, step = (value.item() for value in (start, limit, delta))
    (count,) = _sized([max(0, math.ceil((last - first) / step))])
    return constant((first + np.arange(count) * step).astype(str(start.dtype)), start)


def _cumsum(call: Call) -> Function:
    exclusive, reverse = call.flag("exclusive"), call.flag("reverse")
    if exclusive or reverse:
        raise call.refused("a sum that is exclusive or runs backwards is not known here")
    return lambda x, axis: ops.astype(ops.cumsum(x, axis=axis.item()), dtype=str(x.dtype))


def _einsum(call: Call) -> Function:
    equation = call.setting("equation")
    if not re.fullmatch(r"[A-Za-z,.\->\s]*", equation):
        raise call.refused(f"its equation {equation[:40]!r} is none")
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
    return ops.broadcast_to(x, shape=_sized(np.broadcast_shapes(x.shape, tuple(integers(shape)))))


#: What an array that a few numbers of a graph ask for may have.
_MOST_ELEMENTS = 2**27

OPERATORS: dict[str, Callable[[Call], Function]] = {
    "Abs": _plain(ops.absolute), "Cos": _plain(ops.cos), "Exp": _plain(ops.exp), "Log": _plain(ops.log),
    "Neg": _plain(ops.negative), "Sign": _plain(ops.sign), "Sin": _plain(ops.sin), "Sqrt": _plain(ops.sqrt),
    "Reciprocal": _plain(lambda x: 1.0 / x), "Identity": _plain(lambda x: x),
    "Relu": _elementwise("Relu"), "Tanh": _elementwise("Tanh"), "Sigmoid": _elementwise("Sigmoid"),
    "Softsign": _elementwise("Softsign"), "Softplus": _elementwise("Softplus"),
    "LeakyRelu": _elementwise("LeakyRelu", "alpha"), "Elu": _elementwise("Elu", "alpha"),
    "HardSigmoid": _elementwise("HardSigmoid", "alpha", "beta"),
    "Gelu": _gelu, "Softmax": _softmax(ops.softmax), "LogSoftmax": _softmax(ops.log_softmax),
    "Clip": _clip, "Dropout": _dropout,
    "Add": _plain(ops.add), "Sub": _plain(ops.subtract), "Mul": _plain(ops.multiply), "Div": _plain(_divide),
    "Pow": _plain(_power), "Max": _fold(ops.maximum), "Min": _fold(ops.minimum), "Sum": _fold(ops.add),
    "Equal": _plain(ops.equal), "Less": _plain(ops.less), "LessOrEqual": _plain(ops.less_equal),
    "Greater": _plain(ops.greater), "GreaterOrEqual": _plain(ops.greater_equal), "Where": _plain(ops.where),
    "Not": _plain(lambda x: ops.equal(x, False)),
    "MatMul": _plain(ops.matmul), "Gemm": _gemm, "LayerNormalization": _layer_norm,
    "ReduceSum": _reduction(ops.sum, 13), "ReduceMean": _reduction(_mean, 18),
    "ReduceMax": _reduction(ops.max, 18), "ReduceMin": _reduction(ops.min, 18),
    "ArgMax": _arg(ops.argmax), "ArgMin": _arg(ops.argmin),
    "Cast": _cast, "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Shape": _shape,
    "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _with_axes(ops.squeeze),
    "Unsqueeze": _with_axes(ops.expand_dims), "Concat": _concat, "Slice": _slice, "Split": _split,
    "Gather": _gather, "Expand": _plain(_expand), "Range": _plain(_range), "CumSum": _cumsum, "Einsum": _einsum,
}  # fmt: skip
