"""`show.gates`: gates and states of a recurrent layer as heatmaps over the characters of a text."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .figures import new_figure, save_figure
from .states import inputs_of, is_gate, pick_cell, records_of

#: Units that are shown of a wide layer, and characters that are named.
_MOST_UNITS, _MOST_LABELS = 48, 160
_SIGNS = {"\n": "⏎", "\t": "⇥", " ": "␣"}


def gates(
    model: Any,
    text: Any,
    vocabulary: Any = None,
    names: Sequence[str] | str | None = None,
    *,
    cell: int = 0,
    units: Sequence[int] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw gates and states as heatmaps, a row for each unit and a column for each character: a matplotlib figure.

    model       a text model, or what `train.restore` returns; or a recurrent layer, or a model of numbers
    text        the text that it reads; for a layer its x (time, batch, features), of which the first sequence is drawn
    vocabulary  with which the text is encoded; that of `train.restore` by default
    names       local variables of the cell's step, such as ("r", "z", "h"); a state is that after the step. By default
                all that the step computes
    cell        which of the model's cells, in the order in which they run
    units       the rows; by default all, of more than 48 those whose values vary most
    path        where to save it, too

    Values from 0 to 1 have one scale, others one that is symmetric about 0. Raises PlotError if matplotlib is not
    installed, ValueError for a name that the step does not have, with those that it has.

    >>> figure = show.gates(nn.GRU(3, 8), np.ones((20, 1, 3)), names=("r", "z", "h"))
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['r', 'z', 'h']
    """
    inputs = inputs_of(model, text, vocabulary)
    used, values = pick_cell(records_of(inputs, names, lambda name, array: True), cell)
    arrays = {name: array[:, 0].T for name, array in values.items()}  # (units, T)
    steps = next(iter(arrays.values())).shape[1]
    rows = {name: _rows(array, units, arrays) for name, array in arrays.items()}
    height = sum(len(kept) * 0.055 + 0.75 for kept in rows.values())
    figure = new_figure("the gates", len(arrays), columns=1, size=(min(max(6.0, 0.13 * steps + 2), 24.0), height + 0.3))
    for axes, (name, array) in zip(tuple(figure.axes), arrays.items()):
        shown = array[rows[name]]
        from_0_to_1 = is_gate(array)
        most = 1.0 if from_0_to_1 else float(np.abs(shown).max()) or 1.0
        image = axes.imshow(
            shown, aspect="auto", interpolation="nearest", cmap="viridis" if from_0_to_1 else "RdBu_r",
            vmin=0.0 if from_0_to_1 else -most, vmax=most,
        )  # fmt: skip
        axes.grid(False)
        axes.set(title=name, ylabel="unit")
        places = np.unique(np.linspace(0, len(shown) - 1, 5).astype(int))
        axes.set_yticks(places, [str(rows[name][place]) for place in places])
        _label_steps(axes, inputs.text, steps)
        figure.colorbar(image, ax=axes, pad=0.01)
    figure.suptitle(
        f"{type(used).__name__} over {steps} {'characters' if inputs.text else 'steps'}{_which(rows, arrays, units)}"
    )
    return save_figure(figure, path)


def _rows(array: np.ndarray, units: Sequence[int] | None, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The units that are drawn; the same of all values that have as many."""
    count = len(array)
    if units is not None:
        rows = np.atleast_1d(np.asarray(units))
        if rows.dtype.kind not in "iu":
            raise TypeError(f"units: expected indices of units, such as [0, 5], got {units!r}")
        if rows.size == 0 or rows.min() < -count or rows.max() >= count:
            raise ValueError(f"units: expected indices of {count} units, 0 to {count - 1}, got {units}")
        return rows % count
    if count <= _MOST_UNITS:
        return np.arange(count)
    changes = [one.std(axis=1) / (one.std() or 1.0) for one in arrays.values() if len(one) == count]
    return np.sort(np.argsort(sum(changes))[-_MOST_UNITS:])


def _which(rows: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], units: Any) -> str:
    """What a title says of the units, if not all are drawn."""
    drawn, count = max((len(kept), len(arrays[name])) for name, kept in rows.items())
    if drawn == count:
        return ""
    return f": {drawn} of {count} units" if units is not None else f": the {drawn} of {count} units that vary most"


def _label_steps(axes: Any, text: str | None, steps: int) -> None:
    """Characters, or step numbers, below the columns."""
    if text is None or steps > _MOST_LABELS:
        axes.set_xlabel("step" if text is None else "character")
        return
    axes.set_xticks(range(steps), [_SIGNS.get(c, c) for c in text], fontsize=7, family="monospace")
    axes.tick_params(axis="x", length=0)
