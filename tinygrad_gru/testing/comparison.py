"""Comparison of arrays, with tolerances that follow from the dtype, and the likely cause of a disagreement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np

from ..backend import bfloat16


def numpy_dtype(name: str) -> np.dtype:
    """The dtype of that name, bfloat16 included where ml_dtypes is installed."""
    found = bfloat16() if name == "bfloat16" else np.dtype(name)
    if found is None:
        raise ImportError("bfloat16 on NumPy needs the package ml_dtypes: pip install ml_dtypes")
    return found


def epsilon(dtype: str) -> float:
    """Machine epsilon of a dtype."""
    return float(np.spacing(np.ones((), numpy_dtype(dtype))))


def disagreement(
    got: np.ndarray, expected: np.ndarray, rtol: float = 0.0, floor: float = 0.0, allowed: Any = 0.0
) -> str | None:
    """None if every entry agrees within `rtol` of itself + `floor` of the largest entry + `allowed`.

    Otherwise a text: where one is wrong, what was got and expected, and the likely cause. Integers and booleans must be
    equal, and NaN agrees with NaN.
    """
    if got.shape != expected.shape:
        return f"shape {got.shape}, expected {expected.shape}"
    if expected.dtype.kind != "f":
        rtol = floor = allowed = 0.0
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    largest = np.max(abs(expected), initial=0.0, where=np.isfinite(expected))
    with np.errstate(invalid="ignore"):
        error = np.where((got == expected) | (np.isnan(got) & np.isnan(expected)), 0.0, abs(got - expected))
        bound = np.broadcast_to(rtol * abs(expected) + floor * largest + allowed, error.shape)
        wrong = ~((error == 0) | (error <= bound))
    if not wrong.any():
        return None
    where = np.unravel_index(np.argmax(wrong), wrong.shape)
    at = f"at {[int(n) for n in where]} " if where else ""
    return (
        f"{at}got {got[where]:.9g}, expected {expected[where]:.9g} (they differ by {error[where]:.3g}, "
        f"{bound[where]:.3g} is allowed); {likely_cause(got, expected, rtol=max(rtol, 1e-12))}"
    )


def disagreement_in(
    dtype: str, got: np.ndarray, expected: np.ndarray, nearby: Sequence[np.ndarray], more: float = 0.0
) -> str | None:
    """`disagreement` of a result in that dtype with the one in float64.

    nearby  results in float64 for inputs with rounding errors: how far rounding may move the result
    more    an additional allowance
    """
    eps, limits = epsilon(dtype), np.finfo("float32" if dtype == "bfloat16" else dtype)  # bfloat16 has float32's range
    if expected.dtype.kind != "f" or got.shape != expected.shape:
        return disagreement(got, expected)
    spread = sum((abs(n - expected) for n in nearby), np.zeros(expected.shape))
    inside = abs(expected) < float(limits.max) / 4  # beyond it there may be infinities
    got = np.where(inside, got, expected)
    return disagreement(got, expected, 16 * eps, 8 * eps, 4 * spread + float(limits.smallest_subnormal) + more)


def likely_cause(got: np.ndarray, expected: np.ndarray, outputs: int = 0, rtol: float = 1e-5) -> str:
    """A text: how `got` differs from `expected`, such as "looks transposed".

    The first `outputs` axes are those of the output, where both are a Jacobian; the others are those of the input.
    """
    if not np.isfinite(got).all():
        return f"{np.sum(~np.isfinite(got))} of {got.size} entries are not finite"
    scale = np.max(abs(expected), initial=0.0, where=np.isfinite(expected)) or 1.0

    def same(a: np.ndarray, b: np.ndarray) -> bool:
        return a.shape == b.shape and bool(np.all(abs(a - b) <= rtol * (abs(b) + 1e-2 * scale)))

    if not np.any(got):
        return "all of it is 0: a rule is missing, or treats something as a constant"
    if same(got, expected):
        return f"the largest entries are right; wrong is what is far smaller than {scale:.3g}"
    matters = abs(expected) > 1e-8 * scale
    if matters.any():
        ratios = got[matters] / expected[matters]
        factor = float(np.median(ratios))
        if same(got, factor * expected) and np.ptp(ratios) <= 10 * rtol * abs(factor):
            return f"off by a factor of {_rounded(factor)} everywhere{_meaning(factor, got.shape)}"
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
    nonzero = int(np.sum(wrong | matters))  # the Jacobian of an elementwise op is diagonal
    if 0 < np.sum(wrong) < nonzero / 2:
        return f"only {np.sum(wrong)} of {nonzero} nonzero entries are wrong{_by_a_factor(got[wrong], expected[wrong])}"
    difference = got - expected
    if np.ptp(difference) <= rtol * scale:
        return f"off by {_rounded(float(np.mean(difference)))} everywhere: a term is missing or too many"
    how = _by_a_factor(got[wrong], expected[wrong]) or ", in no simple pattern"
    return f"{np.sum(wrong)} of {nonzero} nonzero entries are wrong{how}"


def _first_slices(got: np.ndarray, outputs: int) -> Iterator[tuple[int, tuple]]:
    """The axes of the output along which everything but the first element is 0."""
    for axis in range(outputs):
        rest = (slice(None),) * axis + (slice(1, None),)
        if got.shape[axis] > 1 and not np.any(got[rest]):
            yield axis, (slice(None),) * axis + (slice(0, 1),)


def _by_a_factor(got: np.ndarray, expected: np.ndarray) -> str:
    """The factor by which all of several entries are off, if there is one."""
    with np.errstate(all="ignore"):
        factor = np.median(got / expected)
        same = np.isfinite(factor) and abs(got - factor * expected) <= 1e-5 * abs(expected)
    return f", each by a factor of {_rounded(float(factor))}{_as_share(float(factor))}" if np.all(same) else ""


def _meaning(factor: float, shape: tuple[int, ...]) -> str:
    """What a factor is: one over the length of an axis, its length, or a simple fraction."""
    for n in shape:
        if n > 1 and np.isclose(factor, 1 / n):
            return f" = 1/{n}, the length of an axis: a mean instead of a sum?"
        if n > 1 and np.isclose(factor, n):
            return ", the length of an axis: a sum instead of a mean, or twice?"
    return _as_share(factor)


def _as_share(factor: float) -> str:
    """The factor as a fraction, if it is a simple one."""
    share = Fraction(factor).limit_denominator(12)
    if factor in (0, 1) or not np.isclose(factor, float(share), rtol=1e-6) or abs(share.numerator) > 12:
        return ""
    if share == -1:
        return ", the opposite sign"
    text = str(share).replace("-", "−")
    return f": {text} {'times' if share.denominator == 1 else 'of'} what it should be"


def _rounded(number: float) -> str:
    near_one = 0 < abs(number - 1) < 1e-4
    return (f"1 + {number - 1:.3g}" if near_one else f"{number:.6g}").replace("+ -", "− ").replace("-", "−")


def bisected(count: int, agrees: Callable[[np.ndarray], bool]) -> int | None:
    """A position at which something is wrong, of which `agrees` says whether it is right at several together."""
    part = np.arange(count)
    while len(part) > 1:
        halves = np.array_split(part, 2)
        wrong = next((half for half in halves if not agrees(half)), None)
        if wrong is None:
            return None
        part = wrong
    return int(part[0]) if count else None


def only_where(wrong: np.ndarray, point: np.ndarray, name: str) -> str:
    """Where the derivatives by an input are wrong, if it is where its values have one sign."""
    if not 1 < np.sum(wrong) < len(wrong) - 1:
        return ""
    for symbol, holds in ((">", point > 0), ("<", point < 0)):
        if np.array_equal(wrong, holds):
            return f", where {name} {symbol} 0"
    return ""
