"""Deferred index checks: kernels check indices on the GPU, and the next copy to the host raises the error.

To read an index, the host would have to wait for the device, at every step of a training. So a kernel reads it and
stores an index that is out of bounds; its error is raised when the host next waits for a value in any case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import Any

import numpy as np

from ...contexts import block, setting
from ..events import ALONGSIDE, WAIT, record_event, record_launches

#: The most different messages that can be pending.
SLOTS = 256
ENVIRONMENT_VARIABLE = "TINYGRAD_GRU_IMMEDIATE_CHECKS"
_immediate: ContextVar[bool | None] = ContextVar("immediate", default=None)


@block
def immediate_checks(on: bool = True) -> Iterator[None]:
    """A block in which an index that is out of bounds raises at once, also on a GPU, for which every op then waits.

    The environment variable TINYGRAD_GRU_IMMEDIATE_CHECKS=1 does the same for a whole program.
    """
    with setting(_immediate, on):
        yield


def checks_are_immediate() -> bool:
    immediate = _immediate.get()
    return os.environ.get(ENVIRONMENT_VARIABLE, "") not in ("", "0") if immediate is None else immediate


class DeferredIndexChecks:
    """The pending index checks of a GPU.

    Every message has a slot in an array on the device, where a check stores an index that is out of bounds. A slot is
    0 otherwise, which no check stores: axes without elements are checked on the host. What CuPy does with an index that
    is out of bounds is harmless: it wraps around.
    """

    def __init__(self, cupy: Any):
        self._kernel = cupy.ElementwiseKernel(
            "T index, int64 low, int64 high, int64 slot",
            "raw int64 wrong",
            "if ((long long)index < low || (long long)index >= high) wrong[slot] = index;",
            "check_index",
        )
        self._wrong = cupy.zeros(SLOTS, np.int64)
        # Pinned, for copies to other memory are synchronous.
        self._found = np.frombuffer(cupy.cuda.alloc_pinned_memory(self._wrong.nbytes), np.int64, SLOTS)
        self._slots: dict[str, int] = {}
        self._lock = RLock()
        self._open = False  # whether there were checks since the last copy

    def check(self, index: Any, low: int, high: int, message: str) -> None:
        """Check on the device that low ≤ index < high, where low < high."""
        with self._lock:
            if message not in self._slots and len(self._slots) == SLOTS:
                self._make_room()
            slot = self._slots.setdefault(message, len(self._slots))
            self._kernel(index, low, high, slot, self._wrong)
            self._open = True
        record_launches(1, "check of an index")

    @contextmanager
    def raise_after(self) -> Iterator[None]:
        """A block in which the host waits for the device. After it IndexError is raised if an index was out of bounds.

        The slots are copied before the block, asynchronously, and have arrived when it ends.
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
        """Raise IndexError if an index was out of bounds, with the message of the first slot, and reset all slots."""
        with self._lock:
            found = [(text, int(self._found[slot])) for text, slot in self._slots.items() if self._found[slot]]
            if not found:
                return
            self._found[:] = 0
            self._wrong.fill(0)
        message, bad = found[0]
        raise IndexError(
            f"{message.format(bad)}; the GPU found it in an op before this one: to see in which, run it again under "
            f"detect_anomaly(), or with {ENVIRONMENT_VARIABLE}=1"
        )
