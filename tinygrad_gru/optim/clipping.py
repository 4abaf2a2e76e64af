"""Gradient clipping, by norm and by value, for between backward and step.

A clipped gradient is a new tensor: a hook or a recorded backward that holds the old one sees no change.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from typing import Any

import numpy as np

from .. import native, ops
from ..backend import as_array, backend_of
from ..backend.numpy import DOUBLE, SINGLE, HostArray
from ..ops.op import unwrap
from ..ops.precision import in_float32
from ..tensor import Tensor

#: Elements per tile on the host: few enough to stay in the cache, and for BLAS to use one thread, so that the norm does
#: not depend on the number of threads.
_TILE = 8192
#: Elements of all gradients from which on native code is worth it: fewer are done before a library is loaded.
_LEAST_NATIVE = 16384
_SQUARES = """
def loop(steps):
    for k in range(steps[0]):
        squares(steps[2 + 2 * k], pointer_{real}(steps[3 + 2 * k]), k, pointer_float64(steps[1]))

def squares(n, g, k, sums):
    total = float64(0)
    for i in range(n):
        total = plus(total, float64(g[i]) * float64(g[i]))
    sums[k] = total
"""


def clip_gradient_norm(parameters: Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False) -> Tensor:
    """Scale the gradients of all parameters so that their global norm is at most `max_norm`.

        ‖g‖ = √(Σ gᵢ²)
        g ← g · min(1, max_norm / ‖g‖)

    Returns ‖g‖ before clipping, a 0-d float64 tensor: on a GPU nothing waits for it until it is read, as by
    `float(norm)`. If it is NaN or infinite, the gradients are not changed, and the caller should skip the step; with
    `error_if_nonfinite`, which waits for the device, FloatingPointError names the parameters that cause it. Parameters
    without a gradient are skipped.

    >>> x = Tensor([3.0, 4.0], requires_grad=True)
    >>> x.sum().backward()
    >>> round(optim.clip_gradient_norm([x], max_norm=1.0).item(), 3)
    1.414
    >>> x.grad.numpy().round(3)
    array([0.707, 0.707], dtype=float32)
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm: expected a number above 0, got {max_norm}")
    with_gradient = _with_gradient(parameters)
    if not with_gradient:
        return Tensor(0.0, dtype="float64")
    gradients = [unwrap(parameter.grad) for parameter in with_gradient.values()]
    squares = _native_sums_of_squares(gradients)
    norm = ops.sqrt(ops.sum(ops.stack(list(map(_sum_of_squares, gradients))) if squares is None else squares))
    # On the host, where reading the norm costs nothing, gradients within the limit are not copied.
    unchanged = not max_norm < inf or (backend_of(norm).is_host and not max_norm < norm < inf)
    if not unchanged:
        factor = ops.where(ops.isfinite(norm), ops.divide(max_norm, ops.maximum(norm, max_norm)), 1.0)
        for parameter in with_gradient.values():
            parameter.grad = _scaled(parameter.grad, factor)
    norm = Tensor.from_node(as_array(norm), None)
    if error_if_nonfinite and not isfinite(norm):
        raise FloatingPointError(f"the norm of the gradients is {norm.item()}: {_nonfinite_gradients(with_gradient)}")
    return norm


def clip_gradient_value(parameters: Iterable[Tensor], max_value: float) -> None:
    """Clip every element of every gradient: g ← min(max(g, −max_value), max_value). NaN stays NaN.

    >>> x = Tensor([3.0, -4.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> optim.clip_gradient_value([x], max_value=7.0)
    >>> x.grad
    Tensor([ 6., -7.], dtype=float32)
    """
    if not max_value > 0:
        raise ValueError(f"max_value: expected a number above 0, got {max_value}")
    for parameter in _with_gradient(parameters).values():
        parameter.grad = parameter.grad.clip(-max_value, max_value)


def _with_gradient(parameters: Iterable[Tensor]) -> dict[int, Any]:
    """The parameters that have a gradient, by position; a repeated one once."""
    if isinstance(parameters, Tensor):
        raise TypeError("parameters: expected a list of tensors, got one tensor: write [x]")
    if not isinstance(parameters, Iterable):
        raise TypeError(
            f"parameters: expected a list of tensors, got a {type(parameters).__name__}: write model.parameters()"
        )
    found: dict[Any, tuple[int, Tensor]] = {}
    for position, parameter in enumerate(parameters):
        if parameter.grad is not None:
            found.setdefault(parameter.node, (position, parameter))
    return dict(found.values())


def _scaled(gradient: Tensor, factor: Any) -> Tensor:
    in_high_precision = in_float32(gradient)  # half precision would round a small factor
    scaled = in_high_precision * ops.astype(factor, dtype=in_high_precision.dtype)
    return scaled if in_high_precision is gradient else ops.astype(scaled, dtype=gradient.dtype)


def _sum_of_squares(g: Any) -> Any:
    # In float64: the square of a gradient of 1e20 is infinite in float32.
    if type(g) is not HostArray:
        return ops.sum(ops.square(ops.astype(g, dtype="float64")))
    flat, total = g.reshape(-1), 0.0
    for start in range(0, flat.size, _TILE):
        tile = flat[start : start + _TILE].astype("float64")
        total += float(tile @ tile)
    return as_array(total)


def _native_sums_of_squares(gradients: list[Any]) -> np.ndarray | None:
    """The same of all gradients in one native call; None where they are few, or llvmlite is not installed."""
    if not all(type(g) is HostArray and g.dtype == gradients[0].dtype for g in gradients):
        return None
    dtype, elements = gradients[0].dtype, sum(g.size for g in gradients)
    if (dtype != SINGLE and dtype != DOUBLE) or elements < _LEAST_NATIVE or native.problem():
        return None
    contiguous = [np.ascontiguousarray(g) for g in gradients]
    sums = np.empty(len(gradients))
    sizes_and_arrays = [x for g in contiguous for x in (g.size, g)]
    native.function(_SQUARES.format(real=dtype.name)).on(len(gradients), sums, *sizes_and_arrays)
    return sums


def _nonfinite_gradients(parameters: dict[int, Any]) -> str:
    """A message that lists the gradients that are not finite, and in how many elements."""
    found = []
    for position, parameter in parameters.items():
        finite = int(ops.sum(ops.astype(ops.isfinite(parameter.grad), dtype="int64")))
        if finite < parameter.size:
            name = f" ({parameter.name})" if parameter.name else ""
            found.append(f"parameter {position}{name} in {parameter.size - finite} of {parameter.size} elements")
    return ", ".join(found) or "every element is finite, but not the sum of their squares"
