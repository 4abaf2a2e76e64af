"""`show.saturation`: how often each unit of a gate is open or closed (Karpathy, Johnson & Fei-Fei 2015)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from .figures import new_figure, save_figure
from .states import inputs_of, is_gate, pick_cell, records_of


def saturation(
    model: Any,
    text: Any,
    vocabulary: Any = None,
    names: Sequence[str] | str | None = None,
    *,
    cell: int = 0,
    low: float = 0.1,
    high: float = 0.9,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw, for each unit of a gate, the share of steps at which it is nearly 1 against that at which it is nearly 0.

    model, text, vocabulary, cell, path  as for `show.gates`
    names      gates, such as ("r", "z"); by default what the step computes with values from 0 to 1
    low, high  a value below `low` is left-saturated, the gate closed; one above `high` is right-saturated, it is open

    A point in the corner on the left is a unit that is never saturated; on the diagonal are those that always are. Of
    an LSTM's forget gate, points at the right are units that remember for long; of our GRU's z, points at the top.

    >>> figure = show.saturation(nn.GRU(3, 8), np.ones((20, 4, 3)))
    >>> [axes.get_title() for axes in figure.axes]
    ['r', 'z']
    """
    inputs = inputs_of(model, text, vocabulary)
    used, values = pick_cell(records_of(inputs, names, lambda name, array: is_gate(array)), cell)
    if not values:
        raise ValueError(f"names: {type(used).__name__} computes nothing that is from 0 to 1, so it has no gates")
    for name, array in values.items():
        if not is_gate(array):
            raise ValueError(
                f"names: {name!r} is no gate: from {array.min():.2g} to {array.max():.2g}, not from 0 to 1"
            )
    figure = new_figure("the saturation", len(values), size=(4.2 * min(len(values), 3), 4.6 * -(-len(values) // 3)))
    for axes, (name, array) in zip(figure.axes, values.items()):
        left, right = saturated(array, low, high)
        axes.plot([0, 1], [1, 0], color="0.6", linewidth=1)
        axes.scatter(right, left, s=18, alpha=0.5, color="tab:blue", edgecolors="none")
        axes.set(title=name, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.set(xlabel=f"share of steps above {high:g} (right-saturated)")
        axes.set(ylabel=f"share of steps below {low:g} (left-saturated)")
    figure.suptitle(f"{type(used).__name__}: how often each of {array.shape[-1]} units is open or closed")
    return save_figure(figure, path)


def saturated(array: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The share of values (T, B, units) below `low` and above `high`, for each unit."""
    if not (isinstance(low, Real) and isinstance(high, Real) and low < high):
        raise ValueError(f"low, high: expected low < high, two numbers, got {low!r} and {high!r}")
    flat = array.reshape(-1, array.shape[-1])
    return (flat < low).mean(axis=0), (flat > high).mean(axis=0)
