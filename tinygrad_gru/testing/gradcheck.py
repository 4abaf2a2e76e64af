"""Gradients against finite differences.

A derivative in one random direction, weighed by one random cotangent, tests every entry of a Jacobian at the price
of two evaluations: a wrong entry shows unless the directions happen to be orthogonal to it. `full=True` tests entry
by entry and says which one is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import backend_of, dtype_name, to_host
from ..tape import enable_grad, grad
from ..tensor import Tensor


class GradientError(AssertionError):
    """A gradient disagrees with finite differences."""


@enable_grad()
def gradcheck(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    full: bool = False,
    step: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    seed: int = 0,
) -> bool:
    """Check the first derivatives of `function` at `inputs`; return True, or raise GradientError that says where.

    function  takes as many Tensors as there are inputs, returns a Tensor or a tuple of them
    inputs    arrays or Tensors; those of float64 are differentiated, others (integers, booleans) are passed on.
              Less precise floats are refused: their differences would be noise
    full      every input element and output element, not one random direction and cotangent
    step      of the central differences, relative to max(1, |x|)
    """
    tensors = [_double(x, f"inputs[{i}]") for i, x in enumerate(inputs)]
    places = [i for i, t in enumerate(tensors) if t.requires_grad]
    if not places:
        raise ValueError("inputs: none is of float64, so there is nothing to differentiate")
    random = np.random.default_rng(seed)
    outputs = _outputs(function(*tensors))
    cotangents = [_like(random.standard_normal(y.shape), y) for y in outputs]
    if full:
        for k, y in enumerate(outputs):
            for element in np.ndindex(*y.shape):
                one = np.zeros(y.shape)
                one[element] = 1.0
                _check_each(function, tensors, places, k, _like(one, y), step, rtol, atol, element)
        return True

    gradients = _gradients(outputs, [tensors[i] for i in places], cotangents)
    directions = [random.standard_normal(tensors[i].shape) for i in places]
    for i, direction, gradient in zip(places, directions, gradients):
        analytic = float(np.sum(to_host(gradient) * direction))
        numeric = _difference(function, tensors, i, direction, cotangents, step)
        _compare(analytic, numeric, rtol, atol, f"the derivative with regard to inputs[{i}] {tensors[i].shape}")
    return True


@enable_grad()
def gradgradcheck(function: Callable[..., Any], inputs: Sequence[Any], **options: Any) -> bool:
    """Check the second derivatives of `function` at `inputs`: gradcheck of its recorded gradient.

    The gradient is taken as a function of the inputs and of the cotangents, so that both of its slots are checked.
    """
    tensors = [_double(x, f"inputs[{i}]") for i, x in enumerate(inputs)]
    places = [i for i, t in enumerate(tensors) if t.requires_grad]
    outputs = _outputs(function(*tensors))
    random = np.random.default_rng(options.get("seed", 0) + 1)
    weights = [_like(random.standard_normal(y.shape), y) for y in outputs]

    def gradient(*arguments: Tensor) -> tuple[Tensor, ...]:
        primals, cotangents = arguments[: len(tensors)], arguments[len(tensors) :]
        alive = [(y, c) for y, c in zip(_outputs(function(*primals)), cotangents) if y.requires_grad]
        if not alive:
            return ()
        ys, cs = zip(*alive)
        found = grad(ys, [primals[i] for i in places], cs, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(gradient, [*tensors, *weights], **options)


def _double(x: Any, name: str) -> Tensor:
    """A fresh leaf of the values of a float64 input; any other input as a constant."""
    array = x.data if isinstance(x, Tensor) else x
    array = array if hasattr(array, "dtype") else np.asarray(array)
    dtype = dtype_name(array.dtype)
    if dtype in ("float16", "float32", "bfloat16"):
        raise TypeError(f"{name}: finite differences need float64, got {dtype}: convert the inputs first")
    return Tensor(array, requires_grad=dtype == "float64")


def _outputs(result: Any) -> list[Tensor]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return Tensor(backend_of(tensor.data).asarray(values), requires_grad=True)


def _gradients(outputs: list[Tensor], inputs: list[Tensor], cotangents: list[Tensor]) -> list[Any]:
    """The gradients as arrays; zeros for an input that does not matter."""
    alive = [(y, c) for y, c in zip(outputs, cotangents) if y.requires_grad]
    if not alive:
        return [np.zeros(x.shape) for x in inputs]
    ys, cs = zip(*alive)
    found = grad(list(ys), inputs, list(cs), allow_unused=True)
    return [np.zeros(x.shape) if g is None else g.data for x, g in zip(inputs, found)]


def _difference(
    function: Callable, tensors: list[Tensor], i: int, direction: np.ndarray, cotangents: list[Any], step: float
) -> float:
    """The central difference of Σ cotangent · output along `direction` in input i."""
    here = to_host(tensors[i].data)
    step = step * max(1.0, float(np.max(np.abs(here), initial=0.0)))

    def value(sign: int) -> float:
        moved = list(tensors)
        moved[i] = Tensor(backend_of(tensors[i].data).asarray(here + sign * step * direction), requires_grad=True)
        # Not under no_grad: the function may itself take gradients.
        results = _outputs(function(*moved))
        return sum(float(np.sum(to_host(y.data) * to_host(c.data))) for y, c in zip(results, cotangents))

    return (value(1) - value(-1)) / (2 * step)


def _check_each(
    function: Callable, tensors: list[Tensor], places: list[int], k: int, one: Tensor, step: float, rtol: float,
    atol: float, element: tuple[int, ...],
) -> None:  # fmt: skip
    def output(*arguments: Tensor) -> Tensor:
        return _outputs(function(*arguments))[k]

    gradients = _gradients([output(*tensors)], [tensors[i] for i in places], [one])
    for i, gradient in zip(places, gradients):
        for place in np.ndindex(*tensors[i].shape):
            direction = np.zeros(tensors[i].shape)
            direction[place] = 1.0
            numeric = _difference(output, tensors, i, direction, [one], step)
            what = f"∂output[{k}]{list(element)} / ∂inputs[{i}]{list(place)}"
            _compare(float(to_host(gradient)[place]), numeric, rtol, atol, what)


def _compare(analytic: float, numeric: float, rtol: float, atol: float, what: str) -> None:
    # The larger of the two scales the tolerance, and a NaN on either side must fail: hence `not <=`.
    error, scale = abs(analytic - numeric), max(abs(analytic), abs(numeric))
    if not error <= atol + rtol * scale:
        raise GradientError(
            f"{what}: the rules give {analytic:.9g}, finite differences {numeric:.9g} (they differ by {error:.3g})"
        )
