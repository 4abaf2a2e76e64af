"""Telling on the terminal how far a run has come: a bar, plain lines, or nothing."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Shows nothing; what the displays below have in common."""

    def advance(self, amount: int, **figures: float) -> None:
        """`amount` more is done; `figures` are worth showing beside it."""

    def say(self, text: str) -> None:
        """Print `text` without disturbing the display."""

    def close(self) -> None:
        """Nothing more is to come."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Guarded(Progress):
    """Another display whose failures are passed over: output that fails is no reason to stop what it tells of.

    A reader that reads no further (`| head`), a full disk, a terminal that was closed: OSError, or ValueError where the
    stream itself is closed.
    """

    def __init__(self, display: Progress) -> None:
        self._display = display

    def advance(self, amount: int, **figures: float) -> None:
        with suppress(OSError, ValueError):
            self._display.advance(amount, **figures)

    def say(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._display.say(text)

    def close(self) -> None:
        with suppress(OSError, ValueError):
            self._display.close()


class Bar(Progress):
    """A bar that is drawn again and again in the last line of the terminal (tqdm's)."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, amount: int, **figures: float) -> None:
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
        self._bar.update(amount)

    def say(self, text: str) -> None:
        self._bar.write(text)

    def close(self) -> None:
        self._bar.close()


class Lines(Progress):
    """A line every few seconds, for a log file or a terminal without tqdm."""

    def __init__(self, total: int, done: int, unit: str) -> None:
        self._total, self._done, self._unit = total, done, unit
        self._first, self._began = done, time.monotonic()
        self._shown = self._began

    def advance(self, amount: int, **figures: float) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._shown < _SECONDS_BETWEEN_LINES and self._done < self._total:
            return
        self._shown = now
        speed = (self._done - self._first) / max(now - self._began, 1e-9)
        left = (self._total - self._done) / speed
        shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        self.say(
            f"{self._done / self._total:4.0%}  {self._done:,} {self._unit}  {shown}  "
            f"{speed:,.0f} {self._unit}/s  {left // 60:.0f}:{left % 60:02.0f} left"
        )

    def say(self, text: str) -> None:
        print(text, flush=True)


def progress(total: int, done: int = 0, unit: str = "characters", quiet: bool = False) -> Progress:
    """A display that goes from `done` to `total`: lines where there is no terminal or no tqdm, and none if `quiet`."""
    if quiet:
        return Progress()
    if sys.stderr is not None and sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            return Bar(tqdm(total=total, initial=done, unit=f" {unit}", unit_scale=True, dynamic_ncols=True))
    return Lines(total, done, unit)


def tell(text: str, stream: TextIO | None = None) -> None:
    """Print a line to `stream` (default: stdout), if it can be printed."""
    with suppress(OSError, ValueError):
        print(text, file=stream, flush=True)


def discard_unwritten(stream: TextIO) -> None:
    """Let go of what `stream` could not write, at which Python would complain when it exits."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_standard_streams() -> None:
    """Open to nothing what is closed of stdin, stdout and stderr (`>&-`).

    A file would be opened by their numbers otherwise, and libraries would print into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (as open as the program runs)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
