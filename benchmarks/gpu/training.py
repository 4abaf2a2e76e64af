"""Training steps of the main job on the GPU, beside ours on the CPU and PyTorch's on the same GPU."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

from tinygrad_gru.train import TextRun, TextSettings

from ..timing import installed, interleaved, ratio, row
from ..training_step import pytorch
from .clock import clock_for
from .options import Failures, Options
from .precision import FLOAT32, Precision, precisions

LARGE = {"hidden": 1024, "batch": 128, "window": 128}
EXPLANATION = """\
Training steps of the main job: ours is `train.Trainer.step`, on the CPU with one thread. PyTorch has its own GRU, which
is cuDNN's and resets after the product, fused Adam, and clipping of all gradients at once. All read the loss at every
step. In 16 bits both keep their parameters in float32: PyTorch by `autocast` to bfloat16. Medians over interleaved
rounds, and the interquartile range of the ratios."""
COLUMNS = ["", "", "ours, ms", "characters/s", "our CPU over ours", "PyTorch over ours", "PyTorch, characters/s"]


def main(options: Options) -> None:
    print(f"{EXPLANATION}\n\n{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}", flush=True)
    toy = {"hidden": 8, "window": 8, "batch": 4}
    models = options.choose(({}, LARGE), ({}, LARGE), (toy,))
    failures = Failures()
    for changes in models:
        for precision in precisions(options):
            with failures.collect(f"{changes or 'main job'} in {precision.title}"):
                with_cpu = changes is not LARGE and precision is FLOAT32
                print(measure(TextSettings(**changes), precision, with_cpu, options), flush=True)
    failures.raise_if_any()


def measure(settings: TextSettings, precision: Precision, with_cpu: bool, options: Options) -> str:
    precision.choose(options)
    own = replace(settings, precision=precision.dtype)
    steps: dict[str, Callable[[], object]] = {"ours": TextRun(own, options.backend).trainer.step}
    if installed("torch"):
        steps["PyTorch"] = in_precision(pytorch(TextRun(settings), options.torch_device).step, precision, options)
    if with_cpu:
        steps["CPU"] = TextRun(settings, "numpy").trainer.step
    rounds, min_run_time = options.choose((15, 0.5), (5, 0.2), (2, 0.0))
    seconds = interleaved(steps, rounds, min_run_time, clock=clock_for(options))
    rates = {name: settings.window * settings.batch / statistics.median(times) for name, times in seconds.items()}
    name = f"hidden {settings.hidden}, batch {settings.batch}, window {settings.window}"
    compared = [ratio(seconds[other], seconds["ours"]) if other in seconds else "" for other in ("CPU", "PyTorch")]
    return row([
        name, precision.title, f"{1e3 * statistics.median(seconds['ours']):.2f}", f"{rates['ours']:,.0f}", *compared,
        f"{rates['PyTorch']:,.0f}" if "PyTorch" in rates else "",
    ])  # fmt: skip


def in_precision(step: Callable[[], object], precision: Precision, options: Options) -> Callable[[], object]:
    """PyTorch's step, under `autocast` if the precision has 16 bits."""
    if precision.dtype == "float32":
        return step
    import torch

    def run() -> object:
        with torch.autocast(options.torch_device.partition(":")[0], torch.bfloat16):
            return step()

    return run
