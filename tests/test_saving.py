"""`save` and `load`: state dictionaries, checkpoints, files of other programs."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import leaf

import tinygrad_gru as tg
from tinygrad_gru import Tensor, nn, optim
from tinygrad_gru.io.checkpoint import CheckpointError


def test_a_state_dictionary_is_read_by_other_tools_and_by_load(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model, path = nn.GRU(2, 3), tmp_path / "model.safetensors"
    tg.save(model.state_dict(), path)
    state = tg.load(path)
    assert state.keys() == model.state_dict().keys() == safetensors.load_file(path).keys()
    other = nn.GRU(2, 3)
    other.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array)


def test_a_module_is_saved_by_its_state(tmp_path):
    model = nn.Linear(2, 3)
    tg.save(model, tmp_path / "m")
    assert tg.load(str(tmp_path / "m")).keys() == model.state_dict().keys()


def test_a_checkpoint_of_all_sorts(tmp_path, device):
    model = nn.Linear(2, 3)
    optimizer = optim.Adam(model.parameters())
    model(Tensor(np.ones((4, 2), np.float32))).sum().backward()
    optimizer.step()
    recorded = leaf([1.0]) * 2.0
    state = {
        "model": model, "optimizer": optimizer, "epoch": 3, "best": [0.5, None, True, "x"],
        "moved": Tensor([1, 2], device=device), "recorded": (recorded,), "seed": tg.random_state(),
    }  # fmt: skip
    tg.save(state, tmp_path / "run.safetensors")
    loaded = tg.load(tmp_path / "run.safetensors")
    assert (loaded["epoch"], loaded["best"], loaded["seed"]) == (3, [0.5, None, True, "x"], state["seed"])
    assert loaded["moved"].tolist() == [1, 2] and loaded["recorded"][0].tolist() == [2.0]
    other, new = nn.Linear(2, 3), None
    other.load_state_dict(loaded["model"])
    new = optim.Adam(other.parameters())
    new.load_state_dict(loaded["optimizer"])
    for m, o in ((model, optimizer), (other, new)):
        m.zero_grad()
        m(Tensor(np.ones((4, 2), np.float32))).sum().backward()
        o.step()
    np.testing.assert_array_equal(model.W.numpy(), other.W.numpy())


@pytest.mark.parametrize("value", [Tensor([1.0, 2.0]), np.arange(3), [Tensor(1.0), 2], 5, "text"], ids=repr)
def test_what_is_no_dictionary_is_given_back_too(value, tmp_path):
    tg.save(value, tmp_path / "x")
    loaded = tg.load(tmp_path / "x")
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(value))
    assert isinstance(loaded, np.ndarray) == hasattr(value, "dtype")


def test_a_file_of_another_program_is_the_dictionary_of_its_arrays(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {"a.b": np.arange(6.0).reshape(2, 3), "c": np.array([1, 2])}
    safetensors.save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "pt"})
    loaded = tg.load(tmp_path / "x.safetensors")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_files_of_other_formats_are_answered(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.save(tmp_path / "a.npy", np.ones(2))
    np.savez(tmp_path / "a.npz", a=np.ones(2))
    (tmp_path / "text").write_text("hello")
    for name, message in (
        ("m.pt", r"interop\.torch\.load\(model, path\)"),
        ("old.pt", r"interop\.torch\.load\(model, path\)"),
        ("a.npy", r"np\.load\(path\)"),
        ("a.npz", r"np\.load reads \.npz"),
        ("text", "not a whole checkpoint"),
        ("nothing", "there is no checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=message):
            tg.load(tmp_path / name)


def test_wrong_arguments_are_answered(tmp_path):
    with pytest.raises(TypeError, match=r"save: expected what to save, then the path: save\(state, path\)"):
        tg.save(tmp_path / "x", {"a": 1})
    with pytest.raises(TypeError, match="load takes the path alone, got map_location: arrays are read to"):
        tg.load(tmp_path / "x", map_location="cpu")
    with pytest.raises(TypeError, match=r"a state holds arrays.*got object"):
        tg.save({"a": object()}, tmp_path / "x")
