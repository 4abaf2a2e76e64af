"""Sums of gradients over micro-shards and ranks, in one fixed binary tree (see sums.py), in flat arrays: buckets.

A rank has a contiguous part of the shards, which is a subtree if the number of ranks is a power of two; it sums that
while it goes through its shards. Above it the tree is the same whatever the number of ranks, and it is summed element
by element: each rank owns a segment of the flat array, gets it from all ranks, and all get the sums. So the sums have
the same bits on any number of ranks, and 2 (N − 1)/N of the bytes go out of each rank, as in a ring.

With `overlap` a bucket is sent in the middle of the last backward pass, as soon as its gradients are complete. What is
sent is compared with what the gradients are at the end of the shard, which other backward passes, or the program, may
have changed; if a rank has changed some, the bucket is sent again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import numpy as np

from ..backend import astype, is_half, xp_of
from ..completion import watched
from ..contexts import setting
from ..optim import Optimizer
from ..tensor import Tensor
from .sums import TreeSum
from .transport import ParallelError, Transport

#: Bytes of a bucket, beyond which another one is begun: one is on its way while the gradients of the next are computed.
BUCKET_BYTES = 2**20


class Bucket:
    """The gradients of some parameters, of one dtype, in one flat array whose length is a multiple of the ranks.

    last     that array of the last shard, which is not in `sum` yet; None if there is none
    missing  the numbers of the parameters whose gradients it waits for; None while it waits for none
    sent     waits for the sum over all ranks, once it has begun
    """

    def __init__(self, parameters: Sequence[Tensor], ranks: int) -> None:
        self.parameters = parameters
        first = parameters[0]
        dtype = "float32" if is_half(first.dtype) else first.dtype
        ends = np.cumsum([parameter.size for parameter in parameters]).tolist()
        self.slices = [slice(end - parameter.size, end) for parameter, end in zip(parameters, ends)]
        length = -(-ends[-1] // ranks) * ranks
        self.sum = TreeSum(lambda: xp_of(first.data).zeros(length, dtype=dtype))
        self.present = [True] * len(parameters)  # which had a gradient, on any rank, in the last step
        self.is_changed = False
        self.clear()

    def clear(self) -> None:
        """Forget what was pushed, and what was sent."""
        self.sum.clear()
        self.last: Any = None
        self.missing: set[int] | None = None
        self.sent: Callable[[], Any] | None = None
        self.own: Any = None  # what was sent

    def expect(self) -> None:
        """Begin to wait for the gradients of the last shard: of parameters that had one in the step before."""
        self._open()
        self.missing = set()
        for number, (parameter, place, present) in enumerate(zip(self.parameters, self.slices, self.present)):
            if parameter.requires_grad and present:
                self.missing.add(number)
            else:
                self.last[place] = 0

    def put(self, number: int, gradient: Any) -> None:
        """Take the gradient of a parameter that is complete, besides those that the shard has accumulated before."""
        if self.sent is not None or self.missing is None:
            return
        before = self.parameters[number].grad
        flat = gradient.reshape(-1)
        self.last[self.slices[number]] = flat if before is None else before.data.reshape(-1) + flat
        self.missing.discard(number)

    def push(self) -> None:
        """Add the gradients of a shard; one that is missing is zero."""
        if self.sent is not None:
            self.is_changed = not all(map(self._is_sent, self.slices, self.parameters))
            if not self.is_changed:
                return
            self.last = self.sum.next()
        elif self.missing is None:
            self._open()
        self.missing = None
        for parameter, place in zip(self.parameters, self.slices):
            self.last[place] = _flat(parameter)

    def _open(self) -> None:
        if self.last is not None:
            self.sum.push(self.last)
        self.last = self.sum.next()

    def _is_sent(self, place: slice, parameter: Tensor) -> bool:
        """Whether what was sent of a parameter is, bit for bit, what its gradient is by now."""
        sent = self.last[place]
        unsigned = f"u{sent.dtype.itemsize}"
        now = np.broadcast_to(np.asarray(_flat(parameter), sent.dtype), sent.shape)
        return np.array_equal(sent.view(unsigned), now.view(unsigned))

    def send(self, transport: Transport, exact: bool) -> None:
        """Begin the sum over all ranks, also of an array that is never used, of a step that was given up."""
        self.own = self.sum.total(self.sum.next() if self.last is None else self.last)
        self.sent, self.is_changed = transport.sum(self.own, exact), False

    def write(self, present: Sequence[bool]) -> None:
        """Set the gradients of the parameters, views of the sum; None where no shard of any rank had one."""
        assert self.sent is not None
        flat, self.present = self.sent(), list(present)
        self.sum.release(*{id(array): array for array in (self.own, self.last) if array is not flat}.values())
        self.clear()
        for parameter, place, has_gradient in zip(self.parameters, self.slices, present):
            parameter.zero_grad()
            if has_gradient:
                gradient = astype(flat[place].reshape(parameter.shape), parameter.dtype)
                parameter.grad = Tensor.from_node(gradient, None)


def _flat(parameter: Tensor) -> Any:
    return 0 if parameter.grad is None else parameter.grad.data.reshape(-1)


class GradientSum:
    """Sums the gradients of an optimizer over shards and ranks: `push()` after each shard, `reduce()` in the end.

    exact    in the fixed tree; otherwise in an order that depends on the number of ranks
    overlap  whether buckets are sent in the middle of a backward pass in a block of `sending()`

    Buckets are of parameters of one dtype, in reverse order: the gradients of the last layers come first.
    """

    def __init__(self, optimizer: Optimizer, transport: Transport, exact: bool, overlap: bool = False) -> None:
        self.optimizer, self.transport, self.exact = optimizer, transport, exact
        self.overlap = overlap
        self.buckets: list[Bucket] = []
        self._arranged: list[Any] = []  # what the buckets were made for
        self.pushed = 0
        self.shards: int | None = None  # of a loop over them that has begun
        self.loops = 0  # that have begun
        self.is_reduced = False
        self._present: set[int] = set()
        self._lost = 0  # steps in which something was sent again

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

    def begin(self, shards: int) -> None:
        """Begin a loop over so many shards. Drop the gradients from before, also what an error in the middle of a step
        has left."""
        if self.shards is not None and self.overlap:  # a step is given up, of which other ranks may have sent more
            self._send(self.buckets)
        self._arrange()
        for bucket in self.buckets:
            bucket.clear()
        self.optimizer.zero_grad()
        self.pushed, self.shards, self.is_reduced, self._present = 0, shards, False, set()
        self.loops += 1

    @contextmanager
    def sending(self, is_last: bool = True) -> Iterator[None]:
        """The block of a shard's backward pass, or of the last one of several."""
        if not (self.overlap and is_last and self.shards is not None and self.pushed == self.shards - 1):
            yield
            return
        for bucket in self.buckets:
            bucket.expect()
        complete = partial(self._complete, get_ident())
        leaves = {
            parameter.node: partial(complete, bucket, number)
            for bucket in self.buckets
            for number, parameter in enumerate(bucket.parameters)
            if parameter.requires_grad
        }
        with setting(watched, leaves):
            yield

    def _complete(self, thread: int, bucket: Bucket, number: int, gradient: Any) -> None:
        """Take a gradient; send what can be sent. MPI is called in one thread alone."""
        if get_ident() == thread:
            bucket.put(number, gradient)
            unsent = [bucket for bucket in self.buckets if bucket.sent is None]
            count = next((k for k, bucket in enumerate(unsent) if bucket.missing), len(unsent))
            self._send(unsent[:count])
            self.transport.advance()

    def _send(self, buckets: Sequence[Bucket]) -> None:
        """Send those that are not sent yet. All ranks do so in their order, and in each loop each of them."""
        for bucket in buckets:
            if bucket.sent is None:
                bucket.send(self.transport, self.exact)

    def push(self) -> None:
        """Add the gradients of a shard."""
        if self.shards is None:
            self._arrange()
        for bucket in self.buckets:
            bucket.push()
        self._present.update(k for k, p in enumerate(self._in_order()) if p.grad is not None)
        self.pushed += 1

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
        self._send(self.buckets)
        own = np.zeros(len(self.buckets) + len(order))
        own[: len(self.buckets)] = [bucket.is_changed for bucket in self.buckets]
        own[[len(self.buckets) + number for number in self._present]] = 1
        of_any = self._of_any(own)
        changed, present = of_any[: len(self.buckets)], iter(of_any[len(self.buckets) :])
        for bucket, is_changed in zip(self.buckets, changed):
            if is_changed:
                bucket.send(self.transport, self.exact)
        for bucket in self.buckets:
            bucket.write([next(present) for _ in bucket.parameters])
        self._lost += any(changed)
        self.overlap = self.overlap and self._lost < 3  # several backward passes in each shard, as it seems
        self.pushed, self.shards, self.is_reduced, self._present = 0, None, True, set()

    def _of_any(self, own: np.ndarray) -> list[bool]:
        """Which of these flags any rank has. Raises ParallelError if the ranks differ."""
        setting, size = zlib.crc32(repr(self.optimizer).encode()), self.transport.size
        everyone = self.transport.gather(np.array([*own, self.loops, setting]))
        loops, settings = (np.flatnonzero(column != column[0]).tolist() for column in everyone[:, -2:].T)
        if settings:
            raise ParallelError(
                f"parallel: rank {settings[0]} of {size} has another learning rate, or another setting of its "
                f"optimizer, than rank 0; this rank has {self.optimizer!r}"
            )
        if loops:
            raise ParallelError(
                f"parallel: rank {loops[0]} of {size} has begun {everyone[loops[0], -2]:.0f} loops over its shards, "
                f"and rank 0 {everyone[0, -2]:.0f}: one of them has given up a step in which others go on"
            )
        return everyone[:, :-2].max(axis=0).astype(bool).tolist()

    def _in_order(self) -> list[Tensor]:
        return [parameter for bucket in self.buckets for parameter in bucket.parameters]
