"""The main job's training step beside the same step in PyTorch, and where the time of each goes.

`--quick` measures little and keeps nothing.
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

from .children import PAUSE, THREADS, printed
from .timing import installed, interleaved, ratio, report, row

COMMAND = "python -m benchmarks.training_step"
WIDTHS = (TextSettings.hidden, 256)
#: Steps that a profile does not count.
WARMING = 3
EXPLANATION = """\
Embedding, GRU, output layer, cross-entropy, backward, clipping, Adam, and the loss as a number, on the main job's text
and with its settings; ours is `train.Trainer.step`, what `tinygrad-gru train` runs. PyTorch has its own GRU (it resets
after the product, which costs the same products), its fused Adam, and clipping parameter by parameter: the fastest that
it has here. All take turns; medians over the turns, of the ratio also the middle half.

Where the time goes is measured in steps of their own, between hooks on the gradients."""


@dataclass
class Steps:
    """A model and what trains it, ours or PyTorch's: both are called alike."""

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
        """One step of truncated backpropagation; its loss. `lap` is told the name of every part when it is done."""
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
        partial(clip_gradient_norm, list(model.parameters()), trainer.max_norm),
        trainer.optimizer, trainer.stream, as_ids=lambda ids: ids,
    )  # fmt: skip


def pytorch(run: TextRun, device: str = "cpu") -> Steps:
    """The same model, with PyTorch's first weights."""
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
        partial(torch.nn.utils.clip_grad_norm_, parameters, run.trainer.max_norm, foreach=device != "cpu"),
        torch.optim.Adam(parameters, lr=settings.lr, fused=True),
        run.trainer.stream, as_ids=lambda ids: torch.from_numpy(ids).to(device).long(),
    )  # fmt: skip


MAKERS = {"ours": ours} | ({"PyTorch": pytorch} if installed("torch") else {})


def whole_steps(settings: TextSettings) -> dict[str, Callable[[], Any]]:
    """A step of each contestant; ours also with its recurrence compiled by numba, if that is installed."""
    steps: dict[str, Callable[[], Any]] = {"ours": TextRun(settings).trainer.step}
    if installed("numba"):
        steps["ours by numba"] = TextRun(replace(settings, compiled="numba")).trainer.step
    return steps | {name: make(TextRun(settings)).step for name, make in MAKERS.items() if name != "ours"}


def tables(rounds: int) -> None:
    """Print what a step takes, and where. Runs in a process with a number of threads."""
    heads: list[str] = []
    for hidden in WIDTHS:
        columns = speed(TextSettings(hidden=hidden), rounds)
        if not heads:
            heads = list(columns)
            print(row(heads))
            print(row(["---"] * len(heads)))
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
    """A row of the table, by the names of its columns."""
    seconds = interleaved(whole_steps(settings), rounds, turn=0.3, pause=PAUSE)
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
    """Seconds of every part of a step, medians of `count` steps, of each contestant; they take turns."""
    contestants = {f"{name}, hidden {settings.hidden}": make(TextRun(settings)) for name, make in MAKERS.items()}
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(WARMING + count):
        for name, steps in contestants.items():
            time.sleep(PAUSE)
            laps[name].append(laps_of(steps))
    return {
        name: {part: statistics.median(step[part] for step in every[WARMING:]) for part in every[0]}
        for name, every in laps.items()
    }


def laps_of(steps: Steps) -> dict[str, float]:
    """Seconds of every part of one step."""
    marks = [("", time.perf_counter())]
    steps.step(lambda part: marks.append((part, time.perf_counter())))
    return {part: end - start for (_, start), (part, end) in pairwise(marks)}


def main(quick: bool = False) -> None:
    lines = [EXPLANATION]
    for threads, words in THREADS.items():
        lines += ["", f"## {words}", ""]
        lines += printed("training_step", "tables", 2 if quick else 15, threads=threads)
    if not quick:
        title = "A training step of the main job"
        report("training_step", title, COMMAND, lines, ["torch", "numba"], " and ".join(THREADS.values()))


if __name__ == "__main__":
    main("--quick" in sys.argv)
