"""What plots share: figures without a display, curves of training and validation, and files that are replaced whole."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..io import replacing

_PANELS_IN_A_ROW = 3


class PlotError(RuntimeError):
    """Nothing can be plotted: matplotlib is missing."""


def new_figure(
    what: str, panels: int = 1, columns: int = _PANELS_IN_A_ROW, size: tuple[float, float] | None = None
) -> Any:
    """A figure of matplotlib with so many panels in rows of `columns`, which a notebook shows; pyplot is not needed.

    size  in inches

    Raises PlotError, which says `what` was not plotted, if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(
            f"{what} was not plotted: matplotlib is not installed (pip install 'tinygrad_gru[plot]')"
        ) from error

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    columns = min(panels, columns)
    rows = -(-panels // columns)
    size = size or ((8, 5) if panels == 1 else (5 * columns, 4 * rows))
    figure = NotebookFigure(figsize=size, layout="constrained")
    for number in range(panels):
        figure.add_subplot(rows, columns, number + 1).grid(alpha=0.2)
    return figure


def draw_training(axes: Any, x: np.ndarray, y: np.ndarray, label: str = "training", colour: str = "tab:blue") -> None:
    """Draw the values of all steps, and, if there are many, their running mean."""
    mean = smooth(y)
    is_mean = not np.array_equal(mean, y)
    if is_mean:
        axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
    if y.size:
        axes.plot(x, mean, color=colour, linewidth=1.5, label=label + " (running mean)" * is_mean)


def draw_validation(
    axes: Any, label: str, x: np.ndarray, y: np.ndarray, line: str = "", colour: str = "tab:orange"
) -> None:
    """Draw the values of evaluations."""
    if y.size:
        axes.plot(x, y, f"o{line}", color=colour, markersize=4 if line else 6, label=label)


def save_figure(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """Save to `path`, if there is one, in the format of its ending, without one as PNG; returns the figure."""
    if path is None:
        return figure
    ending = os.path.splitext(path)[1].removeprefix(".").lower() or "png"
    formats = figure.canvas.get_supported_filetypes()
    if ending not in formats:
        raise ValueError(f"path: expected a file that ends in .{', .'.join(sorted(formats))}, got {os.fspath(path)!r}")
    with replacing(path) as file:
        figure.savefig(file, format=ending, dpi=150)
    return figure


def smooth(values: np.ndarray) -> np.ndarray:
    """The running mean: of each value and those before it, over a window of a hundredth of all values."""
    width = len(values) // 100
    if width < 2:
        return values
    sums = np.cumsum(np.concatenate([np.zeros(1), values]))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - width, 0)
    return (sums[ends] - sums[begins]) / (ends - begins)


def spans_decades(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether positive values differ by more than a factor of 50, so that a logarithmic axis shows more."""
    values = np.concatenate([y for _, y in curves.values()])
    return bool(values.size and values.min() > 0 and values.max() > 50 * values.min())
