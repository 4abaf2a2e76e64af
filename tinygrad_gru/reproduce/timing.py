"""Time per training step of several models, interleaved, so that what else the machine does meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

SECONDS = 5.0  # of the measurements of a task
_SECONDS = 0.02  # of one of them
_WARM_UP = 3


class StepTime(NamedTuple):
    """Seconds per training step: the median and the least of some rounds; the ratio to a reference, round by round.

    The ratio has its median and its quartiles.

    >>> reproduce.StepTime(2e-3, 1.8e-3, 0.9, 0.88, 0.93).ratio
    0.9
    """

    median: float
    least: float
    ratio: float
    ratio_low: float
    ratio_high: float


def step_times(
    steps: Mapping[str, Callable[[], object]], reference: str, seconds: float = SECONDS
) -> dict[str, StepTime]:
    """Seconds per call of each function, measured in turns for so many seconds altogether, at least three rounds.

    The ratio of each to the reference is that within a round, where they ran one after the other.

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
    times = {}
    for name, found in rounds.items():
        low, middle, high = statistics.quantiles(own / other for own, other in zip(found, rounds[reference]))
        times[name] = StepTime(statistics.median(found), min(found), middle, low, high)
    return times


def _seconds(step: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - began) / calls
