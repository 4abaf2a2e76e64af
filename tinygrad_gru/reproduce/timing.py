"""Time per training step of several models, interleaved, so that what else the machine does meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

_SECONDS = 0.02  # of a measurement
_WARM_UP = 3


class StepTime(NamedTuple):
    """Seconds per training step: the median and the least of some rounds, and the median ratio to the reference.

    >>> reproduce.StepTime(2e-3, 1.8e-3, 1.0).median
    0.002
    """

    median: float
    least: float
    ratio: float


def step_times(steps: Mapping[str, Callable[[], object]], reference: str, seconds: float = 5.0) -> dict[str, StepTime]:
    """Seconds per call of each function, measured in turns for so many seconds altogether, at least three rounds.

    The ratio of each to the reference is the median of those of the rounds, in which they ran one after the other.

    >>> times = reproduce.step_times({"one": lambda: sum(range(99)), "ten": lambda: sum(range(990))}, "one", 0.1)
    >>> times["ten"].ratio > 1
    True
    """
    calls = {}
    for name, step in steps.items():
        for _ in range(_WARM_UP):
            step()
        calls[name] = max(1, round(_SECONDS / max(_seconds(step, 1), 1e-9)))
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds[reference]) < 3:
        for name, step in steps.items():
            rounds[name].append(_seconds(step, calls[name]))
    return {
        name: StepTime(
            statistics.median(found),
            min(found),
            statistics.median(own / other for own, other in zip(found, rounds[reference])),
        )
        for name, found in rounds.items()
    }


def _seconds(step: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - began) / calls
