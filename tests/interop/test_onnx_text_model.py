"""Exported character models generate the same text in onnxruntime."""

from __future__ import annotations

import json
from contextlib import nullcontext

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from tinygrad_gru import Tensor, manual_seed  # noqa: E402
from tinygrad_gru.data import CharacterVocabulary  # noqa: E402
from tinygrad_gru.interop.onnx import load, save_text_model  # noqa: E402
from tinygrad_gru.train import CharacterModel, generate  # noqa: E402

VOCABULARY = CharacterVocabulary.code()


class InOnnxruntime:
    """An ONNX file with the interface of a model that `generate` uses."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.ids, *self.states = self.session.get_inputs()

    def evaluating(self):
        return nullcontext()

    def __call__(self, ids, state):
        zeros = [np.zeros((s.shape[0], ids.shape[1], s.shape[2]), np.float32) for s in self.states]
        named = dict(zip((s.name for s in self.states), state or zeros))
        logits, *state = self.session.run(None, {self.ids.name: ids.astype(np.int64), **named})
        return Tensor(logits), state


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_generated_text_agrees(tmp_path, cell, layers):
    manual_seed(3)
    model = CharacterModel(len(VOCABULARY), embedding=12, hidden=24, layers=layers, dropout=0.2, cell=cell)
    for parameter in model.parameters():
        parameter.data = 2 * parameter.data  # so that the text is not one character repeated
    path = tmp_path / "model.onnx"
    save_text_model(model, VOCABULARY, path)
    for temperature in (0.0, 0.8):
        ours = generate(model, VOCABULARY, 300, "def ", temperature, seed=5)
        assert ours == generate(InOnnxruntime(path), VOCABULARY, 300, "def ", temperature, seed=5)
        assert len(set(ours)) > 10


def test_the_file_holds_the_vocabulary_and_names_its_states(tmp_path):
    model = CharacterModel(len(VOCABULARY), embedding=4, hidden=6, cell="lstm")
    save_text_model(model, VOCABULARY, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    (entry,) = graph.metadata_props
    assert CharacterVocabulary.from_description(json.loads(entry.value)) == VOCABULARY
    assert [value.name for value in graph.graph.input] == ["ids", "state_0", "state_1"]
    assert [value.name for value in graph.graph.output] == ["logits", "next_state_0", "next_state_1"]
    zeros = np.zeros((1, 1, 6), np.float32)
    logits, *_ = load(tmp_path / "model.onnx")(np.array([[3], [5]]), zeros, zeros)
    expected, _ = model(np.array([[3], [5]]))
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), rtol=0, atol=1e-6)
