"""gradcheck and gradgradcheck: gradients against finite differences.

Each derivative is compared on its own scale: a small one isn't hidden by a large one beside it. The numerical
derivative is the central difference at a step relative to the coordinate, extrapolated (Richardson) from two steps,
whose disagreement, with the rounding of the function's values, bounds its error. That bound is the tolerance; where
it is too wide to tell right from wrong, other steps are tried, and if none will do, that is an error too.

Small problems are checked entry by entry. In large ones a random direction is weighted by a random cotangent in which
every output counts the same, and then again in a direction in which every coordinate of the inputs counts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import backend_of, dtype_name, is_floating
from ..contexts import enable_grad
from ..tensor import Tensor
from ..transforms import grad
from .finite_differences import GradientError, Problem, like, outputs_of
from .report import Report


def gradcheck(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    full: bool | None = None,
    step: float = 1e-4,
    rtol: float = 1e-6,
    atol: float = 0.0,
    seed: int = 0,
) -> Report:
    """Check the first derivatives of `function` at `inputs`; return a Report, or raise GradientError that says where.

    function  of as many Tensors as there are inputs; returns a Tensor or a nested container of Tensors
    inputs    arrays or Tensors; those of float64 are differentiated, others (integers, booleans) are passed on.
              Lower-precision floats are refused: their differences would be noise
    full      True: every input element and output element; False: random directions and cotangents, a few evaluations
              for inputs of any size; None: True for small problems
    step      of the central differences, relative to |x| of each coordinate (to 1 at 0)
    rtol      relative tolerance of a derivative, besides the error of the difference itself
    atol      absolute tolerance of a derivative, for functions that are not smooth to rounding

    >>> print(testing.gradcheck(lambda x: x * ops.tanh(x), [np.ones(3)]))
    9 derivatives of order 1...
    """
    tensors = _float64_leaves(inputs)
    with enable_grad():
        names = [f"inputs[{i}]" for i in range(len(tensors))]
        return Problem(function, tensors, names, 1, step, rtol, atol, function).check(full, np.random.default_rng(seed))


def gradgradcheck(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    full: bool | None = None,
    step: float = 1e-4,
    rtol: float = 1e-6,
    atol: float = 0.0,
    seed: int = 0,
) -> Report:
    """Check the second derivatives of `function` at `inputs`: gradcheck of its recorded gradient.

    The gradient is a function of the inputs and the cotangents, so that both of its arguments are checked.
    The arguments are those of `gradcheck`.

    >>> testing.gradgradcheck(ops.tanh, [np.ones(3)]).orders
    (2,)
    """
    tensors = _float64_leaves(inputs)
    differentiated = [i for i, t in enumerate(tensors) if t.requires_grad]
    random = np.random.default_rng(seed + 1)

    def gradient(*arguments: Tensor) -> dict[str, Tensor]:
        primals, cotangents = arguments[: len(tensors)], arguments[len(tensors) :]
        with_gradient = [(y, c) for (_, y), c in zip(outputs_of(function, primals), cotangents) if y.requires_grad]
        found: Sequence[Any] = [None] * len(differentiated)
        if with_gradient:
            ys, cs = zip(*with_gradient)
            found = grad(ys, [primals[i] for i in differentiated], cs, create_graph=True, allow_unused=True)
        return {f"inputs[{i}]": _zeros_like(primals[i]) if g is None else g for i, g in zip(differentiated, found)}

    with enable_grad():
        inputs_named = [f"inputs[{i}]" for i in range(len(tensors))]
        first = Problem(function, tensors, inputs_named, 1, step, rtol, atol, function)
        if not first.outputs:
            raise GradientError("nothing was checked: the function has no output")
        # Outputs add up in one gradient, so each is weighted by its size there: a large one must not hide a small one.
        numbers = random.standard_normal(sum(first.sizes)) / first.row_sizes()
        weights = [like(part.reshape(y.shape), y) for part, (_, y) in zip(first.parts(numbers), first.outputs)]
        names = [*inputs_named, *(f"the cotangent of {name}" for name, _ in first.outputs)]
        inputs = [*tensors, *weights]
        return Problem(gradient, inputs, names, 2, step, rtol, atol, function).check(full, random)


def _float64_leaves(inputs: Sequence[Any]) -> list[Tensor]:
    """New leaves with the values of the float64 inputs; the others as constants."""
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(
            f"inputs: expected a list of arrays, one for each argument of the function, got a {type(inputs).__name__}: "
            "write [x]"
        )
    tensors = []
    for i, x in enumerate(inputs):
        array = x.data if isinstance(x, Tensor) else x if hasattr(x, "dtype") else np.asarray(x)
        dtype = dtype_name(array.dtype)
        if is_floating(array.dtype) and dtype != "float64":
            raise TypeError(f"inputs[{i}]: finite differences need float64, got {dtype}: convert the inputs first")
        tensors.append(Tensor(array, requires_grad=dtype == "float64"))
    if not any(t.requires_grad for t in tensors):
        raise ValueError("inputs: none is of float64, so there is nothing to differentiate")
    return tensors


def _zeros_like(tensor: Tensor) -> Tensor:
    return Tensor(backend_of(tensor.data).zeros(tensor.shape, tensor.dtype))
