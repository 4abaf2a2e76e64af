"""How much memory a device has, and who holds it when there is none left."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

_SHOWN = 5
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class OutOfMemoryError(MemoryError):
    """There is no memory left; the message says what holds most of it, and what would need less."""


class MemoryReport(NamedTuple):
    """Bytes of memory: `used` by arrays, `held` by the pool that they come from (the used ones among them), `free` and
    `total` on the device, and the `limit` of what the pool may hold, None without one. Prints as a sentence.

    What is held and not used will be used for new arrays; it is not free for other programs.
    """

    backend: str
    used: int
    held: int
    free: int
    total: int
    limit: int | None

    def __str__(self) -> str:
        limit = "" if self.limit is None else f", of at most {in_words(self.limit)}"
        return (
            f"{self.backend}: arrays use {in_words(self.used)} of the {in_words(self.held)} held for them{limit}; "
            f"{in_words(self.free)} of {in_words(self.total)} on the device are free"
        )


def explained(error: MemoryError) -> OutOfMemoryError:
    """The error again, with the largest arrays of the library that raised it, and what to do."""
    if isinstance(error, OutOfMemoryError):
        return error
    library: Any = sys.modules["cupy"] if type(error).__module__.startswith("cupy") else np
    groups = Counter((tuple(array.shape), str(array.dtype), array.nbytes) for array in live_arrays(library.ndarray))
    largest = sorted(groups.items(), key=lambda group: group[0][2] * group[1], reverse=True)
    lines = [
        f"\n    {count} × {shape} {dtype}, {in_words(nbytes)}" + (" each" if count > 1 else "")
        for (shape, dtype, nbytes), count in largest[:_SHOWN]
    ]
    held = f"\n  most of it is held by these arrays:{''.join(lines)}" if lines else ""
    return OutOfMemoryError(
        f"out of memory: {error}{held}\n  a smaller batch, shorter sequences or a smaller hidden size need less, and "
        "so does checkpoint_every=, with which a recurrent layer keeps fewer steps for backward"
    )


def live_arrays(kind: type) -> list[Any]:
    """The arrays of that type that anything holds, without views of them."""
    # NumPy's arrays are not among the objects that the collector knows, but what holds them is.
    found: dict[int, Any] = {}
    for thing in gc.get_objects():
        for one in (thing, *gc.get_referents(thing)):
            # By its own type: a weak proxy of something that is gone cannot be asked for another.
            if issubclass(type(one), kind) and getattr(one, "base", None) is None:
                found[id(one)] = one
    return list(found.values())


def in_words(nbytes: int) -> str:
    """A number of bytes, such as 1.5 GiB."""
    for size, unit in _UNITS:
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} bytes"
