"""Notes of what is asked of a device: copies, waits, launches. Backends make them where they do such a thing.

Nobody reads them most of the time, and a note then costs the reading of one context variable. `sanitize` reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

TO_HOST, TO_DEVICE, WAIT, LAUNCH = "copy to host", "copy to device", "wait", "launch"
#: A copy to the host that comes along with another one, for which the host waits.
ALONGSIDE = "copy alongside"
#: A value of NumPy's was taken as one: with a GPU it would have been a copy to the host.
HOST_READ = "read"

#: Takes every note while it is set: its kind, what it is about, how many times, how many bytes.
event_listener: ContextVar[Callable[[str, str, int, int], None] | None] = ContextVar("reader", default=None)


def record_event(kind: str, name: str, count: int = 1, nbytes: int = 0) -> None:
    """Something of that kind was done."""
    take = event_listener.get()
    if take is not None:
        take(kind, name, count, nbytes)


def record_launches(count: int, name: str) -> None:
    """`count` kernels were launched for `name`."""
    record_event(LAUNCH, name, count)


def record_upload(value: Any) -> None:
    """The host gave a value to the device."""
    if event_listener.get() is not None:
        host = np.asarray(value)
        # A single number needs no copy: it is an argument of the kernel that fills an array with it.
        record_event(TO_DEVICE if host.ndim else LAUNCH, "asarray", nbytes=host.nbytes)
