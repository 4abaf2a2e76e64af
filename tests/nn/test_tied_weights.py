"""One parameter as the attribute of two modules: listed, saved, moved, clipped and updated once."""

import copy
import pickle

import numpy as np
import pytest

from tinygrad_gru import Tensor, grad, nn
from tinygrad_gru.interop import InteropError
from tinygrad_gru.interop import torch as torch_interop
from tinygrad_gru.optim import SGD, clip_gradient_norm
from tinygrad_gru.testing import gradcheck
from tinygrad_gru.train import mixed_precision


class Autoencoder(nn.Module):
    """y = (x W) W with one W; square, so that the weights can be the same."""

    def __init__(self, size=3, **options):
        self.encoder = nn.Linear(size, size, bias=False, **options)
        self.decoder = nn.Linear(size, size, **options)
        self.decoder.W = self.encoder.W

    def forward(self, x):
        return self.decoder(self.encoder(x))


class LanguageModel(nn.Module):
    def __init__(self, vocabulary=7, features=4, **options):
        self.embedding = nn.Embedding(vocabulary, features, **options)
        self.recurrence = nn.GRU(features, features, reset_after=True, **options)
        self.output = nn.TiedLinear(self.embedding)

    def forward(self, ids):
        return self.output(self.recurrence(self.embedding(ids))[0])


MODELS = [Autoencoder, LanguageModel]


def inputs_of(model, rng):
    return rng.standard_normal((5, 3)).astype("f4") if isinstance(model, Autoencoder) else rng.integers(0, 7, (5, 2))


def tied_tensor(model):
    return model.encoder.W if isinstance(model, Autoencoder) else model.embedding.W


# -- what is listed --------------------------------------------------------------------------------------------------


def test_a_tied_tensor_is_listed_saved_and_counted_once():
    model = Autoencoder()
    assert list(model.state_dict()) == ["encoder.W", "decoder.b"]
    assert model.tied_paths() == {"decoder.W": "encoder.W"} and model.parameter_count() == 9 + 3
    assert LanguageModel().tied_paths() == {"output.W": "embedding.W"}


def test_modules_may_refer_to_those_around_them():
    model = Autoencoder()
    model.encoder.parent = model
    model.decoder.neighbour = model.encoder
    assert model.tied_paths()["decoder.W"] == "encoder.W" and list(model.state_dict()) == ["encoder.W", "decoder.b"]
    model.load_state_dict({"decoder.W": np.eye(3), "decoder.b": np.zeros(3)})
    np.testing.assert_array_equal(model.encoder.W.numpy(), np.eye(3))


def test_repr_says_what_is_tied():
    model = Autoencoder()
    model.again = model.encoder
    model.encoder.parent = model
    assert repr(model).splitlines() == [
        "Autoencoder()  12 parameters",
        "  encoder: Linear(3, 3, bias=False)  12 parameters",
        "    parent: the whole module again",
        "  decoder: Linear(3, 3)  12 parameters, W tied to encoder.W",
        "  again: encoder again",
    ]


def test_both_uses_add_to_one_gradient(rng):
    model = Autoencoder(dtype="float64")
    x, W = rng.standard_normal((5, 3)), model.encoder.W.numpy()
    model(x).sum().backward()
    ones = np.ones((5, 3))
    np.testing.assert_allclose(model.encoder.W.grad.numpy(), (x @ W).T @ ones + x.T @ (ones @ W.T), atol=1e-12)


# -- saving and loading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", MODELS)
def test_states_round_trip_and_ties_stay(model_type, rng):
    model, other = model_type(), model_type()
    other.load_state_dict(model.state_dict())
    x = inputs_of(model, rng)
    np.testing.assert_array_equal(model(x).numpy(), other(x).numpy())
    assert other.tied_paths() == model.tied_paths() != {}


def test_a_state_may_have_any_of_the_names_and_several_if_they_agree():
    model, W = Autoencoder(), np.arange(9.0).reshape(3, 3)
    model.load_state_dict({"decoder.W": W, "decoder.b": np.zeros(3)})
    np.testing.assert_array_equal(model.encoder.W.numpy(), W)
    model.load_state_dict({"encoder.W": W + 1, "decoder.W": W + 1, "decoder.b": np.zeros(3)})
    np.testing.assert_array_equal(model.encoder.W.numpy(), W + 1)
    assert model.load_state_dict({"decoder.W": W}, strict=False) == (["decoder.b"], [])
    with pytest.raises(
        ValueError, match=r"encoder\.W is tied to decoder\.W here|decoder\.W is tied to encoder\.W here"
    ):
        model.load_state_dict({"encoder.W": W, "decoder.W": W + 1, "decoder.b": np.zeros(3)})


def test_a_shared_module_has_several_names_too():
    model = nn.Module()
    model.first = nn.Linear(2, 2)
    model.second = model.first
    assert model.tied_paths() == {"second.W": "first.W", "second.b": "first.b"}
    model.load_state_dict({"second.W": np.eye(2), "first.b": np.zeros(2)})
    np.testing.assert_array_equal(model.first.W.numpy(), np.eye(2))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("model_type", MODELS)
def test_copies_are_tied_too(model_type, copied):
    model = copied(model_type())
    assert model.tied_paths() == model_type().tied_paths()


def test_pytorch_has_both_names(rng):
    torch = pytest.importorskip("torch")

    class Peer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.recurrence = torch.nn.Embedding(7, 4), torch.nn.GRU(4, 4)
            self.output = torch.nn.Linear(4, 7)
            self.output.weight = self.embedding.weight

        def forward(self, ids):
            return self.output(self.recurrence(self.embedding(ids))[0])

    model, peer, ids = LanguageModel(), Peer(), rng.integers(0, 7, (5, 2))
    torch_interop.load(model, peer.state_dict())
    expected = peer(torch.tensor(ids))
    np.testing.assert_allclose(model(ids).numpy(), expected.detach().numpy(), atol=1e-6)
    model(ids).sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(model.embedding.W.grad.numpy(), peer.embedding.weight.grad.numpy(), atol=1e-4)
    other = Peer()
    other.load_state_dict({name: torch.tensor(array) for name, array in torch_interop.state_dict(model).items()})
    np.testing.assert_allclose(other(torch.tensor(ids)).detach().numpy(), expected.detach().numpy(), atol=1e-6)
    with pytest.raises(InteropError, match="are one tensor here, but they differ"):
        torch_interop.load(model, {**peer.state_dict(), "output.weight": torch.zeros(7, 4)})


# -- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", MODELS)
def test_an_optimizer_updates_it_once(model_type, rng):
    model = model_type()
    W, before = tied_tensor(model), tied_tensor(model).numpy()
    optimizer = SGD(model.parameters(), lr=0.1)
    assert sum(parameter is W for parameter in optimizer.parameters()) == 1
    model(inputs_of(model, rng)).sum().backward()
    gradient = W.grad.numpy()
    optimizer.step()
    np.testing.assert_allclose(W.numpy(), before - np.float32(0.1) * gradient, rtol=1e-5, atol=1e-6)
    assert tied_tensor(model) is W and set(model.tied_paths())


def test_clipping_counts_it_once(rng):
    model = Autoencoder()
    model(inputs_of(model, rng)).sum().backward()
    gradients = [model.encoder.W.grad.numpy(), model.decoder.b.grad.numpy()]
    expected = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    parameters = [*model.encoder.parameters(), *model.decoder.parameters()]  # the tied one twice
    assert float(clip_gradient_norm(parameters, 1e-3)) == pytest.approx(expected, rel=1e-5)
    clipped = np.sqrt(sum((p.grad.numpy() ** 2).sum() for p in model.parameters()))
    assert clipped == pytest.approx(1e-3, rel=1e-5)
    with pytest.raises(ValueError, match="again: it would be updated twice"):
        SGD(parameters, lr=0.1)


@pytest.mark.parametrize("model_type", MODELS)
def test_moving_and_converting_keep_the_tie(model_type, backend, rng):
    model = model_type()
    ties = model.tied_paths()
    expected = model(inputs_of(model, np.random.default_rng(5))).numpy()
    model.to(backend)
    assert model.tied_paths() == ties and {t.device for _, t in model.named_tensors()} == {backend.name}
    np.testing.assert_allclose(model(inputs_of(model, np.random.default_rng(5))).numpy(), expected, atol=1e-5)
    assert model.to("numpy").double().tied_paths() == ties and tied_tensor(model).dtype == np.float64


def test_with_tensors_replaces_all_uses_by_any_name(rng):
    model, W = Autoencoder(), Tensor(np.eye(3, dtype="f4"))
    for name in ("encoder.W", "decoder.W"):
        other = model.with_tensors({name: W})
        assert other.encoder.W is W and other.decoder.W is W
    assert model.encoder.W is not W


@pytest.mark.parametrize("model_type", MODELS)
def test_mixed_precision_keeps_the_tie(model_type, rng):
    model = model_type()
    half = mixed_precision(model, "float16")
    x = inputs_of(model, rng)
    half(x).sum().backward()
    in_half = tied_tensor(model).grad.numpy()
    assert tied_tensor(model).grad.dtype == np.float32
    model.zero_grad()
    model(x).sum().backward()
    np.testing.assert_allclose(in_half, tied_tensor(model).grad.numpy(), rtol=0.02, atol=0.05)


# -- to the transpose ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary, features", [(7, 4), (4, 7), (5, 5), (1, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_tied_linear_is_the_transposed_map_at_any_size(rng, vocabulary, features, bias):
    embedding = nn.Embedding(vocabulary, features, dtype="float64")
    layer = nn.TiedLinear(embedding, bias=bias)
    x = rng.standard_normal((3, 2, features))
    b = layer.b.numpy() if bias else 0
    np.testing.assert_allclose(layer(x).numpy(), x @ embedding.W.numpy().T + b, atol=1e-12)
    ids = rng.integers(0, vocabulary, (3, 2))
    gradcheck(lambda W: layer.with_tensors({"W": W})(embedding.with_tensors({"W": W})(ids)), [embedding.W.numpy()])
    assert repr(layer).startswith(f"TiedLinear({features}, {vocabulary}{'' if bias else ', bias=False'})")
    assert nn.TiedLinear(embedding.W).W is embedding.W


@pytest.mark.parametrize("size", [4, 7])
def test_an_embeddings_weight_in_a_linear_is_refused_also_where_it_is_square(size):
    encoder, decoder = nn.Embedding(7, size), nn.Linear(size, 7)
    with pytest.raises(ValueError, match=rf"Linear\.W: Embedding\.W \(7, {size}\) is the transpose.*nn\.TiedLinear\("):
        decoder.W = encoder.W
    with pytest.raises(ValueError, match=rf"Embedding\.W: Linear\.W \({size}, 7\) is the transpose.*nn\.TiedLinear\("):
        encoder.W = decoder.W
    with pytest.raises(TypeError, match=r"nn\.TiedLinear\(embedding\)"):
        decoder.W = encoder.W.T


def test_a_weight_in_pytorchs_orientation_is_refused():
    layer = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"a weight \(3, 2\) is the transpose of what belongs here.*weight\.T"):
        layer.W = nn.Parameter(np.zeros((3, 2)), dtype="float32")
    layer.W = nn.Parameter(np.zeros((2, 5)), dtype="float32")  # another size may be meant


def test_tied_linear_takes_an_embedding():
    with pytest.raises(TypeError, match="embedding: expected an Embedding or its W, got int"):
        nn.TiedLinear(7)
    with pytest.raises(TypeError, match="embedding: expected an Embedding or its W, got Linear"):
        nn.TiedLinear(nn.Linear(3, 7))


def test_second_derivatives_pass_through_a_tie(rng):
    model = Autoencoder(dtype="float64")
    x = Tensor(rng.standard_normal((2, 3)))

    def norm_of_gradient(W):
        tied = model.with_tensors({"encoder.W": W})
        (gradient,) = grad((tied(x) ** 2).sum(), [W], create_graph=True)
        return (gradient**2).sum()

    gradcheck(norm_of_gradient, [model.encoder.W.numpy()])
