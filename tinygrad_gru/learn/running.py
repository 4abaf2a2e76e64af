"""Run a learner's code, which may fail, print, change its inputs, or never end."""

from __future__ import annotations

import contextvars
import copy
import ctypes
import io
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compare import difference

SECONDS_TO_STOP = 0.2
WAITING = 3  # times the limit, for code that waits, or on a machine that is busy


class TimeUp(BaseException):
    """The time limit is over. No Exception, so that `except Exception` in the code that ran does not catch it."""


@dataclass
class Outcome:
    """What code did: its value, or what it raised; what it printed; the positions of the inputs that it changed."""

    value: Any = None
    raised: BaseException | None = None
    printed: str = ""
    changed: Sequence[int] = ()


def attempt(function: Callable[..., Any], inputs: Sequence[Any], seconds: float | None = None) -> Outcome:
    """Call a function on copies of the inputs, without warnings, and within a time limit if there is one.

    The limit is one of processor time, and three times that of any time. With it, the function runs in a thread of its
    own. If that does not end in time, TimeUp is raised in it; and if this does
    not end it, as in a call into C, it is left alone: it ends with the process.
    """
    copies, printed, outcome = copy.deepcopy(inputs), io.StringIO(), Outcome()

    def call() -> None:
        try:
            with np.errstate(all="ignore"):
                outcome.value = function(*copies)
        except BaseException as error:  # SystemExit too
            outcome.raised = error

    with redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if seconds is None:
            call()
        elif not _ends(call, seconds):
            return Outcome(raised=TimeUp(), printed=printed.getvalue())
    if isinstance(outcome.raised, KeyboardInterrupt):
        raise outcome.raised
    outcome.printed = printed.getvalue()
    outcome.changed = [i for i, pair in enumerate(zip(inputs, copies)) if difference(*pair, rtol=0.0, atol=0.0)]
    return outcome


def _ends(call: Callable[[], None], seconds: float) -> bool:
    """Call a function in a thread; whether it ended, by itself or by TimeUp."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(call,), daemon=True)
    started, used = time.monotonic(), time.process_time()
    thread.start()
    try:
        thread.join(seconds)
        while (
            thread.is_alive()
            and time.process_time() - used < seconds
            and time.monotonic() - started < WAITING * seconds
        ):
            thread.join(0.05)
    finally:  # Ctrl-C comes here, too
        if thread.is_alive():
            ident, error = ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeUp)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)  # at its next instruction in Python
            thread.join(SECONDS_TO_STOP)
    return not thread.is_alive()


def line_of(error: BaseException, path: str | None) -> str:
    """The last line of the learner's file that an error came by, if any."""
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return f"\n    line {lines[-1].lineno}: {lines[-1].line}" if lines else ""
