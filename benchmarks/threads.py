"""Threads: passes and training steps beside PyTorch's, with one thread and with two, on an idle and on a busy machine.

`--quick` measures few rounds and writes no results.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tinygrad_gru.train import TextRun, TextSettings

from .peers import Case, in_modes, pytorch
from .processes import PAUSE
from .timing import interleaved, ratio, report, row
from .training_step import pytorch as pytorch_steps

COMMAND = "python -m benchmarks.threads"
SIZES = [(50, 16, 64, 64), (64, 32, 64, 192), (35, 20, 650, 650)]
EXPLANATION = """\
Passes of a layer, forward and all gradients, at (T, B, I, H), and a training step of the main job (hidden 192). With
two threads nothing is set in the environment: ours by its rule, which `explain` states, PyTorch by its own. With one
thread OMP_NUM_THREADS=1. "By one" is ours with compiled="llvm:1" in the process with two, whose large products have two
threads. Minimum and median in ms of interleaved rounds; of the ratio of PyTorch's time to ours the median and the
interquartile range, and the ratio of the minima.

The rule (`scan/targets/llvm/shares.py`). A thread that sleeps takes 0.03 to 0.08 ms to begin here, and 0.02 to 0.06 ms
to be waited for. A core does 2²⁶ multiply-adds in about a millisecond, so a chunk of steps of 2²⁵ is shortened from 0.5
to 0.35 ms, and one of 2²⁴ by nothing. Passes of GRUs and LSTMs confirmed it (least times, loops in two threads over
loops in one): with 2²² to 2²⁴ multiply-adds a chunk they took 5 to 15 % longer, with 2²⁵ 0 to 3 % longer, with 2²⁶ 3 to
7 % less, with 2²⁸ and more 14 to 20 % less.

Products outside of the loop (`native/blas.py`) are cut in 2 pieces from 2²⁵ multiply-adds on, in 4 from 2²⁹, in 8 from
2³¹, …, whatever the number of threads, so that this changes no result. Least times in ms of a product in one thread, of
its pieces in one thread and in two, and by OpenBLAS's own two threads, on an idle machine; and medians beside a busy
process:

| (m, k, n) | multiply-adds | one | pieces, one | pieces, two | OpenBLAS | busy: one | pieces, two | OpenBLAS |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| (1024, 64, 256) | 2^24.0 | 0.24 | 0.28 | 0.23 | 0.13 | 0.25 | 0.24 | 0.14 |
| (1024, 64, 576) | 2^25.2 | 0.57 | 0.61 | 0.43 | 0.29 | 0.60 | 0.43 | 7.58 |
| (1024, 192, 576) | 2^26.8 | 1.37 | 1.45 | 0.84 | 0.71 | 1.41 | 1.14 | 0.83 |
| (576, 2048, 192) | 2^27.8 | 2.71 | 2.82 | 1.56 | 1.42 | 2.85 | 2.96 | 2.53 |
| (2048, 512, 512) | 2^29.0 | 6.32 | 6.61 | 3.46 | 3.21 | 10.39 | 7.83 | 7.34 |
| (2048, 512, 1536) | 2^30.6 | 18.5 | 19.8 | 10.7 | 9.5 | 28.1 | 16.7 | 22.8 |

OpenBLAS's threads are faster where cores are free, for they wait busily between products, and slower by up to some
milliseconds a product where they are not."""


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


def table(threads: int, rounds: int) -> None:
    """Print the rows of a table. Runs in a child process."""
    modes = ("llvm", "llvm:1")[:threads]
    names = ("ours", "by one")[:threads]
    cases = {}
    for kind in ("GRU", "LSTM"):
        for size in SIZES:
            case = Case(kind, size)
            cases[f"{kind} {size}"] = dict(zip(names, in_modes(case, modes))) | {"PyTorch": pytorch(case)}
    steps = {n: TextRun(TextSettings(compiled=mode)).trainer.step for n, mode in zip(names, modes)}
    cases["training step"] = steps | {"PyTorch": pytorch_steps(TextRun(TextSettings())).step}
    for name, runs in cases.items():
        seconds = interleaved(runs, rounds, min_run_time=0.02, pause=min(PAUSE, 0.02))
        times = [f"{1e3 * min(of):.2f}, {1e3 * statistics.median(of):.2f}" for of in seconds.values()]
        cells = [name, *times[:-1], *[""] * (2 - threads), times[-1], ratio(seconds["PyTorch"], seconds["ours"])]
        print(row([*cells, f"{min(seconds['PyTorch']) / min(seconds['ours']):.2f}"]), flush=True)


def rows_of(threads: int, rounds: int) -> list[str]:
    """The rows of a table, measured in a child process."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    if threads == 1:
        environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", f"from benchmarks.threads import table; table({threads}, {rounds})"]
    print(threads, "threads", flush=True)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, flush=True)
    return done.stdout.splitlines()


def main(quick: bool = False) -> None:
    lines = [EXPLANATION]
    header = ["", "ours, ms", "by one, ms", "PyTorch, ms", "PyTorch over ours", "minima"]
    for count, heading in ((0, "As it is"), (1, "One busy process more")):
        load = f"load average {os.getloadavg()[0]:.1f}"
        with burners(count):
            for threads in (1, 2)[count:]:
                lines += ["", f"## {heading}, {threads} thread{'s' * (threads > 1)}, {load}", ""]
                lines += [row(header), row(["---"] * len(header)), *rows_of(threads, 2 if quick else 7)]
    if not quick:
        report("threads", "Threads", COMMAND, lines, ["llvmlite", "torch"], "1 thread and 2 threads")


if __name__ == "__main__":
    main("--quick" in sys.argv)
