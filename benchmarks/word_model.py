"""A step and the peak memory of a word model with dropout and tied weights, beside the same model in PyTorch.

`--quick` measures few steps and writes no results.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, compiling, manual_seed, nn, ops, optim
from tinygrad_gru.data import TextStream, standard_library
from tinygrad_gru.trees import map_leaves

from .processes import PAUSE, THREADS, output_of
from .recurrence_memory import peak
from .timing import installed, interleaved, ratio, report, row

COMMAND = "python -m benchmarks.word_model"
WORDS, UNITS, LAYERS, BATCH, STEPS = 10_000, 200, 2, 20, 35
DROPOUT, RATE, LARGEST_NORM = 0.2, 1.0, 0.25
EXPLANATION = f"""\
The defaults of PyTorch's example `word_language_model` with `--tied`: dropout, {LAYERS} layers of {UNITS} units,
dropout, an output layer that shares the embedding's weights, cross-entropy over {WORDS:,} words (those of the standard
library's source, the rest as one more), truncated backpropagation through {STEPS} steps of {BATCH} streams, clipping at
{LARGEST_NORM}, SGD, and the loss as a Python scalar. Ours is `ops.linear_cross_entropy`; PyTorch's is its output layer
and `cross_entropy`, as in that example, or "by chunks" its `linear_cross_entropy` with its default options. Medians
over interleaved rounds, of the ratio also the interquartile range, and the ratio of the minima. "By NumPy" is meant of
the recurrence. Peak memory is the growth of a fresh process's peak in its first three steps on one thread."""


def words() -> np.ndarray:
    """The text as ids of its most frequent words; the last id stands for all others."""
    found = re.findall(r"\w+|[^\w\s]", standard_library().training)
    ids = {word: number for number, (word, _) in enumerate(Counter(found).most_common(WORDS - 1))}
    return np.array([ids.get(word, WORDS - 1) for word in found])


class Model(nn.Module):
    """A word model: its loss of predicting each word from those before it."""

    def __init__(self, kind: str):
        self.embedding = nn.Embedding(WORDS, UNITS)
        self.dropout = nn.Dropout(DROPOUT)
        self.recurrence = getattr(nn, kind)(UNITS, UNITS, num_layers=LAYERS, dropout=DROPOUT)
        self.output = nn.TiedLinear(self.embedding)

    def forward(self, ids: Any, targets: Any, state: Any) -> tuple[Tensor, Any]:
        """The loss, without an array of all logits, and the state."""
        hidden, state = self.recurrence(self.dropout(self.embedding(ids)), state)
        weight, bias = self.output.W.mT, self.output.b
        return ops.linear_cross_entropy(self.dropout(hidden), weight, targets, linear_bias=bias), state


def ours(kind: str, compiled: str | bool | None = None) -> Callable[[], float]:
    """A training step that returns the loss."""
    manual_seed(0)
    model, stream = Model(kind), TextStream(words(), STEPS, BATCH)
    parameters, state = list(model.parameters()), None
    optimizer = optim.SGD(parameters, lr=RATE)

    def step() -> float:
        nonlocal state
        window = stream.next_batch()
        with nullcontext() if compiled is None else compiling(compiled):
            loss, state = model(window.inputs, window.targets, None if window.starts else state)
            optimizer.zero_grad()
            loss.backward()
        optim.clip_gradient_norm(parameters, LARGEST_NORM)
        optimizer.step()
        state = map_leaves(Tensor.detach, state)
        return loss.item()

    return step


def pytorch(kind: str, by_chunks: bool = False) -> Callable[[], float]:
    """A training step of PyTorch's; the loss with its gradients by chunks of rows, or after all logits."""
    import torch

    class Peer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.dropout = torch.nn.Embedding(WORDS, UNITS), torch.nn.Dropout(DROPOUT)
            self.recurrence = getattr(torch.nn, kind)(UNITS, UNITS, LAYERS, dropout=DROPOUT)
            self.output = torch.nn.Linear(UNITS, WORDS)
            self.output.weight = self.embedding.weight

        def forward(self, ids: Any, targets: Any, state: Any) -> Any:
            functions = torch.nn.functional
            hidden, state = self.recurrence(self.dropout(self.embedding(ids)), state)
            hidden, weight, bias = self.dropout(hidden).flatten(0, 1), self.output.weight, self.output.bias
            if by_chunks:
                options = torch.nn.LinearCrossEntropyOptions()
                loss = functions.linear_cross_entropy(hidden, weight, targets, linear_bias=bias, options=options)
            else:
                loss = functions.cross_entropy(functions.linear(hidden, weight, bias), targets)
            return loss, state

    model, stream, state = Peer(), TextStream(words(), STEPS, BATCH), None
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, fused=True)

    def step() -> float:
        nonlocal state
        window = stream.next_batch()
        ids, targets = (torch.from_numpy(part) for part in (window.inputs, window.targets))
        loss, state = model(ids, targets.flatten(), None if window.starts else state)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM, foreach=False)
        optimizer.step()
        state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return loss.item()

    return step


KINDS = ("GRU", "LSTM")
MAKERS = {"ours": ours, "ours by NumPy": partial(ours, compiled="numpy")}
if installed("torch"):
    MAKERS |= {"PyTorch by chunks": partial(pytorch, by_chunks=True), "PyTorch": pytorch}


def times(rounds: int) -> None:
    """Print the times of a step. Runs in a child process with a limited number of threads."""
    names = [f"{name}, ms" for name in MAKERS]
    others = [text for name in MAKERS if name != "ours" for text in (f"ours over {name}", "of minima")]
    print(row(["", *names, *others]))
    print(row(["---"] * (1 + len(names) + len(others))))
    for kind in KINDS:
        seconds = interleaved({name: make(kind) for name, make in MAKERS.items()}, rounds, 0.5, PAUSE)
        cells = [f"{1e3 * statistics.median(values):.0f}" for values in seconds.values()]
        for name in [name for name in seconds if name != "ours"]:
            cells += [ratio(seconds["ours"], seconds[name]), f"{min(seconds['ours']) / min(seconds[name]):.2f}"]
        print(row([kind, *cells]))


def growth(name: str, kind: str) -> None:
    """Print the number of bytes by which three steps raise the peak of this process."""
    step = MAKERS[name](kind)
    before = peak()
    for _ in range(3):
        step()
    print(peak() - before)


def main(quick: bool = False) -> None:
    lines = [EXPLANATION]
    for threads, heading in THREADS.items():
        lines += ["", f"## Time, {heading}", "", *output_of("word_model", "times", 2 if quick else 9, threads=threads)]
    names = [f"{name}, MB" for name in MAKERS]
    lines += ["", "## Peak memory", "", row(["", *names, "ours over the last"]), row(["---"] * (2 + len(names)))]
    for kind in KINDS:
        sizes = [int(output_of("word_model", "growth", name, kind, echo=False)[-1]) for name in MAKERS]
        lines.append(row([kind, *(f"{size / 1e6:.0f}" for size in sizes), f"{sizes[0] / sizes[-1]:.2f}"]))
        print(lines[-1])
    if not quick:
        report("word_model", "A word model", COMMAND, lines, ["torch", "llvmlite"], " and ".join(THREADS.values()))


if __name__ == "__main__":
    main("--quick" in sys.argv)
