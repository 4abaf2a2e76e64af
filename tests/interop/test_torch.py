"""Weights of PyTorch, frozen in golden/torch.json and live, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ours import assert_as_torch

from tinygrad_gru import nn
from tinygrad_gru.interop import InteropError
from tinygrad_gru.interop import torch as interop

GOLDEN = Path(__file__).parent / "golden"
*CASES, FILES = json.loads((GOLDEN / "torch.json").read_text())["cases"]


class Text(nn.Module):
    def __init__(self, **options):
        self.embedding = nn.Embedding(5, 3)
        self.recurrence = nn.GRU(3, 4, num_layers=2, reset_after=True, **options)
        self.head = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.LayerNorm(4), nn.Linear(4, 5, bias=False))
        self.scale = nn.Parameter([1.0, 2.0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']} {case['settings']} {case['lengths']}")
def test_layers_compute_what_pytorch_computed(case):
    assert_as_torch(case, 1e-10)


def test_layers_compute_what_pytorch_computes():
    """Output, state and every gradient within 1e-10 over layers, directions, biases, projection and packed lengths."""
    pytest.importorskip("torch")
    from torch_cases import grid, make

    for seed, (kind, settings, lengths) in enumerate(grid()):
        assert_as_torch(make(kind, settings, lengths, seed), 1e-10)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_cells_compute_what_pytorch_computes(kind):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, f"{kind}Cell")(3, 4, dtype=torch.float64)
    ours = getattr(nn, f"{kind}Cell")(3, 4, dtype="float64", **({"reset_after": True} if kind == "GRU" else {}))
    interop.load(ours, theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 3))
    expected, result = theirs(torch.tensor(x)), ours(nn.Parameter(x))
    for a, b in zip(*((r if isinstance(r, tuple) else (r,)) for r in (result, expected))):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=0, atol=1e-12)
    assert {name: value.shape for name, value in interop.state_dict(ours).items()} == {
        name: tuple(value.shape) for name, value in theirs.state_dict().items()
    }


def test_names_and_layouts_are_those_of_pytorch():
    weights = interop.state_dict(Text(bidirectional=True), names={"recurrence": "rnn", "head": "out.head"})
    shapes = {name: value.shape for name, value in weights.items()}
    assert shapes["embedding.weight"] == (5, 3)
    assert shapes["rnn.weight_ih_l0"] == (12, 3) and shapes["rnn.weight_ih_l1_reverse"] == (12, 8)
    assert shapes["rnn.bias_hh_l1"] == (12,)
    assert shapes["out.head.0.weight"] == (4, 4) and shapes["out.head.3.weight"] == (5, 4)
    assert shapes["out.head.2.bias"] == (4,) and shapes["scale"] == (2,)
    assert "out.head.3.bias" not in shapes and len(shapes) == 1 + 4 * 4 + 5 + 1


@pytest.mark.parametrize("through", ["mapping", "file", "tensors"])
def test_round_trip(through, tmp_path):
    one, two = Text(), Text()
    if through == "file":
        interop.save(one, tmp_path / "weights.safetensors")
        source = tmp_path / "weights.safetensors"
    else:
        source = interop.state_dict(one)
    if through == "tensors":
        source = {name: nn.Parameter(value) for name, value in source.items()}
    assert interop.load(two, source) is two
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(two.state_dict()[name], value, err_msg=name)


def test_pytorch_reads_what_is_saved(tmp_path):
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    ours = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
    interop.save(ours, tmp_path / "weights.safetensors")
    theirs = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 2))
    theirs.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    ids = np.array([0, 4, 2])
    np.testing.assert_allclose(theirs(torch.tensor(ids)).detach().numpy(), ours(ids).numpy(), rtol=1e-6)


def test_a_state_dict_inside_a_checkpoint():
    model = nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 3), nn.LayerNorm(3))
    checkpoint = interop.read(GOLDEN / FILES["file"])
    interop.load(model, checkpoint["model"])
    np.testing.assert_allclose(model.layers[1].W.numpy(), np.array(FILES["model"]["1.weight"]).T, rtol=1e-6)
    with pytest.raises(InteropError, match=r"read\(path\)\['model'\]"):
        interop.load(model, checkpoint)
    with pytest.raises(InteropError, match="epoch: expected an array or a tensor, got a int"):
        interop.load(model, {"epoch": 3})


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.GRU(2, 3), "no weights make one of them compute the other.*reset_after=True"),
        (nn.Sequential(nn.GRUCell(2, 3)), r"layers\.0: its reset gate"),
        (nn.LSTM(2, 3, peephole=True), "PyTorch has no LSTM with peephole=True"),
        (nn.LSTM(2, 3, peephole="full"), "peephole='full'"),
        (nn.LSTM(2, 3, coupled=True), "coupled"),
        (nn.LSTM(2, 3, reverse=True), "reverse=True"),
        (nn.LSTM(2, 3, layer_norm=True), "layer_norm"),
        (nn.LSTM(2, 3, zoneout=0.1), "zoneout"),
        (nn.LSTM(2, 3, clip=1.0), "clip"),
        (nn.LSTM(2, 3, activation="relu"), "activation='relu'"),
        (nn.GRU(2, 3, reset_after=True, gate_activation=lambda a: a), "gate_activation=<lambda>"),
        (nn.RNN(2, 3, learn_initial_state=True), "learn_initial_state"),
        (nn.RNN(2, 3, num_layers=2, residual=True), "residual"),
        (nn.RNN(2, 3, bidirectional=True, merge="sum"), "merge='sum'"),
        (nn.LSTMCell(2, 3, proj_size=2), "LSTMCell with proj_size=2"),
    ],
    ids=lambda value: repr(value).splitlines()[0] if isinstance(value, nn.Module) else "",
)
def test_modules_without_a_counterpart_in_pytorch_are_refused(module, reason):
    for attempt in (lambda: interop.state_dict(module), lambda: interop.load(module, {})):
        with pytest.raises(InteropError, match=reason):
            attempt()


def test_training_only_settings_are_ignored():
    layer = nn.LSTM(2, 3, num_layers=2, dropout=0.5, recurrent_dropout=0.2, forget_bias=2.0, batch_first=True)
    assert len(interop.state_dict(layer)) == 8
    assert len(interop.state_dict(nn.RNN(2, 3, activation="relu"))) == 4


class OwnCell(nn.RNNCell):
    def step(self, h, x):
        return h + x @ self.W


def test_user_defined_cells_are_exported_by_our_names():
    layer = nn.Recurrent.of(OwnCell)(3, 3)
    assert list(interop.state_dict(layer)) == ["cells.0.W", "cells.0.U", "cells.0.b"]
    np.testing.assert_array_equal(interop.state_dict(layer)["cells.0.W"], layer.cells[0].W.numpy())


def test_load_lists_all_errors_and_changes_nothing():
    model = Text()
    before, weights = model.state_dict(), interop.state_dict(model)
    del weights["scale"]
    weights["bias"] = np.zeros(3)
    weights["embedding.weight"] = np.zeros((6, 3))
    with pytest.raises(InteropError) as caught:
        interop.load(model, weights)
    message = str(caught.value)
    assert "missing: scale (2,)" in message and "unknown: bias (3,)" in message
    assert "embedding.weight: expected shape (5, 3), got (6, 3)" in message
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_save_refuses_a_pickle(tmp_path):
    with pytest.raises(InteropError, match=r"expected a name that ends in \.safetensors"):
        interop.save(nn.Linear(2, 2), tmp_path / "weights.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"\x10")
    with pytest.raises(InteropError, match="header"):
        interop.load(nn.Linear(2, 2), tmp_path / "weights.safetensors")


# -- tied weights and dtypes ---------------------------------------------------------------------------------------


class Tied(nn.Module):
    """A layer under two names, a weight under two names, and a weight in two layers."""

    def __init__(self):
        self.encoder = nn.GRU(2, 3, reset_after=True)
        self.decoder = self.encoder
        self.scale = self.shift = nn.Parameter([1.0, 2.0])
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.W = self.first.W


def tied_in_pytorch(torch):
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.GRU(2, 3)
            self.decoder = self.encoder
            self.scale = self.shift = torch.nn.Parameter(torch.ones(2))
            self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
            self.second.weight = self.first.weight

    return Theirs()


def test_a_tied_tensor_is_saved_under_all_of_its_names():
    torch = pytest.importorskip("torch")
    weights = interop.state_dict(Tied())
    theirs = tied_in_pytorch(torch)
    assert {name: value.shape for name, value in weights.items()} == {
        name: tuple(value.shape) for name, value in theirs.state_dict().items()
    }
    theirs.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})  # strict
    ours = interop.load(Tied(), theirs.state_dict())
    np.testing.assert_array_equal(ours.first.W.numpy(), weights["second.weight"].T)


@pytest.mark.parametrize(
    "name", ["decoder.weight_ih_l0", "encoder.bias_hh_l0", "scale", "shift", "first.weight", "second.weight"]
)
def test_tied_names_that_differ_are_refused(name):
    model = Tied()
    before, weights = model.state_dict(), interop.state_dict(Tied())
    weights[name] = weights[name] + 1
    with pytest.raises(InteropError, match="are one tensor here, but they differ"):
        interop.load(model, weights)
    for ours, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[ours])


@pytest.mark.parametrize(
    "once", [["decoder."], ["encoder."], ["shift"], ["scale"], ["first.weight"], ["second.weight"]]
)
def test_tied_weights_may_be_stored_once(once):
    source = Tied()
    weights = interop.state_dict(source)
    left = {name: value for name, value in weights.items() if not name.startswith(tuple(once))}
    assert len(left) < len(weights)
    loaded = interop.load(Tied(), left)
    for name, value in source.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)


def test_a_tied_tensor_without_any_entry_is_missing():
    weights = interop.state_dict(Tied())
    del (
        weights["first.weight"],
        weights["second.weight"],
        weights["encoder.bias_hh_l0"],
        weights["decoder.weight_ih_l0"],
    )
    with pytest.raises(InteropError) as caught:
        interop.load(Tied(), weights)
    for name in ("first.weight", "second.weight", "encoder.bias_hh_l0", "decoder.weight_ih_l0"):
        assert f"missing: {name}" in str(caught.value)


def test_safetensors_files_that_store_tied_weights_once(tmp_path):
    torch = pytest.importorskip("torch")
    save_model = pytest.importorskip("safetensors.torch").save_model
    theirs = tied_in_pytorch(torch)
    save_model(theirs, str(tmp_path / "tied.safetensors"))
    assert len(interop.read(tmp_path / "tied.safetensors")) < len(theirs.state_dict())
    ours = interop.load(Tied(), tmp_path / "tied.safetensors")
    for name, value in interop.state_dict(ours).items():
        expected = theirs.state_dict()[name]
        if "bias" not in name:  # two biases are one here
            np.testing.assert_allclose(value, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.ones((2, 2), "c8"), "expected real numbers, got complex64"),
        (np.full((2, 2), "1"), "expected real numbers"),
        (np.full((2, 2), None), "expected real numbers"),
        (np.ones((2, 2), "i1"), r"got int8 \(quantized weights\?"),
        (np.ones((2, 2), "?"), r"got bool \(quantized"),
        (np.full((2, 2), 1e300), "got float64 with 1e.300, which is out of its range"),
    ],
)
def test_values_that_would_change_are_refused(value, reason):
    weights = {"weight": value, "bias": np.zeros(2)}
    with pytest.raises(InteropError, match=reason):
        interop.load(nn.Linear(2, 2), weights)


def test_float64_is_rounded_and_nonfinite_values_stay():
    weight = np.array([[1 / 3, np.inf], [np.nan, -1e-300]])
    ours = interop.load(nn.Linear(2, 2), {"weight": weight, "bias": np.zeros(2, "f2")})
    np.testing.assert_array_equal(ours.W.numpy().T, weight.astype("f4"))


@pytest.mark.parametrize("make", [lambda **dtype: nn.Linear(2, 3, **dtype), lambda **dtype: nn.RNN(2, 3, **dtype)])
def test_bfloat16_round_trip(tmp_path, make):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    one, two = make(dtype=ml_dtypes.bfloat16), make(dtype=ml_dtypes.bfloat16)
    interop.save(one, tmp_path / "weights.safetensors")
    assert b"BF16" in (tmp_path / "weights.safetensors").read_bytes()
    interop.load(two, tmp_path / "weights.safetensors")
    for name, value in two.state_dict().items():
        assert value.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(value.astype("f4"), one.state_dict()[name].astype("f4"))


def test_biases_are_added_in_the_dtype_of_the_module():
    """In float16, the dtype of many files, 2048 + 1 is 2048."""
    source = interop.state_dict(nn.RNN(2, 3))
    halves = {name: value.astype("f2") for name, value in source.items()}
    halves["bias_ih_l0"], halves["bias_hh_l0"] = np.full(3, 2048, "f2"), np.full(3, 1, "f2")
    assert interop.load(nn.RNN(2, 3), halves).cells[0].b.tolist() == [2049.0] * 3


def test_conjugated_negated_and_sparse_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    numbers = torch.tensor([[1 + 2j, 3 - 4j], [5j, 6 - 1j]])
    ours = interop.load(nn.Linear(2, 2, bias=False), {"weight": numbers.conj().imag})
    np.testing.assert_array_equal(ours.W.numpy().T, [[-2, 4], [-5, 1]])
    for odd in (
        numbers,
        torch.eye(2).to_sparse(),
        torch.ones(2, 2, device="meta"),
        torch.ones(2, 2).to(torch.float8_e5m2),
    ):
        with pytest.raises(InteropError, match=r"weight: expected (real numbers|numbers in memory)"):
            interop.load(nn.Linear(2, 2, bias=False), {"weight": odd})
