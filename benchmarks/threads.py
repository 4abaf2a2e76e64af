"""Threads: training steps on an idle and on a busy machine, by the threads of BLAS and of the compiled loop.

`--quick` measures few steps and writes no results.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tinygrad_gru.train import TextRun, TextSettings

from .processes import thread_limits
from .timing import report, row

COMMAND = "python -m benchmarks.threads"
#: Threads of BLAS by the environment, by the names of columns; None sets nothing.
SETTINGS = {"nothing set": None, "OMP_NUM_THREADS=1": 1, "OMP_NUM_THREADS=2": 2}
EXPLANATION = """\
A training step of the main job, in ms, minimum and median, each setting in a process of its own. Where nothing is set
products of fewer than 2²⁸ multiply-adds have one thread of OpenBLAS, larger ones all (`native/blas.py`); a number in
the environment is for all products. "llvm:2" runs the loop over the steps in two threads of ours. The second table has
a process more that computes all the time."""


@contextmanager
def burners(count: int) -> Iterator[None]:
    """So many processes that compute."""
    loop = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(loop) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def steps(hidden: int, compiled: str, seconds: float) -> None:
    """Print the minimum and the median of a training step. Runs in a child process."""
    step = TextRun(TextSettings(hidden=hidden, compiled=compiled)).trainer.step
    step()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    print(f"{min(times):.0f}, {statistics.median(times):.0f}")


def measured(hidden: int, compiled: str, threads: int | None, seconds: float) -> str:
    limits = thread_limits(threads or 1)
    environment = {name: value for name, value in os.environ.items() if name not in limits}
    call = f"from benchmarks.threads import steps; steps({hidden}, {compiled!r}, {seconds})"
    command = [sys.executable, "-c", call]
    env = environment | (limits if threads else {})
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main(quick: bool = False) -> None:
    lines = [EXPLANATION]
    for count, heading, widths in ((0, "As it is", (192, 512)), (1, "One busy process more", (192,))):
        lines += ["", f"## {heading}, load average {os.getloadavg()[0]:.1f}", ""]
        lines += [row(["hidden, target", *SETTINGS]), row(["---"] * (1 + len(SETTINGS)))]
        with burners(count):
            for hidden in widths:
                for compiled in ("numpy", "llvm", "llvm:2"):
                    cells = [measured(hidden, compiled, n, 0.3 if quick else 1.5) for n in SETTINGS.values()]
                    lines.append(row([f"{hidden}, {compiled}", *cells]))
                    print(lines[-1], flush=True)
    if not quick:
        report("threads", "Threads", COMMAND, lines, ["llvmlite"], "2 cores")


if __name__ == "__main__":
    main("--quick" in sys.argv)
