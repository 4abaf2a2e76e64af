"""The picture of a run on a table: the loss, and what was predicted beside the truth."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .figures import draw_training, draw_validation, new_figure, save_figure, spans_decades

_MOST_ROWS = 400


def plot_series(path: str | os.PathLike[str], results: Any, history: Any, target: str) -> None:
    """Plot a run on a table to `path`.

    results   `train.series.run.Results`: of a forecast its last rows are drawn, of classes the confusion matrix
    history   `train.History`

    Raises PlotError if matplotlib is not installed.
    """
    figure = new_figure("the run", panels=2)
    left, right = figure.axes
    curves = {name: history.curve(name) for name in ("loss", "validation_loss")}
    draw_training(left, *curves["loss"])
    steps, losses = curves["validation_loss"]
    draw_validation(left, "validation", steps, losses, line="-")
    left.set(title="loss", xlabel="step", yscale="log" if spans_decades(curves) else "linear")
    left.legend()
    if results.truth.ndim == 1:
        _draw_confusion(right, results.truth, results.predicted)
    else:
        rows = results.rows[-_MOST_ROWS:]
        for values, style in ((results.truth, {"color": "0.4"}), (results.predicted, {"color": "tab:orange"})):
            right.plot(rows, values[-_MOST_ROWS:, 0], linewidth=1.2, **style)
        right.legend(["truth", "forecast of the next row"])
        right.set(title=target, xlabel="row")
    save_figure(figure, path)


def _draw_confusion(axes: Any, truth: np.ndarray, predicted: np.ndarray) -> None:
    classes = np.unique(np.concatenate([truth, predicted]))
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (np.searchsorted(classes, truth), np.searchsorted(classes, predicted)), 1)
    axes.imshow(counts, cmap="Blues")
    axes.grid(False)
    labels = [str(value) for value in classes]
    axes.set_xticks(range(len(classes)), labels, rotation=45)
    axes.set_yticks(range(len(classes)), labels)
    axes.set(xlabel="predicted", ylabel="truth", title="classes of the last rows")
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column, row, str(count), ha="center", va="center", color="white" if count > counts.max() / 2 else "black"
        )
