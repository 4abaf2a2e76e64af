"""Ranks: what a process of a parallel job knows about itself, and the micro-shards that it computes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np

from ..backend.random import RandomStream, drawing_from, random_stream
from ..hints import missing_attribute
from ..optim import Optimizer
from .buckets import GradientSum
from .checks import checksum, versions
from .global_random import random_states_kept
from .hints import RANKS
from .mpi import Mpi, launched, listed
from .transport import ParallelError, Single, Transport, gather_states

Result = TypeVar("Result")

#: What `init` returned last.
_current: ContextVar[Ranks | None] = ContextVar("ranks", default=None)

SHARDS = 4
TIMEOUT = 600.0
ENGINES = ("mpi", "nccl")


class Ranks:
    """A process of a data-parallel job: its `rank` among `size`, and `own`, its range of the `shards`.

    A global batch is cut into `shards` micro-shards by rows, and each is computed by itself, whichever rank does it: so
    the weights are the same, bit for bit, on 1, 2, 4 … ranks. `transport` has the collective operations.

    >>> ranks = parallel.init(shards=4)
    >>> ranks
    rank 0 of 1 on one process: shards 0 to 3 of 4
    >>> [part.tolist() for part in (np.arange(10)[rows] for rows, _ in ranks.rows_of(10))]
    [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
    """

    def __init__(self, transport: Transport, shards: int, exact: bool, overlap: bool | None = None) -> None:
        self.transport, self.rank, self.size = transport, transport.rank, transport.size
        self.exact, self.shards = exact, shards if exact else transport.size
        if self.exact and (shards < 1 or shards & (shards - 1)):
            raise ValueError(f"shards: expected a power of two, got {shards}")
        if self.shards % self.size:
            raise ParallelError(
                f"parallel: {self.size} ranks cannot share {shards} shards equally: start 1, 2, 4 … ranks, at most as "
                "many as shards, or more shards=; exact=False takes any number"
            )
        self.overlap = self.size > 1 and (transport.hosts > 1 if overlap is None else overlap)
        per_rank = self.shards // self.size
        self.own = range(self.rank * per_rank, (self.rank + 1) * per_rank)
        self.sums: WeakSet[GradientSum] = WeakSet()

    def __repr__(self) -> str:
        first, last = self.own[0], self.own[-1]
        return f"rank {self.rank} of {self.size} on {self.transport.name}: shards {first} to {last} of {self.shards}"

    def __getattr__(self, name: str) -> Any:
        raise missing_attribute("Ranks", name, RANKS, dir(self))

    @property
    def settings(self) -> dict[str, Any]:
        """What a resumed run must have in common with this one: not the number of ranks."""
        return {"shards": self.shards if self.exact else None, "exact": self.exact}

    def with_shards(self, shards: int) -> Ranks:
        """The same job with another number of shards; 0: none, and inexact sums (`exact=False`)."""
        return Ranks(self.transport, max(shards, 1), exact=shards > 0, overlap=self.overlap)

    def cut(self, rows: int) -> list[slice]:
        """The rows of each of all shards: contiguous parts, which differ by at most one row."""
        ends = np.cumsum([rows // self.shards + (shard < rows % self.shards) for shard in range(self.shards)]).tolist()
        return [slice(begin, end) for begin, end in zip([0, *ends], ends)]

    def drawing(self, shard: int, position: int) -> Any:
        """A block whose random numbers depend on the seed, the step (a position of the stream) and the shard alone."""
        seed = np.random.SeedSequence((random_stream().seed, position, shard)).generate_state(1, np.uint64)
        return drawing_from(RandomStream(int(seed[0]) >> 1))

    def rows_of(self, batch: int) -> Iterator[tuple[slice, float]]:
        """For a loop of one's own: the rows of each shard of this rank, and its share of a batch of so many rows.

            for rows, share in ranks.rows_of(len(x)):
                (share * loss(model(x[rows]), y[rows])).backward()
            optimizer.step()

        Random numbers that are drawn in the body are those of the shard, and the gradients it leaves are summed in the
        tree of the optimizers that are `synchronised`; those from before are dropped. One such loop for each step of
        at least one of them, without a break: otherwise ValueError. So it is on several ranks if no optimizer is
        synchronised with these.
        """
        if self.size > 1 and not self.sums:
            raise ValueError(
                "rows_of: no optimizer sums the gradients over these ranks, and each would train by its own rows: "
                "optimizer = parallel.synchronised(optimizer, ranks)"
            )
        if self.sums and all(gradients.is_whole for gradients in self.sums):
            raise ValueError("the shards of a batch follow those of another one without optimizer.step() between them")
        for gradients in self.sums:
            gradients.begin(len(self.own))
            gradients.overlap = gradients.overlap and len(self.sums) == 1  # they could send in another order elsewhere
        position = random_stream().reserve(1)
        parts = self.cut(batch)
        for shard in self.own:
            rows = parts[shard]
            if rows.stop > rows.start:
                with self.drawing(shard, position), ExitStack() as stack:
                    for gradients in self.sums:
                        stack.enter_context(gradients.sending())
                    yield rows, (rows.stop - rows.start) / batch
            for gradients in self.sums:
                gradients.push()
            for gradients in self.sums:  # which may have parameters in common
                gradients.optimizer.zero_grad()

    def gather(self, state: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The states of all ranks: dictionaries of host arrays and of what JSON can hold."""
        return gather_states(self.transport, state)

    def agreed(self, seconds: float, *flags: int) -> tuple[float, list[int]]:
        """The time of rank 0, and of each flag the largest of all ranks: with these all of them decide alike."""
        if self.size == 1:
            return seconds, list(flags)
        everyone = self.transport.gather(np.array([seconds, *flags], float))
        return float(everyone[0, 0]), everyone[:, 1:].max(axis=0).astype(int).tolist()

    def of_first(self, function: Callable[[], Any]) -> Any:
        """What a function returns, a tree of host arrays and JSON values: rank 0 calls it, and tells the others.

        Random numbers that it draws of generators that all of a process shares, as PyTorch's DataLoader does, are drawn
        again afterwards, with shards also in one process: so the ranks go on with the same.
        """
        if self is ALONE:
            return function()
        with random_states_kept():
            if self.size == 1:
                return function()
            return self.gather({"value": function()} if self.rank == 0 else {})[0]["value"]

    def first_alone(self, function: Callable[[], Result]) -> Result:
        """What a function returns: rank 0 calls it, and when it has ended the others, which find the files it has left.

        However long it takes: `timeout` does not count.
        """
        result = [function()] if self.rank == 0 else []
        transport, timeout = self.transport, self.transport.timeout
        transport.timeout = math.inf
        try:
            transport.gather(np.zeros(1))
        finally:
            transport.timeout = timeout
        return result[0] if result else function()

    def check(self, facts: Mapping[str, Any]) -> None:
        """Raise ParallelError, on all ranks, if these facts by name are not the same on all of them."""
        everyone = self.gather(facts)
        for name in everyone[0]:
            others = [rank for rank, theirs in enumerate(everyone) if theirs.get(name) != everyone[0][name]]
            if others:
                first = everyone[others[0]].get(name)
                raise ParallelError(
                    f"parallel: {listed(others)} of {self.size} {'differs' if len(others) == 1 else 'differ'} from "
                    f"rank 0 in {name}: {first!r:.300}, on rank 0 {everyone[0][name]!r:.300}"
                )


#: A process that no other one trains with.
ALONE = Ranks(Single(), shards=1, exact=False)


def init(
    engine: str | None = None, *, shards: int = SHARDS, exact: bool = True, timeout: float = TIMEOUT,
    overlap: bool | None = None,
) -> Ranks:  # fmt: skip
    """This process as one of a data-parallel job: `mpiexec -n 4 python script.py` starts four.

    engine    "mpi", by mpi4py; None: MPI if a launcher has started several processes, otherwise this process alone
    shards    micro-shards of a global batch, a power of two; the number of ranks divides it
    exact     False: each rank computes its rows as one batch, and any number of ranks sums the gradients. Faster; the
              weights then depend on the number of ranks, by rounding, and the random numbers of dropout do entirely
    timeout   seconds that a rank waits for another one, an evaluation or a checkpoint included, before it ends the job
              with an error that names it
    overlap   whether gradients are sent while those of earlier layers are computed; the results have the same bits.
              None: if the ranks are on several machines; on one there is nothing to gain, for sending is work of the
              same cores (docs/scaling.md)

    Raises ImportError without mpi4py, ParallelError if the ranks cannot share the shards, and for "nccl", which is not
    there yet.

    >>> parallel.init(shards=4).size
    1
    """
    if engine == "nccl":
        raise ParallelError(
            "parallel: 'nccl' is not there yet: gradients on GPUs would go through cupyx.distributed, one process per "
            "device, behind the same interface, and nothing that no GPU has run is released. 'mpi' trains on NumPy"
        )
    if engine not in (None, *ENGINES):
        raise ValueError(f"parallel: expected 'mpi', or None, got {engine!r}")
    if isinstance(shards, bool) or operator.index(shards) < 1:
        raise ValueError(f"shards: expected a power of two, got {shards!r}")
    if not timeout > 0:
        raise ValueError(f"timeout: expected a number of seconds above 0, got {timeout!r}")
    transport: Transport = Mpi(timeout) if engine == "mpi" or launched() is not None else Single()
    if transport.size == 1:
        transport = Single()
    try:
        ranks = Ranks(transport, shards, exact, overlap)
    except (ParallelError, ValueError) as error:
        if not transport.failed(error):
            raise SystemExit(1) from error
        raise
    _current.set(ranks)
    return ranks


def current() -> Ranks | None:
    """What `init` has returned last, None before."""
    return _current.get()


def synchronised(optimizer: Optimizer, ranks: Ranks | None = None) -> Optimizer:
    """The optimizer, whose `step()` first sums the gradients over all ranks.

    After `ranks.rows_of` they are the sums over its shards; otherwise those of a loop in which each rank computes the
    mean over rows of its own, of which there are as many everywhere, and the mean over ranks is taken.
    `synchronise()` does it before `step`, for what reads the gradients, such as `clip_gradient_norm`. All else,
    `state_dict` included, is as before. At its first step the parameters and the versions (ours, Python's, NumPy's)
    must be the same on all ranks, and at each one the settings, such as the learning rate.

    >>> ranks = parallel.init(shards=2)
    >>> model, x, y = nn.Linear(3, 1), np.ones((4, 3), "f"), np.zeros((4, 1), "f")
    >>> optimizer = parallel.synchronised(optim.SGD(model.parameters(), lr=0.1))
    >>> for rows, share in ranks.rows_of(len(x)):
    ...     (share * ops.mse(model(x[rows]), y[rows])).backward()
    >>> optimizer.step()
    """
    ranks = ranks or current() or init()
    kind = next(kind for kind in type(optimizer).__mro__ if not issubclass(kind, _Synchronised))
    made: Any = object.__new__(type(kind.__name__, (_Synchronised, kind), {"__module__": kind.__module__}))
    made.__dict__ = vars(optimizer)
    made.gradients = GradientSum(optimizer, ranks.transport, ranks.exact, ranks.overlap)
    made.ranks, made.is_checked = ranks, False
    ranks.sums.add(made.gradients)
    return made


class _Synchronised(Optimizer):
    """What `synchronised` adds to the class of an optimizer, beside the attributes that both have in common."""

    __slots__ = ("gradients", "is_checked", "ranks")  # so there is no cycle, and `Ranks.sums` has what is in use
    gradients: GradientSum
    ranks: Ranks
    is_checked: bool

    def synchronise(self) -> None:
        """Sum the gradients over all ranks."""
        if not self.is_checked:
            self.is_checked = True
            self.ranks.check({"versions": versions(), "parameters": checksum(p.data for p in self.parameters())})
            self.ranks.transport.started()
        if self.gradients.shards is None:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad = parameter.grad / self.ranks.size
            self.gradients.push()
        self.gradients.reduce()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.gradients.is_reduced = False
        super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        if closure is not None:
            raise ValueError("step: a closure computes the gradients anew, and they would be those of one rank")
        if not self.gradients.is_reduced:
            self.synchronise()
        self.gradients.is_reduced = False
        return super().step()
