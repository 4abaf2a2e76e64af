"""The write log: which memory was written in place, and when; and the check of saved arrays against it.

A record may have saved an array that is written before backward reads it. A write is a range of addresses, so the log
knows neither tensors nor views: all views of the same memory share its entry. A record keeps what it saved alive, so
an overlapping write that is younger than the record went into what it saved; where addresses are used again, once
memory was freed, their writes are older. Hence freed memory needs no removal from the log, and a new write replaces
the entries that it covers, so the log never holds more entries than there is memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence, Set
from itertools import count
from threading import Lock
from typing import Any, NamedTuple

from .backend import backend_of

#: The logical clock of this process: it numbers the records of the tape and the writes of the log, so they compare.
tick = count(1).__next__


class Write(NamedTuple):
    """The last write into the memory up to the address `end`: its time, and the name of the tensor, for reports."""

    end: int
    time: int
    name: str


class WriteLog:
    """The last write into each block of memory. `latest` is the time of the youngest."""

    def __init__(self) -> None:
        self.latest = 0
        self._starts: list[int] = []  # of the blocks, which do not overlap, in order
        self._writes: dict[int, Write] = {}  # by the address where the block starts
        self._lock = Lock()

    def add(self, array: Any, name: str) -> None:
        """Log a write that has just been made into the memory of `array`."""
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

    def add_redefinition(self) -> int:
        """Log that an op was redefined, so that the next backward checks its records; returns the time."""
        with self._lock:
            self.latest = tick()
            return self.latest

    def last(self, array: Any) -> Write | None:
        """The last write into any part of the memory of `array`."""
        start, end = backend_of(array).memory_range(array)
        youngest = None
        with self._lock:
            first = max(bisect_right(self._starts, start) - 1, 0)
            for block in self._starts[first : bisect_left(self._starts, end)]:
                write = self._writes[block]
                if write.end > start and (youngest is None or write.time > youngest.time):
                    youngest = write
        return youngest

    def _cut(self, start: int, end: int) -> None:
        """Remove the entries of the memory from `start` to `end`; blocks that extend beyond it keep the rest."""
        first = bisect_left(self._starts, start)
        if first and self._writes[self._starts[first - 1]].end > start:
            block = self._starts[first - 1]
            write = self._writes[block]
            self._writes[block] = write._replace(end=start)
            if write.end > end:
                self._starts.insert(first, end)
                self._writes[end] = write
                return
        last = bisect_left(self._starts, end)
        covered = [self._writes.pop(block) for block in self._starts[first:last]]
        del self._starts[first:last]
        if covered and covered[-1].end > end:
            self._starts.insert(first, end)
            self._writes[end] = covered[-1]


#: The log of this process.
writes = WriteLog()


def stale_record(records: Sequence[Any], path: Set[Any] | None) -> str | None:
    """The reason why backward through these records would give wrong gradients, None if there is none.

    A record (on the `path`, if given) is stale if an array that it saved was written after it ran, or if its op was
    given other rules since. While no write is younger than the oldest record, none is looked at.
    """
    if not records or writes.latest < records[0].number:
        return None
    known: dict[int, Write | None] = {}  # by id of the array: what one op returns is often saved by the next as well
    for record in records:
        if path is not None and path.isdisjoint(record.parents):
            continue
        if getattr(record.op, "redefined", 0) > record.number:
            return f"{record.op.__name__} was given other rules after {record!r} ran: run it again with them"
        for array in arrays_in(record.saved):
            if id(array) not in known:
                known[id(array)] = writes.last(array)
            write = known[id(array)]
            if write is not None and write.time > record.number:
                return (
                    f"{write.name} was changed in place after {record!r} had saved it, so that gradients would be "
                    "wrong: change it after backward (an optimiser's step, too), or make a new one"
                )
    return None


def arrays_in(saved: Any) -> Iterator[Any]:
    """The arrays that a record has saved, alone or in tuples, lists and dictionaries."""
    if isinstance(saved, (tuple, list)):
        for part in saved:
            yield from arrays_in(part)
    elif isinstance(saved, dict):
        yield from arrays_in(list(saved.values()))
    elif hasattr(saved, "dtype") and hasattr(saved, "shape"):
        yield saved
