"""Stopping at a good moment when asked to by Ctrl-C or by the system."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """While the block runs, SIGINT (Ctrl-C), SIGTERM and SIGHUP only set `requested`, for a loop to look at.

    So no step is torn apart, and what is saved then is a state that the run really passed through. A second Ctrl-C
    does not wait: it raises KeyboardInterrupt at once. (The others do wait: a terminal that closes may well send two
    SIGHUPs.) A signal that is ignored, as nohup has it, stays ignored. Signals belong to the main thread; in another
    one the block changes nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's, nor to be put back
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
