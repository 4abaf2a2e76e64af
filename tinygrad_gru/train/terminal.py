"""Telling on the terminal how far a run has come: a bar, plain lines, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any

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
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            return Bar(tqdm(total=total, initial=done, unit=f" {unit}", unit_scale=True, dynamic_ncols=True))
    return Lines(total, done, unit)
