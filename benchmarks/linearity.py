"""Linearity of backward: time per op in chains of 1 000 to 200 000 ops, time per step in GRUs of 100 to 10 000 steps.

Python's cyclic garbage collector traverses all live objects from time to time, which costs time in any program that
keeps many records alive, whatever the framework: times are given with and without it.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from tinygrad_gru import Tensor, compiling, manual_seed
from tinygrad_gru.nn import GRU
from tinygrad_gru.ops import tanh

from .timing import report

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.linearity"


def chain(ops: int) -> Callable[[], tuple[float, float]]:
    random = np.random.default_rng(0)
    w, b, start = (Tensor(random.standard_normal((8, 8)).astype(np.float32), requires_grad=True) for _ in range(3))

    def run() -> tuple[float, float]:
        begin = time.perf_counter()
        h = start
        for _ in range(ops // 3):
            h = tanh(h * w + b)
        middle = time.perf_counter()
        h.backward(np.ones((8, 8), np.float32))
        return middle - begin, time.perf_counter() - middle

    return run


def gru(steps: int, compiled: bool) -> Callable[[], tuple[float, float]]:
    manual_seed(0)
    layer = GRU(16, 32)
    x = Tensor(np.random.default_rng(0).standard_normal((steps, 8, 16)).astype(np.float32), requires_grad=True)

    def run() -> tuple[float, float]:
        begin = time.perf_counter()
        with compiling(compiled):
            output, _ = layer(x)
        middle = time.perf_counter()
        output.sum().backward()
        return middle - begin, time.perf_counter() - middle

    return run


def measure(make: Callable, sizes: list[int], unit: str) -> list[str]:
    lines = [
        f"| {unit} | forward | backward | forward, no collector | backward, no collector |",
        "| --- | --- | --- | --- | --- |",
    ]
    for size in sizes:
        run, columns = make(size), []
        rounds = 7 if size >= 10_000 else 15
        for collector in (True, False):
            (gc.enable if collector else gc.disable)()
            try:
                run()
                times = [run() for _ in range(rounds)]
            finally:
                gc.enable()
            columns += [f"{statistics.median(column) / size * 1e6:.2f}" for column in zip(*times)]
        lines.append(f"| {size:,} | {' | '.join(columns)} |")
    return lines


def main() -> None:
    lines = ["Microseconds per op of a chain of tanh(h ⊙ w + b), 8 × 8 float32 (medians):", ""]
    lines += measure(chain, [1_000, 10_000, 50_000, 200_000], "ops")
    for compiled in (False, True):
        mode = "compiled" if compiled else "eager"
        lines += ["", f"Microseconds per step of a GRU, input 16, hidden 32, batch 8, {mode} (medians):", ""]
        lines += measure(partial(gru, compiled=compiled), [100, 1_000, 10_000], "steps")
    report("linearity", "Backward is linear", COMMAND, lines)


if __name__ == "__main__":
    main()
