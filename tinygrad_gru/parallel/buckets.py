"""Sums of gradients over micro-shards and ranks, in one fixed binary tree: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)).

A rank has a contiguous part of the shards, which is a subtree if the number of ranks is a power of two; it sums that
while it goes through its shards. Above it the tree is the same whatever the number of ranks, and it is summed element
by element: each rank owns a segment of the flat array, gets it from all ranks, and all get the sums. So the sums have
the same bits on any number of ranks, and 2 (N − 1)/N of the bytes go out of each rank, as in a ring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..backend import astype, is_half, xp_of
from ..tensor import Tensor
from .transport import Transport

#: Bytes of a bucket, beyond which another one is begun: the next is on its way while this one is summed.
BUCKET_BYTES = 16 * 2**20


def tree_sum(rows: Any) -> Any:
    """The sum of the rows of an array (n, …) in a binary tree; n is a power of two.

    >>> parallel.buckets.tree_sum(np.array([[1.0], [2.0], [3.0], [4.0]]))  # (1 + 2) + (3 + 4)
    array([10.])
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found in the norm of the sum
        while len(rows) > 1:
            rows = rows[0::2] + rows[1::2]
    return rows[0]


class TreeSum:
    """The sum of arrays that come one after another, in a binary tree: it holds one partial sum for each of its levels.

    `next()` is an array to fill, `push` adds it. Of 2ᵏ arrays `pop()` returns the sum.

    >>> total = parallel.buckets.TreeSum(lambda: np.empty(1))
    >>> for value in (1.0, 2.0, 3.0, 4.0):
    ...     array = total.next()
    ...     array[:] = value
    ...     total.push(array)
    >>> total.pop()
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

    def pop(self) -> Any:
        ((_, total),) = self._sums
        self._sums = []
        return total

    def release(self, array: Any) -> None:
        """Give an array back, to be filled again."""
        self._free.append(array)

    def clear(self) -> None:
        """Forget what was pushed."""
        self._free += [array for _, array in self._sums]
        self._sums = []


class Bucket:
    """The gradients of some parameters, of one dtype, in one flat array whose length is a multiple of the ranks."""

    def __init__(self, parameters: Sequence[Tensor], ranks: int) -> None:
        self.parameters = parameters
        first = parameters[0]
        dtype = "float32" if is_half(first.dtype) else first.dtype
        ends = np.cumsum([parameter.size for parameter in parameters]).tolist()
        self.slices = [slice(end - parameter.size, end) for parameter, end in zip(parameters, ends)]
        length = -(-ends[-1] // ranks) * ranks
        self.sum = TreeSum(lambda: xp_of(first.data).zeros(length, dtype=dtype))

    def push(self) -> None:
        """Add the gradients of a shard; one that is missing is zero."""
        flat = self.sum.next()
        for parameter, place in zip(self.parameters, self.slices):
            flat[place] = 0 if parameter.grad is None else parameter.grad.data.reshape(-1)
        self.sum.push(flat)

    def write(self, flat: Any, present: Sequence[bool]) -> None:
        """Set the gradients of the parameters, views of the array; None where no shard of any rank had one."""
        for parameter, place, has_gradient in zip(self.parameters, self.slices, present):
            gradient = astype(flat[place].reshape(parameter.shape), parameter.dtype) if has_gradient else None
            parameter.grad = None if gradient is None else Tensor.from_node(gradient, None)


class GradientSum:
    """Sums the gradients of `parameters` over shards and ranks: `push()` after each shard, `reduce()` in the end.

    exact   in the fixed tree; otherwise by MPI's Allreduce, whose order depends on the number of ranks

    Buckets are of parameters of one dtype, in reverse order: the gradients of the last layers come first.
    """

    def __init__(self, parameters: Iterable[Tensor], transport: Transport, exact: bool) -> None:
        self.parameters = list(dict.fromkeys(parameters))
        self.transport, self.exact = transport, exact
        groups: list[list[Tensor]] = []
        for parameter in reversed(self.parameters):
            last = groups[-1] if groups else None
            if last is None or last[0].dtype != parameter.dtype or sum(p.data.nbytes for p in last) >= BUCKET_BYTES:
                groups.append([])
            groups[-1].append(parameter)
        self.buckets = [Bucket(group, transport.size) for group in groups]
        self.pushed = 0
        self._present: set[int] = set()

    def push(self) -> None:
        """Add the gradients of a shard, and set those of the parameters to None for the next."""
        for bucket in self.buckets:
            bucket.push()
        self._present.update(k for k, p in enumerate(self._in_order()) if p.grad is not None)
        self.pushed += 1
        for parameter in self.parameters:
            parameter.zero_grad()

    def begin(self, shards: int) -> None:
        """Drop the gradients from before, also what an error in the middle of a step has left. Of `shards` whole ones
        that were not reduced it is a ValueError: they would be lost."""
        if self.pushed == shards:
            raise ValueError("the shards of a batch follow those of another one without optimizer.step() between them")
        for bucket in self.buckets:
            bucket.sum.clear()
        for parameter in self.parameters:
            parameter.zero_grad()
        self.pushed, self._present = 0, set()

    def reduce(self) -> None:
        """Set the gradients of the parameters to the sums over all shards of all ranks."""
        order = self._in_order()
        mask = np.zeros(len(order))
        mask[list(self._present)] = 1
        present = iter(np.any(self.transport.gather(mask), axis=0))
        begun = [self._begin(bucket) for bucket in self.buckets]
        waiting = [self._sum(bucket, *parts) for bucket, parts in zip(self.buckets, begun)]
        for bucket, wait in zip(self.buckets, waiting):
            bucket.write(wait(), [next(present) for _ in bucket.parameters])
        self.pushed, self._present = 0, set()

    def _in_order(self) -> list[Tensor]:
        return [parameter for bucket in self.buckets for parameter in bucket.parameters]

    def _begin(self, bucket: Bucket) -> tuple[Any, Callable[[], Any]]:
        own = bucket.sum.pop()
        if not self.exact:
            return own, self.transport.add(own)
        return own, self.transport.transpose(own.reshape(self.transport.size, -1))

    def _sum(self, bucket: Bucket, own: Any, wait: Callable[[], Any]) -> Callable[[], Any]:
        if not self.exact:
            return wait
        total = tree_sum(wait())
        if self.transport.size > 1:
            bucket.sum.release(own)
        return self.transport.concatenate(total)
