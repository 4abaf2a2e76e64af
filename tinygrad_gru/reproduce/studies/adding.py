"""The adding problem: the sum of two marked numbers in a long sequence, after Bai et al. 2018."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ... import nn, ops
from ...tensor import Tensor
from ..study import Run, Task
from .cells import with_units
from .generated import Draw, GeneratedStudy, Pair, remember

#: E (a + b − 1)² for independent a, b ~ U(0, 1): Var a + Var b = 1/12 + 1/12, for a + b has the mean 1.
BASELINE = 1 / 6
_CELLS = {"rnn": (nn.RNN, 262), "gru": (nn.GRU, 151), "lstm": (nn.LSTM, 130)}


def adding(rng: np.random.Generator, count: int, length: int) -> Pair:
    """Sequences (length, count, 2) of a number from U(0, 1) and a mark, and of each the sum of its two marked numbers.

    One mark is at a step of the first half, one in the second: each 1, the others 0.
    """
    numbers, marks = rng.random((length, count), dtype=np.float32), np.zeros((length, count), np.float32)
    sequence = np.arange(count)
    marks[rng.integers(0, length // 2, count), sequence] = 1
    marks[rng.integers(length // 2, length, count), sequence] = 1
    return np.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=0)


class Adder(nn.Module):
    """The sum, linear in the last state of a recurrent layer."""

    def __init__(self, layer: nn.Recurrent) -> None:
        self.recurrence, self.output = layer, nn.Linear(layer.output_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.recurrence(x)
        return self.output(output[-1])[:, 0]


class Adding(GeneratedStudy):
    """A number is to be kept for hundreds of steps, among others that are to be ignored.

    The best that ignores the inputs is to say 1, whose error is the variance of the sum: with a, b ~ U(0, 1) and
    independent, E (a + b − 1)² = Var a + Var b = 1/12 + 1/12 = 1/6.
    """

    name = "adding"
    title = "The adding problem: GRU, LSTM and tanh-RNN with as many parameters"
    reference = (
        "Bai, Kolter, Koltun: An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence "
        "Modeling, 2018, arXiv:1803.01271, Table 1"
    )
    protocol = (
        "Data: T pairs of a number from U(0, 1) and a mark, which is 1 at a random step of each half and 0 elsewhere; "
        "the target is the sum of the two marked numbers. New sequences at every training step.",
        "One recurrent layer of about 70,000 parameters, as in the paper, and a linear layer on its last state.",
        "MSE: the mean over 1,000 test sequences, the same for all runs, of the weights after the last step.",
        "Adam, learning rate 0.01 after a rise over 5 % of the steps, falling to 0 as a cosine; batches of 32; the "
        "gradient's norm clipped at 1; 1,000 steps. The rate was chosen for the GRU and T = 600, of 0.004 and 0.01, on "
        "validation sequences and with another seed than those of the report.",
        "Gates start so that units remember for 1 to T steps (Tallec & Ollivier 2018, “chrono”): a GRU's b_z = −log u, "
        "an LSTM's b_f = log u and b_i = −log u, u ~ U(1, T − 1). That is a choice "
        "of ours, not the paper's, whose LSTM fails.",
        "The baseline says 1: E (a + b − 1)² = Var a + Var b = 1/6; what it makes of the test sequences stands beside.",
    )
    metric, unit = "test MSE", ""
    tasks: Mapping[str, Task] = {
        "100": Task("T = 100", {}, margin=1e-3),
        "200": Task("T = 200", {}, margin=1e-3),
        "600": Task("T = 600", {"rnn": 0.177, "gru": 5.3e-5, "lstm": 0.164}, margin=1e-3),
    }
    cells: Mapping[str, str] = with_units(_CELLS)
    takes = "25 minutes on one core, of which T = 600 takes 15"
    settings: Mapping[str, Any] = {"steps": 1000, "lr": 0.01, "batch": 32, "clip_norm": 1.0, "held_out": 1000}
    quick: Mapping[str, Any] = {"steps": 20, "held_out": 100}
    loss = staticmethod(ops.mse)

    def draw(self, task: str, settings: Mapping[str, Any]) -> Draw:
        return partial(adding, length=int(task))

    def new_model(self, run: Run, rng: np.random.Generator) -> nn.Module:
        layer, units = _CELLS[run.cell]
        model = Adder(layer(2, units))
        remember(model.recurrence, int(run.task), rng)
        return model

    def baselines(self, task: str, data: Any) -> dict[str, float]:
        """Saying 1: what is expected of it, and on these test sequences, which are 1,000."""
        found = float(np.mean([np.square(sums - 1).mean() for _, sums in data["test"]]))
        return {"baseline: always 1, expected": BASELINE, "baseline: always 1, on the test sequences": found}
