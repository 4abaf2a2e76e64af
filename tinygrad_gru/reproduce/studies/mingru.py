"""Selective copying by minGRU and minLSTM of one to three layers, after Feng et al. 2024, beside the old cells."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ... import nn, ops
from ..study import Run, Task
from .cells import NAMES
from .generated import Draw, GeneratedStudy, Pair

SYMBOLS, BLANK, ASK = 8, 8, 9
_WIDTH = 32
#: Of each cell the layer, its units, and how many blocks.
_CELLS: dict[str, tuple[type[nn.Recurrent], int, int]] = {
    "mingru1": (nn.MinGRU, 64, 1), "mingru2": (nn.MinGRU, 64, 2), "mingru3": (nn.MinGRU, 64, 3),
    "minlstm1": (nn.MinLSTM, 64, 1), "minlstm2": (nn.MinLSTM, 64, 2), "minlstm3": (nn.MinLSTM, 64, 3),
    "rnn": (nn.RNN, 101, 1), "gru": (nn.GRU, 56, 1), "lstm": (nn.LSTM, 47, 1),
}  # fmt: skip


def selective_copy(rng: np.random.Generator, count: int, length: int, symbols: int) -> Pair:
    """Ids (length + symbols, count): symbols of 0 … 7 at random steps among blanks, then as many signs to name them.

    The targets (symbols, count) are the symbols in their order, due at the last steps.
    """
    places = np.sort(rng.random((length, count)).argsort(axis=0)[:symbols], axis=0)
    targets = rng.integers(0, SYMBOLS, (symbols, count))
    ids = np.full((length + symbols, count), BLANK)
    ids[places, np.arange(count)] = targets
    ids[length:] = ASK
    return ids, targets


class Copier(nn.Module):
    """Residual blocks of a normalization, a recurrent layer and a linear map; the logits of the last steps."""

    def __init__(self, layer: type[nn.Recurrent], units: int, blocks: int, asked: int) -> None:
        self.asked = asked
        self.embedding = nn.Embedding(SYMBOLS + 2, _WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(_WIDTH) for _ in range(blocks)])
        self.recurrences = nn.ModuleList([layer(_WIDTH, units) for _ in range(blocks)])
        self.maps = nn.ModuleList([nn.Linear(units, _WIDTH) for _ in range(blocks)])
        self.output = nn.Linear(_WIDTH, SYMBOLS)

    def forward(self, ids: np.ndarray) -> Any:
        x = self.embedding(ids)
        for norm, recurrence, linear in zip(self.norms, self.recurrences, self.maps):
            x = x + linear(recurrence(norm(x))[0])
        return self.output(x)[-self.asked :]


class MinGRUStudy(GeneratedStudy):
    """Which of the symbols is this? A gate that sees the input alone cannot count, and a second layer can."""

    name = "mingru"
    title = "Selective copying: minGRU and minLSTM by layers, beside GRU, LSTM and tanh-RNN"
    reference = "Feng, Tung, Ahmed, Bengio, Hajimirsadeghi: Were RNNs All We Needed?, 2024, arXiv:2410.01201, Table 1"
    protocol = (
        "Data: 4 symbols of 8 at random steps among 28 blanks, then 4 signs, at which they are to be named in their "
        "order. New sequences at every training step. The paper's sequences are much longer, so that none of its "
        "figures belongs beside these; what can be compared is the order of the rows: that one layer fails, and two "
        "and three do not.",
        "Residual blocks of a layer normalization, a recurrent layer and a linear map to a width of 32: one, two or "
        "three with minGRU and minLSTM of 64 units, and one with GRU, LSTM and tanh-RNN of as many parameters as two "
        "blocks of minLSTM. The block is ours, not the paper's.",
        "Accuracy: the part of the symbols that is named right, in 1,000 test sequences, the same for all runs, by the "
        "weights after the last step.",
        "Adam, 1,500 steps, learning rate 0.005 after a rise over 5 % of the steps, falling to 0 as a cosine; batches "
        "of 32; the gradient's norm clipped at 1. Not tuned.",
        "Gates start as the layers have them: an LSTM's b_f = 1, all other biases 0.",
    )
    metric, unit, higher_is_better = "test accuracy", "%", True
    tasks: Mapping[str, Task] = {"copying": Task("Selective copying, 4 symbols in 32 steps", {}, margin=1.0)}
    cells: Mapping[str, str] = {
        cell: f"{NAMES[layer]}, {blocks} layer{'s' * (blocks > 1)} of {units} units"
        for cell, (layer, units, blocks) in _CELLS.items()
    }
    takes = "15 minutes on one core"
    settings: Mapping[str, Any] = {
        "steps": 1500, "lr": 0.005, "batch": 32, "clip_norm": 1.0, "length": 32, "symbols": 4, "held_out": 1000,
    }  # fmt: skip
    quick: Mapping[str, Any] = {"steps": 20, "held_out": 100}
    loss = staticmethod(ops.cross_entropy)
    measured = ("accuracy", 100.0)

    def draw(self, task: str, settings: Mapping[str, Any]) -> Draw:
        return partial(selective_copy, length=settings["length"], symbols=settings["symbols"])

    def new_model(self, run: Run, rng: np.random.Generator) -> nn.Module:
        return Copier(*_CELLS[run.cell], run.settings["symbols"])

    def baselines(self, task: str, data: Any) -> dict[str, float]:
        return {"baseline: guessing": 100 / SYMBOLS}
