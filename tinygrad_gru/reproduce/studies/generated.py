"""Studies whose sequences are generated: training on new ones at every step, validation and test on fixed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ... import nn
from ...data import Epochs
from ...optim import Adam, WarmupCosine
from ...train import Trainer, evaluate
from ..study import Result, Run, Study, validation_curve

#: What stands before the numbers of a batch in the seed of its generator: a run's seed is never that of held-out data.
_TRAINING, _VALIDATION, _TEST, _GATES = range(4)
_HELD_OUT_BATCH = 100

Pair = tuple[np.ndarray, np.ndarray]
Draw = Callable[[np.random.Generator, int], Pair]


class Generated(Epochs[Pair]):
    """Batches (inputs, targets) that are drawn as they are read: batch k depends on the seed and on k alone.

    draw   (generator, number of sequences) → (inputs, targets), time first
    steps  batches of an epoch
    """

    def __init__(self, draw: Draw, steps: int, batch_size: int, seed: int) -> None:
        super().__init__(steps)
        self.draw, self.batch_size, self.seed = draw, batch_size, seed

    def _prepare(self, epoch: int) -> None:
        self._prepared = epoch

    def _batch(self, index: int) -> Pair:
        return self.draw(np.random.default_rng((_TRAINING, self.seed, self._prepared, index)), self.batch_size)

    def _arrangement(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "seed": self.seed}


def remember(layer: nn.Recurrent, longest: int, rng: np.random.Generator) -> None:
    """Start the gates of a GRU or LSTM so that its units forget after 1 to `longest` steps (Tallec & Ollivier 2018):

        GRU    b_z = −log u                         z ≈ 1 / (1 + u): h keeps what it has for about u steps
        LSTM   b_f = log u,  b_i = −log u           u ~ U(1, longest − 1), another for each unit

    Other layers are left as they are.
    """
    for cell in layer.cells:
        u = np.log(rng.uniform(1, longest - 1, cell.hidden_size))
        starts: dict[type[nn.Cell], dict[str, np.ndarray]] = {
            nn.GRUCell: {"b_z": -u},
            nn.LSTMCell: {"b_f": u, "b_i": -u},
        }
        cell.load_state_dict({**cell.state_dict(), **starts.get(type(cell), {})})


class GeneratedStudy(Study):
    """Base class of the studies of generated data: a subclass has `draw`, `new_model`, `loss` and `score`."""

    def draw(self, task: str, settings: Mapping[str, Any]) -> Draw:
        """The function that draws sequences of a task."""
        raise NotImplementedError

    def new_model(self, run: Run, rng: np.random.Generator) -> nn.Module:
        """The untrained model of a run; `rng` is for what is not drawn by the library's own generators."""
        raise NotImplementedError

    loss: Callable[[Any, Any], Any]
    #: What `evaluate` calls the metric, and the factor from its value to the study's unit.
    measured: tuple[str, float] = ("loss", 1.0)

    @property
    def _metrics(self) -> list[str]:
        return [] if self.measured[0] == "loss" else [self.measured[0]]

    def score(self, model: nn.Module, batches: Iterable[Pair]) -> dict[str, float]:
        """The metric, as "quality", and other figures of a model on batches."""
        name, scale = self.measured
        return {"quality": scale * evaluate(model, self.loss, batches, metrics=self._metrics)[name]}

    def load(self, task: str, path: Path | None, settings: Mapping[str, Any]) -> dict[str, list[Pair]]:
        """The sequences for validation and for the test, as batches."""
        draw, batches = self.draw(task, settings), -(-settings["held_out"] // _HELD_OUT_BATCH)
        return {
            split: [draw(np.random.default_rng((part, k)), _HELD_OUT_BATCH) for k in range(batches)]
            for split, part in (("valid", _VALIDATION), ("test", _TEST))
        }

    def model(self, run: Run) -> nn.Module:
        return self.new_model(run, np.random.default_rng((_GATES, run.seed)))

    def run(self, run: Run) -> Result:
        """Train for the study's number of steps, and measure the weights at their end."""
        model, settings, steps = self.model(run), run.settings, self.steps(run)
        history = run.fit(
            model, self.loss, Generated(self.draw(run.task, settings), steps, settings["batch"], run.seed),
            validation=run.data["valid"], steps=steps, lr=run.setting("lr"),
            clip_norm=settings["clip_norm"], schedule=WarmupCosine, metrics=self._metrics,
        )  # fmt: skip
        more = self.score(model, run.data["test"])
        return Result(model.parameter_count(), more.pop("quality"), validation_curve(history, *self.measured), more)

    def trainer(self, run: Run) -> Trainer:
        """On one batch of the run's size."""
        model, settings = self.model(run), run.settings
        batch = self.draw(run.task, settings)(np.random.default_rng(0), settings["batch"])
        return Trainer(model, self.loss, Adam(model.parameters()), [batch], clip_norm=settings["clip_norm"])

    def steps(self, run: Run) -> int:
        return int(run.setting("steps"))
