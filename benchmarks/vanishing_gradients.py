"""Gradients that vanish over a long sequence, whose subnormal numbers are slow: a GRU with a loss of its last state.

A GRU as it is initialised halves the gradient from step to step, roughly. After some hundred steps back it is below
1.2e-38, where float32 has subnormal numbers, and processors take some hundred cycles for each. Native backward loops
take them for zero, as XLA does; PyTorch and NumPy compute on.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from tinygrad_gru import compiling, manual_seed
from tinygrad_gru.nn import GRU

from .timing import installed, interleaved, ratio, report, row

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.vanishing_gradients"
BATCH, INPUT, HIDDEN = 32, 2, 151
LENGTHS = (100, 200, 400, 600, 1200)


def ours(steps: int, mode: str) -> Callable[[], None]:
    manual_seed(0)
    layer, x = GRU(INPUT, HIDDEN), _inputs(steps)

    def run() -> None:
        with compiling(mode):
            layer(x)[0][-1].sum().backward()

    return run


def pytorch(steps: int) -> Callable[[], None]:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    layer, x = torch.nn.GRU(INPUT, HIDDEN), torch.from_numpy(_inputs(steps))
    return lambda: layer(x)[0][-1].sum().backward()


def _inputs(steps: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((steps, BATCH, INPUT), np.float32)


def main() -> None:
    lines = [
        f"Forward and backward of a GRU, batch {BATCH}, {HIDDEN} units, in ms: medians of three interleaved rounds.",
        "",
        row(["steps", "ours, llvm", "ours, numpy", "PyTorch", "PyTorch over ours, llvm"]), row(5 * ["---"]),
    ]  # fmt: skip
    for steps in LENGTHS:
        runs = {mode: ours(steps, mode) for mode in ("llvm:1", "numpy")}
        runs |= {"PyTorch": pytorch(steps)} if installed("torch") else {}
        seconds = interleaved(runs, rounds=3)
        medians = [f"{1e3 * statistics.median(seconds[name]):.0f}" for name in runs]
        times = ratio(seconds["PyTorch"], seconds["llvm:1"]) if "PyTorch" in runs else ""
        lines.append(row([str(steps), *medians, *[""] * (3 - len(medians)), times]))
        print(lines[-1], flush=True)
    report("vanishing_gradients", "Gradients that vanish", COMMAND, lines, ["torch", "llvmlite"])


if __name__ == "__main__":
    main()
