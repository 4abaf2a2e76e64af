"""Whether two arrays agree, at a tolerance that follows from their dtype; in words if not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import bfloat16
from .diagnosis import likely_cause


def numpy_dtype(name: str) -> np.dtype:
    """The dtype of that name, bfloat16 included where ml_dtypes is installed."""
    found = bfloat16() if name == "bfloat16" else np.dtype(name)
    if found is None:
        raise ImportError("bfloat16 on NumPy needs the package ml_dtypes: pip install ml_dtypes")
    return found


def epsilon(dtype: str) -> float:
    """The distance from 1 to the next number of that dtype."""
    return float(np.spacing(np.ones((), numpy_dtype(dtype))))


def disagreement(
    got: np.ndarray, expected: np.ndarray, rtol: float = 0.0, floor: float = 0.0, allowed: Any = 0.0
) -> str | None:
    """None if every entry is right to `rtol` of itself, `floor` of the largest of them, or what is allowed besides.

    Else where one is wrong, what was got and expected, and the likely cause. Integers and booleans must be equal, a NaN
    agrees with a NaN.
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
    place = np.unravel_index(np.argmax(wrong), wrong.shape)
    at = f"at {[int(n) for n in place]} " if place else ""
    return (
        f"{at}got {got[place]:.9g}, expected {expected[place]:.9g} (they differ by {error[place]:.3g}, "
        f"{bound[place]:.3g} is allowed); {likely_cause(got, expected, rtol=max(rtol, 1e-12))}"
    )


def disagreement_in(
    dtype: str, got: np.ndarray, expected: np.ndarray, nearby: Sequence[np.ndarray], more: float = 0.0
) -> str | None:
    """`disagreement` of a result in that dtype with the one in float64.

    nearby  results in float64 for inputs that are moved by a rounding: how far rounding may move the result
    more    what is allowed besides
    """
    eps, limits = epsilon(dtype), np.finfo("float32" if dtype == "bfloat16" else dtype)  # bfloat16 has float32's range
    if expected.dtype.kind != "f" or got.shape != expected.shape:
        return disagreement(got, expected)
    spread = sum((abs(n - expected) for n in nearby), np.zeros(expected.shape))
    inside = abs(expected) < float(limits.max) / 4  # beyond it there may be infinities
    got = np.where(inside, got, expected)
    return disagreement(got, expected, 16 * eps, 8 * eps, 4 * spread + float(limits.smallest_subnormal) + more)
