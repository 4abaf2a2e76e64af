"""Stopping at a good moment when asked to by Ctrl-C or by the system."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """While the block runs, Ctrl-C (SIGINT) and SIGTERM only set `requested`; a loop looks at it between its steps.

    So no step is torn apart, and what is saved then is a state that the run really passed through. A second Ctrl-C
    does not wait: it raises KeyboardInterrupt at once. Signals belong to the main thread; in another one the block
    changes nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
