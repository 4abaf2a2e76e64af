"""The recurrent layers that studies compare, and how their tables call them."""

from __future__ import annotations

from collections.abc import Mapping

from ... import nn

NAMES: Mapping[type[nn.Recurrent], str] = {
    nn.RNN: "tanh-RNN", nn.GRU: "GRU", nn.LSTM: "LSTM", nn.MinGRU: "minGRU", nn.MinLSTM: "minLSTM",
}  # fmt: skip


def with_units(cells: Mapping[str, tuple[type[nn.Recurrent], int]]) -> dict[str, str]:
    """The names of cells that are a layer with so many units: "GRU, 46 units"."""
    return {cell: f"{NAMES[layer]}, {units} units" for cell, (layer, units) in cells.items()}
