"""SeriesModel: a network that reads windows of a table's rows, with all that it takes to use it on other rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ...backend import resolve
from ...data import Standardizer, Table
from ...data.tables.columns import kind_of
from ...io.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ...io.schema import ARRAY, NUMBER, OBJECT, TEXT, ValueType, check, dict_of, optional
from ...nn import LastStep, Linear, Sequential
from ..fit import predict
from .features import Features, filled
from .settings import CELLS, SeriesSettings

_ANY_LIST = ValueType("a list", lambda value: type(value) is list)
_STATE = {
    "settings": OBJECT,
    "task": TEXT,
    "features": OBJECT,
    "standardizer": dict_of(ARRAY),
    "categories": _ANY_LIST,
    "scale": optional(NUMBER),
    "model": dict_of(ARRAY),
}


class SeriesModel:
    """A forecaster or a classifier of windows of rows.

        x = standardised features of `window` rows,    y = W · h(last row) + b

    A forecast of k rows ahead is target(last row) + scale · y_k, where scale is the standard deviation of the target
    over the training rows; a class is argmax y.

    >>> table = data.Table({"load": np.sin(np.arange(100) / 5)})
    >>> run = train.SeriesRun(table, train.SeriesSettings("load", window=8, hidden=4))
    >>> run.model.save("model.safetensors")
    >>> train.SeriesModel.load("model.safetensors").predict(table).shape      # (windows, rows ahead)
    (93, 1)
    """

    def __init__(
        self,
        settings: SeriesSettings,
        task: str,
        features: Features,
        standardizer: Standardizer,
        categories: Sequence[Any] = (),
        scale: float | None = None,
    ) -> None:
        self.settings, self.task, self.features, self.standardizer = settings, task, features, standardizer
        self.categories, self.scale = list(categories), scale
        layer = CELLS[settings.cell](
            features.size, settings.hidden, settings.layers, batch_first=True, dropout=settings.dropout
        )
        outputs = settings.horizon if task == "forecast" else len(self.categories)
        self.network = Sequential(layer, LastStep(), Linear(settings.hidden, outputs))

    @classmethod
    def fitted(cls, settings: SeriesSettings, task: str, features: Features, training: Table) -> SeriesModel:
        """An untrained model whose statistics and categories are those of the training rows."""
        standardizer = Standardizer().fit(features.array(training))
        if task == "classify":
            return cls(settings, task, features, standardizer, training.categories(settings.target))
        scale = float(Standardizer().fit(target_values(training, settings.target)).std[0])
        return cls(settings, task, features, standardizer, scale=scale)

    def filled(self, table: Table) -> Table:
        """The table with missing values filled as the settings say, in the columns that are read."""
        names = [name for name in dict.fromkeys([*self.features.columns, self.settings.target]) if name in table]
        return filled(table, names, self.settings.fill)

    def inputs(self, table: Table) -> np.ndarray:
        """The windows that end at rows window − 1 … T − 1 of a filled table: (N, window, F)."""
        width = self.settings.window
        if len(table) < width:
            raise ValueError(f"window: {len(table)} rows are too few for a window of {width}")
        features = self.standardizer.transform(self.features.array(table))
        return np.lib.stride_tricks.sliding_window_view(features, width, axis=0).transpose(0, 2, 1)

    def predict(self, table: Table) -> np.ndarray:
        """For the windows that end at rows window − 1 … T − 1: forecasts (N, horizon), or classes (N,)."""
        table = self.filled(table)
        outputs = predict(self.network, self.inputs(table))
        if self.task == "classify":
            return np.array(self.categories)[outputs.argmax(axis=1)]
        return target_values(table, self.settings.target)[self.settings.window - 1 :, None] + self.scale * outputs

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file, for `load`."""
        columns = {name: None if values is None else list(values) for name, values in self.features.columns.items()}
        state = {
            "settings": asdict(self.settings),
            "task": self.task,
            "features": columns,
            "standardizer": self.standardizer.state_dict(),
            "categories": self.categories,
            "scale": self.scale,
            "model": self.network.state_dict(),
        }
        save_checkpoint(path, state)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | None = None) -> SeriesModel:
        """The model in a file that `save` wrote. Raises CheckpointError if there is none in it."""
        state = load_checkpoint(path)
        try:
            check(state, _STATE)
            settings = dict(state["settings"])
            if settings.get("features") is not None:
                settings["features"] = tuple(settings["features"])
            standardizer = Standardizer()
            standardizer.load_state_dict(state["standardizer"])
            model = cls(
                SeriesSettings(**settings), state["task"], Features(state["features"]), standardizer,
                state["categories"], state["scale"],
            )  # fmt: skip
            model.network.load_state_dict(state["model"])
        except (CheckpointError, TypeError, ValueError) as error:
            raise CheckpointError(f"{os.fspath(path)} does not hold a model of series: {error}") from error
        model.network.to(resolve(device))
        return model


def target_values(table: Table, target: str) -> np.ndarray:
    """The numbers of the target column: (T,)."""
    if kind_of(table[target]) == "category":
        raise ValueError(f"target: {target!r} holds categories, which cannot be forecast: task='classify'")
    return Features({target: None}).array(table)[:, 0]
