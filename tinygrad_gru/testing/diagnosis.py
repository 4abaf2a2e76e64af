"""Likely causes: what a wrong array looks like beside the right one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np


def likely_cause(got: np.ndarray, expected: np.ndarray, outputs: int = 0, rtol: float = 1e-5) -> str:
    """In words how `got` differs from `expected`.

    The first `outputs` axes are those of the output, where both are a Jacobian; the others are those of the input.
    """
    if not np.isfinite(got).all():
        return f"{np.sum(~np.isfinite(got))} of {got.size} entries are not finite"
    scale = np.max(abs(expected), initial=0.0, where=np.isfinite(expected)) or 1.0

    def same(a: np.ndarray, b: np.ndarray) -> bool:
        return a.shape == b.shape and bool(np.all(abs(a - b) <= rtol * (abs(b) + 1e-2 * scale)))

    if not np.any(got):
        return "all of it is 0: a rule is missing, or takes something for a constant"
    matters = abs(expected) > 1e-8 * scale
    if matters.any():
        ratios = got[matters] / expected[matters]
        factor = float(np.median(ratios))
        if same(got, factor * expected) and np.ptp(ratios) <= 10 * rtol * abs(factor):
            return f"off by a factor of {_rounded(factor)} everywhere{_as_length(factor, got.shape)}"
    inner = range(outputs, got.ndim)
    for axes in permutations(inner):
        moved = np.transpose(expected, (*range(outputs), *axes))
        if axes != tuple(inner) and same(got, moved):
            return "looks transposed"
        if axes != tuple(inner) and same(got, moved.reshape(got.shape)):
            return "looks transposed, its elements in the order of another shape"
    for axis in range(got.ndim):
        if same(got, np.flip(expected, axis)):
            return f"looks reversed along axis {axis - outputs if axis >= outputs else axis}"
    for axis, first in _first_slices(got, outputs):
        if np.any(got[first]) and same(got[first], expected[first]):
            return f"sum over axis {axis} of the output missing: only its first element counts"
    wrong = abs(got - expected) > rtol * (abs(expected) + 1e-2 * scale)
    if 0 < np.sum(wrong) < wrong.size / 2:
        return f"only {np.sum(wrong)} of {wrong.size} entries are wrong"
    difference = got - expected
    if np.ptp(difference) <= rtol * scale:
        return f"off by {_rounded(float(np.mean(difference)))} everywhere: a term is missing or too many"
    return f"{np.sum(wrong)} of {wrong.size} entries are wrong, in no simple pattern"


def _first_slices(got: np.ndarray, outputs: int) -> Iterator[tuple[int, tuple]]:
    """The axes of the output along which everything but the first element is 0."""
    for axis in range(outputs):
        rest = (slice(None),) * axis + (slice(1, None),)
        if got.shape[axis] > 1 and not np.any(got[rest]):
            yield axis, (slice(None),) * axis + (slice(0, 1),)


def _as_length(factor: float, shape: tuple[int, ...]) -> str:
    for n in shape:
        if n > 1 and np.isclose(factor, 1 / n):
            return f" = 1/{n}, the length of an axis: a mean in the place of a sum?"
        if n > 1 and np.isclose(factor, n):
            return ", the length of an axis: a sum in the place of a mean, or twice?"
    return ""


def _rounded(number: float) -> str:
    near_one = 0 < abs(number - 1) < 1e-4
    return (f"1 + {number - 1:.3g}" if near_one else f"{number:.6g}").replace("+ -", "− ").replace("-", "−")
