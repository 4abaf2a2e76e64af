"""How much memory a device has, and who holds it when there is none left."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any, NamedTuple, TypeVar

import numpy as np

try:  # not on Windows
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

T = TypeVar("T")

_SHOWN = 5
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


class OutOfMemoryError(MemoryError):
    """There is no memory left; the message says what holds most of it, and what would need less."""


class MemoryReport(NamedTuple):
    """Bytes of memory: `used` by arrays, `held` by the pool that they come from (the used ones among them), `free` and
    `total` on the device, and the `limit` of what the pool may hold, None without one. Prints as a sentence.

    What is held and not used will be used for new arrays; it is not free for other programs. `idle` are the bytes of
    arrays, on any device, that recurrences keep for their next pass.
    """

    backend: str
    used: int
    held: int
    free: int
    total: int
    limit: int | None
    idle: int = 0

    def __str__(self) -> str:
        idle = f"; recurrences keep {in_words(self.idle)} for their next pass" if self.idle else ""
        limit = "" if self.limit is None else f", of at most {in_words(self.limit)}"
        return (
            f"{self.backend}: arrays use {in_words(self.used)} of the {in_words(self.held)} held for them{limit}; "
            f"{in_words(self.free)} of {in_words(self.total)} on the device are free{idle}"
        )


class IdleMemory:
    """What is kept to be used again, by a key that says for what, and how many bytes each takes.

    Of all together at most so many things, and at most `limit` bytes, unless there is but one; what was given back
    longest ago is let go.
    """

    def __init__(self, things: int, limit: int):
        self.things, self.limit, self.bytes = things, limit, 0
        self.lock = RLock()  # taken again where memory is freed while it is held
        self._kept: OrderedDict[tuple[Hashable, int], tuple[Any, int]] = OrderedDict()  # the same key several times
        self._numbers: dict[Hashable, list[int]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, key: Hashable) -> Any:
        """Something that was kept for that, the last that was given back; None if there is nothing."""
        with self.lock:
            numbers = self._numbers.get(key)
            return self._remove(key, numbers[-1]) if numbers else None

    def give_back(self, key: Hashable, thing: Any, nbytes: int) -> None:
        with self.lock:
            self._next += 1
            self._kept[key, self._next] = thing, nbytes
            self._numbers.setdefault(key, []).append(self._next)
            self.bytes += nbytes
            while len(self._kept) > self.things or (len(self._kept) > 1 and self.bytes > self.limit):
                self._remove(*next(iter(self._kept)))

    def release(self) -> None:
        """Let go of everything."""
        with self.lock:
            while self._kept:
                self._remove(*next(iter(self._kept)))

    def _remove(self, key: Hashable, number: int) -> Any:
        thing, nbytes = self._kept.pop((key, number))
        self.bytes -= nbytes
        numbers = self._numbers[key]
        numbers.remove(number)
        if not numbers:
            del self._numbers[key]
        return thing

    def made(self, make: Callable[[], T]) -> T:
        """What `make` makes; if memory runs out, once more without what is idle."""
        try:
            return make()
        except MemoryError:
            if not self._kept:
                raise
            self.release()
            return make()


def host_memory() -> tuple[int, int, int | None]:
    """Bytes of memory that are free, that there are, and that this process may take (None: all)."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        free = total = 2**32
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource is not None else -1
    return free, total, None if resource is None or limit == resource.RLIM_INFINITY else limit


def _idle_limit() -> int:
    """An eighth of the memory, and not more than 2 GiB."""
    _, total, limit = host_memory()
    return min(2**31, (total if limit is None else min(total, limit)) // 8)


#: What recurrences keep for their next pass.
IDLE = IdleMemory(256, _idle_limit())


def with_memory_report(error: MemoryError) -> OutOfMemoryError:
    """The error again, with the largest arrays of the library that raised it, and what to do."""
    if isinstance(error, OutOfMemoryError):
        return error
    IDLE.release()
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
