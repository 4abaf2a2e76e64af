"""One long text, cut for truncated backpropagation through time.

The text is cut into `lanes` of equal length that are read side by side, `window` characters at a time. The next window
goes on where the last one ended, in every lane, so that a recurrent state can be carried from window to window:

    text      a b c d e f g h i j k l m           2 lanes, windows of 3
    lane 0    a b c | d e f                        inputs of windows 0 and 1; the targets are one character later
    lane 1    g h i | j k l
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .epochs import Epochs


class Window(NamedTuple):
    """Ids of shape (window, lanes): `targets` are the characters that follow `inputs`.

    `starts` says that these are the first of their lanes: there is no state to carry over.
    """

    inputs: np.ndarray
    targets: np.ndarray
    starts: bool


class TextStream(Epochs[Window]):
    """Windows of a text given as `ids` (integers, 1-D); what fills no whole window is left out.

    With `chunk`, every epoch first cuts the text into pieces of that many characters and shuffles them, as `seed` and
    the epoch's number say. A lane then meets all parts of the text rather than a single file or chapter.
    """

    def __init__(self, ids: np.ndarray, window: int, lanes: int, chunk: int | None = None, seed: int = 0) -> None:
        for name, value in (("window", window), ("lanes", lanes), ("chunk", 1 if chunk is None else chunk)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"ids must be integers of one dimension, got {ids.dtype} of shape {ids.shape}")
        windows = (len(ids) - 1) // (lanes * window)
        if windows < 1:
            raise ValueError(
                f"the text has {len(ids)} characters, but {lanes} lanes with a window of {window} need at least "
                f"{lanes * window + 1}: use a longer text, a smaller window or fewer lanes"
            )
        super().__init__(windows)
        self.ids, self.window, self.lanes, self.chunk, self.seed = ids, window, lanes, chunk, seed

    def _prepare(self, epoch: int) -> None:
        ids = self.ids if self.chunk is None else shuffle_chunks(self.ids, self.chunk, (self.seed, epoch))
        used = len(self) * self.window * self.lanes
        self._inputs = ids[:used].reshape(self.lanes, -1)
        self._targets = ids[1 : used + 1].reshape(self.lanes, -1)

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
            "lanes": self.lanes,
            "chunk": self.chunk,
            "seed": self.seed,
        }


def shuffle_chunks(ids: np.ndarray, chunk: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """`ids` cut into pieces of `chunk` (the last may be shorter), joined again in an order drawn from `seed`."""
    pieces = np.split(ids, range(chunk, len(ids), chunk))
    order = np.random.default_rng(seed).permutation(len(pieces))
    return np.concatenate([pieces[place] for place in order])
