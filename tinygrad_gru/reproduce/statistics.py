"""Means over seeds with their confidence intervals, and the test of the claim that a study makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with the two-sided confidence interval of Student's t: mean ± t · s / √n, with n − 1 degrees of freedom.

    It is that of the mean over seeds, if the values of seeds are normally distributed; `half` is NaN of one value.

    >>> reproduce.interval([8.5, 8.6, 8.7])
    Interval(mean=8.6, half=0.248, values=3)
    """

    mean: float
    half: float
    values: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __repr__(self) -> str:
        return f"Interval(mean={self.mean:.4g}, half={self.half:.3g}, values={self.values})"


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean of the values, one for each seed, and its confidence interval at that level.

    Raises ImportError without scipy, which has the quantiles of Student's t.

    >>> round(reproduce.interval([0.0, 1.0]).half, 2)     # t of one degree of freedom is 12.7
    6.35
    """
    array, count = np.asarray(values, float), len(values)
    if count < 2:
        return Interval(float(array.mean()), math.nan, count)
    t = quantile(count - 1, 0.5 + level / 2)
    return Interval(float(array.mean()), float(t * array.std(ddof=1) / math.sqrt(count)), count)


def quantile(freedom: int, probability: float) -> float:
    """The quantile of Student's t, by scipy; ImportError without it."""
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise ImportError("confidence intervals need scipy: pip install 'tinygrad_gru[reproduce]'") from error
    return float(stdtrit(freedom, probability))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The interval of the mean of first − second, seed by seed; both have the seeds in the same order.

    >>> reproduce.paired_difference([8.5, 8.6, 8.7], [8.6, 8.7, 8.9])
    Interval(mean=-0.1333, half=0.143, values=3)
    """
    if len(first) != len(second):
        raise ValueError(f"expected a value for each seed of both, got {len(first)} and {len(second)}")
    return interval(np.subtract(first, second).tolist())
