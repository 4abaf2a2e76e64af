"""Iteration over batches, epoch after epoch, from a position that can be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any, Generic, TypeVar

import numpy as np

from ..keywords import AnsweredKeywords

#: Keywords of other libraries' batches, and what to write instead.
KEYWORDS = {
    "shuffle": "seed=0, or another number, shuffles every epoch; None does not",
    "drop_last": "nothing: a smaller last batch is kept, and a loss over all targets is right with it",
    "num_workers": "nothing: batches are made in this process",
    "pin_memory": "nothing: leave it out",
    "collate_fn": "nothing: data.SequenceBatches and data.pad_sequence pad",
    "sampler": "seed, for an order of the examples; x[indices] for some of them",
    "batch_first": "nothing: sequences are time first, as layers take them; ArrayBatches has examples first",
}

#: The methods that make a batch as a whole.
_WHOLE = {"_batch", "next_batch"}

Batch = TypeVar("Batch")


class Epochs(AnsweredKeywords, ABC, Generic[Batch]):
    """Base class of batches in endless epochs, whose order depends on the epoch number alone.

    So a position is two integers, `epoch` and `index`, which `state_dict` saves. `for batch in epochs` yields the
    remaining batches of the current epoch, `next_batch` never ends, and `len(epochs)` is the number in each epoch.
    Derived classes have `_prepare`, `_arrangement`, and `_batch`; or `_count` and `_part`, with which a rank of a
    parallel job reads its own rows alone.

    >>> batches = data.ArrayBatches(np.arange(6), batch_size=2, seed=0)
    >>> first, position = batches.next_batch(), batches.state_dict()
    >>> rest = [batch.inputs.tolist() for batch in batches]
    >>> batches.load_state_dict(position)
    >>> [batch.inputs.tolist() for batch in batches] == rest
    True
    """

    _keyword_hints = KEYWORDS

    def __init__(self, batches_per_epoch: int) -> None:
        self._batches_per_epoch = batches_per_epoch
        self._prepared_epoch: int | None = None
        self.epoch = 0
        self.index = 0

    @abstractmethod
    def _prepare(self, epoch: int) -> None:
        """Put the data in the order of epoch `epoch`, counted from 0."""

    def _batch(self, index: int) -> Batch:
        """Batch `index`, counted from 0, of the epoch that was prepared last."""
        return self._part(index, slice(0, self._count(index)))

    def _count(self, index: int) -> int:
        """The number of rows of batch `index`."""
        raise NotImplementedError

    def _part(self, index: int, rows: slice) -> Batch:
        """These rows of batch `index`, at least one."""
        raise NotImplementedError

    @abstractmethod
    def _arrangement(self) -> dict[str, Any]:
        """The settings by name that the order of the batches depends on: with others a position is invalid."""

    def __len__(self) -> int:
        """The number of batches in one epoch."""
        return self._batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        self._advance_epoch()
        epoch = self.epoch
        while self.epoch == epoch and self.index < len(self):
            yield self.next_batch()

    def next_batch(self) -> Batch:
        """The next batch; after the last one of an epoch, the first of the next epoch."""
        self._start()
        batch = self._batch(self.index)
        self.index += 1
        return batch

    @property
    def reads_rows(self) -> bool:
        """Whether `next_rows` can be asked for rows: not if a derived class makes or changes batches as a whole."""
        makers = (vars(kind) for kind in type(self).__mro__ if {"_part", *_WHOLE} & vars(kind).keys())
        return "_part" in next(makers) and not _WHOLE & vars(self).keys()

    def next_rows(self, choose: Callable[[int], slice]) -> tuple[Batch | None, int]:
        """Rows of the next batch, and how many it has: `choose` says which of so many. Only these are read.

        They are as in the whole batch: sequences are padded to the longest one of that. Without a row, the batch is
        None.

        >>> batches = data.ArrayBatches(np.arange(8), batch_size=4)
        >>> batch, count = batches.next_rows(lambda count: slice(count // 2, count))
        >>> batch.inputs.tolist(), count
        ([2, 3], 4)
        """
        self._start()
        count = self._count(self.index)
        rows = choose(count)
        batch = self._part(self.index, rows) if rows.stop > rows.start else None
        self.index += 1
        return batch, count

    def _start(self) -> None:
        self._advance_epoch()
        if self._prepared_epoch != self.epoch:
            self._prepare(self.epoch)
            self._prepared_epoch = self.epoch

    def _advance_epoch(self) -> None:
        if self.index == len(self):
            self.epoch, self.index = self.epoch + 1, 0

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._arrangement().items())
        return f"{type(self).__name__}({settings}): {len(self)} batches in an epoch"

    def state_dict(self) -> dict[str, Any]:
        """The position, JSON-serializable."""
        return {"epoch": self.epoch, "index": self.index, "arrangement": self._arrangement()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved position. Raises ValueError if it was saved with other data or settings."""
        saved, current = state["arrangement"], self._arrangement()
        for name in current:
            if saved.get(name) != current[name]:
                raise ValueError(
                    f"a position saved with {name} {saved.get(name)!r} is invalid with {name} {current[name]!r}"
                )
        epoch: int = state["epoch"]
        index: int = state["index"]
        if not (isinstance(epoch, Integral) and isinstance(index, Integral) and epoch >= 0 and 0 <= index <= len(self)):
            raise ValueError(f"epoch {epoch!r} and index {index!r} are not a position in epochs of {len(self)} batches")
        self.epoch, self.index = int(epoch), int(index)


def order_of_epoch(count: int, seed: int | None, *epoch: int) -> np.ndarray:
    """The order of `count` examples in an epoch: the given one, or with a seed a random one that depends on both."""
    return np.arange(count) if seed is None else np.random.default_rng((seed, *epoch)).permutation(count)


def checked_seed(seed: Any) -> int | None:
    """A seed, or None, or an error."""
    if seed is None:
        return None
    if not isinstance(seed, Integral):
        raise TypeError(f"seed must be None or an integer, got {seed!r:.80}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    return int(seed)


def check_sizes(**sizes: int) -> None:
    """Raise an error that names the first size that is no integer of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, Integral):
            raise TypeError(f"{name} must be an integer, got {value!r:.80}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
