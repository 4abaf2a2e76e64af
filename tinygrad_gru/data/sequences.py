"""Padded batches of sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .arrays import as_array, with_features
from .epochs import Epochs, check_sizes, checked_seed, order_of_epoch
from .padding import arrays_of_steps, pad


class SequenceBatch(NamedTuple):
    """A padded batch: `inputs` (T, B, ...), of whose sequence b the first `lengths[b]` steps count; `targets` (B, ...).

    >>> batch = data.SequenceBatches([[5, 2, 7], [4]], targets=[0, 1]).next_batch()
    >>> batch.inputs.shape, batch.lengths.tolist(), batch.targets.tolist(), batch.per_step
    ((3, 2), [3, 1], [0, 1], False)
    """

    inputs: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray | None

    @property
    def per_step(self) -> bool:
        """Whether there is a target for each step."""
        return False


class StepBatch(SequenceBatch):
    """A padded batch with a target for each step: `targets` are (T, B, ...), padded as `inputs` are.

    >>> batch = data.SequenceBatches([[5, 2, 7], [4]], [[0, 0, 1], [1]], per_step=True).next_batch()
    >>> batch.targets.T.tolist(), batch.per_step
    ([[0, 0, 1], [1, -100, -100]], True)
    """

    @property
    def per_step(self) -> bool:
        return True


class SequenceBatches(Epochs[SequenceBatch]):
    """Batches of at most `batch_size` sequences, padded to the longest of their batch, time first: (T, B, ...).

    Each sequence is a list or an array:

        integers (T_i,)   ids, of which the batch has (T, B); numbers that are no ids must be floats
        floats (T_i,)     a series, of which the batch has (T, B, 1)
        (T_i, F)          steps of F features, of which the batch has (T, B, F)

    `targets` has one for each sequence (the batch's are (B, ...)), or is None. With `per_step` it has a list or array
    for each, with a target for each step, of the same shapes as above: (T, B, ...) in the batch. Integers (and
    booleans, which become integers) are padded with `ignore_index`, floats with NaN, so that an average over padding
    is not wrong in silence. Inputs are padded with `padding_value`, which layers that get `lengths` do not read.

    An epoch has every sequence once, so its last batch may be smaller. With a `seed` every epoch is shuffled anew; with
    None the order is the given one. With `bucket=k` the sequences of k batches at a time, in that order, are sorted
    by length, and with a seed the batches are shuffled: there is less padding, and the smaller batch may come earlier.

    Raises ValueError or TypeError, which name the sequence, if one is empty, of another shape or not of numbers.

    >>> batches = data.SequenceBatches([[5, 2, 7], [4], [1, 3]], targets=[0, 1, 1], batch_size=2)
    >>> for inputs, lengths, targets in batches:
    ...     print(inputs.T.tolist(), lengths, targets)
    [[5, 2, 7], [4, 0, 0]] [3 1] [0 1]
    [[1, 3]] [2] [1]
    """

    def __init__(
        self,
        sequences: Sequence[Any],
        targets: Any = None,
        batch_size: int = 32,
        seed: int | None = None,
        *,
        per_step: bool = False,
        bucket: int | None = None,
        padding_value: float = 0,
        ignore_index: int = -100,
    ) -> None:
        check_sizes(batch_size=batch_size, bucket=1 if bucket is None else bucket)
        self.sequences = _sequences(sequences)
        self.lengths = np.array([len(sequence) for sequence in self.sequences])
        self.targets: Any = None
        if per_step:
            self.targets = _targets_per_step(targets, self.lengths)
        elif targets is not None:
            self.targets = as_array("targets", targets, "lists of a target for each step need per_step=True")
            if self.targets.ndim == 0 or len(self.targets) != len(self.sequences):
                raise ValueError(
                    f"targets must be one for each of {len(self.sequences)} sequences, got shape {self.targets.shape}"
                )
        super().__init__(-(-len(self.sequences) // batch_size))
        self.batch_size, self.seed, self.per_step, self.bucket = batch_size, checked_seed(seed), per_step, bucket
        self.padding_value, self.ignore_index = padding_value, ignore_index

    def _prepare(self, epoch: int) -> None:
        order = order_of_epoch(len(self.sequences), self.seed, epoch)
        starts = np.arange(0, len(order), self.batch_size)
        if self.bucket is not None:
            pools = np.split(order, starts[self.bucket :: self.bucket])
            order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
            starts = starts[order_of_epoch(len(starts), self.seed, epoch, _OF_BATCHES)]
        self._order, self._starts = order, starts

    def _count(self, index: int) -> int:
        return min(self.batch_size, len(self.sequences) - int(self._starts[index]))

    def _part(self, index: int, rows: slice) -> SequenceBatch:
        start = self._starts[index]
        whole = self._order[start : start + self.batch_size]
        indices, steps = whole[rows], int(self.lengths[whole].max())
        inputs, lengths = pad([self.sequences[k] for k in indices], self.padding_value, steps), self.lengths[indices]
        if not self.per_step:
            return SequenceBatch(inputs, lengths, None if self.targets is None else self.targets[indices])
        targets = [self.targets[k] for k in indices]
        value = np.nan if targets[0].dtype.kind in "fc" else self.ignore_index
        return StepBatch(inputs, lengths, pad(targets, value, steps))

    def _arrangement(self) -> dict[str, Any]:
        return {
            "sequences": len(self.sequences),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "bucket": self.bucket,
        }


_OF_BATCHES = 1  # tells the order of an epoch's batches from that of its sequences


def _sequences(values: Sequence[Any]) -> list[np.ndarray]:
    """Ids (T_i,) or features (T_i, F) of every sequence, all of one dtype."""
    arrays = _of_one_dtype("sequences", values)
    for number, array in enumerate(arrays):
        if not len(array):
            raise ValueError(f"sequences[{number}] is empty: every sequence needs at least one step; leave it out?")
        if array.ndim > 2:
            raise ValueError(f"sequences[{number}] must have the shape (T,) or (T, F), got {array.shape}")
    return [with_features(array) for array in arrays]


def _targets_per_step(values: Any, lengths: np.ndarray) -> list[np.ndarray]:
    """The targets (T_i, ...) of every sequence: all floats, or all integers that have room for an ignored one."""
    if values is None:
        raise ValueError("per_step=True needs targets, a list for each sequence")
    if len(values) != len(lengths):
        raise ValueError(f"targets must be a list for each of {len(lengths)} sequences, got {len(values)}")
    arrays = _of_one_dtype("targets", values)
    for number, (array, length) in enumerate(zip(arrays, lengths)):
        if len(array) != length:
            raise ValueError(
                f"targets[{number}] has {len(array)} targets, but sequences[{number}] has {length} steps: with "
                "per_step=True there is one for each step"
            )
    if arrays[0].dtype.kind in "fc":
        return [with_features(array) for array in arrays]
    return [array.astype(np.int64, copy=False) for array in arrays]


def _of_one_dtype(name: str, values: Sequence[Any]) -> list[np.ndarray]:
    """Arrays (T_i, ...) of one dtype."""
    arrays = arrays_of_steps(name, values)
    dtypes = {array.dtype for array in arrays if array.size}
    integral = all(dtype.kind in "iu" for dtype in dtypes)
    dtype = np.dtype(np.int64) if integral and np.dtype(np.uint64) in dtypes else np.result_type(*dtypes or "f")
    return [array.astype(dtype, copy=False) for array in arrays]
