"""A training run on the rows of a table: windows of its parts, training, and results on the last rows."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from ...backend import manual_seed, resolve
from ...data import Table, split_by_time
from ...data.tables.columns import kind_of
from ...io import replacing
from ...ops import cross_entropy, mse
from ...parallel import Ranks, checksum
from ...parallel.ranks import ALONE
from ..callbacks import Callback
from ..fit import fit
from ..folder import RunFolder
from ..history import History
from ..sharded import ranks_for
from ..terminal import Progress
from .features import Features, filled, usable
from .model import SeriesModel, target_values
from .settings import SeriesSettings

_FEW = 10  # values that are more likely classes


class Results(NamedTuple):
    """The results on the test rows, window by window.

    rows       (N,) the row of the table that a prediction is of; of a forecast the first one
    truth      (N, horizon) numbers in the target's unit, or (N,) classes
    predicted  the same, by the model
    baseline   the same, by the simplest rule: the last known value, or the class that is most frequent in training
    """

    rows: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    baseline: np.ndarray

    def figures(self) -> dict[str, float]:
        """The root of the mean squared error of the model and of the baseline, or their shares of right classes."""
        if self.truth.ndim == 1:
            pairs = (("accuracy", self.predicted), ("accuracy of the most frequent class", self.baseline))
            return {name: float(np.mean(values == self.truth)) for name, values in pairs}
        pairs = (("rmse", self.predicted), ("rmse of the last value", self.baseline))
        return {name: float(np.sqrt(np.mean((values - self.truth) ** 2))) for name, values in pairs}

    def to_csv(self, path: str | os.PathLike[str], table: Table) -> None:
        """Write the predictions: row, its date if the table has one, truth and prediction, of each row ahead."""
        date = next((name for name in table.columns if kind_of(table[name]) == "date"), None)
        ahead = [""] if self.truth.ndim == 1 or self.truth.shape[1] == 1 else [
            f" {k + 1} ahead" for k in range(self.truth.shape[1])
        ]  # fmt: skip
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = ["row", *([date] if date else []), *(f"{what}{k}" for k in ahead for what in ("truth", "predicted"))]
        writer.writerow(names)
        truth, predicted = (values.reshape(len(self.rows), -1) for values in (self.truth, self.predicted))
        for number, row in enumerate(self.rows):
            values = [value for pair in zip(truth[number].tolist(), predicted[number].tolist()) for value in pair]
            writer.writerow([row, *([table[date][row]] if date else []), *values])
        with replacing(path) as file:
            file.write(text.getvalue().encode())


class _Facts(Callback):
    """Keeps in checkpoints what a run must have in common with the one that it goes on with."""

    def __init__(self, settings: SeriesSettings, windows: str) -> None:
        self.facts = {**json.loads(json.dumps(asdict(settings))), "rows (a checksum of the windows)": windows}
        del self.facts["epochs"]

    def state_dict(self) -> dict[str, Any]:
        return dict(self.facts)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in self.facts.items():
            if state.get(name) != value:
                raise ValueError(f"{name} of the run was {state.get(name)!r}, and is {value!r} now")


class SeriesRun:
    """A training run as `settings` describe it, on the rows of `table` in the order of time.

    No window straddles the parts for training, validation and test, and what is fitted (means, categories) is fitted on
    the training rows. Windows whose target is a filled value are left out, of the results too. `left_out` has the
    columns that are not read, and why. The constructor seeds the random numbers: equal settings give equal runs.

    ranks   the job that it is a part of (see `parallel.init`); with `shards` in the settings one process alone

    >>> table = data.Table({"load": np.sin(np.arange(400) / 5)})
    >>> run = train.SeriesRun(table, train.SeriesSettings("load", window=12, hidden=8, epochs=3))
    >>> history = run.fit(progress=False)
    >>> sorted(run.results().figures())
    ['rmse', 'rmse of the last value']
    """

    def __init__(
        self, table: Table, settings: SeriesSettings, device: str | None = None, ranks: Ranks | None = None
    ) -> None:
        self.ranks = ranks_for(ranks or ALONE, settings.shards)
        kind = kind_of(table[settings.target])
        if kind == "date":
            raise ValueError(f"target: {settings.target!r} holds dates: expected numbers or categories")
        task = settings.task or ("forecast" if kind == "number" else "classify")
        self.settings = settings
        self.left_out: dict[str, str] = {}
        names = self._feature_names(table, task)
        try:
            training = split_by_time(table, settings.fractions)[0]
        except ValueError:
            raise ValueError(f"{len(table)} rows are too few to split into training, validation and test") from None
        training = filled(training, [*dict.fromkeys([*names, settings.target])], settings.fill)
        if task == "classify" and len(classes := training.categories(settings.target)) < 2:
            raise ValueError(f"target: {settings.target!r} is {classes[0]!r} in all rows for training: one class")
        manual_seed(settings.seed)
        self.model = SeriesModel.fitted(settings, task, Features.of(training, names), training)
        self.model.network.to(resolve(device))
        self.table = self.model.filled(table)
        missing = {name: table.missing(name) for name in (*names, settings.target)}
        # Interpolation knows the rows after a gap, so a window must not end in one: its target could be among them.
        last = np.any([*missing.values()], axis=0) & (settings.fill == "interpolate")
        self._parts = split_by_time((self.table, missing[settings.target], last), settings.fractions)

    def fit(self, folder: RunFolder | None = None, progress: bool | Progress = True, resume: bool = False) -> History:
        """Train, and keep the best weights on the validation rows. With `resume` a run in the folder goes on, if it has
        the same settings, but maybe other `epochs`, and the same rows."""
        settings, forecasts = self.settings, self.model.task == "forecast"
        training, validation = (self._windows(part) for part in self._parts[:2])
        return fit(
            self.model.network, mse if forecasts else cross_entropy, training, validation=validation,
            epochs=settings.epochs, lr=settings.lr, batch_size=settings.batch, seed=settings.seed, clip_norm=1.0,
            patience=settings.patience, metrics=[] if forecasts else ["accuracy"], folder=folder, progress=progress,
            parallel=self.ranks, resume=resume, callbacks=_Facts(settings, checksum([*training, *validation])),
        )  # fmt: skip

    def results(self) -> Results:
        """What the model predicts for the test rows."""
        (test, *_), (training, *_) = self._parts[2], self._parts[0]
        target, first, ends = self.settings.target, len(self.table) - len(test), self._ends(self._parts[2])
        predicted = self.model.predict(test)[ends - self.settings.window + 1]
        if self.model.task == "classify":
            classes = np.array(self.model.categories)
            truth = classes[test.codes(target, self.model.categories)][ends]
            frequent = np.bincount(training.codes(target, self.model.categories)).argmax()
            return Results(first + ends, truth, predicted, np.full_like(truth, classes[frequent]))
        values = target_values(test, target)
        truth = values[ends[:, None] + 1 + np.arange(self.settings.horizon)]
        baseline = np.broadcast_to(values[ends][:, None], truth.shape)
        return Results(first + ends + 1, truth, predicted, baseline)

    def notes(self) -> list[str]:
        """What may be otherwise than was meant: a target of few whole numbers, or of one alone."""
        target = self.settings.target
        values = np.unique(self.table[target]) if self.model.task == "forecast" else np.array([])
        if len(values) == 1:
            return [f"{target} is {values[0]:g} in all rows: there is nothing to forecast"]
        if self.settings.task is None and 0 < len(values) <= _FEW and np.all(values == np.round(values)):
            return [f"{target} has {len(values)} values, and is forecast as a number: --task classify for its class"]
        return []

    def _feature_names(self, table: Table, task: str) -> list[str]:
        target, names = self.settings.target, self.settings.features
        if names is not None:
            if task == "classify" and target in names:
                raise ValueError(f"features: {target!r} is the class that is to be told")
            return list(names)
        candidates = [name for name in table.columns if task == "forecast" or name != target]
        self.left_out = {name: reason for name in candidates if (reason := usable(table, name)) is not None}
        chosen = [name for name in candidates if name not in self.left_out]
        if not chosen:
            raise ValueError("features: there is no column that can be read; name some")
        return chosen

    def _windows(self, part: tuple[Table, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The inputs and the targets of the windows of a part: changes from the last row (N, horizon), or ids (N,)."""
        (table, *_), ends, target = part, self._ends(part), self.settings.target
        x, starts = self.model.inputs(table), ends - self.settings.window + 1
        x = x[: len(ends)] if starts[-1] == len(ends) - 1 else x[starts]  # a view if no window is left out before
        if self.model.task == "classify":
            return x, table.codes(target, self.model.categories)[ends]
        values, ahead = target_values(table, target), 1 + np.arange(self.settings.horizon)
        return x, (values[ends[:, None] + ahead] - values[ends][:, None]) / self.model.scale

    def _ends(self, part: tuple[Table, np.ndarray, np.ndarray]) -> np.ndarray:
        """The last rows of the windows of a part whose targets are known, rather than filled."""
        table, is_filled, is_no_end = part
        width, horizon = self.settings.window, self.settings.horizon
        ahead = horizon if self.model.task == "forecast" else 0
        if len(table) < width + ahead:
            shares = ", ".join(f"{share:.2f}" for share in self.settings.fractions)
            raise ValueError(
                f"window: a part of {len(table)} rows is too short for a window of {width} and {ahead} rows ahead; of "
                f"the {len(self.table):,} rows training, validation and test have {shares}"
            )
        ends = np.arange(width - 1, len(table) - ahead)
        targets = ends[:, None] + (1 + np.arange(horizon) if ahead else [0])
        ends = ends[~(is_filled[targets].any(axis=1) | is_no_end[ends])]
        if not len(ends):
            raise ValueError(f"target: {self.settings.target!r} is missing after every window of a part of the rows")
        return ends
