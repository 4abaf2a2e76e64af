"""The picture of a study: learning curves of its cells with their bands, and quality against parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..show.figures import new_figure, save_figure
from .running import Outcome, quality


def draw(outcome: Outcome, path: Path) -> Any:
    """Draw two panels for each task, and save them; returns the figure.

    Left the metric on the validation data while training: the mean over seeds, and a band from the least to the
    greatest; the best value of a run that has ended is held. Right the metric on the test data with its confidence
    interval against the number of parameters, the paper's figures as open circles, baselines as lines.

    Raises PlotError without matplotlib.

    >>> reproduce.draw(outcome, "picture.png")                          # doctest: +SKIP
    """
    study, count = outcome.study, len(outcome.tasks)
    figure = new_figure("the study", 2 * count, 2, (12, 4.2 * count))
    best = np.max if study.higher_is_better else np.min
    for row, task in enumerate(outcome.tasks):
        curves, points = figure.axes[2 * row : 2 * row + 2]
        lowest, highest = [], []
        heights = list(study.tasks[task].published.values())
        for number, (cell, name) in enumerate(study.cells.items()):
            colour = f"C{number}"
            results = outcome.results[task, cell]
            x, values = _on_one_axis([np.asarray(result.curve, float) for result in results], best)
            curves.plot(x, values.mean(axis=0), color=colour, label=name)
            curves.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
            if np.isfinite(values).all():
                lowest.append(values.min())
                highest.append(np.median(values))
            found = quality(outcome, task, cell)
            heights += [found.mean] * math.isfinite(found.mean)
            points.errorbar(
                results[0].parameters, found.mean, yerr=None if found.values < 2 else found.half, fmt="o", capsize=4,
                color=colour, label=name,
            )  # fmt: skip
            if cell in study.tasks[task].published:
                points.plot(
                    results[0].parameters, study.tasks[task].published[cell], "o", color=colour, markersize=11,
                    fillstyle="none",
                )  # fmt: skip
        if lowest:
            _set_scale(curves, lowest, highest)
        if _spans_decades(heights):
            points.set_yscale("log")
        points.set_ylim(points.get_ylim())  # a baseline far away is in the legend alone
        for style, (name, value) in zip(("--", ":", "-.") * 9, outcome.baselines[task].items()):
            points.axhline(value, color="0.4", linestyle=style, linewidth=1, label=f"{name}, {value:.4g}")
        unit = f" ({study.unit})" if study.unit else ""
        curves.set(
            title=f"{study.tasks[task].title}: while training",
            xlabel="step",
            ylabel=f"validation {study.metric.removeprefix('test ')}{unit}",
        )
        published = "; open circles: the paper" * bool(study.tasks[task].published)
        points.set(title=f"test{published}", xlabel="parameters", ylabel=f"{study.metric}{unit}")
        points.margins(x=0.3)
        curves.legend()
        points.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")  # beside the points, not on them
    if outcome.quick:
        figure.suptitle("--quick: no result", color="tab:red")
    return save_figure(figure, path)


def _on_one_axis(curves: list[np.ndarray], best: Any) -> tuple[np.ndarray, np.ndarray]:
    """The steps of the longest curve, and the finite values of all there: (runs, steps); then the best is held."""
    curves = [curve.reshape(-1, 2)[np.isfinite(curve.reshape(-1, 2)).all(axis=1)] for curve in curves]
    curves = [curve for curve in curves if len(curve)] or [np.full((1, 2), np.nan)]
    x = max(curves, key=lambda curve: curve[-1, 0])[:, 0]
    rows = [np.interp(x, curve[:, 0], curve[:, 1], right=best(curve[:, 1])) for curve in curves]
    return x, np.array(rows)


def _set_scale(axes: Any, lowest: list[float], highest: list[float]) -> None:
    """A logarithmic axis for curves that span decades; otherwise the end of training, not its first steps."""
    if _spans_decades([*lowest, *highest]):
        axes.set_yscale("log")
    else:
        low, high = min(lowest), max(highest)
        room = max(high - low, 1e-9)
        axes.set_ylim(low - 0.2 * room, high + 2 * room)


def _spans_decades(values: list[float]) -> bool:
    return min(values, default=0.0) > 0 and max(values) > 50 * min(values)
