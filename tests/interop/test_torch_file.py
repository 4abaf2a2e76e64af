"""Files of torch.save are read without running what is in them."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from tinygrad_gru.interop import InteropError
from tinygrad_gru.interop.torch_file import read_torch_file

GOLDEN = Path(__file__).parent / "golden"
FILES = json.loads((GOLDEN / "torch.json").read_text())["cases"][-1]


def archive(path, program, members=(), compression=zipfile.ZIP_STORED):
    """A file like that of torch.save, with this pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", program)
        for name, content in members:
            file.writestr(f"archive/{name}", content)
    return path


class Calls:
    """Pickled, this asks the reader to call a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_checkpoint_of_pytorch():
    checkpoint = read_torch_file(GOLDEN / FILES["file"])
    assert checkpoint["epoch"] == 3
    for name, value in FILES["model"].items():
        np.testing.assert_allclose(checkpoint["model"][name], value, rtol=1e-6, atol=1e-7)
        assert checkpoint["model"][name].dtype == np.float32
    np.testing.assert_array_equal(checkpoint["turned"], FILES["turned"])  # a view with strides of its own
    assert checkpoint["turned"].dtype == np.int64
    np.testing.assert_array_equal(checkpoint["half"], FILES["half"])  # bfloat16
    checkpoint["turned"][0, 0] = 7  # an array of its own


@pytest.mark.parametrize("protocol", [2, 4])
def test_all_dtypes_live(tmp_path, protocol):
    torch = pytest.importorskip("torch")
    names = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    tensors = {name: torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, name)) for name in names}
    tensors |= {"empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5), "part": torch.arange(10.0)[3:7:2]}
    tensors |= {"learned": torch.nn.Parameter(torch.ones(2)), "nested": [{"a": (1, None, True, -2.5, "b", 2**70)}]}
    torch.save(tensors, tmp_path / "all.pt", pickle_protocol=protocol)
    read = read_torch_file(tmp_path / "all.pt")
    assert list(read) == list(tensors)
    assert read.pop("nested") == tensors.pop("nested")
    for name, tensor in tensors.items():
        expected = (tensor.float() if name == "bfloat16" else tensor).detach().numpy()
        np.testing.assert_array_equal(read[name], expected)
        assert read[name].dtype == expected.dtype


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_never_run(tmp_path, protocol):
    ran = tmp_path / "ran"
    for harmful in (Calls(Path.touch, ran), Calls(eval, "1"), Calls(OrderedDict.fromkeys, [1]), Calls(print)):
        program = pickle.dumps({"weight": harmful}, protocol=protocol)
        with pytest.raises(InteropError, match=r"asks for .*, which would mean to run code from a file"):
            read_torch_file(archive(tmp_path / "harmful.pt", program))
    assert not ran.exists()


def test_a_whole_module_is_refused_with_advice(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(InteropError, match=r"torch\.nn\.modules\.linear\.Linear.*save its state_dict\(\) instead"):
        read_torch_file(tmp_path / "module.pt")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"", "damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02K\x01t.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02}K\x01s.", "damaged"),
        (b"\x80\x02K\x01K\x02K\x03s.", "damaged"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "damaged"),
        (pickle.dumps({"a": {1, 2}}, protocol=4), "instruction EMPTY_SET"),
        (pickle.dumps({"a": 1.5}, protocol=0), "instruction"),
    ],
)
def test_broken_pickles_are_refused(tmp_path, program, reason):
    with pytest.raises(InteropError, match=reason):
        read_torch_file(archive(tmp_path / "broken.pt", program))


def tensor_program(size, stride, offset=0, count=4):
    """The pickle of one float32 tensor over a storage of `count` elements."""

    def numbers(*values):
        return b"".join(b"J" + int(v).to_bytes(4, "little", signed=True) for v in values)

    head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    storage = b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + numbers(count) + b"tQ"
    return head + storage + numbers(offset) + b"(" + numbers(*size) + b"t(" + numbers(*stride) + b"t\x89NtR."


def test_tensors_must_lie_in_their_storage(tmp_path):
    content = [("data/0", np.arange(4, dtype="<f4").tobytes())]

    def read(*arguments, **more):
        return read_torch_file(archive(tmp_path / "tensor.pt", tensor_program(*arguments, **more), content))

    np.testing.assert_array_equal(read((2, 2), (2, 1)), [[0, 1], [2, 3]])
    np.testing.assert_array_equal(read((2, 2), (1, 2)), [[0, 2], [1, 3]])
    np.testing.assert_array_equal(read((2,), (1,), offset=2), [2, 3])
    assert read((0, 3), (3, 1), offset=4).shape == (0, 3)
    wrong = [((2, 3), (2, 1)), ((2,), (-1,)), ((5,), (0,)), ((-1, -4), (1, 1)), ((2,), ())]
    for arguments in [*wrong, ((2,), (1,), 3), ((2,), (1,), -1)]:
        with pytest.raises(InteropError, match="does not lie in a storage of 4 elements"):
            read(*arguments)
    with pytest.raises(InteropError, match="damaged"):
        read((2,), (1,), count=5)


def test_byte_order(tmp_path):
    content = [("data/0", np.arange(4, dtype=">f4").tobytes()), ("byteorder", b"big")]
    path = archive(tmp_path / "big.pt", tensor_program((4,), (1,)), content)
    np.testing.assert_array_equal(read_torch_file(path), [0, 1, 2, 3])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "old.pt").write_bytes(pickle.dumps({}))
    with pytest.raises(InteropError, match=r"expected a zip archive.*before torch 1\.6"):
        read_torch_file(tmp_path / "old.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as file:
        file.writestr("readme", "nothing")
    with pytest.raises(InteropError, match=r"one data\.pkl"):
        read_torch_file(tmp_path / "other.pt")
    with pytest.raises(InteropError, match="TorchScript"):
        read_torch_file(archive(tmp_path / "script.pt", b"\x80\x02N.", [("constants.pkl", b"")]))
    with pytest.raises(InteropError, match="compressed"):
        read_torch_file(archive(tmp_path / "bomb.pt", b"\x80\x02N.", compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "missing.pt")
