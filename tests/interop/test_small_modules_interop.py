"""Activations, tied weights and paddings in the files of other libraries."""

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn
from tinygrad_gru.interop import InteropError, keras, onnx
from tinygrad_gru.interop import torch as torch_interop


class Tagger(nn.Module):
    def __init__(self):
        self.embedding = nn.Embedding(7, 4, padding_idx=0)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU()])
        self.output = nn.TiedLinear(self.embedding)

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.output(x)


def test_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, ids = Tagger(), np.array([[1, 0, 3], [2, 6, 0]])
    onnx.save(model, tmp_path / "model.onnx", [Tensor(ids)])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,) = session.run(None, {session.get_inputs()[0].name: ids})
    np.testing.assert_allclose(given, model(ids).numpy(), atol=1e-6)


def test_pytorch():
    torch = pytest.importorskip("torch")

    class Peer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(7, 4, padding_idx=0)
            linear = torch.nn.Linear
            self.blocks = torch.nn.ModuleList([linear(4, 4), torch.nn.Tanh(), linear(4, 4), torch.nn.ReLU()])
            self.output = linear(4, 7)
            self.output.weight = self.embedding.weight

        def forward(self, ids):
            x = self.embedding(ids)
            for block in self.blocks:
                x = block(x)
            return self.output(x)

    model, peer, ids = Tagger(), Peer(), np.array([[1, 0, 3], [2, 6, 0]])
    torch_interop.load(model, peer.state_dict())
    np.testing.assert_allclose(model(ids).numpy(), peer(torch.tensor(ids)).detach().numpy(), atol=1e-6)
    assert set(torch_interop.state_dict(model)) == set(peer.state_dict())


def test_keras_has_activations_and_no_tied_layer():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax())
    assert [array.shape for array in keras.weights(model)] == [(3, 4), (4,), (4, 2), (2,)]
    with pytest.raises(InteropError, match=r"output: Keras has no layer with the tensors .*b of TiedLinear"):
        keras.weights(Tagger())
