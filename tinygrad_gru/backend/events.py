"""Device events: copies, waits and launches, recorded by the backends for a listener.

`debug.sanitize` listens. Without a listener an event costs the lookup of one context variable.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

TO_HOST, TO_DEVICE, WAIT, LAUNCH = "copy to host", "copy to device", "wait", "launch"
#: A copy to the host beside another one, for which the host waits in any case.
ALONGSIDE = "copy alongside"
#: A read of a NumPy array: on a GPU it would have been a copy to the host.
HOST_READ = "read"

#: Called with the kind, name, count and bytes of every event while it is set.
event_listener: ContextVar[Callable[[str, str, int, int], None] | None] = ContextVar("event_listener", default=None)


def record_event(kind: str, name: str, count: int = 1, nbytes: int = 0) -> None:
    """Record `count` events of a kind."""
    listener = event_listener.get()
    if listener is not None:
        listener(kind, name, count, nbytes)


def record_launches(count: int, name: str) -> None:
    """Record the launch of `count` kernels for `name`."""
    listener = event_listener.get()  # as in `record_event`, without a call of it in hot paths
    if listener is not None:
        listener(LAUNCH, name, count, 0)


def record_upload(value: Any) -> None:
    """Record the copy of a host value to the device."""
    if event_listener.get() is not None:
        host = np.asarray(value)
        # A scalar is not copied: it is an argument of the kernel that fills an array with it.
        record_event(TO_DEVICE if host.ndim else LAUNCH, "asarray", nbytes=host.nbytes)
