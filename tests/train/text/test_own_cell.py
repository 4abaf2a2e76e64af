"""A character model of one's own cell: a class of a cell or of a layer in place of a name."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import nn, ops, train


class LeakyCell(nn.Cell):
    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()

    def step(self, h, x):
        return 0.9 * h + 0.1 * ops.tanh(x @ self.W + h @ self.U + self.b)


def test_the_class_of_a_cell_is_run_by_its_layer():
    model = train.CharacterModel(7, embedding=3, hidden=4, layers=2, cell=LeakyCell)
    ids = np.array([[0], [6], [2]])
    logits, state = model(ids)
    h = [np.zeros((1, 4)), np.zeros((1, 4))]
    for (t,) in ids:
        below = model.embedding.W.numpy()[[t]]
        for k, cell in enumerate(model.recurrence.cells):
            h[k] = 0.9 * h[k] + 0.1 * np.tanh(below @ cell.W.numpy() + h[k] @ cell.U.numpy() + cell.b.numpy())
            below = h[k]
    np.testing.assert_allclose(state.numpy(), np.stack(h), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(logits.numpy()[-1], h[1] @ model.output.W.numpy() + model.output.b.numpy(), rtol=2e-5)


def test_the_class_of_a_layer_is_taken_as_it_is():
    assert type(train.CharacterModel(7, 3, 4, cell=nn.MGU).recurrence) is nn.MGU


@pytest.mark.parametrize("cell", ["gruu", 3, [nn.GRU], nn.Linear, nn.GRUCell(3, 4)], ids=repr)
def test_what_is_no_cell_is_an_error_that_says_what_is(cell):
    with pytest.raises(ValueError, match=r"unknown cell .*: expected one of gru, lstm, rnn, or a class that derives"):
        train.CharacterModel(7, 3, 4, cell=cell)
