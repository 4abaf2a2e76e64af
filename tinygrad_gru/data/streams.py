"""Batches of one long text for truncated backpropagation through time.

The text is cut into `batch_size` streams of equal length, from which each batch takes a window of `window` characters.
The next window continues where the last one ended, in every stream, so that a recurrent state can be carried over:

    text      a b c d e f g h i j k l m           batch_size 2, window 3
    stream 0  a b c | d e f                        inputs of windows 0 and 1; the targets are one character later
    stream 1  g h i | j k l
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..version import RenamedAttribute, renamed_arguments
from .epochs import Epochs, check_sizes


class Window(NamedTuple):
    """A batch of ids, of shape (window, batch_size): `targets` are the characters that follow `inputs`.

    `starts` is True for the first window of an epoch: there is no state to carry over.
    """

    inputs: np.ndarray
    targets: np.ndarray
    starts: bool


class TextStream(Epochs[Window]):
    """Windows of a text given as `ids` (integers, 1-D); an incomplete window at the end is dropped.

    With `chunk`, every epoch first cuts the text into chunks of that many characters and shuffles them, seeded by
    `seed` and the number of the epoch. Each stream then covers all parts of the text, not one file or chapter.
    """

    lanes = RenamedAttribute("batch_size")

    @renamed_arguments(lanes="batch_size")
    def __init__(self, ids: np.ndarray, window: int, batch_size: int, chunk: int | None = None, seed: int = 0) -> None:
        check_sizes(window=window, batch_size=batch_size, chunk=1 if chunk is None else chunk)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"ids must be integers of one dimension, got {ids.dtype} of shape {ids.shape}")
        windows = (len(ids) - 1) // (batch_size * window)
        if windows < 1:
            raise ValueError(
                f"the text has {len(ids)} characters, but {batch_size} streams with a window of {window} need at "
                f"least {batch_size * window + 1}: use a longer text, a smaller window or a smaller batch"
            )
        super().__init__(windows)
        self.ids, self.window, self.batch_size, self.chunk, self.seed = ids, window, batch_size, chunk, seed

    def _prepare(self, epoch: int) -> None:
        ids = self.ids if self.chunk is None else shuffle_chunks(self.ids, self.chunk, (self.seed, epoch))
        used = len(self) * self.window * self.batch_size
        self._inputs = ids[:used].reshape(self.batch_size, -1)
        self._targets = ids[1 : used + 1].reshape(self.batch_size, -1)

    def _batch(self, index: int) -> Window:
        steps = slice(index * self.window, (index + 1) * self.window)
        return Window(
            inputs=np.ascontiguousarray(self._inputs[:, steps].T),
            targets=np.ascontiguousarray(self._targets[:, steps].T),
            starts=index == 0,
        )

    def _arrangement(self) -> dict[str, Any]:
        return {
            "characters": len(self.ids),
            "window": self.window,
            "lanes": self.batch_size,  # its name in checkpoints
            "chunk": self.chunk,
            "seed": self.seed,
        }


def shuffle_chunks(ids: np.ndarray, chunk: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """`ids` cut into chunks of `chunk` (the last may be shorter), concatenated in a random order seeded by `seed`."""
    chunks = np.split(ids, range(chunk, len(ids), chunk))
    order = np.random.default_rng(seed).permutation(len(chunks))
    return np.concatenate([chunks[index] for index in order])
