"""What an index reads: its axes, and its places in the flattened array.

For libraries whose own indexing knows less than NumPy's, or checks less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def as_parts(index: Any) -> tuple:
    """An index as a tuple of parts, one of which is `...`."""
    parts = index if isinstance(index, tuple) else (index,)
    return parts if any(part is Ellipsis for part in parts) else (*parts, Ellipsis)


def axes_read(parts: tuple, ndim: int) -> Iterator[tuple[Any, range]]:
    """Each part of an index and the axes that it reads."""
    counts = [0 if part is None or part is Ellipsis else len(part.shape) if is_mask(part) else 1 for part in parts]
    rest, axis = ndim - sum(counts), 0
    for part, count in zip(parts, counts):
        count = rest if part is Ellipsis else count
        yield part, range(axis, axis + count)
        axis += count


class CheckedIndex(tuple):
    """An index whose arrays are known to point inside of the array that it is for."""

    __slots__ = ()


def check_bounds(backend: Any, index: Any, shape: tuple[int, ...]) -> None:
    """Raise IndexError if an array of integers in the index points outside, TypeError if one is of another library."""
    xp, known = backend.xp, isinstance(index, CheckedIndex)
    for part, axes in axes_read(as_parts(index), len(shape)):
        if hasattr(part, "__array_namespace__") and part.__array_namespace__() is not xp:
            library = part.__array_namespace__().__name__
            raise TypeError(f"an index on {library} for an array on {xp.__name__}: move it to where the array is")
        if hasattr(part, "dtype") and not is_mask(part) and not known:
            n = shape[axes[0]]
            backend.check_within(part, -n, n, f"index {{}} is out of bounds for axis {axes[0]} with size {n}")


def places(xp: Any, numbers: Any, index: Any) -> Any:
    """`numbers[index]` for an index with everything that NumPy allows, by what the array API standard allows.

    The index must point inside (see `check_bounds`).
    Arrays in the index must be neighbours, without a slice between them: NumPy's layout for others is not offered.
    """
    parts: list[Any] = []
    for part in as_parts(index):
        parts += xp.nonzero(part) if is_mask(part) else (part,)
    where = [k for k, part in enumerate(parts) if hasattr(part, "dtype")]
    if not where:
        return numbers[tuple(parts)]
    first, last = where[0], where[-1]
    if len(where) != last - first + 1 or any(isinstance(part, int) for part in parts):
        raise IndexError("on this backend an index holds arrays only side by side, and no integers beside them")
    basic = tuple(slice(None) if k in where else part for k, part in enumerate(parts))
    axes = {k: read for k, (_, read) in enumerate(axes_read(tuple(parts), numbers.ndim))}
    lengths = [numbers.shape[axes[k][0]] for k in where]
    at = sum(len(axes[k]) if parts[k] is Ellipsis else 1 for k in range(first))
    selected = numbers[basic]
    before, after = selected.shape[:at], selected.shape[at + len(where) :]
    rows: Any = 0
    for part, n in zip(parts[first : last + 1], lengths):
        row = xp.astype(part, xp.int64)  # eight bits would not hold n
        rows = rows * n + xp.where(row < 0, row + n, row)
    merged = xp.reshape(selected, (*before, math.prod(lengths), *after))
    return xp.reshape(xp.take(merged, xp.reshape(rows, (-1,)), axis=at), (*before, *rows.shape, *after))


def is_mask(part: Any) -> bool:
    """Whether a part of an index is an array of booleans."""
    return hasattr(part, "dtype") and str(part.dtype).endswith("bool")
