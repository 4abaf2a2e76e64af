"""kind_of: which cells and layers are those that other libraries have."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops
from tinygrad_gru.interop import torch
from tinygrad_gru.interop.cells import kind_of, kind_of_layer


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_cells_of_a_kind_with_and_without_keywords(kind):
    cell_type, layer_type = getattr(nn, f"{kind}Cell"), getattr(nn, kind)
    options = {"RNN": {"activation": "relu"}, "GRU": {"reset_after": True}, "LSTM": {"peephole": True}}[kind]
    for cell in (cell_type(2, 3), cell_type(2, 3, **options), type("Named", (cell_type,), {"describe": str})(2, 3)):
        assert kind_of(cell) == kind_of(cell, cell_type(2, 3)) == kind
    for layer in (layer_type(2, 3), layer_type(2, 3, num_layers=2, bidirectional=True, **options)):
        assert kind_of_layer(layer) == kind
    assert kind_of_layer(nn.Recurrent.of(cell_type)(2, 3)) == kind


class OtherStep(nn.GRUCell):
    def step(self, h, x):
        return h


class OtherStart(nn.GRUCell):
    def initial_state(self, batch):
        return ops.broadcast_to(Tensor(np.ones((1, 1), "f4")), (batch, self.hidden_size))


class OtherInput(nn.LSTMCell):
    def scan_arguments(self, x, valid=None):
        return super().scan_arguments(x * 2, valid)


class OtherProduct(nn.GRUCell):
    def products(self, gate, x, h):
        return super().products(gate, x, 2 * h)


class OtherProperty(nn.RNNCell):
    @property
    def output_size(self):
        return 3


@pytest.mark.parametrize("cell_type", [OtherStep, OtherStart, OtherInput, OtherProduct, OtherProperty, nn.MGUCell])
def test_cells_that_override_methods_have_no_kind(cell_type):
    assert kind_of(cell_type(2, 3)) is None
    assert kind_of_layer(nn.Recurrent.of(cell_type)(2, 3)) is None


def test_a_patched_cell_has_no_kind():
    cell = nn.GRUCell(2, 3)
    cell.step = lambda h, x: h
    assert kind_of(cell) is None
    layer = nn.GRU(2, 3)
    layer.forward = lambda x: x
    assert kind_of_layer(layer) is None


class OtherTime(nn.LSTM):
    def _run(self, cell, carry, x, valid, reverse):
        return super()._run(cell, carry, x, valid, not reverse)


def test_a_layer_that_overrides_methods_has_no_kind():
    assert kind_of_layer(OtherTime(2, 3)) is None


def test_a_layer_of_different_cells_has_no_kind():
    """Regression: only the first cell was checked."""
    layer = nn.GRU(3, 3, num_layers=2, reset_after=True)
    layer.cells[1] = OtherStart(3, 3)
    assert kind_of_layer(layer) is None
    layer.cells[1] = nn.GRUCell(3, 3)  # its reset gate acts before the product
    assert kind_of_layer(layer) is None
    assert kind_of(nn.GRUCell(3, 3), nn.RNNCell(3, 3)) is None


def test_a_layer_with_another_initial_state_is_exported_by_our_names():
    names = list(torch.state_dict(nn.Recurrent.of(OtherStart)(2, 3)))
    assert "cells.0.W_r" in names and not any("weight_ih" in name for name in names)
