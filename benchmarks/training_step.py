"""The main job's training step beside the same step in PyTorch, with a profile of both.

`--quick` measures few steps and writes no results.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from tinygrad_gru.data import TextStream
from tinygrad_gru.ops import cross_entropy
from tinygrad_gru.optim import clip_gradient_norm
from tinygrad_gru.train import TextRun, TextSettings

from .processes import PAUSE, THREADS, output_of
from .timing import installed, interleaved, ratio, report, row

COMMAND = "python -m benchmarks.training_step"
WIDTHS = (TextSettings.hidden, 256)
#: Warm-up steps of a profile.
WARMUP = 3
EXPLANATION = """\
Embedding, GRU, output layer, cross-entropy, backward, clipping, Adam, and the loss as a Python scalar, on the main
job's text and with its settings; ours is `train.Trainer.step`, the step of `tinygrad-gru train`. PyTorch has its own
GRU (it resets after the product, which costs the same products), its fused Adam, and clipping parameter by parameter:
its fastest variant here. "By NumPy" is meant of the recurrence: cross-entropy, the norm of the gradients, Adam and the
rows of the embedding are native in both. Medians over interleaved rounds, of the ratio also the interquartile
range.

The profile is measured in other steps, between hooks on the gradients."""


@dataclass
class Steps:
    """A model and its training, ours or PyTorch's, behind one interface."""

    embedding: Callable
    recurrence: Callable
    output: Callable
    cross_entropy: Callable
    clip: Callable
    optimizer: Any
    stream: TextStream
    as_ids: Callable
    state: Any = None

    def step(self, lap: Callable[[str], None] | None = None) -> float:
        """Take a step of truncated BPTT; returns the loss. `lap` is called with the name of each part at its end."""
        done = lap or (lambda part: None)
        window = self.stream.next_batch()
        ids, targets = self.as_ids(window.inputs), self.as_ids(window.targets)
        done("data")
        x = self.embedding(ids)
        done("embedding")
        hidden, state = self.recurrence(x, None if window.starts else self.state)
        done("GRU")
        logits = self.output(hidden)
        done("output layer")
        loss = self.cross_entropy(logits, targets)
        done("cross-entropy")
        if lap is not None:
            for value, part in ((logits, "cross-entropy"), (hidden, "output layer"), (x, "GRU")):
                value.register_hook(lambda gradient, part=part: lap(f"{part}, backward"))
        self.optimizer.zero_grad()
        loss.backward()
        done("embedding, backward")
        self.clip()
        done("clipping")
        self.optimizer.step()
        done("Adam")
        self.state = state.detach()
        return loss.item()


def ours(run: TextRun) -> Steps:
    model, trainer = run.model, run.trainer
    return Steps(
        model.embedding, model.recurrence, model.output, cross_entropy,
        partial(clip_gradient_norm, list(model.parameters()), trainer.clip_norm),
        trainer.optimizer, trainer.source, as_ids=lambda ids: ids,
    )  # fmt: skip


def pytorch(run: TextRun, device: str = "cpu") -> Steps:
    """The same model, with PyTorch's initial weights."""
    import torch

    settings, symbols = run.settings, len(run.vocabulary)
    layers = (
        torch.nn.Embedding(symbols, settings.embedding),
        torch.nn.GRU(settings.embedding, settings.hidden),
        torch.nn.Linear(settings.hidden, symbols),
    )
    parameters = [parameter for layer in layers for parameter in layer.to(device).parameters()]
    return Steps(
        *layers,
        lambda logits, targets: torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()),
        partial(torch.nn.utils.clip_grad_norm_, parameters, run.trainer.clip_norm, foreach=device != "cpu"),
        torch.optim.Adam(parameters, lr=settings.lr, fused=True),
        run.trainer.source, as_ids=lambda ids: torch.from_numpy(ids).to(device).long(),
    )  # fmt: skip


MAKERS = {"ours": ours} | ({"PyTorch": pytorch} if installed("torch") else {})


def whole_steps(settings: TextSettings) -> dict[str, Callable[[], Any]]:
    """Training steps by name; ours by default, and its recurrence by NumPy alone, if llvmlite is installed."""
    steps: dict[str, Callable[[], Any]] = {"ours": TextRun(settings).trainer.step}
    if installed("llvmlite"):
        steps["ours by NumPy"] = TextRun(replace(settings, compiled="numpy")).trainer.step
    return steps | {name: make(TextRun(settings)).step for name, make in MAKERS.items() if name != "ours"}


def tables(rounds: int) -> None:
    """Print the time of a step, and its profile. Runs in a child process with a limited number of threads."""
    header: list[str] = []
    for hidden in WIDTHS:
        columns = speed(TextSettings(hidden=hidden), rounds)
        if not header:
            header = list(columns)
            print(row(header))
            print(row(["---"] * len(header)))
        print(row(columns.values()))
    print()
    profiles: dict[str, dict[str, float]] = {}
    for hidden in WIDTHS:
        profiles |= profile(TextSettings(hidden=hidden), 4 * rounds)
    print(row(["ms", *profiles]))
    print(row(["---"] * (1 + len(profiles))))
    for part in next(iter(profiles.values())):
        print(row([part, *(f"{1e3 * laps[part]:.2f}" for laps in profiles.values())]))
    print(row(["sum", *(f"{1e3 * sum(laps.values()):.2f}" for laps in profiles.values())]))


def speed(settings: TextSettings, rounds: int) -> dict[str, str]:
    """A row of the table: cells by column."""
    seconds = interleaved(whole_steps(settings), rounds, min_run_time=0.3, pause=PAUSE)
    cells = {"hidden": str(settings.hidden)}
    for name, times in seconds.items():
        median = statistics.median(times)
        cells[f"{name}, ms"] = f"{1e3 * median:.1f}"
        cells[f"{name}, characters/s"] = f"{settings.window * settings.batch / median:,.0f}"
    peer = seconds.pop("PyTorch", None)
    for name, times in seconds.items() if peer else ():
        cells[f"PyTorch over {name}"] = ratio(peer, times)
        cells[f"minima, {name}"] = f"{min(peer) / min(times):.2f}"
    return cells


def profile(settings: TextSettings, count: int) -> dict[str, dict[str, float]]:
    """Seconds of every part of a step, medians of `count` steps, interleaved, by the name of the model."""
    runs = {f"{name}, hidden {settings.hidden}": make(TextRun(settings)) for name, make in MAKERS.items()}
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(WARMUP + count):
        for name, steps in runs.items():
            time.sleep(PAUSE)
            laps[name].append(profile_step(steps))
    return {
        name: {part: statistics.median(step[part] for step in every[WARMUP:]) for part in every[0]}
        for name, every in laps.items()
    }


def profile_step(steps: Steps) -> dict[str, float]:
    """Seconds of every part of one step, by name."""
    marks = [("", time.perf_counter())]
    steps.step(lambda part: marks.append((part, time.perf_counter())))
    return {part: end - start for (_, start), (part, end) in pairwise(marks)}


def main(quick: bool = False) -> None:
    lines = [EXPLANATION]
    for threads, heading in THREADS.items():
        lines += ["", f"## {heading}", ""]
        lines += output_of("training_step", "tables", 2 if quick else 15, threads=threads)
    if not quick:
        title = "A training step of the main job"
        report("training_step", title, COMMAND, lines, ["torch", "llvmlite"], " and ".join(THREADS.values()))


if __name__ == "__main__":
    main("--quick" in sys.argv)
