"""Sums of arrays in one fixed binary tree: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import xp_of


def tree_sum(parts: Sequence[np.ndarray], out: np.ndarray) -> np.ndarray:
    """The sum of arrays, of which there are 2ᵏ from 2 on, in a binary tree.

    >>> parallel.sums.tree_sum([np.array([float(n)]) for n in range(1, 5)], out=np.empty(1))  # (1 + 2) + (3 + 4)
    array([10.])
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found in the norm of the sum
        while len(parts) > 2:
            parts = [left + right for left, right in zip(parts[0::2], parts[1::2])]
        left, right = parts
        return np.add(left, right, out=out)


class TreeSum:
    """The sum of arrays that come one after another, in a binary tree: it holds one partial sum for each of its levels.

    `next()` is an array to fill, `push` adds it, and `total` is the sum with the last one, which makes 2ᵏ of them.

    >>> total = parallel.sums.TreeSum(lambda: np.empty(1))
    >>> for value in (1.0, 2.0, 3.0):
    ...     array = total.next()
    ...     array[:] = value
    ...     total.push(array)
    >>> total.total(np.array([4.0]))
    array([10.])
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._free: list[Any] = []
        self._sums: list[tuple[int, Any]] = []

    def next(self) -> Any:
        return self._free.pop() if self._free else self._make()

    def push(self, array: Any) -> None:
        level = 0
        while self._sums and self._sums[-1][0] == level:
            _, left = self._sums.pop()
            with np.errstate(over="ignore", invalid="ignore"):  # as above
                left += array
            self._free.append(array)
            array, level = left, level + 1
        self._sums.append((level, array))

    def total(self, last: Any) -> Any:
        """The sum of all that was pushed, and of a last array; it is that one itself if nothing was, and else new."""
        total = last
        for _, left in reversed(self._sums):
            with np.errstate(over="ignore", invalid="ignore"):  # as above
                total = xp_of(left).add(left, total, out=self.next() if total is last else total)
        return total

    def release(self, *arrays: Any) -> None:
        """Give arrays back, to be filled again."""
        self._free += arrays

    def clear(self) -> None:
        """Forget what was pushed."""
        self._free += [array for _, array in self._sums]
        self._sums = []
