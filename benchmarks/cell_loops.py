"""Python loops of cells, `for x in xs: state = cell(x, state)`, forward and backward, beside PyTorch's cells."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, nn

from .timing import interleaved, ratio, report

STEPS = 50
SIZES = [(1, 32, 32), (16, 64, 64), (32, 128, 128), (64, 256, 256)]
CELLS = ("RNNCell", "GRUCell", "LSTMCell")
COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.cell_loops"


def processor_clock(run: Callable[[], object], min_run_time: float) -> float:
    """Seconds of the processor, which other processes do not lengthen."""
    start = time.process_time()
    run()
    return time.process_time() - start


def loop(cell: Any, xs: list[Any]) -> Callable[[], None]:
    """A training pass, of our cell or of PyTorch's: the code is the same."""

    def run() -> None:
        state = None
        for x in xs:
            state = cell(x, state)
        h = state[0] if isinstance(state, tuple) else state
        h.sum().backward()
        cell.zero_grad()

    return run


def main() -> None:
    import torch

    torch.set_num_threads(1)
    lines = [
        "| cell | (batch, input, hidden) | ours, ms | PyTorch, ms | our time over its |",
        "| --- | --- | --- | --- | --- |",
    ]
    for size in SIZES:
        batch, inputs, hidden = size
        xs = np.random.default_rng(0).standard_normal((STEPS, batch, inputs)).astype(np.float32)
        for name in CELLS:
            runs = {
                "ours": loop(getattr(nn, name)(inputs, hidden), [Tensor(x) for x in xs]),
                "PyTorch": loop(getattr(torch.nn, name)(inputs, hidden), list(torch.from_numpy(xs))),
            }
            seconds = interleaved(runs, clock=processor_clock)
            ours, theirs = (f"{1e3 * statistics.median(times):.2f}" for times in seconds.values())
            lines.append(f"| {name} | {size} | {ours} | {theirs} | {ratio(seconds['ours'], seconds['PyTorch'])} |")
    lines += ["", f"{STEPS} steps, forward and backward, processor time, medians over 15 interleaved rounds."]
    report("cell_loops", "Python loops of cells", COMMAND, lines, ["torch"])


if __name__ == "__main__":
    main()
