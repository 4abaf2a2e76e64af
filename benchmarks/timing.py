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


def interleaved(contestants: dict[str, Callable[[], object]], rounds: int = 15) -> dict[str, list[float]]:
    """Seconds of every contestant in every round; each has one round first that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(rounds + 1):
        for name, run in contestants.items():
            gc.collect()
            start = time.perf_counter()
            run()
            elapsed = time.perf_counter() - start
            if round_number:
                seconds[name].append(elapsed)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Our time over theirs, round by round: the median, and the spread of its middle half."""
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"


def machine(*packages: str) -> str:
    """One line: processor, cores, versions."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", *packages) if _installed(name)]
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    parts = [_processor(), f"{os.cpu_count()} cores (OMP_NUM_THREADS={threads})", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *versions])


def _installed(name: str) -> bool:
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


def report(name: str, title: str, command: str, lines: Sequence[str], packages: Sequence[str] = ()) -> None:
    """Print a result and keep it under results/."""
    text = "\n".join([f"# {title}", "", f"`{command}`", "", machine(*packages), "", *lines, ""])
    print(text)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
