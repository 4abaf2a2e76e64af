"""Blocked scan: hₜ = aₜ ⊙ hₜ₋₁ + bₜ for many steps in O(log T) array passes instead of T steps.

    step k of all blocks at once       hₖ ← aₖ ⊙ hₖ₋₁ + hₖ,  aₖ ← aₖ ⊙ aₖ₋₁     (h₀ = 0; hₖ begins as bₖ)
    the states between blocks          the same recurrence, with an eighth of the steps
    all steps of all blocks at once    hₖ ← aₖ ⊙ h₀ + hₖ

So it applies the associative operator (a₂, b₂) ∘ (a₁, b₁) = (a₂ a₁, a₂ b₁ + b₂), in which coefficients are only
multiplied. float32 is scanned in float64 and its states are rounded once, so their error is smaller than the loop's.
In float64 each term aₜ … aₛ₊₁ bₛ of hₜ is rounded at each of its products, as in the loop, and at sums at most 8 log₈ T
times, where the loop does so t − s times: the bound of the error, Σₛ (t − s + 8 log₈ T) ε |aₜ … aₛ₊₁ bₛ|, is smaller
than the loop's for all but the last few terms.

The loop may do better than its bound, where large terms cancel at every step (h = 2h − 1 from h = 1), and it gives a
NaN where 0 meets ∞. So the result is only taken if no product of coefficients exceeds 2 in magnitude, so that what is
summed up is at most 3 max |h|, and if all of h is finite. What underflows in a product of coefficients, and not in the
loop, is less than the smallest normal number times max |h|.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Steps of a block, and the fewest steps for which passes over blocks need less time than two calls per step.
BLOCK, FEWEST_STEPS = 8, 160
#: The largest magnitude of a product of coefficients.
_LARGEST = 2.0


def linear_scan(scratch: dict, states: np.ndarray, a: Any, b: Any, reverse: bool) -> bool:
    """Compute all states from the first one, in reverse from the last one. Returns whether the result may be taken.

    scratch  keeps arrays from call to call
    states   (n + 1, …), before the first step and after each
    a, b     (n, …), or the same at all steps and without the first axis; they broadcast to the states

    >>> states = np.zeros((201, 1))
    >>> linear_scan({}, states, 0.5, np.ones((200, 1)), reverse=False), states[200].tolist()
    (True, [2.0])
    """
    steps = len(states) - 1
    if steps < FEWEST_STEPS:
        return False
    shape = (steps, *states.shape[1:])
    a, b = (np.broadcast_to(x[::-1] if reverse and np.ndim(x) == states.ndim else x, shape) for x in (a, b))
    states = states[::-1] if reverse else states
    with np.errstate(all="ignore"):
        return _scan(scratch, states, a, b) and _are_between(states, -np.finfo(states.dtype).max)


def _scan(scratch: dict, states: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    count, shape = len(a) // BLOCK, states.shape[1:]
    whole = count * BLOCK if count > 1 else 0  # steps in whole blocks
    if whole:
        key = (count, *shape)
        if key not in scratch:
            scratch[key] = _Blocks(*key)
        blocks = scratch[key]
        blocks.a[...] = a[:whole].reshape(count, BLOCK, *shape).swapaxes(0, 1)
        blocks.h[...] = b[:whole].reshape(count, BLOCK, *shape).swapaxes(0, 1)
        for k in range(1, BLOCK):
            np.multiply(blocks.a[k], blocks.h[k - 1], blocks.product)
            np.add(blocks.h[k], blocks.product, blocks.h[k])
            np.multiply(blocks.a[k], blocks.a[k - 1], blocks.a[k])
        blocks.between[0] = states[0]
        if not _are_between(blocks.a, -_LARGEST) or not _scan(scratch, blocks.between, blocks.a[-1], blocks.h[-1]):
            return False
        np.multiply(blocks.a, blocks.between[:-1], blocks.a)
        np.add(blocks.a, blocks.h, states[1 : whole + 1].reshape(count, BLOCK, *shape).swapaxes(0, 1))
    for t in range(whole, len(a)):
        np.multiply(a[t], states[t], states[t + 1, ...])
        np.add(states[t + 1], b[t], states[t + 1, ...])
    return True


class _Blocks:
    """Arrays for a number of blocks: coefficients and states at each step of all blocks, and the states between."""

    base = None  # it is no view of another array

    def __init__(self, count: int, *shape: int):
        self.a, self.h = np.empty((2, BLOCK, count, *shape))
        self.between = np.empty((count + 1, *shape))
        self.product = np.empty((count, *shape))

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self.a, self.h, self.between, self.product))


def _are_between(array: np.ndarray, low: float) -> bool:
    """Whether all elements are numbers between low and −low."""
    return bool(low <= array.min() and array.max() <= -low)
