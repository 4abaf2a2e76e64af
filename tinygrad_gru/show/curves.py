"""`show.loss`: the loss curves of runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..io.log import LOG, read_log
from .figures import draw_training, draw_validation, new_figure, save_figure

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")


def loss(
    runs: Any,
    *,
    baselines: Mapping[str, float] | None = None,
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw the loss of a run, in training and on held-out data: a matplotlib figure, which notebooks show.

    runs       the folder of a run, a `train.History`, or records: dictionaries with "step", or "characters" seen, and
               the "loss" of a step, the "held_out" or the "validation_loss" of an evaluation. Several by name in one
               figure: {"GRU": "runs/gru", "LSTM": "runs/lstm"}
    baselines  losses to compare with, by name: horizontal lines
    path       where to save it, too

    Raises PlotError if matplotlib is not installed, and ValueError for a folder without a log.

    >>> records = [{"characters": 1000 * k, "loss": 3 / (k + 1)} for k in range(50)]
    >>> figure = show.loss(records, baselines={"unigram": 3.1})
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['training', 'unigram, 3.10']
    """
    if not isinstance(baselines or {}, Mapping):
        raise TypeError(f"baselines: expected losses by name, {{'unigram': 3.1}}, got {baselines!r:.60}")
    named = dict(runs) if isinstance(runs, Mapping) else {"": runs}
    all_records = {name: _records(run) for name, run in named.items()}
    figure = new_figure("the loss")
    (axes,) = figure.axes
    is_text = any("characters" in record for records in all_records.values() for record in records)
    for (name, records), colour in zip(all_records.items(), _COLOURS * len(all_records)):
        before = f"{name}, " if name else ""
        second = "tab:orange" if len(all_records) == 1 else colour
        x, y = _curve(records, "loss")
        draw_training(axes, x, y, f"{before}training", colour)
        for key, label in (("held_out", "held out"), ("validation_loss", "validation")):
            x, y = _curve(records, key)
            draw_validation(axes, f"{before}{label}", x, y, colour=second)
    for style, (name, value) in zip(("--", ":", "-.") * 9, (baselines or {}).items()):
        axes.axhline(value, color="0.4", linestyle=style, linewidth=1, label=f"{name}, {value:.2f}")
    axes.set(title=title, xlabel="characters seen (millions)" if is_text else "step")
    axes.set_ylabel("loss (nats/char)" if is_text else "loss")
    axes.set_xlim(left=0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return save_figure(figure, path)


def _records(run: Any) -> Sequence[Mapping[str, Any]]:
    """The records of a run's folder, of a History, or as they are."""
    if isinstance(run, (str, os.PathLike)):
        log = Path(run) / LOG
        if not log.exists():
            raise ValueError(f"runs: {os.fspath(run)!r} is no folder of a run: it has no {LOG}")
        return read_log(log)
    records = getattr(run, "records", run)
    if not isinstance(records, Sequence) or not all(isinstance(record, Mapping) for record in records):
        raise TypeError(
            "runs: expected the folder of a run, a train.History, or a list of records such as "
            f"{{'step': 1, 'loss': 2.0}}, or several of these by name, got {run!r:.60}"
        )
    return records


def _curve(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Millions of characters, or steps, and the values of that name in the records: shape (2, n). Records that lack
    either, as in a damaged log, are skipped, and so are values that are not finite."""
    is_text = any("characters" in record for record in records)
    position, scale = ("characters", 1e6) if is_text else ("step", 1.0)
    points = np.array([(record.get(position), record.get(name)) for record in records], float).reshape(-1, 2)
    return (points[np.isfinite(points).all(axis=1)] / (scale, 1)).T  # None is NaN there
