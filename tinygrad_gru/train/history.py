"""History: the records of a training run, as arrays, a table, a file and a picture."""

from __future__ import annotations

import csv
import io
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..hints import did_you_mean, missing_attribute
from ..html import Markup, figure, table
from ..io import replacing
from ..show.figures import draw_training, draw_validation, new_figure, save_figure, smooth, spans_decades
from ..show.svg import line_chart
from .folder import LOG, read_log
from .hints import HISTORY

_POSITION = ("epoch", "step")
#: What steps report beside the losses and metrics, which alone are drawn.
_SETTINGS = ("gradient_norm", "lr", "characters", "seconds")
_VALIDATION = "validation_"
#: Rows of a table that `repr` prints; of more than that the first and the last.
_MOST_ROWS = 12


class Records(Sequence[dict[str, Any]]):
    """Records in order, of which those of numbers take 8 bytes a number: a long run has millions of them."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[Any, ...], int] = {}  # (name, type of its number), …: each is there once
        self._known: list[tuple[Any, ...]] = []
        self._layout_of, self._begin, self._values = array("I"), array("q"), array("d")
        self._others: dict[int, dict[str, Any]] = {}  # by their index

    def append(self, record: Mapping[str, Any]) -> None:
        layout = tuple((name, type(value)) for name, value in record.items())
        values = record.values()
        if not all(type(value) is float or (type(value) is int and abs(value) <= 2**53) for value in values):
            self._others[len(self)], layout, values = dict(record), (), {}.values()
        if layout not in self._layouts:
            self._layouts[layout] = len(self._known)
            self._known.append(layout)
        self._layout_of.append(self._layouts[layout])
        self._begin.append(len(self._values))
        self._values.extend(values)

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, Records) else other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._layout_of)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index in self._others:
            return dict(self._others[index])
        begin = self._begin[index]
        layout = self._known[self._layout_of[index]]
        return {name: kind(self._values[begin + place]) for place, (name, kind) in enumerate(layout)}


class History:
    """The history of a training run: a record, a dictionary of numbers, of each step and of each evaluation.

    records    of steps ("step", "epoch", "loss", "gradient_norm", "lr") and evaluations ("step", "epoch",
               "validation_loss", "validation_accuracy", …), in order
    epochs     one record per epoch: the means of its steps, and its last evaluation
    stopped    why the run ended before its last step; None if it did not
    diagnosis  what is wrong with a run that did not learn; None if it did

    `history["loss"]` are the losses of all steps, `history["validation_loss"]` those of all evaluations, as arrays;
    `history["accuracy"]`, which steps have not, is that of the outputs in training over each epoch.
    `print` shows a table, a notebook a picture too.

    >>> history = train.History([{"step": 1, "epoch": 0, "loss": 3.0}, {"step": 2, "epoch": 0, "loss": 2.0},
    ...                          {"step": 2, "epoch": 0, "validation_loss": 2.5}])
    >>> history["loss"]
    array([3., 2.])
    >>> history.best
    {'step': 2, 'epoch': 0, 'validation_loss': 2.5}
    >>> history
    epoch   step    loss   validation_loss
        1      2     2.5               2.5
    best validation_loss 2.5 at step 2
    """

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self.records = Records()
        self.stopped: str | None = None
        self.diagnosis: str | None = None
        self._epochs: dict[int, dict[str, Any]] = {}
        for record in records:
            self.add(record)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> History:
        """The history in the folder of a run, or in its log file. Raises FileNotFoundError if there is none."""
        file = Path(path) / LOG if Path(path).is_dir() else Path(path)
        if not file.exists():
            raise FileNotFoundError(f"{file} does not exist: expected the folder of a run, or its {LOG}")
        return cls(read_log(file))

    def add(self, record: Mapping[str, Any]) -> None:
        """Add the record of a step or of an evaluation."""
        self.records.append(record)

    def add_epoch(self, record: Mapping[str, Any]) -> None:
        """Add the record of an epoch that has ended."""
        self._epochs[record["epoch"]] = dict(record)

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The records of the epochs, with their last evaluation; of one that was not added, from a log, plain means."""
        by_epoch: dict[int, list[dict[str, Any]]] = {}
        for record in self.records:
            if record.get("step"):  # not the evaluation before the first step
                by_epoch.setdefault(record.get("epoch", 0), []).append(record)
        return [
            {**_summary(by_epoch.get(epoch, ())), **self._epochs.get(epoch, {})}
            for epoch in sorted({*by_epoch, *self._epochs})
        ]

    # -- values ------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of all values in the records, and of those in the records of epochs alone."""
        return list(dict.fromkeys(name for record in (*self.records, *self._epochs.values()) for name in record))

    def __getitem__(self, name: str) -> np.ndarray:
        """The values of that name in all records that have it, as a float array; None there is NaN."""
        return self.curve(name)[1]

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The steps and the values of that name in all records that have it; if none has, in those of epochs.

        Raises KeyError if these have it neither.
        """
        found = [record for record in self.records if name in record]
        found = found or [record for record in self._epochs.values() if name in record]
        if not found:
            close = did_you_mean(str(name).replace("val_", _VALIDATION), self.names)
            raise KeyError(f"the history has no {name!r}{close}; it has {', '.join(self.names) or 'no records yet'}")
        steps, values = np.array([(record.get("step"), record[name]) for record in found], float).T  # None is NaN
        return steps, values

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the lowest validation loss; without evaluations the step with the lowest loss."""
        name = self._criterion()
        found = [r for r in self.records if math.isfinite(_number(r.get(name)))]
        trained = [record for record in found if record.get("step")]
        return min(trained or found, key=lambda record: record[name], default=None)

    @property
    def last(self) -> dict[str, Any]:
        """The last value of every name."""
        return {name: value for record in self.records for name, value in record.items()}

    def _criterion(self) -> str:
        """The name of the loss by which records are compared."""
        known = set(self.names)
        return next((name for name in ("validation_loss", "held_out") if name in known), "loss")

    def __getattr__(self, name: str) -> Any:
        raise missing_attribute("a History", name, HISTORY)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records)

    def __bool__(self) -> bool:
        return True

    # -- tables ------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """The records of the epochs; if evaluations come in between, those of the evaluations, with means of steps."""
        epochs = self.epochs
        ends = {epoch["step"] for epoch in epochs}
        if ends.issuperset(r["step"] for r in self.records if r.get("step") and "loss" not in r):
            return epochs
        parts: list[list[dict[str, Any]]] = [[]]
        for record in self.records:
            parts[-1].append(record)
            if "loss" not in record and record.get("step"):
                parts.append([])
        return [_summary(part) for part in parts if part]

    def _table(self) -> tuple[list[str], list[list[Any]]]:
        """The names of the columns, and their values in each row; epochs are counted from 1."""
        rows = self.rows()
        found = dict.fromkeys([*_POSITION, "loss", *(name for row in rows for name in row)])
        names = sorted((name for name in found if any(name in row for row in rows)), key=_SETTINGS.__contains__)
        return names, [
            [row[name] + 1 if name == "epoch" and name in row else row.get(name) for name in names] for row in rows
        ]

    def _notes(self) -> list[str]:
        best, name = self.best, self._criterion()
        notes = [] if best is None else [f"best {name} {best[name]:.4g} at step {best.get('step', 0):,}"]
        return notes + [note for note in (self.stopped, self.diagnosis) if note]

    def __repr__(self) -> str:
        if not self.records:
            return "History without records"
        names, rows = self._table()
        cells = [names, *([_shown(value) for value in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ["   ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells]
        if len(rows) > _MOST_ROWS:
            half = _MOST_ROWS // 2
            lines[half + 1 : -half] = [f"… {len(rows) - 2 * half:,} more …".center(len(lines[0])).rstrip()]
        return "\n".join([*lines, *self._notes()])

    def _repr_html_(self) -> str:
        names, rows = self._table()
        charts = [
            line_chart(
                {kind: (x, smooth(y) if kind == "training" else y) for kind, (x, y) in curves.items()},
                title, "step", log_y=spans_decades(curves),
            )
            for title, curves in self._panels().items()
        ]  # fmt: skip
        pictures = Markup(f'<div style="display:flex;flex-wrap:wrap">{"".join(charts)}</div>')
        return figure("; ".join(self._notes()), pictures) + table("History", rows, names)

    # -- pictures and files ------------------------------------------------------------------------------------

    def _panels(self) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
        """The curves to draw, of finite values: for the loss and each metric those of training and of validation."""
        panels: dict[str, dict[str, Any]] = {}
        nothing = np.zeros((2, 0))
        for name in self.names:
            if name not in (*_POSITION, *_SETTINGS):
                base = "loss" if name == "held_out" else name.removeprefix(_VALIDATION)
                steps, values = self.curve(name)
                finite = np.isfinite(steps) & np.isfinite(values)
                kind = "training" if name == base else "validation"
                panel = panels.setdefault(base, {"training": nothing, "validation": nothing})
                panel[kind] = steps[finite], values[finite]
        return dict(sorted(panels.items(), key=lambda item: item[0] != "loss"))

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the loss and each metric, of training and validation, with matplotlib; returns the figure.

        With a `path` it is saved too, in the format of the path's ending (.png, .svg, .pdf). Raises PlotError if
        matplotlib is not installed, and ValueError if there is nothing to draw.
        """
        panels = self._panels()
        if not panels:
            raise ValueError("the history has no records to plot")
        picture = new_figure("the history", len(panels))
        for axes, (title, curves) in zip(picture.axes, panels.items()):
            draw_training(axes, *curves["training"])
            draw_validation(axes, "validation", *curves["validation"], line="-")
            axes.set(title=title, xlabel="step")
            if spans_decades(curves):
                axes.set_yscale("log")
            axes.legend()
        if path is not None:
            save_figure(picture, path)
        return picture

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all records to a CSV file, a column for each name; what a record has not is empty there."""
        text = io.StringIO(newline="")
        names = list(dict.fromkeys(name for record in self.records for name in record))
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        with replacing(path) as file:
            file.write(text.getvalue().encode())


def _summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of some records the position of the last, the means of what steps have, and the last of what evaluations have."""
    last = {name: value for record in records for name, value in record.items()}
    steps = [record for record in records if "loss" in record]
    for name in dict.fromkeys(name for record in steps for name in record if name not in (*_POSITION, "characters")):
        values = [value for value in (_number(record.get(name)) for record in steps) if not math.isnan(value)]
        last[name] = sum(values) / len(values) if values else math.nan
    return last


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
