"""The plot of a run's loss curve."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..io import replacing
from ..version import renamed_arguments


class PlotError(RuntimeError):
    """The loss cannot be plotted: matplotlib is missing."""


@renamed_arguments(floors="baselines")
def plot_loss(
    path: str | os.PathLike[str], records: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], title: str
) -> None:
    """Plot the loss curve of a run to `path`, a PNG.

    records    the run's log: "characters" seen, with the "loss" of a training step or the "held_out" loss
    baselines  losses to compare with, by name: horizontal lines

    Raises PlotError if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(
            "the loss was not plotted: matplotlib is not installed (pip install 'tinygrad_gru[plot]')"
        ) from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    (seen, losses), held_out = _curve(records, "loss"), _curve(records, "held_out")
    if losses.size:
        axes.plot(seen, losses, color="tab:blue", alpha=0.25, linewidth=0.8)
        axes.plot(seen, _smooth(losses), color="tab:blue", linewidth=1.5, label="training (running mean)")
    if held_out.size:
        axes.plot(*held_out, "o", color="tab:orange", label="held out")
    for style, (name, loss) in zip(("--", ":", "-."), baselines.items()):
        axes.axhline(loss, color="0.4", linestyle=style, linewidth=1, label=f"{name}, {loss:.2f}")
    axes.set(title=title, xlabel="characters seen (millions)", ylabel="loss (nats/char)")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.2)
    axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _curve(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Millions of characters, and the values of that name in the records: shape (2, n). Records that lack either, as in
    a damaged log, are skipped, and so are values that are not finite."""
    pairs = [(record.get("characters"), record.get(name)) for record in records]
    points = np.array(pairs, float).reshape(-1, 2)  # None is NaN there
    return (points[np.isfinite(points).all(axis=1)] / (1e6, 1)).T


def _smooth(values: np.ndarray) -> np.ndarray:
    """The running mean: of each value and those before it, over a window of a hundredth of all values."""
    width = max(1, len(values) // 100)
    sums = np.cumsum(np.concatenate([np.zeros(1), values]))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - width, 0)
    return (sums[ends] - sums[begins]) / (ends - begins)
