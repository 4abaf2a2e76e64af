"""Study: a published comparison of cells, with its protocol pinned, that one command runs again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..nn import Module
from ..train import History, Progress, Trainer, fit
from .datafile import DataFile


class Result(NamedTuple):
    """What a run gives.

    parameters  the number of trainable parameters
    quality     the study's metric on the test data, of the weights that the protocol chooses
    curve       [step, value] pairs: the metric on the validation data while it trained
    more        other figures by name, such as the number of epochs or the metric on other splits

    >>> reproduce.Result(3 * 100, 8.5, [[0, 60.0], [100, 8.6]], {"epochs": 1}).quality
    8.5
    """

    parameters: int
    quality: float
    curve: list[list[float]]
    more: dict[str, float]


def validation_curve(history: History, name: str = "loss", scale: float = 1.0) -> list[list[float]]:
    """The `curve` of a Result: of each evaluation its step and, times `scale`, what it calls by that name."""
    steps, values = history.curve(f"validation_{name}")
    return np.stack([steps, scale * values], axis=1).tolist()


@dataclass(frozen=True)
class Task:
    """A data set or a setting of a study, on which all its cells run: a table of the report.

    title      of the table
    published  the paper's figure of each cell that it has one for
    file       the data; None: they are generated
    margin     how much worse, in the unit of the metric, still counts as "does as well"

    >>> reproduce.Task("Adding, T = 600", {"gru": 5.3e-5, "lstm": 0.164}, margin=1e-3).published["gru"]
    5.3e-05
    """

    title: str
    published: Mapping[str, float]
    margin: float
    file: DataFile | None = None


@dataclass(frozen=True)
class Run:
    """A run that a study is to make: one cell, one task, one seed.

    task, cell  their names
    seed        of the run: `manual_seed(seed)` has been called; the order of the data takes it, too
    data        what `Study.load` gave
    settings    the study's settings, with those of `--quick` where they were asked for
    progress    the display: advance it by one a step; `fit` does
    folder      for checkpoints of the run, from which an interrupted one goes on; None: nothing is written

    >>> run = reproduce.Run("copy", "gru", seed=0, data=None, settings={"lr": 1e-3})
    >>> run.fit(nn.Linear(1, 1), ops.mse, (np.ones((8, 1)), np.ones((8, 1))), steps=2)["loss"].shape
    (2,)
    """

    task: str
    cell: str
    seed: int
    data: Any
    settings: Mapping[str, Any]
    progress: Progress = field(default_factory=Progress)
    folder: Path | None = None

    def setting(self, name: str) -> Any:
        """The setting of that name: that of the run's task or cell, where it is a table of tasks or of cells.

        >>> reproduce.Run("copy", "gru", 0, None, {"lr": {"gru": 1e-3, "lstm": 2e-3}}).setting("lr")
        0.001
        """
        value = self.settings[name]
        while isinstance(value, Mapping):
            value = value[self.task if self.task in value else self.cell]
        return value

    def fit(self, model: Module, loss: Any, data: Any, **options: Any) -> History:
        """`train.fit` with the run's display, folder and resumption. KeyboardInterrupt if it was interrupted."""
        history = fit(
            model, loss, data, progress=self.progress, folder=self.folder, resume=self.folder is not None, **options
        )  # fmt: skip
        if (history.stopped or "").startswith("interrupted"):
            raise KeyboardInterrupt
        return history


class Study:
    """Base class of studies: what is compared, how, and the figures that were published.

    A subclass is a module of its own, in `reproduce/studies/`, and an entry in `STUDIES`. It sets

    name, title     as on the command line, and in words
    reference       the paper, its table and its year
    protocol        sentences: what is averaged over what, which split is used for what, when training stops, the
                    optimiser; also where they differ from the paper's
    metric, unit    "test NLL", "nats/step"; lower is better, unless `higher_is_better`
    tasks, cells    by name: `Task` objects, and how a table calls a cell ("GRU, 46 units")
    claim           the cells that are compared last: the first does as well as the second for less; and whether it is
                    better than the others, of those that the study has
    seeds           how many a command takes that does not say
    takes           how long that is, in words: "20 minutes on two cores"
    settings        numbers and words of the protocol that a result depends on; a folder of other ones is refused
    quick           those that `--quick` replaces, so that all runs together take a minute

    and defines `load`, `run` and `trainer`; `baselines` and `steps` where there is something to say.

    >>> class Line(reproduce.Study):
    ...     name, title, reference = "line", "A straight line", "nobody, 2026"
    ...     metric, unit, takes, settings, quick = "test MSE", "", "a second", {"steps": 300}, {"steps": 100}
    ...     tasks = {"line": reproduce.Task("y = 3 x", {}, margin=0.1)}
    ...     cells, claim = {"small": "one layer", "large": "two layers"}, ("small", "large")
    ...
    ...     def model(self, run):
    ...         return nn.Linear(1, 1) if run.cell == "small" else nn.Sequential(nn.Linear(1, 8), nn.Linear(8, 1))
    ...
    ...     def load(self, task, path, settings):
    ...         x = np.linspace(-1, 1, 64)[:, None]
    ...         return x, 3 * x
    ...
    ...     def run(self, run):
    ...         model = self.model(run)
    ...         history = run.fit(model, ops.mse, run.data, steps=run.settings["steps"], lr=0.05)
    ...         test = train.evaluate(model, ops.mse, run.data)["loss"]
    ...         return reproduce.Result(model.parameter_count(), test, [[1, history["loss"][0]]], {})
    ...
    ...     def trainer(self, run):
    ...         model = self.model(run)
    ...         return train.Trainer(model, ops.mse, optim.Adam(model.parameters()), [run.data])
    >>> outcome = reproduce.run_study(Line(), seeds=2, quick=True, out="line", progress=False)
    >>> len(outcome.results["line", "small"])
    2
    """

    name: str
    title: str
    reference: str
    protocol: tuple[str, ...] = ()
    metric: str
    unit: str
    higher_is_better = False
    tasks: Mapping[str, Task]
    cells: Mapping[str, str]
    claim: tuple[str, ...] = ("gru", "lstm", "rnn")
    seeds = 3
    takes: str
    settings: Mapping[str, Any]
    quick: Mapping[str, Any]

    def load(self, task: str, path: Path | None, settings: Mapping[str, Any]) -> Any:
        """The data of a task, from its file, or generated if it has none: the same for all cells and seeds."""
        raise NotImplementedError

    def run(self, run: Run) -> Result:
        """Train a model and measure it, by the protocol."""
        raise NotImplementedError

    def trainer(self, run: Run) -> Trainer:
        """A trainer of the run's model whose `step()` is timed: on batches of the run's own size."""
        raise NotImplementedError

    def baselines(self, task: str, data: Any) -> dict[str, float]:
        """The metric of models that are no network, by name: what a cell must be better than."""
        return {}

    def steps(self, run: Run) -> int:
        """The most steps that a run takes, for the display."""
        return int(run.settings["steps"])
