"""Splits of data into parts for training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np

from ..keywords import answered
from .epochs import check_sizes


def split_by_time(series: Any, fractions: float | Sequence[float]) -> list[Any]:
    """The parts of a series in the order of time: the first for training, the last for the test.

    `series` is whatever has a length and can be sliced: an array (T, ...), a list, a `Table`, a frame; or a tuple or
    dict of such, all of the same length, of which each part is one too. Part k ends at the step that is nearest to the
    sum of the first k `fractions`, which add up to 1; the number 0.8 stands for (0.8, 0.2). Arrays give views.

    Take `windows` of each part, and none straddles a boundary.

    >>> training, validation, test = data.split_by_time(np.arange(10), (0.6, 0.2, 0.2))
    >>> training.tolist(), validation.tolist(), test.tolist()
    ([0, 1, 2, 3, 4, 5], [6, 7], [8, 9])
    """
    shares = _checked(fractions)
    is_dict = isinstance(series, dict)
    is_tuple = isinstance(series, tuple)
    values = list(series.values()) if is_dict else list(series) if is_tuple else [series]
    if not all(hasattr(value, "__len__") for value in values):
        raise TypeError(f"expected a series, or a tuple or dict of series, got {series!r:.80}")
    lengths = {len(value) for value in values}
    if len(lengths) != 1:
        raise ValueError(f"all series must have the same length, got {sorted(lengths)}")
    (steps,) = lengths
    ends = [0, *(round(share * steps) for share in shares)]
    parts: list[Any] = []
    for start, end in pairwise(ends):
        if start == end:
            raise ValueError(f"part {len(parts)} of {len(shares)} would be empty: there are only {steps} steps")
        part = [getattr(value, "iloc", value)[start:end] for value in values]
        parts.append(dict(zip(series, part)) if is_dict else tuple(part) if is_tuple else part[0])
    return parts


def split_by_group(groups: Any, fractions: float | Sequence[float], seed: int = 0) -> list[np.ndarray]:
    """The indices of the examples in each part, so that no group is in two parts.

    `groups` (N,) has the group of each example, such as a person or a machine: numbers or strings. Whole groups in a
    random order, which `seed` determines, fill the parts as nearly as they can to the `fractions` of the examples.
    Raises ValueError if a part would be empty, because there are too few groups or one is too large.

    >>> training, test = data.split_by_group(["ann", "bob", "ann", "eve", "bob", "eve"], (0.7, 0.3))
    >>> training.tolist(), test.tolist()
    ([0, 2, 3, 5], [1, 4])
    """
    shares = _checked(fractions)
    group_of = _numbered("groups", groups)
    counts = np.bincount(group_of)
    order = np.random.default_rng(seed).permutation(len(counts))
    middle = np.empty(len(counts))
    middle[order] = np.cumsum(counts[order]) - counts[order] / 2
    part_of = np.searchsorted(shares, middle / len(group_of))[group_of]
    return _indices(part_of, len(shares), f"{len(counts)} groups of {len(group_of)} examples")


@answered({"random_state": "seed", "test_size": "fractions=0.8, the first part", "shuffle": "always on"})
def split(count: int, fractions: float | Sequence[float], seed: int = 0, stratify: Any = None) -> list[np.ndarray]:
    """The indices of the examples in each part of a random split of `count` examples, in ascending order.

    With `stratify` (N,), the class of each example, every class is divided in these fractions, as nearly as whole
    examples allow. Examples that belong together or that follow each other in time must not be split at random: see
    `split_by_group` and `split_by_time`.

    >>> training, test = data.split(6, (0.5, 0.5), stratify=[0, 0, 0, 0, 1, 1])
    >>> training.tolist(), test.tolist()
    ([0, 2, 5], [1, 3, 4])
    """
    check_sizes(count=count)
    shares = _checked(fractions)
    classes = np.zeros(count) if stratify is None else _numbered("stratify", stratify)
    if classes.shape != (count,):
        raise ValueError(f"stratify must have the class of each of {count} examples, got the shape {classes.shape}")
    random = np.random.default_rng(seed)
    part_of = np.empty(count, dtype=int)
    for label in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == label))
        part_of[members] = np.searchsorted(shares, (np.arange(len(members)) + 0.5) / len(members))
    return _indices(part_of, len(shares), f"{count} examples")


def _checked(fractions: float | Sequence[float]) -> np.ndarray:
    """The sums of the first 1, 2, ... fractions."""
    parts = [float(fractions), 1 - float(fractions)] if isinstance(fractions, (float, Real)) else list(fractions)
    if len(parts) < 2 or min(parts) <= 0 or not math.isclose(sum(parts), 1, abs_tol=1e-6):
        raise ValueError(f"fractions must be two or more positive numbers that add up to 1, got {fractions!r}")
    return np.cumsum(parts) / sum(parts)


def _numbered(name: str, values: Any) -> np.ndarray:
    """The distinct values (N,) as the numbers 0, 1, ..."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one entry for each example, (N,), got the shape {array.shape}")
    try:
        if (array != array).any():
            raise TypeError("some are NaN")
        return np.unique(array, return_inverse=True)[1]
    except TypeError as error:
        raise TypeError(f"{name} must be numbers or strings alone, none missing: {error}") from error


def _indices(part_of: np.ndarray, parts: int, what: str) -> list[np.ndarray]:
    indices = [np.flatnonzero(part_of == part) for part in range(parts)]
    for part, members in enumerate(indices):
        if not len(members):
            raise ValueError(f"part {part} of {parts} would be empty: there are only {what}")
    return indices
