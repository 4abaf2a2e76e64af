"""Padded batches of sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .epochs import Epochs, check_sizes, order_of_epoch


class SequenceBatch(NamedTuple):
    """A padded batch: `inputs` (T, B, F) are zero beyond each sequence's `lengths` (B,); `targets` are (B, ...)."""

    inputs: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray


class SequenceBatches(Epochs[SequenceBatch]):
    """Batches of at most `batch_size` sequences, each an array (T_i, F), with one target each.

    T is the greatest length in a batch. An epoch has every sequence once, so its last batch may be smaller. With a
    `seed` every epoch is shuffled anew; with None the order is the given one.
    """

    def __init__(self, sequences: Sequence[np.ndarray], targets: Any, batch_size: int, seed: int | None = None) -> None:
        targets = np.asarray(targets)
        if not len(sequences):
            raise ValueError("sequences is empty: there is nothing to batch")
        check_sizes(batch_size=batch_size)
        if targets.ndim == 0 or len(targets) != len(sequences):
            raise ValueError(f"targets must be one for each of {len(sequences)} sequences, got shape {targets.shape}")
        self.sequences = [np.asarray(sequence) for sequence in sequences]
        features = self.sequences[0].shape[-1:]
        for number, sequence in enumerate(self.sequences):
            if sequence.ndim != 2 or sequence.shape[1:] != features or not len(sequence):
                raise ValueError(
                    f"every sequence must have the shape (T, F), with T at least 1 and the F of the first, but "
                    f"sequence {number} has {sequence.shape} and the first {self.sequences[0].shape}"
                )
        super().__init__(-(-len(sequences) // batch_size))
        self.targets, self.batch_size, self.seed = targets, batch_size, seed

    def _prepare(self, epoch: int) -> None:
        self._order = order_of_epoch(len(self.sequences), self.seed, epoch)

    def _batch(self, index: int) -> SequenceBatch:
        indices = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        sequences = [self.sequences[k] for k in indices]
        lengths = np.array([len(sequence) for sequence in sequences])
        shape = (int(lengths.max()), len(sequences), sequences[0].shape[1])
        inputs = np.zeros(shape, dtype=np.result_type(*sequences))
        for column, sequence in enumerate(sequences):
            inputs[: len(sequence), column] = sequence
        return SequenceBatch(inputs, lengths, self.targets[indices])

    def _arrangement(self) -> dict[str, Any]:
        return {"sequences": len(self.sequences), "batch_size": self.batch_size, "seed": self.seed}
