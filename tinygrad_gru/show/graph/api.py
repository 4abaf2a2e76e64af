"""`show.tape`: the picture of what led to a Tensor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...contexts import enable_grad, setting
from ...tape import inspector
from ...tensor import Tensor
from ...tensor.creation import ones_like
from .collect import Collector, Observed, cotangents_of, names_in
from .fold import folded
from .picture import TapePicture


def tape(
    y: Any,
    *inputs: Any,
    backward: Any = False,
    unfold: bool = False,
    names: Mapping[str, Any] | None = None,
    fold: bool = True,
) -> TapePicture:
    """The picture of a tape: leaves and records with shapes, values, the rules of backward, and cotangents.

    y         a Tensor, whose tape is shown with the values that it has kept for backward. Or a function, which is
              called with `inputs`: then all values are shown, the names of its local variables, the line of each op,
              and recurrences run in eager mode, with the names of the cell's equations
    backward  True: walk backward from y, a scalar, and show every cotangent ∂L; or y's cotangent, of its shape.
              Nothing is accumulated in `grad`, and nothing is freed. Without it, gradients that are kept are shown
    unfold    show a compiled scan as the ops of its step, rather than as one record
    names     of Tensors, by name; by default the variables of the caller
    fold      show the steps of a recurrence, which are alike, once: what a step takes from the one before is marked

    `print` shows text, a notebook a drawing; `.svg()`, `.mermaid()`, `.save("tape.svg")`. A rule, `∂a = g * b`, is what
    a record adds to the cotangent of an input: g is the cotangent of the record, y its value. It is the code of a
    short rule, of others the equation in the op's docstring. `h[t-1]` is the h of the step before.

    >>> a, b = Tensor(0.5, requires_grad=True), Tensor(2.0, requires_grad=True)
    >>> print(show.tape(ops.tanh(a * b), backward=True))
    a = leaf            ()  0.5     ∂L: 0.8399
    b = leaf            ()  2       ∂L: 0.21
    #3 = hadamard(a, b)  ()          ∂L: 0.42    ∂a = g * b, ∂b = g * a
    #4 = tanh(#3)       ()  0.7616  ∂L: 1       ∂#3 = g * (1 - y * y)
    """
    observed = None
    if not isinstance(names, (Mapping, type(None))):
        raise TypeError(f"show.tape: names: expected a dictionary, name -> Tensor, got a {type(names).__name__}")
    known = names_in(sys._getframe(1).f_locals if names is None else names)
    if callable(y) and not isinstance(y, Tensor):
        y, observed = _run(y, inputs)
        observed.read_names()
        known = observed.found | known
    elif inputs:
        raise TypeError(
            f"show.tape: inputs are for a function, which is called with them, got a {type(y).__name__} and "
            f"{len(inputs)} inputs"
        )
    if isinstance(y, tuple) and y:  # the output of a layer, before its state
        y = y[0]
    if not isinstance(y, Tensor) or y.node is None:
        raise TypeError(f"show.tape: y has no tape: {_without_tape(y, observed is not None)}")
    cotangents = {} if backward is False else cotangents_of({y.node: _cotangent(y, backward)})
    items = Collector(known, cotangents, observed).items_of(y, unfold)
    return TapePicture(folded(items) if fold else list(items))


def _without_tape(y: Any, is_returned: bool) -> str:
    """What y is instead of a Tensor on a tape, and why that may be."""
    source = "the function returned" if is_returned else "it is"
    if isinstance(y, Tensor):
        return (
            f"{source} a constant. Nothing that it was computed from requires a gradient "
            "(Tensor(…, requires_grad=True), or a parameter), or it was computed in no_grad(), or detached"
        )
    if y is None:
        return f"{source} None; did a function end without `return`?"
    if hasattr(y, "dtype"):
        return f"{source} a {type(y).__name__}, and what is computed with arrays is not recorded; make Tensors of them"
    return f"{source} a {type(y).__name__}; expected a Tensor, or a function that returns one"


def _run(function: Callable, inputs: tuple) -> tuple[Any, Observed]:
    observed = Observed(sys._getframe())
    with setting(inspector, observed), enable_grad():
        return function(*inputs), observed


def _cotangent(y: Tensor, backward: Any) -> Any:
    """The cotangent of y as an array."""
    if backward is True:
        if y.size != 1:
            raise ValueError(
                f"show.tape: backward=True is for a scalar, got a y of shape {y.shape}: give its cotangent, or the "
                "tape of its sum"
            )
        return ones_like(y)._data
    try:
        array = backward.numpy() if isinstance(backward, Tensor) else np.asarray(backward)
        given = Tensor(array, dtype=str(y.dtype), device=y.device)
    except (TypeError, ValueError):
        raise TypeError(
            f"show.tape: backward: expected True or numbers of y's shape {y.shape}, got {backward!r}"
        ) from None
    if given.shape != y.shape:
        raise ValueError(f"show.tape: backward: expected y's shape {y.shape}, got {given.shape}")
    return given._data
