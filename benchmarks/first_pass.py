"""The first pass of a GRU in a new process: NumPy's target beside LLVM's, whose machine code is on disk or is not.

A process imports the package, makes a GRU(64, 128) of float32 and runs it forward and backward, twice, on 64 steps of a
batch of 32. Each process is a new one; the three kinds take turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from .timing import report, row

COMMAND = "python -m benchmarks.first_pass"
PROCESS = """
import time
began = time.perf_counter()
import numpy as np
import tinygrad_gru
from tinygrad_gru import Tensor, nn
imported = time.perf_counter()
layer, x = nn.GRU(64, 128), Tensor(np.ones((64, 32, 64), "float32"))
times = [imported]
for _ in range(2):
    layer(x)[0].sum().backward()
    times.append(time.perf_counter())
print(imported - began, times[1] - imported, times[2] - times[1])
"""
KINDS = {"NumPy": "numpy", "LLVM, code on disk": "llvm", "LLVM, nothing on disk": "llvm"}


def seconds(kind: str, folder: str) -> list[float]:
    """The seconds of a process: importing the package, the first pass, the second one."""
    cache = tempfile.mkdtemp(dir=folder) if "nothing" in kind else os.path.join(folder, "kept")
    settings = {"TINYGRAD_GRU_COMPILED": KINDS[kind], "TINYGRAD_GRU_CACHE": cache, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", PROCESS], check=True, capture_output=True, text=True, env={**os.environ, **settings}
    )
    return [float(value) for value in found.stdout.split()]


def main(quick: bool = False) -> None:
    rounds = 2 if quick else 15
    with tempfile.TemporaryDirectory() as folder:
        seconds("LLVM, code on disk", folder)  # fills the cache
        runs = [{kind: seconds(kind, folder) for kind in KINDS} for _ in range(rounds)]
    lines = [
        f"Milliseconds, median and minimum of {rounds} processes of each kind, in turns.", "",
        row(["", "import", "first pass", "second pass", "first pass beyond NumPy's"]), row(["---"] * 5),
    ]  # fmt: skip
    for kind in KINDS:
        parts = [[1e3 * run[kind][i] for run in runs] for i in range(3)]
        parts.append([1e3 * (run[kind][1] - run["NumPy"][1]) for run in runs])
        lines.append(row([kind, *(f"{statistics.median(part):.0f} ({min(part):.0f})" for part in parts)]))
    if quick:
        print("\n".join(lines))
    else:
        report("first_pass", "The first pass in a new process", COMMAND, lines, ["llvmlite"])


if __name__ == "__main__":
    main("--quick" in sys.argv)
