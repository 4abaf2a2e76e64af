"""Sums of gradients over micro-shards and ranks, in one fixed binary tree: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)).

A rank has a contiguous part of the shards, which is a subtree if the number of ranks is a power of two; it sums that
while it goes through its shards. Above it the tree is the same whatever the number of ranks, and it is summed element
by element: each rank owns a segment of the flat array, gets it from all ranks, and all get the sums. So the sums have
the same bits on any number of ranks, and 2 (N − 1)/N of the bytes go out of each rank, as in a ring.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import astype, is_half, xp_of
from ..optim import Optimizer
from ..tensor import Tensor
from .transport import ParallelError, Transport

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
            parameter.zero_grad()
            if has_gradient:
                gradient = astype(flat[place].reshape(parameter.shape), parameter.dtype)
                parameter.grad = Tensor.from_node(gradient, None)


class GradientSum:
    """Sums the gradients of an optimizer over shards and ranks: `push()` after each shard, `reduce()` in the end.

    exact   in the fixed tree; otherwise by MPI's Allreduce, whose order depends on the number of ranks

    Buckets are of parameters of one dtype, in reverse order: the gradients of the last layers come first.
    """

    def __init__(self, optimizer: Optimizer, transport: Transport, exact: bool) -> None:
        self.optimizer, self.transport, self.exact = optimizer, transport, exact
        self.buckets: list[Bucket] = []
        self._arranged: list[Any] = []  # what the buckets were made for
        self.pushed = 0
        self.shards: int | None = None  # of a loop over them that has begun
        self.is_reduced = False
        self._present: set[int] = set()

    @property
    def is_whole(self) -> bool:
        """Whether it has all shards of a loop, and is not reduced."""
        return self.pushed == self.shards

    def _arrange(self) -> None:
        """Make the buckets, anew if the optimizer has got other parameters, or they another dtype."""
        parameters = list(dict.fromkeys(self.optimizer.parameters()))
        wanted = [(id(parameter), parameter.dtype, parameter.shape) for parameter in parameters]
        if wanted == self._arranged:
            return
        groups: list[list[Tensor]] = []
        for parameter in reversed(parameters):
            last = groups[-1] if groups else None
            if last is None or last[0].dtype != parameter.dtype or sum(p.data.nbytes for p in last) >= BUCKET_BYTES:
                groups.append([])
            groups[-1].append(parameter)
        self.buckets, self._arranged = [Bucket(group, self.transport.size) for group in groups], wanted

    def push(self) -> None:
        """Add the gradients of a shard."""
        if not self.pushed:
            self._arrange()
        for bucket in self.buckets:
            bucket.push()
        self._present.update(k for k, p in enumerate(self._in_order()) if p.grad is not None)
        self.pushed += 1

    def begin(self, shards: int) -> None:
        """Begin a loop over so many shards. Drop the gradients from before, also what an error in the middle of a step
        has left."""
        for bucket in self.buckets:
            bucket.sum.clear()
        self.optimizer.zero_grad()
        self.pushed, self.shards, self.is_reduced, self._present = 0, shards, False, set()

    def reduce(self) -> None:
        """Set the gradients of the parameters to the sums over all shards of all ranks.

        Raises ValueError if shards are missing, or there are gradients besides, ParallelError if the optimizers differ.
        """
        if self.shards is not None and not self.is_whole:
            raise ValueError(
                f"{self.pushed} of this rank's {self.shards} shards are done: optimizer.step() and synchronise() come "
                "after the loop over rows_of, and nothing breaks out of that"
            )
        order = self._in_order()
        if self.shards is not None and any(parameter.grad is not None for parameter in order):
            raise ValueError(
                "a gradient was computed after the loop over rows_of, and would be lost: add what it is of, times the "
                "share, to the loss of each shard"
            )
        mask = np.zeros(len(order) + 1)
        mask[list(self._present)] = 1
        mask[-1] = zlib.crc32(repr(self.optimizer).encode())
        everyone = self.transport.gather(mask)
        differ = np.flatnonzero(everyone[:, -1] != everyone[0, -1]).tolist()
        if differ:
            raise ParallelError(
                f"parallel: rank {differ[0]} of {self.transport.size} has another learning rate, or another setting of "
                f"its optimizer, than rank 0; this rank has {self.optimizer!r}"
            )
        present = iter(np.any(everyone[:, :-1], axis=0))
        begun = [self._begin(bucket) for bucket in self.buckets]
        waiting = [self._sum(bucket, *parts) for bucket, parts in zip(self.buckets, begun)]
        for bucket, wait in zip(self.buckets, waiting):
            bucket.write(wait(), [next(present) for _ in bucket.parameters])
        self.pushed, self.shards, self.is_reduced, self._present = 0, None, True, set()

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
