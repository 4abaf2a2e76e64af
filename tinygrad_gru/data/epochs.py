"""Batches of the same data, epoch after epoch, with a position that can be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any, Generic, TypeVar

Batch = TypeVar("Batch")


class Epochs(ABC, Generic[Batch]):
    """Batches in an order that depends on the epoch's number alone, so that a position is two integers.

    `for batch in epochs` gives the batches that are left of the present epoch; `next_batch` goes on for ever.
    """

    def __init__(self, batches_per_epoch: int) -> None:
        self._batches_per_epoch = batches_per_epoch
        self._prepared_epoch: int | None = None
        self.epoch = 0
        self.index = 0

    @abstractmethod
    def _prepare(self, epoch: int) -> None:
        """Put the data in the order of epoch number `epoch`, from 0."""

    @abstractmethod
    def _batch(self, index: int) -> Batch:
        """Batch number `index`, from 0, of the epoch that was prepared last."""

    @abstractmethod
    def _arrangement(self) -> dict[str, Any]:
        """What a position depends on, by name: in data cut otherwise it means nothing."""

    def __len__(self) -> int:
        """The number of batches in one epoch."""
        return self._batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        self._start_epoch_if_due()
        epoch = self.epoch
        while self.epoch == epoch and self.index < len(self):
            yield self.next_batch()

    def next_batch(self) -> Batch:
        """The next batch; after an epoch's last one, the first of the epoch that follows."""
        self._start_epoch_if_due()
        if self._prepared_epoch != self.epoch:
            self._prepare(self.epoch)
            self._prepared_epoch = self.epoch
        batch = self._batch(self.index)
        self.index += 1
        return batch

    def _start_epoch_if_due(self) -> None:
        if self.index == len(self):
            self.epoch, self.index = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """The position; can be written as JSON."""
        return {"epoch": self.epoch, "index": self.index, "arrangement": self._arrangement()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved position. Raises ValueError if it was saved from data that was cut otherwise."""
        saved, ours = state["arrangement"], self._arrangement()
        for name in ours:
            if saved.get(name) != ours[name]:
                raise ValueError(
                    f"a position saved with {name} {saved.get(name)!r} means nothing in data with {name} {ours[name]!r}"
                )
        epoch: int = state["epoch"]
        index: int = state["index"]
        if not (isinstance(epoch, Integral) and isinstance(index, Integral) and epoch >= 0 and 0 <= index <= len(self)):
            raise ValueError(f"epoch {epoch!r} and index {index!r} are no position in epochs of {len(self)} batches")
        self.epoch, self.index = int(epoch), int(index)
