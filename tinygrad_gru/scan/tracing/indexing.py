"""Indices with arrays, as operations of the graph: gather, scatter_add, and the checks that they are in bounds.

    x[ids]                  v2 = gather(x, ids, axis=0)
    x[arange, ids]          v2 = gather(reshape(x), arange · n + ids, axis=0)
    x[:, ids, 1:]           v2 = gather(getitem(x), ids, axis=1)

Any index is one `gather` along one axis: what indexes an axis as a slice is done before it, and axes that are indexed
by arrays become one, after a transpose where NumPy puts them first. The cotangent goes the same way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...backend import CheckedIndex
from ...backend.indexing import axes_of_parts, index_parts
from ..ir import Value

#: Raises IndexError, or has the compiled program do so, unless low ≤ index < high: (index, low, high, message).
Check = Callable[[Any, int, int, str], None]


class IndexCheck(NamedTuple):
    """A check to be made at every step: IndexError with the message unless low ≤ value < high for all elements."""

    value: Value
    low: int
    high: int
    message: str


class Selection(NamedTuple):
    """What an index with arrays selects from an array of a shape.

    shape     with an axis of length one for each None
    basic     the index of slices that is applied first
    order     the order of the axes after it
    selected  the shape after that
    axis      the axis that is gathered along: `merges` axes that become one
    rows      the positions along that axis: integers; negative ones count from the end
    """

    shape: tuple[int, ...]
    basic: tuple[slice, ...]
    order: tuple[int, ...]
    selected: tuple[int, ...]
    axis: int
    merges: int
    rows: Any

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of what the index selects."""
        return (*self.merged[: self.axis], *self.rows.shape, *self.merged[self.axis + 1 :])

    @property
    def merged(self) -> tuple[int, ...]:
        """The selected shape with the merged axis."""
        before, after = self.selected[: self.axis], self.selected[self.axis + self.merges :]
        return (*before, math.prod(self.selected[self.axis : self.axis + self.merges]), *after)


def has_arrays(index: Any) -> bool:
    """Whether there is an array in an index."""
    return any(hasattr(part, "dtype") and not isinstance(part, np.integer) for part in index_parts(index))


def selection(xp: Any, shape: Sequence[int], index: tuple, check: Check) -> Selection:
    """What an index with arrays of integers selects from an array of that shape.

    xp     the namespace of the arrays in it
    check  makes sure of integers that are not known to be in bounds
    """
    entries: list[tuple[Any, int]] = []  # of each axis, what indexes it and its length
    for part, axes in axes_of_parts(index_parts(index), len(shape)):
        sizes = [1] if part is None else [shape[axis] for axis in axes]
        entries += [(slice(None) if part is None or part is Ellipsis else part, n) for n in sizes]
        if hasattr(part, "dtype") and not isinstance(index, CheckedIndex):
            n, axis = sizes[0], axes[0]
            check(part, -n, n, f"index {{}} is out of bounds for axis {axis} with size {n}")
    where = [k for k, (entry, _) in enumerate(entries) if not isinstance(entry, slice)]
    others = [k for k in range(len(entries)) if k not in where]
    # NumPy puts the result's axes where the arrays are if these are side by side, and else first.
    axis = where[0] if where[-1] - where[0] == len(where) - 1 else 0
    order = (*others[:axis], *where, *others[axis:])
    basic = tuple([entry if isinstance(entry, slice) else slice(None) for entry, _ in entries])
    taken = [len(range(*part.indices(n))) for part, (_, n) in zip(basic, entries)]
    rows: Any = None
    for entry, n in (entries[k] for k in where):
        if not hasattr(entry, "dtype"):
            entry = _wrapped(entry, n)
        else:
            entry = xp.astype(entry, np.int64)
            if len(where) > 1 and not isinstance(index, CheckedIndex):
                entry = xp.where(entry < 0, entry + n, entry)
        rows = rows * n + entry if rows is not None else entry
    full = tuple([n for _, n in entries])
    return Selection(full, basic, order, tuple([taken[k] for k in order]), axis, len(where), rows)


def _wrapped(index: int, n: int) -> int:
    if not -n <= index < n:
        raise IndexError(f"index {index} is out of bounds for an axis with size {n}")
    return int(index) % n
