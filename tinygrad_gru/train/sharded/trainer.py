"""ShardedTrainer: a training step whose batch is cut into micro-shards, which ranks share."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import parallel
from ...backend import backend_of, random_state
from ...backend.random import random_stream
from ...data import ArrayBatches, Epochs
from ...nn.states import restored, structure_of
from ...parallel import ParallelError, Ranks
from ...parallel.buckets import GradientSum
from ...parallel.checks import versions
from ...tensor import Tensor
from ...trees import leaves, map_leaves
from ..batches import check_layout
from ..metrics.loss import mean_count
from ..trainer import TINY, Trainer
from .cut import Cuttable, check_rows
from .loader import LoaderRows, own_rows
from .means import ShardedMeans


def ranks_of(given: str | Ranks | None) -> Ranks | None:
    """The ranks of an argument `parallel`: None, "mpi", or what `parallel.init` has returned."""
    if given is None or isinstance(given, Ranks):
        return given
    if not isinstance(given, str):
        raise TypeError(f"parallel: expected 'mpi', or what parallel.init() has returned, got {given!r:.60}")
    return parallel.init(given)


def ranks_for(ranks: Ranks, shards: int | None) -> Ranks | None:
    """The ranks with the shards of a run; None for a run without any, which several ranks cannot share: ValueError."""
    if shards is not None:
        return ranks.with_shards(shards)
    if ranks.size > 1:
        raise ValueError(
            f"shards: {ranks.size} ranks share a batch that is cut into shards, and the run has none: begin "
            "it with shards=4 (--shards 4), also in one process"
        )
    return None


def make_trainer(ranks: Ranks | None, *inputs: Any, **settings: Any) -> Trainer:
    """A Trainer, or with ranks a ShardedTrainer."""
    return Trainer(*inputs, **settings) if ranks is None else ShardedTrainer(*inputs, ranks=ranks, **settings)


class ShardedTrainer(Trainer):
    """A Trainer that computes the shards of `ranks`, and sums gradients, losses and metrics over all.

        L = Σₛ nₛ lossₛ / Σₛ nₛ over the shards s of all batches of a step, with nₛ targets

    It takes what a Trainer takes. Each shard runs by itself: with the random numbers of (seed, step, shard), and the
    carried state of its rows. All ranks have the same results, and the state is that of the whole batch.
    """

    def __init__(self, *inputs: Any, ranks: Ranks, **settings: Any) -> None:
        super().__init__(*inputs, **settings)
        if ranks.size > 1 and not backend_of(self._like.data).is_host:
            raise ParallelError(
                f"parallel: the model is on {self._like.device!r}, and MPI sends what is in the memory of the host: "
                "move it to 'numpy', or train on one GPU without mpiexec ('nccl', for several, is not there yet)"
            )
        check_rows(self.source, ranks.shards)
        self.ranks = ranks
        if ranks.size > 1:
            self.source = own_rows(self.source, self._own_rows)
        self.epoch_means = self._means = ShardedMeans(self.epoch_means.metrics)
        self._sum = GradientSum(self.optimizer, ranks.transport, ranks.exact, ranks.overlap)
        self._whole: tuple[int, Any] = -1, []  # the step, and the carried states of all shards after it
        self._digests: list[int] = []

    def _next_batch(self) -> tuple[Cuttable | None, int, int]:
        """Rows of the next batch, this rank's alone if the source can read them alone; the first of them, and how many
        the whole batch has."""
        source: Any = self.source
        if not reads_rows(source):
            whole = Cuttable(source.next_batch())
            self._digests.append(whole.checksum() if self.ranks.size > 1 else 0)
            return whole, 0, whole.rows
        if isinstance(source, LoaderRows):
            batch, count, digest = source.next_batch()
        else:
            batch, count = source.next_rows(self._own_rows)
            digest = zlib.crc32(f"{source.epoch} {source.index} {count}".encode())
        self._digests.append(digest)
        return None if batch is None else Cuttable(batch), self._own_rows(count).start, count

    def _own_rows(self, count: int) -> slice:
        """The rows of all shards of this rank, of a batch of so many."""
        parts = self.ranks.cut(count)
        return slice(parts[self.ranks.own[0]].start, parts[self.ranks.own[-1]].stop)

    def _read(self, batch: Any, is_first: bool) -> Any:
        """This rank's shards of a batch, None for one without rows."""
        part, first, count = batch
        if part is not None and not part.axis and not isinstance(self.source, ArrayBatches):
            check_layout(self.model)
        own = [slice(rows.start - first, rows.stop - first) for rows in self.ranks.cut(count)]
        read = super()._read
        return [
            read(part.part(own[shard]), is_first) if own[shard].stop > own[shard].start else None
            for shard in self.ranks.own
        ]

    def _gradients(self, batches: Any) -> tuple[list[Tensor], Any, Any]:
        counts = self._gather_counts([[0.0 if b is None else float(mean_count(self.loss, b.targets)) for b in batch]
                                      for batch in batches])  # fmt: skip
        total = float(sum(counts.reshape(-1).tolist()))
        position = random_stream().reserve(len(batches))
        self._sum.begin(len(self.ranks.own))
        states, losses = [], np.zeros((len(self.ranks.own), len(batches)))
        for k, shard in enumerate(self.ranks.own):
            state = None if self._carried is None else self._carried[k]
            last = max((i for i, batch in enumerate(batches) if batch[k] is not None), default=0)
            for i, batch in enumerate(batches):
                if batch[k] is not None:
                    with self.ranks.drawing(shard, position + i):
                        loss, state = self._loss(batch[k], None if batch[k].starts else state)
                    share = float(counts[shard, i]) / (total + TINY) if counts.size > 1 else None
                    with self._sum.sending(i == last):
                        losses[k, i] = float(self._backward(loss, share))
            states.append(state)
            self._sum.push()
            self.optimizer.zero_grad()
        self._losses = self.ranks.transport.gather(losses).reshape(counts.shape)
        self._sum.reduce()
        self._means.merge(self.ranks)
        parts = [
            Tensor(value, dtype="float64", device=self._like.device) for value in self._losses.reshape(-1).tolist()
        ]
        return parts, total, states if self.carry_state else None

    def _gather_counts(self, own: list[list[float]]) -> np.ndarray:
        """The targets of all shards, (shards, batches). Raises ParallelError if the ranks have read other batches."""
        head = [float(random_stream().position), *map(float, self._digests)]
        self._digests = []
        everyone = self.ranks.transport.gather(np.array([*head, *np.transpose(own).reshape(-1).tolist()]))
        differ = np.flatnonzero((everyone[:, : len(head)] != everyone[0, : len(head)]).any(axis=1)).tolist()
        if differ:
            raise ParallelError(
                f"parallel: in step {self.steps + 1} rank {differ[0]} of {self.ranks.size} has read another batch, or "
                "drawn other random numbers, than rank 0: all need the same order (shuffle by seed=)"
            )
        return everyone[:, len(head) :].reshape(self.ranks.shards, -1)

    def _diverged(self, loss: float, norm: float, lr: float, batches: Any) -> str:
        present = [part for batch in batches for part in batch if part is not None]
        finite = self.ranks.transport.gather(np.array([all(batch.is_finite for batch in present)], float))
        found: list[Any] = [] if finite.all() else [_NotFinite()]
        text = super()._diverged(loss, norm, lr, found)
        bad = np.flatnonzero(~np.isfinite(self._losses).all(axis=1)).tolist()
        where = [f"{shard} (rank {shard // len(self.ranks.own)})" for shard in bad]
        return text + (f". The loss is not finite in shard {', '.join(where)} of {self.ranks.shards}" if where else "")

    def collect(self) -> None:
        """Collect what `state_dict` needs of other ranks. Raises ParallelError if weights or data differ by now."""
        if self.ranks.size > 1:
            facts = {f"weights after step {self.steps} (their checksum, buffers included)": self._checksum()}
            if reads_rows(self.source):  # each has read other rows, which say nothing about those of the others
                facts[f"data after step {self.steps}"] = parallel.source_checksum(self.source)
            self.ranks.check(facts)
        self._collect_carried()

    def _checksum(self) -> str:
        """Of the parameters and buffers of the model, and of what else the optimizer trains."""
        tensors = [*(tensor for _, tensor in self.model.named_tensors()), *self.optimizer.parameters()]
        return parallel.checksum(tensor.data for tensor in dict.fromkeys(tensors))

    def _collect_carried(self) -> None:
        """Collect the carried states of all shards."""
        if self._whole[0] == self.steps or self._carried is None:
            return
        own = {"arrays": [_arrays(state) for state in self._carried], "trees": [*map(structure_of, self._carried)]}
        everyone = self.ranks.gather(own)
        states = [
            restored(tree, list(arrays))
            for part in everyone
            for tree, arrays in zip(part["trees"], part["arrays"])
        ]  # fmt: skip
        self._whole = self.steps, states

    def state_dict(self) -> dict[str, Any]:
        """That of the whole batch: carried is a list of the states of all shards. On one rank alone after `collect`."""
        self._collect_carried()
        whole = None if self._carried is None else self._whole[1]
        return {
            **super().state_dict(),
            "carried": None if whole is None else [array for _, array in leaves(whole, "state")],
            "carried_structure": {"tree": structure_of(whole)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._whole = self.steps, map_leaves(lambda part: None if part is None else part.numpy(), self._carried)
        if self._carried is None:
            return
        if not isinstance(self._carried, list) or len(self._carried) != self.ranks.shards:
            have = len(self._carried) if isinstance(self._carried, list) else 1
            raise ValueError(
                f"carried: the state of {have} shards cannot go on in {self.ranks.shards}: with exact=False, resume on "
                "as many ranks as before"
            )
        self._carried = [self._carried[shard] for shard in self.ranks.own]

    def check_ranks(self, metadata: Mapping[str, Any]) -> None:
        """Raise ParallelError, on all ranks, unless they have the same model, data, settings, seeds and target."""
        if self.ranks.size == 1:
            return
        state = self.model.state_dict()
        self.ranks.check(
            {
                "versions": versions(),
                "model": {name: [str(value.dtype), list(value.shape)] for name, value in state.items()},
                "weights": self._checksum(),
                "optimizer": repr(self.optimizer),
                "optimizer's state": parallel.checksum(self.optimizer.state_dict()["state"].values()),
                "settings": {**metadata, **self.ranks.settings, "clip_norm": self.clip_norm, "loss": _name(self.loss)},
                "data": parallel.source_checksum(self.source),
                "seed": random_state(),
                "target of recurrences": self.mode().family,
                "step": self.steps,
            }
        )
        self.ranks.transport.started()
        about = f"{self.ranks.size} ranks: {self.ranks.transport.about}"
        self.remark = "\n".join(filter(None, [self.remark, about]))


def reads_rows(source: Any) -> bool:
    """Whether it reads rows of a batch alone: batches of `data`, with nothing around them, and passes over a loader."""
    return isinstance(source, LoaderRows) or (isinstance(source, Epochs) and source.reads_rows)


class _NotFinite:
    """In the place of a batch of another rank with a NaN or infinity in it."""

    is_finite = False


def _arrays(state: Any) -> list[np.ndarray]:
    return [part.numpy() for _, part in leaves(state, "state")]


def _name(loss: Any) -> str:
    return str(getattr(loss, "__name__", type(loss).__name__))
