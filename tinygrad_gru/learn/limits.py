"""A time limit for code that may never end."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from types import TracebackType


class TimeUp(BaseException):
    """The time limit is over. No Exception, so that `except Exception` in the code that ran does not catch it."""


class TimeLimit:
    """A block that raises TimeUp where it is, if it runs longer than some seconds.

    It works on all systems, for code in Python. A call into C that never returns, or code that catches TimeUp and
    goes on, ends the process with status 1 and a message, after as many seconds again.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._fired = False

    def __enter__(self) -> None:
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            with self._lock:
                self._done.set()
            if self._fired and kind is not TimeUp:  # it is on its way
                while True:
                    time.sleep(0.001)
        finally:
            self._done.set()

    def _wait(self) -> None:
        if self._done.wait(self._seconds):
            return
        with self._lock:
            if self._done.is_set():
                return
            self._fired = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(TimeUp))
        if not self._done.wait(self._seconds):
            text = f"\nerror: it did not end within {2 * self._seconds:g} seconds: is there an endless loop?"
            print(end="", file=sys.__stdout__, flush=True)
            print(text, file=sys.__stderr__, flush=True)
            os._exit(1)
