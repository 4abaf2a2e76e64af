"""Timing on machines that are shared and noisy: contestants take turns, and what counts is the ratio of their times."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


#: Calls a contestant for about so many seconds, at least once; returns the seconds of a call.
Clock = Callable[[Callable[[], object], float], float]


def on_the_host(run: Callable[[], object], turn: float) -> float:
    start, elapsed, calls = time.perf_counter(), 0.0, 0
    while not calls or elapsed < turn:
        run()
        elapsed, calls = time.perf_counter() - start, calls + 1
    return elapsed / calls


def interleaved(
    contestants: dict[str, Callable[[], object]],
    rounds: int = 15,
    turn: float = 0.0,
    pause: float = 0.0,
    clock: Clock = on_the_host,
) -> dict[str, list[float]]:
    """Seconds of a call of every contestant in every round; each has one round first that does not count.

    turn   seconds for which a contestant is called again, so that a short one is timed as it runs in a loop
    pause  seconds between turns, in which threads of the last contestant, waiting busily for more, fall asleep
    clock  how a call is timed
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    gc.collect()
    gc.freeze()  # nobody pays for looking again and again at what the others have imported
    for round_number in range(rounds + 1):
        for name, run in contestants.items():
            gc.collect()
            time.sleep(pause)
            elapsed = clock(run, turn)
            if round_number:
                seconds[name].append(elapsed)
    gc.unfreeze()
    return seconds


def ratios(times: Sequence[float], others: Sequence[float]) -> list[float]:
    """One time over the other, round by round, from the lowest to the highest."""
    return sorted(a / b for a, b in zip(times, others))


def ratio(times: Sequence[float], others: Sequence[float]) -> str:
    """One time over the other, round by round: the median, and the spread of its middle half."""
    sorted_ratios = ratios(times, others)
    low, high = sorted_ratios[len(sorted_ratios) // 4], sorted_ratios[-1 - len(sorted_ratios) // 4]
    return f"{statistics.median(sorted_ratios):.2f} ({low:.2f} to {high:.2f})"


def row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def machine(*packages: str, threads: str | None = None) -> str:
    """One line: processor, cores, versions. `threads`, if a benchmark sets their number itself."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", *packages) if installed(name)]
    threads = threads or f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'all')}"
    parts = [_processor(), f"{os.cpu_count()} cores ({threads})", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *versions])


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def report(
    name: str, title: str, command: str, lines: Sequence[str], packages: Sequence[str] = (), threads: str | None = None
) -> None:
    """Print a result and keep it under results/."""
    text = "\n".join([f"# {title}", "", f"`{command}`", "", machine(*packages, threads=threads), "", *lines, ""])
    print(text)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
