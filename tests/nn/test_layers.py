import numpy as np
import pytest
from support.strict import STRICT

from tinygrad_gru import Tensor, manual_seed, nn
from tinygrad_gru.backend import as_array
from tinygrad_gru.testing import gradcheck


def leaf(values, device, dtype="float64"):
    return Tensor(np.asarray(values, dtype=dtype), requires_grad=True, device=device)


# -- Linear --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (5, 4), (3, 5, 4), (2, 0, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_affine_map(rng, device, shape, bias):
    layer = nn.Linear(4, 3, bias=bias, dtype="float64", device=device)
    x, cotangent = leaf(rng.standard_normal(shape), device), rng.standard_normal((*shape[:-1], 3))
    y = layer(x)
    W, b = layer.W.numpy(), layer.b.numpy() if bias else 0
    np.testing.assert_allclose(y.numpy(), x.numpy() @ W + b, atol=1e-14)
    y.backward(Tensor(cotangent, device=device))
    np.testing.assert_allclose(x.grad.numpy(), cotangent @ W.T, atol=1e-13)
    rows, cotangents = x.numpy().reshape(-1, 4), cotangent.reshape(-1, 3)
    np.testing.assert_allclose(layer.W.grad.numpy(), rows.T @ cotangents, atol=1e-13)
    if bias:
        np.testing.assert_allclose(layer.b.grad.numpy(), cotangents.sum(axis=0), atol=1e-13)


def test_linear_equals_torch(rng):
    torch = pytest.importorskip("torch")
    layer, peer = nn.Linear(4, 3, dtype="float64"), torch.nn.Linear(4, 3, dtype=torch.float64)
    layer.load_state_dict({"W": peer.weight.detach().numpy().T, "b": peer.bias.detach().numpy()})
    x, cotangent = rng.standard_normal((2, 5, 4)), rng.standard_normal((2, 5, 3))
    layer(Tensor(x)).backward(cotangent)
    peer(torch.tensor(x)).backward(torch.tensor(cotangent))
    np.testing.assert_allclose(layer.W.grad.numpy(), peer.weight.grad.numpy().T, atol=1e-13)
    np.testing.assert_allclose(layer.b.grad.numpy(), peer.bias.grad.numpy(), atol=1e-13)


def test_linear_without_bias_has_one_parameter():
    assert [name for name, _ in nn.Linear(4, 3, bias=False).named_parameters()] == ["W"]


@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 1), ()])
def test_linear_refuses_other_features(shape):
    with pytest.raises(ValueError, match="last axis must have the 4 in_features"):
        nn.Linear(4, 3)(Tensor(np.zeros(shape), dtype="float32"))


# -- Embedding -----------------------------------------------------------------------------------------------------


def test_embedding_gathers_rows_and_scatter_adds_their_gradients(rng, device):
    layer = nn.Embedding(5, 3, dtype="float64", device=device)
    ids, cotangent = np.array([[4, 0, 4], [1, 4, 0]]), rng.standard_normal((2, 3, 3))
    y = layer(Tensor(ids, device=device))
    np.testing.assert_array_equal(y.numpy(), layer.W.numpy()[ids])
    y.backward(Tensor(cotangent, device=device))
    expected = np.zeros((5, 3))
    np.add.at(expected, ids, cotangent)
    np.testing.assert_allclose(layer.W.grad.numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("ids", [[0, 5], [-1, 0], [[2], [99]]])
def test_embedding_refuses_ids_out_of_range(device, ids):
    layer = nn.Embedding(5, 3, device=device)
    with pytest.raises(IndexError, match=r"ids must lie in 0 … 4, got"):
        layer(Tensor(ids, device=device))


def test_embedding_refuses_ids_that_are_not_integers(device):
    with pytest.raises(TypeError, match="ids must be integers, got float32"):
        nn.Embedding(5, 3, device=device)(Tensor([0.0, 1.0], device=device))


@pytest.mark.parametrize("shape", [(0,), (3, 0), ()])
def test_embedding_of_zero_and_one_ids(device, shape):
    y = nn.Embedding(5, 3, device=device)(Tensor(np.zeros(shape, dtype="int64"), device=device))
    assert y.shape == (*shape, 3)


@pytest.mark.parametrize("padding_idx", [0, 3, -1])
def test_the_row_of_padding_starts_at_zero_and_gets_no_gradient(rng, backend, padding_idx):
    layer = nn.Embedding(5, 3, padding_idx, dtype="float64", device=backend)
    row, ids, cotangent = padding_idx % 5, rng.integers(0, 5, (6, 4)), rng.standard_normal((6, 4, 3))
    ids[0, :2] = row
    table = layer.W.numpy()
    assert not table[row].any() and np.abs(np.delete(table, row, 0)).min() > 0 and layer.padding_idx == row
    y = layer(ids)
    np.testing.assert_array_equal(y.numpy(), table[ids])
    y.backward(Tensor(cotangent, device=backend))
    expected = np.zeros((5, 3))
    np.add.at(expected, ids, cotangent)
    expected[row] = 0
    np.testing.assert_allclose(layer.W.grad.numpy(), expected, atol=1e-14)


def test_embedding_with_padding_equals_torch(rng):
    torch = pytest.importorskip("torch")
    peer, layer = torch.nn.Embedding(5, 3, padding_idx=2), nn.Embedding(5, 3, padding_idx=2)
    with torch.no_grad():
        peer.weight[2] = 7.0  # a value of the padding row is kept and given, as there
    layer.load_state_dict({"W": peer.weight.detach().numpy()})
    ids, cotangent = rng.integers(0, 5, (4, 6)), rng.standard_normal((4, 6, 3)).astype("f4")
    ours, theirs = layer(ids), peer(torch.tensor(ids))
    np.testing.assert_array_equal(ours.numpy(), theirs.detach().numpy())
    ours.backward(cotangent)
    theirs.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(layer.W.grad.numpy(), peer.weight.grad.numpy(), atol=1e-6)


def test_an_embedding_of_vectors_that_there_are(backend, rng):
    table = rng.standard_normal((5, 3))
    layer = nn.Embedding.from_pretrained(Tensor(table, device=backend), dtype="float64")
    assert layer.W.device == backend.name and layer.W.is_frozen and not layer.trainable
    np.testing.assert_array_equal(layer([4, 0]).numpy(), table[[4, 0]])
    trained = nn.Embedding.from_pretrained(table, freeze=False, padding_idx=1, device=backend)
    assert trained.W.device == backend.name
    trained.to("numpy")
    assert trained.W.dtype == np.float32 and trained.W.requires_grad and trained.padding_idx == 1
    np.testing.assert_array_equal(trained.W.numpy(), table.astype("f4"))
    assert nn.Embedding.from_pretrained([[1, 2]]).W.dtype == np.float32
    with pytest.raises(ValueError, match=r"table: expected \(num_embeddings, embedding_dim\), got shape \(3,\)"):
        nn.Embedding.from_pretrained([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "padding_idx, error", [(5, ValueError), (-6, ValueError), ("float32", TypeError), (1.0, TypeError)]
)
def test_padding_idx_is_an_id(padding_idx, error):
    with pytest.raises(error, match="padding_idx: expected an id"):
        nn.Embedding(5, 3, padding_idx)
    assert repr(nn.Embedding(5, 3, padding_idx=-1)).startswith("Embedding(5, 3, padding_idx=4)")


# -- Dropout -------------------------------------------------------------------------------------------------------


def test_dropout_drops_with_probability_p_and_keeps_the_mean(device):
    layer, x = nn.Dropout(0.3), leaf(np.ones((200, 200)), device, "float32")
    y = layer(x)
    kept = y.numpy() != 0
    assert kept.mean() == pytest.approx(0.7, abs=0.015)
    np.testing.assert_allclose(y.numpy()[kept], 1 / 0.7, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())  # at x = 1 the mask is both


def test_dropout_samples_at_every_call_and_replays_from_a_seed(device):
    layer, x = nn.Dropout(0.5), Tensor(np.ones(100), device=device)
    manual_seed(3)
    first, second = layer(x).numpy(), layer(x).numpy()
    manual_seed(3)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(layer(x).numpy(), first)


def test_dropout_is_the_identity_in_evaluation_and_at_p_0():
    x = Tensor(np.ones(100))
    assert nn.Dropout(0.9).eval()(x) is x
    assert nn.Dropout(0.0)(x) is x


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_dropout_refuses_p_outside_0_to_1(p):
    with pytest.raises(ValueError, match="p: expected a probability"):
        nn.Dropout(p)


# -- LayerNorm -----------------------------------------------------------------------------------------------------


def test_layer_norm_equals_its_equation(rng, device):
    layer = nn.LayerNorm(6, eps=1e-3, dtype="float64", device=device)
    weight, bias = rng.standard_normal(6), rng.standard_normal(6)
    layer.load_state_dict({"weight": weight, "bias": bias})
    x = 3 + 5 * rng.standard_normal((4, 2, 6))
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    y = layer(Tensor(x, device=device)).numpy()
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-3) * weight + bias, atol=1e-13)


def test_layer_norm_equals_torch(rng):
    torch = pytest.importorskip("torch")
    layer, peer = nn.LayerNorm(6, dtype="float64"), torch.nn.LayerNorm(6, dtype=torch.float64)
    weight, bias, x, cotangent = (rng.standard_normal(shape) for shape in [6, 6, (4, 6), (4, 6)])
    layer.load_state_dict({"weight": weight, "bias": bias})
    peer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    layer(ours).backward(cotangent)
    peer(theirs).backward(torch.tensor(cotangent))
    for a, b in [(ours, theirs), (layer.weight, peer.weight), (layer.bias, peer.bias)]:
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-12)


def test_layer_norm_of_equal_features_is_its_bias():
    layer, x = nn.LayerNorm(3), Tensor(np.full((2, 3), 7.0), requires_grad=True, dtype="float32")
    y = layer(x)
    y.sum().backward()
    np.testing.assert_array_equal(y.numpy(), np.zeros((2, 3)))
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("shape", [(4, 1), (4, 5), (1,), ()])
def test_layer_norm_never_broadcasts(shape):
    with pytest.raises(ValueError, match="last axis must have the 4 features"):
        nn.LayerNorm(4)(Tensor(np.zeros(shape), dtype="float32"))


# -- all -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.LayerNorm(4), nn.Embedding(4, 3), nn.Dropout()], ids=repr)
def test_nothing_becomes_float64(layer, device):
    layer = layer.to(device)
    x = Tensor([0, 1] if isinstance(layer, nn.Embedding) else np.ones((2, 4), "float32"), device=device)
    y = layer(x)
    assert y.dtype == np.float32
    if y.requires_grad:
        y.sum().backward()
        assert all(parameter.grad.dtype == np.float32 for parameter in layer.parameters())


@pytest.mark.parametrize(
    "make", [lambda n: nn.Linear(n, 3), lambda n: nn.Linear(3, n), lambda n: nn.Embedding(n, 2), nn.LayerNorm]
)
@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None])
def test_sizes_are_positive_integers(make, size):
    with pytest.raises(ValueError, match="expected a positive integer, got"):
        make(size)


LAYERS = {
    "Linear": lambda **options: nn.Linear(3, 2, **options),
    "TiedLinear": lambda **options: nn.TiedLinear(nn.Embedding(2, 3, **options)),
    "LayerNorm": lambda **options: nn.LayerNorm(3, **options),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_arrays_and_lists_are_data_in_the_dtype_and_on_the_device_of_the_weights(name, dtype, backend):
    if backend is STRICT and dtype == "float16":
        dtype = "float32"  # the standard has no float16
    layer = LAYERS[name](dtype=dtype, device=backend)
    values = [[1.0, 2.0, 4.0]]
    expected = layer(Tensor(values, dtype=dtype, device=backend))
    for data in (values, [[1, 2, 4]], np.array(values), np.array(values, "f4")):
        y = layer(data)
        assert y.dtype == expected.dtype and y.device == backend.name
        np.testing.assert_array_equal(y.numpy(), expected.numpy())


@pytest.mark.parametrize("name", LAYERS)
def test_a_tensor_of_another_floating_dtype_is_refused(name):
    message = rf"{name}: x is a Tensor of float64, the weights are float32: write x\.astype\('float32'\), or make the l"
    with pytest.raises(TypeError, match=message):
        LAYERS[name]()(Tensor(np.ones((2, 3))))
    with pytest.raises(TypeError, match=rf"{name}: x must be a Tensor or an array of numbers, got NoneType"):
        LAYERS[name]()(None)


@pytest.mark.parametrize("name", LAYERS)
def test_an_array_is_moved_to_a_gpu_and_a_tensor_is_not(gpu, name):
    layer, x = LAYERS[name](device="cupy"), np.ones((2, 3))
    assert layer(x).device.startswith("cupy")
    with pytest.raises(TypeError, match=r"the inputs are on cupy\S* and numpy: move one with \.to\("):
        layer(Tensor(x, dtype="float32"))
    embedding = nn.Embedding(4, 3, device="cupy")
    assert embedding(np.array([1, 2])).device.startswith("cupy")
    with pytest.raises(TypeError, match="an index on numpy for an array on cupy: move it"):
        embedding(Tensor([1, 2]))


def test_ids_are_data_too(backend):
    layer = nn.Embedding(4, 3, device=backend)
    for ids in ([3, 1], np.array([3, 1]), np.array([3, 1], "u1"), Tensor([3, 1], device=backend)):
        y = layer(ids)
        assert y.device == backend.name
        np.testing.assert_array_equal(y.numpy(), layer.W.numpy()[[3, 1]])


def test_dropout_takes_lists():
    assert nn.Dropout(0.5).eval()([1.0, 2.0]).tolist() == [1, 2]
    assert set(nn.Dropout(0.5)([1.0] * 50).tolist()) == {0, 2}


def test_sequential_layers_pass_gradcheck(rng):
    model = nn.Sequential(nn.Linear(4, 3, dtype="float64"), nn.LayerNorm(3, dtype="float64"))
    gradcheck(model, [rng.standard_normal((2, 4))])


LAYERS_WITH_WEIGHTS = {
    "Linear": lambda: nn.Linear(4, 3),
    "TiedLinear": lambda: nn.TiedLinear(nn.Embedding(3, 4)),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "GRUCell": lambda: nn.GRUCell(4, 3),
    "GRU": lambda: nn.GRU(4, 3),
}


@pytest.mark.parametrize("name", LAYERS_WITH_WEIGHTS)
def test_an_array_may_be_overwritten_between_forward_and_backward(rng, backend, name):
    layer = LAYERS_WITH_WEIGHTS[name]().to(backend)
    x = rng.standard_normal((5, 2, 4) if name == "GRU" else (2, 4)).astype("float32")
    given = as_array(x.copy(), device=backend)
    gradients = []
    for array in (Tensor(x, device=backend), given):
        y = layer(array)
        y = y[0] if isinstance(y, tuple) else y
        given[...] = 7.0  # which y has been computed from, in the second pass
        layer.zero_grad()
        (y * y).sum().backward()
        gradients.append([parameter.grad.numpy() for parameter in layer.parameters()])
        given[...] = as_array(x, device=backend)
    for left, right in zip(*gradients):
        np.testing.assert_array_equal(left, right)
