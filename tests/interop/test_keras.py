"""Weights of Keras, frozen in golden/keras.json and live, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ours import assert_as_keras

from tinygrad_gru import nn
from tinygrad_gru.interop import InteropError
from tinygrad_gru.interop import keras as interop

GOLDEN = Path(__file__).parent / "golden"
*CASES, FILES = json.loads((GOLDEN / "keras.json").read_text())["cases"]


class Text(nn.Module):
    """The model of the golden files; its epsilon is that of Keras."""

    def __init__(self, eps=1e-3, merge="sum", **first):
        self.embedding = nn.Embedding(4, 2)
        self.first = nn.GRU(2, 2, bidirectional=True, merge=merge, batch_first=True, **{"reset_after": True, **first})
        self.second = nn.GRU(2, 2, batch_first=True)
        self.norm = nn.LayerNorm(2, eps=eps)
        self.output = nn.Linear(2, 3)

    def forward(self, ids):
        hidden, _ = self.second(self.first(self.embedding(ids))[0])
        return self.output(self.norm(hidden))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']} {case['settings']} {case['mask']}")
def test_layers_compute_what_keras_computed(case):
    assert_as_keras(case, 1e-10)


@pytest.mark.filterwarnings("ignore")  # of Keras itself
def test_layers_compute_what_keras_computes(monkeypatch):
    """Output, states and every gradient within 1e-10: both conventions of the reset gate, masks with holes, merges."""
    pytest.importorskip("torch")  # as Keras's backend
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")
    from keras_cases import grid, make

    for seed, (kind, settings, mask) in enumerate(grid()):
        assert_as_keras(make(kind, settings, mask, seed), 1e-10)


def sources():
    yield [np.array(array) for array in FILES["weights"]]
    yield from (GOLDEN / name for name in FILES["files"])


@pytest.mark.parametrize("source", list(sources()), ids=["list", *FILES["files"]])
def test_a_whole_model_computes_what_keras_computed(source):
    if isinstance(source, Path):
        pytest.importorskip("h5py")
    model = interop.load(Text(), source)
    np.testing.assert_allclose(model(np.array(FILES["ids"])).numpy(), FILES["output"], rtol=0, atol=1e-6)
    for array, expected in zip(interop.load(Text(), interop.weights(model)).state_dict().values(), model.parameters()):
        np.testing.assert_array_equal(array, expected.numpy())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: Text(eps=1e-5), "norm: the layer 'layer_normalization.*has epsilon=0.001, and ours epsilon=1e-05"),
        (lambda: Text(merge="concat"), "merge_mode='sum', and ours merge_mode='concat'"),
        (lambda: Text(activation="relu"), "activation='tanh', and ours activation='relu'"),
        (lambda: Text(reset_after=False), "reset_after=True, and ours reset_after=False"),
        (lambda: nn.Sequential(nn.Embedding(4, 2)), "expected layers Embedding, the file has Embedding, Bidirectional"),
    ],
)
def test_a_file_that_knows_settings_is_compared(model, reason):
    pytest.importorskip("h5py")
    with pytest.raises(InteropError, match=reason):
        interop.load(model(), GOLDEN / "model.keras")


def test_weights_without_a_place_are_refused():
    pytest.importorskip("h5py")
    with pytest.raises(InteropError, match=r"no place for: bidirectional/backward_layer/cell/vars/0.*layer_norm"):
        interop.load(nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 3)), GOLDEN / "model.weights.h5")


@pytest.mark.parametrize("name", ["broken.keras", "broken.weights.h5"])
def test_broken_files_are_refused(tmp_path, name):
    pytest.importorskip("h5py")
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(InteropError, match=r"expected a \.keras or \.weights\.h5 file"):
        interop.load(Text(), tmp_path / name)
    with pytest.raises(FileNotFoundError):
        interop.load(Text(), tmp_path / "missing" / name)


@pytest.mark.parametrize("ours", [True, False])
def test_the_two_forms_of_a_gru_are_not_exchanged(ours):
    theirs = interop.weights(nn.GRU(2, 3, **({} if ours else {"reset_after": True})))
    layer = nn.GRU(2, 3, **({"reset_after": True} if ours else {}))
    with pytest.raises(InteropError, match=f"no weights make one .* Make it with reset_after={not ours}"):
        interop.load(layer, theirs)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.LSTM(2, 3, peephole=True), "Keras has no LSTM with peephole=True"),
        (nn.LSTM(2, 3, proj_size=2), "proj_size"),
        (nn.LSTM(2, 3, reverse=True), "go_backwards come in the order in which it read"),
        (nn.LSTM(2, 3, activation="relu", output_activation="tanh"), "one activation for candidate and output"),
        (nn.GRU(2, 3, gate_activation="relu"), "recurrent_activation='relu'"),
        (nn.LSTM(2, 3, activation="leaky_relu"), "activation='leaky_relu'"),
        (nn.RNN(2, 3, num_layers=2, residual=True), "residual"),
        (nn.RNN(2, 3, learn_initial_state=True), "learn_initial_state"),
        (nn.MGU(2, 3), "cells.0: Keras has no layer with the tensors W_f, W_h"),
    ],
    ids=lambda value: repr(value).splitlines()[0] if isinstance(value, nn.Module) else "",
)
def test_what_keras_does_not_have_is_refused(module, reason):
    with pytest.raises(InteropError, match=reason):
        interop.weights(module)


def test_wrong_lists_are_refused():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4, bias=False))
    given = interop.weights(model)
    with pytest.raises(InteropError, match=r"expected 3 arrays, got 2 .*layers\.0 \(2\), layers\.1 \(1\)"):
        interop.load(model, given[:2])
    with pytest.raises(InteropError, match=r"layers\.0: expected Dense weights of shapes \[\(2, 3\), \(3,\)\]"):
        interop.load(model, given[::-1])
