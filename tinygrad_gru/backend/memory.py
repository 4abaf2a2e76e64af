"""Memory of a device: reports, the pool of idle workspaces, and errors that say which arrays fill it."""

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
    """Out of memory: the message lists the largest arrays, and what would need less."""


class MemoryReport(NamedTuple):
    """Bytes of memory: `used` by arrays, `held` by the allocator's pool (used ones included), `free` and `total` on the
    device, and the `limit` of the pool, None without one. Prints as a sentence.

    Held memory that is not used serves new arrays; it is not free for other programs. `idle` are the bytes of arrays,
    on any device, that recurrences keep for their next pass.
    """

    backend: str
    used: int
    held: int
    free: int
    total: int
    limit: int | None
    idle: int = 0

    def __str__(self) -> str:
        idle = f"; recurrences keep {format_bytes(self.idle)} for their next pass" if self.idle else ""
        limit = "" if self.limit is None else f", of at most {format_bytes(self.limit)}"
        used, held, free, total = map(format_bytes, (self.used, self.held, self.free, self.total))
        return (
            f"{self.backend}: arrays use {used} of the {held} held for them{limit}; "
            f"{free} of {total} on the device are free{idle}"
        )


class IdlePool:
    """A pool of idle objects: each is released under a key and acquired by it again.

    It holds at most `entries` objects and, unless there is only one, `limit` bytes; the oldest are evicted first.
    """

    def __init__(self, entries: int, limit: int):
        self.entries, self.limit, self.bytes = entries, limit, 0
        self.lock = RLock()  # reentrant: a release may run while it is held, when memory is freed
        self._idle: OrderedDict[tuple[Hashable, int], tuple[Any, int]] = OrderedDict()  # the same key several times
        self._numbers: dict[Hashable, list[int]] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._idle)

    def acquire(self, key: Hashable) -> Any:
        """The object that was last released under that key; None if there is none."""
        with self.lock:
            numbers = self._numbers.get(key)
            return self._remove(key, numbers[-1]) if numbers else None

    def release(self, key: Hashable, entry: Any, nbytes: int) -> None:
        """Put an object of that size into the pool."""
        with self.lock:
            self._next += 1
            self._idle[key, self._next] = entry, nbytes
            self._numbers.setdefault(key, []).append(self._next)
            self.bytes += nbytes
            while len(self._idle) > self.entries or (len(self._idle) > 1 and self.bytes > self.limit):
                self._remove(*next(iter(self._idle)))

    def clear(self) -> None:
        """Drop all idle objects."""
        with self.lock:
            while self._idle:
                self._remove(*next(iter(self._idle)))

    def _remove(self, key: Hashable, number: int) -> Any:
        entry, nbytes = self._idle.pop((key, number))
        self.bytes -= nbytes
        numbers = self._numbers[key]
        numbers.remove(number)
        if not numbers:
            del self._numbers[key]
        return entry

    def allocate(self, make: Callable[[], T]) -> T:
        """`make()`; where memory runs out, once more after the pool is cleared."""
        try:
            return make()
        except MemoryError:
            if not self._idle:
                raise
            self.clear()
            return make()


def host_memory() -> tuple[int, int, int | None]:
    """Bytes of free memory, of all memory, and the limit of this process (None without one)."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        free = total = 2**32
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource is not None else -1
    return free, total, None if resource is None or limit == resource.RLIM_INFINITY else limit


def _idle_limit() -> int:
    """An eighth of the memory, at most 2 GiB."""
    _, total, limit = host_memory()
    return min(2**31, (total if limit is None else min(total, limit)) // 8)


#: Workspaces that recurrences keep for their next pass.
IDLE_POOL = IdlePool(256, _idle_limit())


def with_memory_report(error: MemoryError) -> OutOfMemoryError:
    """The error as one that lists the largest arrays of the library that raised it, and says what would need less."""
    if isinstance(error, OutOfMemoryError):
        return error
    IDLE_POOL.clear()
    library: Any = sys.modules["cupy"] if type(error).__module__.startswith("cupy") else np
    groups = Counter((tuple(array.shape), str(array.dtype), array.nbytes) for array in live_arrays(library.ndarray))
    largest = sorted(groups.items(), key=lambda group: group[0][2] * group[1], reverse=True)
    lines = [
        f"\n    {count} × {shape} {dtype}, {format_bytes(nbytes)}" + (" each" if count > 1 else "")
        for (shape, dtype, nbytes), count in largest[:_SHOWN]
    ]
    held = f"\n  most of it is held by these arrays:{''.join(lines)}" if lines else ""
    return OutOfMemoryError(
        f"out of memory: {error}{held}\n  a smaller batch, shorter sequences or a smaller hidden size need less, and "
        "so does checkpoint_every=, with which a recurrent layer keeps fewer steps for backward"
    )


def live_arrays(array_type: type) -> list[Any]:
    """The arrays of that type that are alive, without views of them."""
    # NumPy's arrays are not tracked by the garbage collector, but what refers to them is.
    found: dict[int, Any] = {}
    for tracked in gc.get_objects():
        for candidate in (tracked, *gc.get_referents(tracked)):
            # type(), not __class__: a weak proxy of an object that is gone raises.
            if issubclass(type(candidate), array_type) and getattr(candidate, "base", None) is None:
                found[id(candidate)] = candidate
    return list(found.values())


def format_bytes(nbytes: int) -> str:
    """A number of bytes as text, such as 1.5 GiB."""
    for size, unit in _UNITS:
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} bytes"
