"""The write log: which memory was written in place, and when.

A record may have saved an array that is written before backward reads it again. What was written is a range of
addresses, so the log knows neither tensors nor views: whatever looks at the same memory shares its entry. A record
keeps alive what it saved, so an overlapping write that is younger than the record went into what it saved; addresses
that are used again, once memory was freed, have older writes only. Hence nothing needs to be told to the log when
memory is freed, and a new write takes the place of what it covers, so that it holds no more than there is memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import count
from threading import Lock
from typing import Any, NamedTuple

from .backend import backend_of

#: Numbers the records of the tape and the writes of the log: one clock for both, so that they compare.
tick = count(1).__next__


class Write(NamedTuple):
    """The last write into the memory up to the address `end`: when it was, and what was written, for reports."""

    end: int
    moment: int
    name: str


class WriteLog:
    """The last write of every block of memory. `latest` is the moment of the last of all."""

    def __init__(self) -> None:
        self.latest = 0
        self._starts: list[int] = []  # of the blocks, which do not overlap, in order
        self._writes: dict[int, Write] = {}  # by the address where the block starts
        self._lock = Lock()

    def note(self, array: Any, name: str) -> None:
        """The memory of `array` has just been written."""
        start, end = backend_of(array).memory_range(array)
        if start == end:
            return
        with self._lock:
            known = self._writes.get(start)
            if known is None or known.end != end:
                self._cut(start, end)
                insort(self._starts, start)
            self.latest = tick()
            self._writes[start] = Write(end, self.latest, name)

    def mark(self) -> int:
        """Something other than memory has changed on which older records depend; the moment at which it did."""
        with self._lock:
            self.latest = tick()
            return self.latest

    def last(self, array: Any) -> Write | None:
        """The last write into any part of the memory of `array`."""
        start, end = backend_of(array).memory_range(array)
        youngest = None
        with self._lock:
            first = max(bisect_right(self._starts, start) - 1, 0)
            for place in self._starts[first : bisect_left(self._starts, end)]:
                write = self._writes[place]
                if write.end > start and (youngest is None or write.moment > youngest.moment):
                    youngest = write
        return youngest

    def _cut(self, start: int, end: int) -> None:
        """Forget what is known of the memory from `start` to `end`; blocks that reach out of it keep the rest."""
        first = bisect_left(self._starts, start)
        if first and self._writes[self._starts[first - 1]].end > start:
            place = self._starts[first - 1]
            write = self._writes[place]
            self._writes[place] = write._replace(end=start)
            if write.end > end:
                self._starts.insert(first, end)
                self._writes[end] = write
                return
        last = bisect_left(self._starts, end)
        covered = [self._writes.pop(place) for place in self._starts[first:last]]
        del self._starts[first:last]
        if covered and covered[-1].end > end:
            self._starts.insert(first, end)
            self._writes[end] = covered[-1]


#: The log of this process.
writes = WriteLog()
