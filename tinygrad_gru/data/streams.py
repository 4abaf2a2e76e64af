"""Batches of one long series or text for truncated backpropagation through time.

It is cut into `batch_size` streams of equal length, from which each batch takes a window of `window` steps. The next
window continues where the last one ended, in every stream, so that a recurrent state can be carried over:

    text      a b c d e f g h i j k l m           batch_size 2, window 3
    stream 0  a b c | d e f                        inputs of windows 0 and 1; the targets are one character later
    stream 1  g h i | j k l
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..version import RenamedAttribute
from .arrays import as_array, with_features
from .epochs import KEYWORDS, Epochs, check_sizes
from .sharded import ShardedArray


class Window(NamedTuple):
    """A batch of `inputs` and `targets` of as many steps: (window, batch_size), and of features (..., F).

    `starts` is True for the first window of an epoch: there is no state to carry over.

    >>> [batch.starts for batch in data.StreamBatches(np.arange(12.0), np.arange(12.0), window=3, batch_size=2)]
    [True, False]
    """

    inputs: np.ndarray
    targets: np.ndarray
    starts: bool

    @property
    def per_step(self) -> bool:
        """Whether there is a target for each step: always."""
        return True


class StreamBatches(Epochs[Window]):
    """Windows of one long series whose state is carried from each to the next; an incomplete one at the end is dropped.

    `inputs` and `targets` have a value for each of the same T steps: floats (T,) or (T, F), which give (window,
    batch_size, F), or ids, integers (T,), which give (window, batch_size). To predict the next step, give
    `series[:-1]` and `series[1:]`. The order of the windows is that of the series, in every epoch.

    Raises ValueError if the numbers of steps differ or are less than one window for each of `batch_size` streams.

    >>> series = np.sin(np.arange(1001.0))
    >>> batches = data.StreamBatches(series[:-1], series[1:], window=25, batch_size=4)
    >>> len(batches), batches.next_batch().inputs.shape, batches.next_batch().starts
    (10, (25, 4, 1), False)
    """

    def __init__(self, inputs: Any, targets: Any, window: int, batch_size: int) -> None:
        check_sizes(window=window, batch_size=batch_size)
        self.inputs, self.targets = _series("inputs", inputs), _series("targets", targets)
        steps = len(self.inputs)
        if len(self.targets) != steps:
            raise ValueError(f"inputs and targets must have as many steps, got {steps} and {len(self.targets)}")
        if steps < batch_size * window:
            raise ValueError(
                f"the series has {steps} steps, but {batch_size} streams with a window of {window} need at least "
                f"{batch_size * window}: use a longer series, a smaller window or a smaller batch"
            )
        super().__init__(steps // (batch_size * window))
        self.window, self.batch_size = window, batch_size

    def _prepare(self, epoch: int) -> None:
        self._cut(self.inputs, self.targets)

    def _cut(self, *parts: Any) -> None:
        """Cut each series into streams: an array as (batch_size, steps, ...), shards as a list of views."""
        steps = len(self) * self.window
        self._streams: list[Any] = [
            part[: steps * self.batch_size].reshape(self.batch_size, -1, *part.shape[1:])
            if isinstance(part, np.ndarray)
            else [part[row * steps : (row + 1) * steps] for row in range(self.batch_size)]
            for part in parts
        ]

    def _count(self, index: int) -> int:
        return self.batch_size

    def _part(self, index: int, rows: slice) -> Window:
        inputs, targets = (_steps(streams[rows], index * self.window, self.window) for streams in self._streams)
        return Window(inputs, targets, starts=index == 0)

    def _arrangement(self) -> dict[str, Any]:
        return {"steps": len(self.inputs), "window": self.window, "batch_size": self.batch_size}


class TextStream(StreamBatches):
    """Windows of a text given as `ids` (integers, 1-D), whose targets are the next ids.

    With `chunk`, every epoch first cuts the text into chunks of that many characters and shuffles them, seeded by
    `seed` and the number of the epoch. Each stream then covers all parts of the text, not one file or chapter.

    The ids may be larger than memory, as an `np.memmap` or a `ShardedArray`: each batch reads its own part, in the same
    order as of an array, and an order of chunks takes 4 bytes a chunk.

    >>> batch = data.TextStream(np.arange(13), window=3, batch_size=2).next_batch()
    >>> batch.inputs.T.tolist(), batch.targets.T.tolist(), batch.starts
    ([[0, 1, 2], [6, 7, 8]], [[1, 2, 3], [7, 8, 9]], True)
    """

    _keyword_hints: ClassVar = {**KEYWORDS, "lanes": "batch_size"}
    lanes = RenamedAttribute("batch_size")

    def __init__(self, ids: Any, window: int, batch_size: int, chunk: int | None = None, seed: int = 0) -> None:
        check_sizes(window=window, batch_size=batch_size, chunk=1 if chunk is None else chunk)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"ids must be integers of one dimension, got {ids.dtype} of shape {ids.shape}")
        if len(ids) <= batch_size * window:
            raise ValueError(
                f"the text has {len(ids)} characters, but {batch_size} streams with a window of {window} need at "
                f"least {batch_size * window + 1}: use a longer text, a smaller window or a smaller batch"
            )
        super().__init__(ids[:-1], ids[1:], window, batch_size)
        self.ids, self.chunk, self.seed = ids, chunk, seed
        self._is_on_disk = isinstance(ids, (np.memmap, ShardedArray))

    def _prepare(self, epoch: int) -> None:
        seed = (self.seed, epoch)
        if not self._is_on_disk:
            ids = self.ids if self.chunk is None else shuffle_chunks(self.ids, self.chunk, seed)
            self._cut(ids[:-1], ids[1:])
            return
        text = self.ids if self.chunk is None else _ShuffledChunks(self.ids, self.chunk, seed)
        steps = len(self) * self.window
        self._streams = [text[row * steps : (row + 1) * steps + 1] for row in range(self.batch_size)]

    def _part(self, index: int, rows: slice) -> Window:
        if not self._is_on_disk:
            return super()._part(index, rows)
        text = _steps(self._streams[rows], index * self.window, self.window + 1)  # read once, for inputs and targets
        return Window(text[:-1], text[1:].copy(), starts=index == 0)

    def _arrangement(self) -> dict[str, Any]:
        return {
            "characters": len(self.ids),
            "window": self.window,
            "lanes": self.batch_size,  # its name in checkpoints
            "chunk": self.chunk,
            "seed": self.seed,
        }


def _series(name: str, value: Any) -> Any:
    array = as_array(name, value, "give one series")
    if array.ndim == 0:
        raise ValueError(f"{name} is the single number {array}, but a series is expected")
    return with_features(array) if isinstance(array, np.ndarray) else array


def _steps(streams: Any, start: int, count: int) -> np.ndarray:
    """So many steps of all streams, (count, batch_size, ...)."""
    if isinstance(streams, np.ndarray):
        return np.array(streams[:, start : start + count].swapaxes(0, 1), order="C")  # a copy of one stream, too
    return np.stack([with_features(np.asarray(stream[start : start + count])) for stream in streams], axis=1)


def shuffle_chunks(ids: np.ndarray, chunk: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """`ids` cut into chunks of `chunk` (the last may be shorter), concatenated in a random order seeded by `seed`.

    >>> data.shuffle_chunks(np.arange(9), chunk=3, seed=0).tolist()
    [6, 7, 8, 0, 1, 2, 3, 4, 5]
    """
    chunks = np.split(ids, range(chunk, len(ids), chunk))
    order = np.random.default_rng(seed).permutation(len(chunks))
    return np.concatenate([chunks[index] for index in order])


class _ShuffledChunks:
    """`shuffle_chunks(ids, chunk, seed)` of ids on the disk: a slice of it is a view, which `np.asarray` reads."""

    def __init__(self, ids: Any, chunk: int, seed: tuple[int, ...]) -> None:
        count = -(-len(ids) // chunk)
        self.ids, self.chunk, self.start, self.stop = ids, chunk, 0, len(ids)
        # Four bytes a chunk; the dtype changes nothing about the order.
        self.order = np.random.default_rng(seed).permutation(np.arange(count, dtype=np.uint32))
        self.missing = count * chunk - len(ids)  # in the last chunk, which is somewhere in this order
        self.behind_last = (int(np.flatnonzero(self.order == count - 1)[0]) + 1) * chunk - self.missing

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> _ShuffledChunks:
        start, stop, _ = part.indices(len(self))
        view = copy.copy(self)
        view.start, view.stop = self.start + start, self.start + max(start, stop)
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        pieces, position = [], self.start
        while position < self.stop:
            place, offset = divmod(position + self.missing * (position >= self.behind_last), self.chunk)
            begin = int(self.order[place]) * self.chunk
            end = min(begin + self.chunk, len(self.ids), begin + offset + self.stop - position)
            pieces.append(np.asarray(self.ids[begin + offset : end]))
            position += end - begin - offset
        return np.concatenate(pieces or [np.asarray(self.ids[:0])])
