"""The copy memory task: ten symbols to be repeated after a long wait, after Bai et al. 2018."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ... import nn, ops
from ...train import predict
from ..study import Run, Task
from .cells import with_units
from .generated import Draw, GeneratedStudy, Pair, remember

SYMBOLS, COPIED = 8, 10
BLANK, ASK = 0, SYMBOLS + 1
_CELLS = {"rnn": (nn.RNN, 117), "gru": (nn.GRU, 67), "lstm": (nn.LSTM, 58)}


def copy_memory(rng: np.random.Generator, count: int, wait: int) -> Pair:
    """Ids (wait + 20, count): ten symbols of 1 … 8, blanks, eleven times the sign to repeat; and what is to be said.

    The targets are blanks, and in the last ten steps the ten symbols in their order.
    """
    symbols = rng.integers(1, SYMBOLS + 1, (COPIED, count))
    inputs = np.full((wait + 2 * COPIED, count), BLANK)
    targets = np.full_like(inputs, BLANK)
    inputs[:COPIED] = targets[-COPIED:] = symbols
    inputs[-COPIED - 1 :] = ASK
    return inputs, targets


def baseline(wait: int) -> float:
    """The cross-entropy of knowing when to speak and not what: 10 ln 8 / (wait + 20) nats per step.

    Blanks cost nothing, and each of the ten symbols ln 8; the mean is over all wait + 20 steps.
    """
    return COPIED * math.log(SYMBOLS) / (wait + 2 * COPIED)


class Copier(nn.Module):
    """Logits of the next symbol to say: an embedding, a recurrent layer, a linear layer."""

    def __init__(self, layer: nn.Recurrent) -> None:
        self.embedding, self.recurrence = nn.Embedding(SYMBOLS + 2, layer.input_size), layer
        self.output = nn.Linear(layer.output_size, SYMBOLS + 1)

    def forward(self, ids: np.ndarray) -> Any:
        output, _ = self.recurrence(self.embedding(ids))
        return self.output(output)


class CopyMemory(GeneratedStudy):
    """Nothing comes between the symbols and the question but time; nothing but ten symbols is to be kept.

    The baseline, which knows the time and no symbol, is at 10 ln 8 / (T + 20): see `baseline`.
    """

    name = "copy-memory"
    title = "Copy memory: GRU, LSTM and tanh-RNN with as many parameters"
    reference = (
        "Bai, Kolter, Koltun: An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence "
        "Modeling, 2018, arXiv:1803.01271, Table 1"
    )
    protocol = (
        "Data: ten random symbols of eight, T − 1 blanks, and eleven times a sign; the targets are blanks, and at the "
        "last ten of the T + 20 steps the symbols. New sequences at every training step.",
        "An embedding of width 8, one recurrent layer, a linear layer: about 16,000 parameters, as in the paper.",
        "Cross-entropy in nats: the mean over all T + 20 steps of 1,000 test sequences, the same for all runs, of the "
        "weights after the last step.",
        "The baseline knows when to speak and guesses what: 10 ln 8 / (T + 20). At it a network has learned the time "
        "alone; the paper's recurrent networks are at it, with T = 1000.",
        "Adam, learning rate 0.005 after a rise over 5 % of the steps, falling to 0 as a cosine; batches of 32; the "
        "gradient's norm clipped at 1; not tuned. 3,000 steps for T = 100, 1,500 for T = 200, and "
        "200 for T = 1000, which is few.",
        "Gates start so that units remember for 1 to T + 20 steps (“chrono”, Tallec & Ollivier 2018): a choice of "
        "ours, not the paper's.",
    )
    metric, unit = "test cross-entropy", "nats/step"
    tasks: Mapping[str, Task] = {
        "100": Task("T = 100", {}, margin=1e-3),
        "200": Task("T = 200", {}, margin=1e-3),
        "1000": Task("T = 1000", {"rnn": 0.0202, "gru": 0.0197, "lstm": 0.0204}, margin=1e-3),
    }
    cells: Mapping[str, str] = with_units(_CELLS)
    takes = "15 minutes on one core"
    settings: Mapping[str, Any] = {
        "steps": {"100": 3000, "200": 1500, "1000": 200}, "lr": 0.005, "batch": 32, "clip_norm": 1.0, "held_out": 1000,
    }  # fmt: skip
    quick: Mapping[str, Any] = {"steps": 20, "held_out": 100}
    loss = staticmethod(ops.cross_entropy)

    def draw(self, task: str, settings: Mapping[str, Any]) -> Draw:
        return partial(copy_memory, wait=int(task))

    def new_model(self, run: Run, rng: np.random.Generator) -> nn.Module:
        layer, units = _CELLS[run.cell]
        model = Copier(layer(8, units))
        remember(model.recurrence, int(run.task) + 2 * COPIED, rng)
        return model

    def score(self, model: nn.Module, batches: Iterable[Pair]) -> dict[str, float]:
        """The cross-entropy, and the part of the ten symbols that is right."""
        right = [
            (predict(model, [batch])[-COPIED:].argmax(axis=-1) == batch[1][-COPIED:]).mean() for batch in batches
        ]  # fmt: skip
        return {**super().score(model, batches), "symbols that are right": float(np.mean(right))}

    def baselines(self, task: str, data: Any) -> dict[str, float]:
        return {"baseline: 10 ln 8 / (T + 20)": baseline(int(task))}
