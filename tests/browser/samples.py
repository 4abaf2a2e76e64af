"""Models whose pages are tested, and their numbers by Python."""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, compiling, grad, manual_seed, nn, ops, show, train
from tinygrad_gru.data import CharacterVocabulary
from tinygrad_gru.train.text.model import prediction_loss

TEXT = "the cat sat on the mat,\nand the dog."
VOCABULARY = CharacterVocabulary.from_text("\n abcdefghijklmnopqrstuvwxyz,.")
SIZE = 7


class Leaky(nn.Cell):
    """A cell of one's own, with names of its own."""

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()

    def step(self, h, x):
        proposal = ops.tanh(x @ self.W + h @ self.U + self.b)
        return 0.75 * h + 0.25 * proposal


def character_model(cell="gru", layers=1):
    """A model with weights that differ, larger than fresh ones so that it has opinions."""
    manual_seed(3)
    model = train.CharacterModel(len(VOCABULARY), embedding=5, hidden=SIZE, layers=layers, cell=cell)
    state = {
        name: 1.5 * values + 0.05 * np.sin(np.arange(values.size)).reshape(values.shape)
        for name, values in model.state_dict().items()
    }
    model.load_state_dict({name: values.astype("float32") for name, values in state.items()})
    return model


def explorer(cell="gru", layers=1, **options):
    return show.explorer(character_model(cell, layers), VOCABULARY, **{"text": TEXT, **options})


def mean_loss(model, text=TEXT):
    ids = VOCABULARY.encode(text)[:, None]
    return prediction_loss(model, ids[:-1], ids[1:])[0].item()


def step_losses(model, text=TEXT):
    ids = VOCABULARY.encode(text)[:, None]
    return prediction_loss(model, ids[:-1], ids[1:], reduction="none")[0].numpy().ravel()


def gru_cotangents(model, loss_step, text=TEXT):
    """{name: (T, hidden)}: gradients of the loss at a step by r, z, h̃ and h of every step, on the tape."""
    (cell,), ids = model.recurrence.cells, VOCABULARY.encode(text)
    h, found = Tensor(np.zeros((1, SIZE), dtype="float32")), {name: [] for name in ("r", "z", "h̃", "h")}
    with compiling(False):
        for i in ids[: loss_step + 1]:
            x = model.embedding(np.array([i]))
            r = ops.sigmoid(x @ cell.W_r + h @ cell.U_r + cell.b_r)
            z = ops.sigmoid(x @ cell.W_z + h @ cell.U_z + cell.b_z)
            candidate = ops.tanh(x @ cell.W_h + (r * h) @ cell.U_h + cell.b_h)
            h = (1 - z) * h + z * candidate
            for name, value in zip(found, (r, z, candidate, h)):
                found[name].append(value)
        loss = ops.cross_entropy(model.output(h), ids[loss_step + 1 : loss_step + 2])
        return {
            name: np.concatenate([g.numpy() for g in grad(loss, values, retain_graph=True)])
            for name, values in found.items()
        }
