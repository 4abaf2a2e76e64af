"""NumPy-style indexing: axes and bounds of an index, and `take_index` for libraries that support fewer indices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def index_parts(index: Any) -> tuple:
    """An index as a tuple of parts, with `...` among them."""
    parts = index if isinstance(index, tuple) else (index,)
    return parts if any(part is Ellipsis for part in parts) else (*parts, Ellipsis)


def axes_of_parts(parts: tuple, ndim: int) -> Iterator[tuple[Any, range]]:
    """Each part of an index and the axes that it indexes."""
    counts = [0 if part is None or part is Ellipsis else len(part.shape) if is_mask(part) else 1 for part in parts]
    rest, axis = ndim - sum(counts), 0
    for part, count in zip(parts, counts):
        count = rest if part is Ellipsis else count
        yield part, range(axis, axis + count)
        axis += count


class CheckedIndex(tuple):
    """An index whose arrays are known to be in bounds."""

    __slots__ = ()


def check_bounds(backend: Any, index: Any, shape: tuple[int, ...]) -> None:
    """Raise IndexError if an array of integers in the index is out of bounds, TypeError if it is of another library."""
    xp, known = backend.xp, isinstance(index, CheckedIndex)
    for part, axes in axes_of_parts(index_parts(index), len(shape)):
        if hasattr(part, "__array_namespace__") and part.__array_namespace__() is not xp:
            library = part.__array_namespace__().__name__
            raise TypeError(f"an index on {library} for an array on {xp.__name__}: move it to the device of the array")
        if hasattr(part, "dtype") and not is_mask(part) and not known:
            n = shape[axes[0]]
            backend.check_within(part, -n, n, f"index {{}} is out of bounds for axis {axes[0]} with size {n}")


def take_index(xp: Any, array: Any, index: Any) -> Any:
    """`array[index]` for advanced indices, by functions of the array API standard.

    The index must be in bounds (see `check_bounds`), and its arrays side by side, without a slice between them.
    """
    parts: list[Any] = []
    for part in index_parts(index):
        parts += xp.nonzero(part) if is_mask(part) else (part,)
    where = [k for k, part in enumerate(parts) if hasattr(part, "dtype")]
    if not where:
        return array[tuple(parts)]
    first, last = where[0], where[-1]
    if len(where) != last - first + 1 or any(isinstance(part, int) for part in parts):
        raise IndexError("on this backend an index holds arrays only side by side, and no integers beside them")
    basic = tuple(slice(None) if k in where else part for k, part in enumerate(parts))
    axes = {k: read for k, (_, read) in enumerate(axes_of_parts(tuple(parts), array.ndim))}
    lengths = [array.shape[axes[k][0]] for k in where]
    at = sum(len(axes[k]) if parts[k] is Ellipsis else 1 for k in range(first))
    selected = array[basic]
    before, after = selected.shape[:at], selected.shape[at + len(where) :]
    rows: Any = 0
    for part, n in zip(parts[first : last + 1], lengths):
        row = xp.astype(part, xp.int64)  # n may exceed the range of a narrow dtype
        rows = rows * n + xp.where(row < 0, row + n, row)
    merged = xp.reshape(selected, (*before, math.prod(lengths), *after))
    return xp.reshape(xp.take(merged, xp.reshape(rows, (-1,)), axis=at), (*before, *rows.shape, *after))


def is_mask(part: Any) -> bool:
    """Whether a part of an index is an array of booleans."""
    return hasattr(part, "dtype") and str(part.dtype).endswith("bool")
