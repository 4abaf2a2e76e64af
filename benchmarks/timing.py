"""Timing on shared, noisy machines: interleaved measurements, whose ratios are compared round by round."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tinygrad_gru.native.cores import processor

RESULTS = Path(__file__).parent / "results"

#: A clock calls a function, at least once, for about a number of seconds; it returns the seconds per call.
Clock = Callable[[Callable[[], object], float], float]


def wall_clock(run: Callable[[], object], min_run_time: float) -> float:
    start, elapsed, calls = time.perf_counter(), 0.0, 0
    while not calls or elapsed < min_run_time:
        run()
        elapsed, calls = time.perf_counter() - start, calls + 1
    return elapsed / calls


def interleaved(
    runs: dict[str, Callable[[], object]],
    rounds: int = 15,
    min_run_time: float = 0.0,
    pause: float = 0.0,
    clock: Clock = wall_clock,
) -> dict[str, list[float]]:
    """Seconds per call of every function in every round, after a warm-up round; the functions take turns.

    min_run_time  seconds for which a function is called repeatedly, so that a short one is timed in a loop
    pause         seconds between turns, in which busy-waiting threads of the last function fall asleep
    clock         the function that times calls
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.freeze()  # so that no run pays for traversing what the others have imported
    for round_number in range(rounds + 1):
        for name, run in runs.items():
            gc.collect()
            time.sleep(pause)
            elapsed = clock(run, min_run_time)
            if round_number:
                seconds[name].append(elapsed)
    gc.unfreeze()
    return seconds


def ratios(times: Sequence[float], others: Sequence[float]) -> list[float]:
    """Ratios of times, round by round, sorted."""
    return sorted(a / b for a, b in zip(times, others))


def ratio(times: Sequence[float], others: Sequence[float]) -> str:
    """The ratio of times, round by round: the median and the interquartile range."""
    sorted_ratios = ratios(times, others)
    low, high = sorted_ratios[len(sorted_ratios) // 4], sorted_ratios[-1 - len(sorted_ratios) // 4]
    return f"{statistics.median(sorted_ratios):.2f} ({low:.2f} to {high:.2f})"


def row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def machine(*packages: str, threads: str | None = None) -> str:
    """One line: processor, cores, versions. `threads` if a benchmark sets their number itself."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", *packages) if installed(name)]
    threads = threads or f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'all')}"
    parts = [processor(), f"{os.cpu_count()} cores ({threads})", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *versions])


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def report(
    name: str, title: str, command: str, lines: Sequence[str], packages: Sequence[str] = (), threads: str | None = None
) -> None:
    """Print a result and write it to results/."""
    text = "\n".join([f"# {title}", "", f"`{command}`", "", machine(*packages, threads=threads), "", *lines, ""])
    print(text)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
