"""Loss curves of the main job, trained on NumPy and on the GPU from the same seed."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from tinygrad_gru import compiling
from tinygrad_gru.train import TextRun, TextSettings

from ..timing import row
from .options import Failed, Options
from .precision import FLOAT32

#: Steps of the running mean of the losses that are compared.
SMOOTHED = 20
#: The largest difference of smoothed losses that is allowed, in nats/char. Eager and compiled mode on one CPU differ by
#: 7e-6 over 600 steps: so short a training amplifies rounding, in which a GPU differs, only a little.
BOUND = 0.002
ROWS = 10


def main(options: Options) -> None:
    FLOAT32.choose_ours(options)
    steps = options.choose(1200, 250, 30)
    size = options.choose({}, {}, {"hidden": 8, "batch": 4, "window": 16})
    settings = TextSettings(dropout=0.0, **size)
    settings = replace(settings, characters=steps * settings.batch * settings.window)
    reference = curve(settings, steps, "numpy")
    # A rehearsal compares eager and compiled mode on one backend, which differ in rounding alone.
    other = curve(settings, steps, options.backend, compiled=not options.rehearsal)
    smoothed = [np.convolve(losses, np.ones(SMOOTHED) / SMOOTHED, "valid") for losses in (reference, other)]
    differences = np.abs(smoothed[0] - smoothed[1])
    print(f"\nMain job, dropout 0, seed {settings.seed}; losses in nats/char, means of {SMOOTHED} steps.\n")
    print(row(["steps", "first", "second", "difference"]))
    print(row(["---"] * 4))
    for start in np.linspace(0, len(differences) - 1, ROWS).astype(int):
        smoothed_losses = [f"{means[start]:.4f}" for means in smoothed]
        print(row([f"{start + 1} to {start + SMOOTHED}", *smoothed_losses, f"{differences[start]:.1e}"]))
    largest = differences.max()
    print(f"\nInitial losses {reference[0]:.6f} and {other[0]:.6f}; largest difference of the means {largest:.1e}, "
          f"{BOUND} is allowed.")  # fmt: skip
    if not largest <= BOUND:
        raise Failed(f"smoothed losses differ by {largest:.3f} nats, {BOUND} is allowed")


def curve(settings: TextSettings, steps: int, backend: str, compiled: bool = True) -> np.ndarray:
    """The loss of every step."""
    run = TextRun(settings, backend)
    start = time.perf_counter()
    with compiling(compiled):
        losses = np.array([run.trainer.step().loss for _ in range(steps)])
    mode = "compiled" if compiled else "eager"
    print(f"- {backend}, {mode}: {steps} steps in {time.perf_counter() - start:.1f} s", flush=True)
    return losses
