"""Loss scaling: gradients of float16 passes, moved to where float16 has numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import frexp
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..tensor import Tensor

#: With it a gradient of 1/256 leaves the range of float16 already: a larger one is of no use.
_HIGHEST = 2.0**24
_REMEMBERED = ("scale", "good_steps", "skipped")


class LossScaler:
    """Dynamic loss scaling (Micikevicius et al. 2018): backward starts from S in the place of 1.

        g ← ∂(S · loss)/∂θ / S      S is a power of two, so that g is scaled and unscaled without rounding
        S ← S / 2, no step          where an element of g is not finite: it has left the range of float16
        S ← 2 S                     after `growth_interval` steps in a row that were made

    scale            S at first, a power of two from 1 to 2²⁴, which it never leaves
    growth_interval  None keeps S from growing. `LossScaler(1, None)` scales nothing, as suits float32 and bfloat16

    Whether the gradients are finite is seen in their norm, which is read anyway where they are clipped:

        scaler.backward(loss)
        scaler.unscale(adam.parameters())
        norm = clip_gradient_norm(adam.parameters(), 1.0)
        if scaler.update(isfinite(norm)):
            adam.step()

    `good_steps` counts the steps made since S has changed, `skipped` all that were not made.
    """

    def __init__(self, scale: float = 2.0**16, growth_interval: int | None = 2000):
        _check_scale(scale)
        if growth_interval is not None and (not isinstance(growth_interval, Integral) or growth_interval < 1):
            raise ValueError(
                f"growth_interval: expected a number of steps, 1 or more, or None, got {growth_interval!r}"
            )
        self.scale, self.growth_interval = float(scale), growth_interval
        self.good_steps = self.skipped = 0

    @property
    def can_shrink(self) -> bool:
        """Whether gradients that are not finite may be so because of S."""
        return self.scale > 1

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of S · `loss`, a scalar, to the `grad` of every leaf that led to it."""
        if not self.can_shrink:
            loss.backward()
            return
        with np.errstate(over="ignore", invalid="ignore"):  # `update` deals with an overflow; NumPy need not warn of it
            (loss * self.scale).backward()

    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide all gradients by S. They are new tensors, as clipped ones are."""
        if self.scale == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad * (1 / self.scale)

    def update(self, finite: bool) -> bool:
        """Go by whether all gradients are finite: set S for the next step, and return whether to make this one.

        Raises FloatingPointError if they are not although S is 1: that is not for a smaller S to cure.
        """
        if not finite:
            if not self.can_shrink:
                raise FloatingPointError("gradients are not finite although the loss was not scaled: it has diverged")
            self.scale, self.good_steps, self.skipped = self.scale / 2, 0, self.skipped + 1
            return False
        self.good_steps += 1
        # More than the interval, where a state was loaded that comes from a longer one.
        if self.growth_interval is not None and self.good_steps >= self.growth_interval:
            self.scale, self.good_steps = min(2 * self.scale, _HIGHEST), 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on: JSON-able."""
        return {name: getattr(self, name) for name in _REMEMBERED}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave. ValueError if that cannot be."""
        absent = [name for name in _REMEMBERED if name not in saved]
        if absent:
            raise ValueError(f"saved loss scaler: {', '.join(absent)} missing")
        _check_scale(saved["scale"])
        for name in ("good_steps", "skipped"):
            if not isinstance(saved[name], Integral) or saved[name] < 0:
                raise ValueError(f"saved loss scaler: {name}: expected a count, got {saved[name]!r}")
        for name in _REMEMBERED:
            setattr(self, name, saved[name])


def _check_scale(scale: float) -> None:
    if not isinstance(scale, Real) or not 1 <= float(scale) <= _HIGHEST or frexp(scale)[0] != 0.5:
        raise ValueError(
            f"scale: expected a power of two from 1 to 2**24, got {scale!r} (other factors would round gradients)"
        )
