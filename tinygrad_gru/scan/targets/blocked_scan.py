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

from collections.abc import Sequence
from typing import Any

import numpy as np

Arrays = Sequence[Any]

#: Steps of a block, and the fewest steps for which passes over blocks need less time than two calls per step.
BLOCK, FEWEST_STEPS = 8, 160
#: The largest magnitude of a product of coefficients.
_LARGEST = 2.0


def linear_scan(scratch: dict, states: Arrays, a: Arrays, b: Arrays, reverse: bool) -> bool:
    """Compute all states from the first one, in reverse from the last one. Returns whether the result may be taken.

    scratch  keeps arrays from call to call
    states   (n + 1, …), before the first step and after each; two if they are real and imaginary parts
    a, b     (n, …), or the same at all steps and without the first axis; they broadcast to the states

    >>> states = np.zeros((201, 1))
    >>> linear_scan({}, (states,), (0.5,), (np.ones((200, 1)),), reverse=False), states[200].tolist()
    (True, [2.0])
    """
    steps, *shape = states[0].shape
    if steps <= FEWEST_STEPS:
        return False

    def at_steps(x: Any) -> np.ndarray:
        varies = np.ndim(x) == len(shape) + 1
        return np.broadcast_to(x[::-1] if reverse and varies else x, (steps - 1, *shape))

    states = [array[::-1] if reverse else array for array in states]
    with np.errstate(all="ignore"):
        succeeded = _scan(scratch, states, list(map(at_steps, a)), list(map(at_steps, b)))
        return succeeded and all(_are_between(array, -np.finfo(array.dtype).max) for array in states)


def _scan(scratch: dict, states: Arrays, a: Arrays, b: Arrays) -> bool:
    steps, *shape = a[0].shape
    count = steps // BLOCK
    whole = count * BLOCK if count > 1 else 0  # steps in whole blocks
    if whole:
        is_complex = len(states) > 1 or np.iscomplexobj(states[0])
        key = (np.complex128 if is_complex else np.float64, count, *shape)
        if key not in scratch:
            scratch[key] = _Blocks(*key)
        blocks, first = scratch[key], _combined([array[0] for array in states])
        for target, arrays in ((blocks.a, a), (blocks.h, b)):
            for part, array in zip(_parts(target, len(arrays)), arrays):
                part[...] = _in_blocks(array[:whole])
        for k in range(1, BLOCK):
            np.multiply(blocks.a[k], blocks.h[k - 1], blocks.product)
            np.add(blocks.h[k], blocks.product, blocks.h[k])
            np.multiply(blocks.a[k], blocks.a[k - 1], blocks.a[k])
        blocks.between[0] = first
        if not all(_are_between(part, -_LARGEST) for part in _parts(blocks.a, 1 + is_complex)):
            return False
        if not _scan(scratch, [blocks.between], [blocks.a[-1]], [blocks.h[-1]]):
            return False
        np.multiply(blocks.a, blocks.between[:-1], blocks.a)
        np.add(blocks.a, blocks.h, blocks.a)
        for part, array in zip(_parts(blocks.a, len(states)), states):
            _in_blocks(array[1 : whole + 1])[...] = part
    for t in range(whole, steps):
        last, factor, added = (_combined([array[t] for array in arrays]) for arrays in (states, a, b))
        for part, array in zip(_parts(factor * last + added, len(states)), states):
            array[t + 1] = part
    return True


class _Blocks:
    """Arrays for a number of blocks: coefficients and states at each step of all blocks, and the states between."""

    base = None  # it is no view of another array

    def __init__(self, dtype: type, count: int, *shape: int):
        self.a, self.h = np.empty((2, BLOCK, count, *shape), dtype)
        self.between: np.ndarray = np.empty((count + 1, *shape), dtype)
        self.product: np.ndarray = np.empty((count, *shape), dtype)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self.a, self.h, self.between, self.product))


def _in_blocks(array: np.ndarray) -> np.ndarray:
    """Steps in whole blocks: (step of a block, block, …)."""
    return array.reshape(-1, BLOCK, *array.shape[1:]).swapaxes(0, 1)


def _combined(parts: Arrays) -> Any:
    """A real array, or a complex one from its parts."""
    return parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]


def _parts(array: np.ndarray, count: int) -> Arrays:
    """The array, or views of its real and imaginary part."""
    return [array] if count == 1 else [array.real, array.imag]


def _are_between(array: np.ndarray, low: float) -> bool:
    """Whether all elements are numbers between low and −low."""
    return bool(low <= array.min() and array.max() <= -low)
