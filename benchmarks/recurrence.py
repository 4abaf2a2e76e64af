"""Four lines of math against kernels written by hand: GRU and LSTM beside PyTorch's, and beside our own plain reading.

Forward and backward, with gradients of all parameters, of the input and of the initial state, float32.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable

import numpy as np

from tinygrad_gru import Tensor, compiling, manual_seed
from tinygrad_gru import nn as ours

from .timing import interleaved, report

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.recurrence"
SIZES = [
    (50, 1, 32, 32),
    (50, 16, 64, 64),
    (100, 32, 128, 128),
    (100, 64, 128, 256),
    (35, 20, 650, 650),
    (100, 64, 512, 512),
]


def arrays(size: tuple[int, int, int, int], states: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    length, batch, features, hidden = size
    random = np.random.default_rng(0)
    x = random.standard_normal((length, batch, features)).astype(np.float32)
    state = [random.standard_normal((1, batch, hidden)).astype(np.float32) for _ in range(states)]
    return x, state, random.standard_normal((length, batch, hidden)).astype(np.float32)


def with_us(kind: str, size: tuple[int, int, int, int], compiled: bool) -> Callable[[], object]:
    manual_seed(0)
    layer = getattr(ours, kind)(size[2], size[3])
    x, state, cotangent = arrays(size, 2 if kind == "LSTM" else 1)
    leaves = [Tensor(a, requires_grad=True) for a in (x, *state)]

    def run() -> None:
        with compiling(compiled):
            output, _ = layer(leaves[0], leaves[1] if len(leaves) == 2 else tuple(leaves[1:]))
        output.backward(cotangent)
        for tensor in (*leaves, *layer.parameters()):
            tensor.zero_grad()

    run()  # the plan is made and the workspace warmed
    return run


def with_torch(kind: str, size: tuple[int, int, int, int]) -> Callable[[], object]:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    layer = getattr(torch.nn, kind)(size[2], size[3])
    x, state, cotangent = arrays(size, 2 if kind == "LSTM" else 1)
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, *state)]
    weights = torch.from_numpy(cotangent)

    def run() -> None:
        output, _ = layer(leaves[0], leaves[1] if len(leaves) == 2 else tuple(leaves[1:]))
        output.backward(weights)
        for tensor in (*leaves, *layer.parameters()):
            tensor.grad = None

    run()
    return run


def main() -> None:
    lines = [
        "| | (T, B, I, H) | ours, ms | PyTorch over ours: median | minimum | our plain reading over compiled |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind in ("GRU", "LSTM"):
        ratios = []
        for size in SIZES:
            contestants = {
                "ours": with_us(kind, size, True), "torch": with_torch(kind, size), "plain": with_us(kind, size, False),
            }  # fmt: skip
            seconds = interleaved(contestants, rounds=11 if np.prod(size) < 1e8 else 5)
            medians = {name: statistics.median(times) for name, times in seconds.items()}
            ratios.append(medians["torch"] / medians["ours"])
            lines.append(
                f"| {kind} | {size} | {1e3 * medians['ours']:.2f} | {ratios[-1]:.2f} "
                f"| {min(seconds['torch']) / min(seconds['ours']):.2f} | {medians['plain'] / medians['ours']:.2f} |"
            )
            print(lines[-1], flush=True)
        lines.append(f"| {kind} | geometric mean | | {statistics.geometric_mean(ratios):.2f} | | |")
    report("recurrence", "Recurrences, compiled from their equations", COMMAND, lines, ["torch"])


if __name__ == "__main__":
    main()
