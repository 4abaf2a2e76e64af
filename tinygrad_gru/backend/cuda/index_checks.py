"""Checks of indices that a device makes while the host goes on.

To look at an index, the host would have to wait until the device has come to it, at every step of a training. So a
kernel looks, and keeps what is wrong. The host learns of it when it next fetches a value, for which it waits anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any

import numpy as np

from ...contexts import block
from ..events import ALONGSIDE, WAIT, record_event, record_launches

#: How many kinds of checks, told apart by what they would complain of, can wait for the host at a time.
SLOTS = 256
ENVIRONMENT_VARIABLE = "TINYGRAD_GRU_IMMEDIATE_CHECKS"
_immediate: ContextVar[bool | None] = ContextVar("immediate", default=None)


@block
def immediate_checks(on: bool = True) -> Iterator[None]:
    """In this block an index that points outside is an error at once, also on a GPU, which is waited for at every op.

    The environment variable TINYGRAD_GRU_IMMEDIATE_CHECKS=1 says the same of a whole program.
    """
    token = _immediate.set(on)
    try:
        yield
    finally:
        _immediate.reset(token)


def checks_are_immediate() -> bool:
    chosen = _immediate.get()
    return os.environ.get(ENVIRONMENT_VARIABLE, "") not in ("", "0") if chosen is None else chosen


class DeferredIndexChecks:
    """What the checks on one GPU have found.

    Every kind of check has a slot in an array on the device, where a wrong index is kept if there was one. A slot holds
    0 otherwise, which no check finds wrong: an axis without elements is dealt with on the host. What CuPy itself does
    with a wrong index is harmless, it goes round to the other end of the axis.
    """

    def __init__(self, cupy: Any):
        self._kernel = cupy.ElementwiseKernel(
            "T index, int64 low, int64 high, int64 slot",
            "raw int64 wrong",
            "if ((long long)index < low || (long long)index >= high) wrong[slot] = index;",
            "check_index",
        )
        self._wrong = cupy.zeros(SLOTS, np.int64)
        # Pinned, for only to such memory does a copy go while the host goes on.
        self._found = np.frombuffer(cupy.cuda.alloc_pinned_memory(self._wrong.nbytes), np.int64, SLOTS)
        self._slots: dict[str, int] = {}
        self._lock = RLock()
        self._open = False  # whether there were checks since the host last looked

    def check(self, index: Any, low: int, high: int, complaint: str) -> None:
        """Let the device look for an index outside of low … high − 1; there must be numbers that are inside."""
        with self._lock:
            if complaint not in self._slots and len(self._slots) == SLOTS:
                self._make_room()
            slot = self._slots.setdefault(complaint, len(self._slots))
            self._kernel(index, low, high, slot, self._wrong)
            self._open = True
        record_launches(1, "check of an index")

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Around something for which the host waits: IndexError is raised after it if an index has been wrong.

        What the checks found comes along with what is fetched, in a copy of its own for which nobody waits.
        """
        if not self._open:
            yield
            return
        self._open = False
        self._wrong.get(out=self._found, blocking=False)
        record_event(ALONGSIDE, "check of an index", nbytes=self._found.nbytes)
        yield
        self._raise()

    def _make_room(self) -> None:
        self._wrong.get(out=self._found)
        record_event(WAIT, "check of an index")
        self._raise()
        self._slots.clear()

    def _raise(self) -> None:
        """Raise IndexError if a wrong index was found, the first of its kind, and forget them all."""
        with self._lock:
            found = [(text, int(self._found[slot])) for text, slot in self._slots.items() if self._found[slot]]
            if not found:
                return
            self._found[:] = 0
            self._wrong.fill(0)
        complaint, bad = found[0]
        raise IndexError(
            f"{complaint.format(bad)}; the GPU found it in an op before this one: to see in which, run it again under "
            f"detect_anomaly(), or with {ENVIRONMENT_VARIABLE}=1"
        )
