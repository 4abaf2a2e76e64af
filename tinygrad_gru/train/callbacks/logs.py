"""Logs of a run for other programs: CSV files, and event files for TensorBoard."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...backend import astype, to_host
from ...io import replacing
from .base import Callback

_KINDS = ("step", "evaluation", "epoch")
#: What the records of steps have, so that those of epochs need not repeat it.
_OF_STEPS = ("step", "epoch", "loss", "gradient_norm", "lr")


class CSVLog(Callback):
    """A CSV file with a row for each epoch, or for each step or evaluation, that a spreadsheet or pandas opens.

    path   the file; an old one is replaced, or, in a run that is resumed, continued after its last step
    every  which records: "epoch", "step" or "evaluation"

    There is a column for every name in the records. The file is complete after every row. All records of a run at once
    are written by `history.to_csv(path)`.

    >>> log = train.CSVLog("log.csv", every="step")
    >>> _ = train.fit(nn.Linear(2, 1), ops.mse, (np.ones((8, 2)), np.ones((8, 1))), steps=3, callbacks=[log],
    ...               progress=False)
    >>> np.genfromtxt("log.csv", delimiter=",", names=True)["loss"].shape
    (3,)
    """

    on_all_ranks = False

    def __init__(self, path: str | os.PathLike[str], every: str = "epoch") -> None:
        if every not in _KINDS:
            raise ValueError(f"every: expected one of {', '.join(_KINDS)}, got {every!r}")
        self.path, self.every = Path(path), every
        self._names: list[str] = []

    def on_train_begin(self, loop: Any) -> None:
        rows = self._rows(loop.steps) if loop.steps and self.path.exists() else []
        self._names = list(rows[0]) if rows else []
        self._replace(rows)

    def on_step_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        self._write("step", record)

    def on_evaluation_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        self._write("evaluation", record)

    def on_epoch_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        self._write("epoch", record)

    def _write(self, kind: str, record: Mapping[str, Any]) -> None:
        if kind != self.every:
            return
        if new := [name for name in record if name not in self._names]:
            rows = self._rows(math.inf)
            self._names += new
            self._replace(rows)
        with open(self.path, "ab") as file:
            file.write(self._text([record]))

    def _rows(self, last_step: float) -> list[dict[str, Any]]:
        """The rows in the file up to a step."""
        with open(self.path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]
        return [row for row in rows if int(row["step"]) <= last_step]

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        header = self._text([dict(zip(self._names, self._names))]) if self._names else b""
        with replacing(self.path) as file:
            file.write(header + self._text(rows))

    def _text(self, rows: list[Any]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._names, extrasaction="ignore", lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


class TensorBoard(Callback):
    """Event files for TensorBoard (`tensorboard --logdir FOLDER`), by the package tensorboardX.

    folder      of the event files; one per run, whose name TensorBoard shows
    histograms  write histograms of all parameters, too, at each evaluation and epoch

    Scalars of steps are "loss/training", "lr" and "gradient_norm", of epochs "accuracy/training", …, of evaluations
    "loss/validation", "accuracy/validation", …: so both curves of a loss are beside each other. In a run that is
    resumed what was written after its last step is hidden. Raises ImportError if tensorboardX is not installed.

    >>> callbacks = [train.TensorBoard("runs/gru-64")]            # doctest: +SKIP
    """

    on_all_ranks = False

    def __init__(self, folder: str | os.PathLike[str], histograms: bool = False) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs tensorboardX, which is not installed (pip install 'tinygrad_gru[tensorboard]')"
            ) from error
        self.folder, self.histograms = Path(folder), histograms
        self._make_writer = SummaryWriter
        self._writer: Any = None

    def on_train_begin(self, loop: Any) -> None:
        self._writer = self._make_writer(os.fspath(self.folder), purge_step=loop.steps + 1 if loop.steps else None)

    def on_step_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        self._write(record, {name: f"{name}/training" if name == "loss" else name for name in record})

    def on_evaluation_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        self._write(record, {name: f"{name.removeprefix('validation_')}/validation" for name in record})
        self._write_parameters(loop)

    def on_epoch_end(self, loop: Any, record: Mapping[str, Any]) -> None:
        means = [name for name in record if name not in _OF_STEPS and not name.startswith("validation_")]
        self._write(record, {name: f"{name}/training" for name in means})
        self._write_parameters(loop)

    def on_train_end(self, loop: Any) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, record: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        for name, tag in tags.items():
            if name not in ("step", "epoch") and record[name] is not None:
                self._writer.add_scalar(tag, float(record[name]), record["step"])

    def _write_parameters(self, loop: Any) -> None:
        if self.histograms:
            for name, parameter in loop.model.named_parameters():
                values = to_host(astype(parameter.data, "float32"))
                self._writer.add_histogram(name.replace(".", "/"), values, loop.steps)
        self._writer.flush()
