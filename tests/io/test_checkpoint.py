import errno
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tinygrad_gru.io import checkpoint, safetensors
from tinygrad_gru.io.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

STATE = {
    "model": {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3, np.float32)},
    "carried": [np.ones((1, 2)), None],
    "random": {"seed": 2**62 + 1, "position": 3},
    "note": "ein Süßes",
    "flags": [True, 1.5, -1],
}


def same(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return type(left) is type(right) and left == right


def test_a_state_is_read_back_unchanged(tmp_path):
    save_checkpoint(tmp_path / "run", STATE)
    assert same(load_checkpoint(tmp_path / "run"), STATE)


def test_tuples_become_lists_and_numpy_scalars_become_numbers(tmp_path):
    save_checkpoint(tmp_path / "run", {"pair": (1, 2), "loss": np.float32(0.5), "empty": {}})
    assert same(load_checkpoint(tmp_path / "run"), {"pair": [1, 2], "loss": 0.5, "empty": {}})


def test_arrays_are_tensors_named_by_their_path(tmp_path):
    save_checkpoint(tmp_path / "run", STATE)
    tensors, _ = safetensors.read((tmp_path / "run").read_bytes())
    assert sorted(tensors) == ["carried.0", "model.bias", "model.weight"]


def test_every_damaged_or_missing_byte_is_detected(tmp_path):
    path = tmp_path / "run"
    save_checkpoint(path, {"x": np.arange(5.0), "steps": 7})
    content = path.read_bytes()
    padding = content[: 8 + int.from_bytes(content[:8], "little")]
    harmless = range(len(padding.rstrip(b" ")), len(padding))  # spaces that fill up the header
    for position in set(range(len(content))) - set(harmless):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(CheckpointError, match="run"):
            load_checkpoint(path)
        path.write_bytes(content[:position])
        with pytest.raises(CheckpointError, match="run"):
            load_checkpoint(path)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path):
    with open(tmp_path / "foreign", "wb") as file:
        safetensors.write(file, {"weight": np.zeros(3)}, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"not a 'tinygrad_gru checkpoint 1'.*'pt'"):
        load_checkpoint(tmp_path / "foreign")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4" + bytes(1000)])
def test_any_other_file_is_refused(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole checkpoint" if content else "other: the file is empty"):
        load_checkpoint(tmp_path / "other")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="could not read"):
        load_checkpoint(tmp_path)


def test_names_with_dots_do_not_collide(tmp_path):
    state = {
        "a.b": np.zeros(2), "a": {"b": np.ones(3), "": np.full(4, 2.0)}, "": np.full(5, 3.0), "b": np.full(6, 4.0),
        "__metadata__": np.full(7, 5.0), "c": [{"0": np.full(8, 6.0)}], "c.0": {"0": np.full(9, 7.0)},
    }  # fmt: skip
    save_checkpoint(tmp_path / "run", state)
    assert same(load_checkpoint(tmp_path / "run"), state)


def test_bfloat16_is_kept_as_float32(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    save_checkpoint(tmp_path / "run", {"x": np.array([1.5, -2.0]).astype(ml_dtypes.bfloat16)})
    assert same(load_checkpoint(tmp_path / "run"), {"x": np.array([1.5, -2.0], "f4")})


def made(path, text, tensors):
    """A checkpoint with a valid checksum for any state."""
    metadata = {"format": checkpoint._FORMAT, "state": text, "checksum": checkpoint._checksum(text, tensors)}
    with open(path, "wb") as file:
        safetensors.write(file, tensors, metadata)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "null", '"x"', '{"a": 1, "a": 2}', "[" * 100_000, '{"a":' * 70 + "1" + "}" * 70, "9" * 5000,
        '{"a": {"$tensor": "x"}, "b": {"$tensor": "x"}}', '{"a": {"$tensor": "y"}}', '{"a": {"$tensor": ["x"]}}', "{}",
        '{"$tensor": "x"}',
    ],
)  # fmt: skip
def test_a_state_that_was_edited_is_refused(tmp_path, text):
    with pytest.raises(CheckpointError, match=r"run: "):
        load_checkpoint(made(tmp_path / "run", text, {"x": np.zeros(2)}))


def test_the_state_of_the_invalid_cases_is_valid_itself(tmp_path):
    read = load_checkpoint(made(tmp_path / "run", '{"a": [{"$tensor": "x"}]}', {"x": np.zeros(2)}))
    assert same(read, {"a": [np.zeros(2)]})


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CheckpointError),
        (OSError(errno.EROFS, "Read-only file system"), CheckpointError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_save_that_fails_leaves_the_previous_checkpoint(tmp_path, monkeypatch, call, error, raised):
    def fail(*arguments, **settings):
        raise error

    path = tmp_path / "run"
    save_checkpoint(path, {"steps": 1, "x": np.zeros(3)})
    with monkeypatch.context() as patch:
        if call == "open":
            patch.setattr("builtins.open", fail)
        elif call == "write":
            patch.setattr(safetensors, "write", fail)
        else:
            patch.setattr(os, call, fail)
        with pytest.raises(raised) as caught:
            save_checkpoint(path, {"steps": 2, "x": np.ones(3)})
    if raised is CheckpointError:
        assert error.strerror in str(caught.value) and "unharmed" in str(caught.value)
    assert load_checkpoint(path)["steps"] == 1
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_device_is_named():
    with pytest.raises(CheckpointError, match="could not write the checkpoint /dev/full: No space left on device"):
        save_checkpoint("/dev/full", STATE)


@pytest.fixture
def folder_of_an_ordinary_user():
    """A read-only folder; the test runs as a user other than root, who could write anywhere."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        os.seteuid(user)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permissions")
def test_a_folder_that_may_not_be_written_to_is_named(folder_of_an_ordinary_user):
    path = folder_of_an_ordinary_user / "run"
    save_checkpoint(path, STATE)
    path.unlink()
    path.parent.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        save_checkpoint(path, STATE)
    path.parent.chmod(0o700)


@pytest.mark.parametrize("state", [
    {1: 2}, {"$tensor": "x"}, {"a": {"b": object()}}, {"\ud800": np.zeros(2)}, {"a": np.ma.array([1.0], mask=[True])},
])  # fmt: skip
def test_unsupported_values_in_a_state_are_refused(tmp_path, state):
    with pytest.raises(TypeError, match="state"):
        save_checkpoint(tmp_path / "run", state)
    assert os.listdir(tmp_path) == []
