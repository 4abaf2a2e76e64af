"""The plot of a text run's loss curve."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..version import renamed_arguments
from .figures import draw_training, draw_validation, new_figure, save_figure


@renamed_arguments(floors="baselines")
def plot_loss(
    path: str | os.PathLike[str], records: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], title: str
) -> None:
    """Plot the loss curve of a run to `path`, a PNG.

    records    the run's log: "characters" seen, with the "loss" of a training step or the "held_out" loss
    baselines  losses to compare with, by name: horizontal lines

    Raises PlotError if matplotlib is not installed.

    >>> records = [{"characters": 1000 * k, "loss": 3 / (k + 1)} for k in range(50)]
    >>> show.plot_loss("loss.png", records, {"unigram": 3.1}, "a run")      # doctest: +SKIP
    """
    figure = new_figure("the loss")
    (axes,) = figure.axes
    draw_training(axes, *_curve(records, "loss"))
    draw_validation(axes, "held out", *_curve(records, "held_out"))
    for style, (name, loss) in zip(("--", ":", "-."), baselines.items()):
        axes.axhline(loss, color="0.4", linestyle=style, linewidth=1, label=f"{name}, {loss:.2f}")
    axes.set(title=title, xlabel="characters seen (millions)", ylabel="loss (nats/char)")
    axes.set_xlim(left=0)
    axes.legend()
    save_figure(figure, path)


def _curve(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Millions of characters, and the values of that name in the records: shape (2, n). Records that lack either, as in
    a damaged log, are skipped, and so are values that are not finite."""
    pairs = [(record.get("characters"), record.get(name)) for record in records]
    points = np.array(pairs, float).reshape(-1, 2)  # None is NaN there
    return (points[np.isfinite(points).all(axis=1)] / (1e6, 1)).T
