"""Terminal output: a progress bar, progress lines or nothing, and streams that may be closed."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """A progress display that shows nothing; base class of the others, and of one's own (`fit(progress=…)`).

    >>> class Dots(train.Progress):
    ...     def advance(self, amount, **values):
    ...         print(".", end="")
    >>> with Dots() as display:
    ...     display.advance(1, loss=0.5)
    .
    """

    def advance(self, amount: int, **values: float) -> None:
        """Advance by `amount`, and show the `values` (loss=1.5) beside it."""

    def write(self, text: str) -> None:
        """Print `text` without disturbing the display."""

    def say(self, text: str) -> None:
        raise AttributeError("Progress.say is now called Progress.write")

    def close(self) -> None:
        """End the display."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BestEffort(Progress):
    """A wrapper that ignores failures of a progress display: output that fails is no reason to stop training.

    A closed pipe (`| head`), a full disk, a terminal that was closed: OSError, or ValueError if the stream itself is
    closed.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def advance(self, amount: int, **values: float) -> None:
        with suppress(OSError, ValueError):
            self._progress.advance(amount, **values)

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._progress.write(text)

    def close(self) -> None:
        with suppress(OSError, ValueError):
            self._progress.close()


class Bar(Progress):
    """A progress bar (tqdm's), redrawn in the last line of the terminal."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, amount: int, **values: float) -> None:
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
        self._bar.update(amount)

    def write(self, text: str) -> None:
        self._bar.write(text)

    def close(self) -> None:
        self._bar.close()


class Lines(Progress):
    """A progress line every few seconds, for a log file or a terminal without tqdm."""

    def __init__(self, total: int | None, done: int, unit: str) -> None:
        self._total, self._done, self._unit = total, done, unit
        self._initial, self._started = done, time.monotonic()
        self._printed = self._started

    def advance(self, amount: int, **values: float) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._printed < _SECONDS_BETWEEN_LINES and (self._total is None or self._done < self._total):
            return
        self._printed = now
        speed = (self._done - self._initial) / max(now - self._started, 1e-9)
        postfix = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
        line = f"{self._done:,} {self._unit}  {postfix}  {speed:,.0f} {self._unit}/s"
        if self._total is not None:
            seconds = (self._total - self._done) / speed
            line = f"{self._done / self._total:4.0%}  {line}  {seconds // 60:.0f}:{seconds % 60:02.0f} left"
        self.write(line)

    def write(self, text: str) -> None:
        print(text, flush=True)


def progress(total: int | None, done: int = 0, unit: str = "steps", quiet: bool = False) -> Progress:
    """A progress display from `done` to `total`, if that is known: a bar; lines without a terminal or tqdm; nothing if
    `quiet`.

    >>> with train.progress(100, quiet=True) as display:
    ...     display.advance(10, loss=0.5)
    """
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


def try_print(text: str, stream: TextIO | None = None) -> None:
    """Print a line to `stream` (default: stdout); ignore a stream that fails or is closed."""
    with suppress(OSError, ValueError):
        print(text, file=stream, flush=True)


def discard_unwritten(stream: TextIO) -> None:
    """Discard the buffer of a `stream` that fails, which would be an error message when Python exits."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_standard_streams() -> None:
    """Open those of stdin, stdout and stderr that are closed (`>&-`) on the null device.

    Otherwise the next file would get one of their descriptors, and libraries would print into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  (open as long as the program runs)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
