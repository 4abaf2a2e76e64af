"""The reader of torch.save files, which runs no code of theirs."""

from __future__ import annotations

import json
import pickle
import struct
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
        with pytest.raises(InteropError, match=r"names .*, which would run code of the file"):
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


def test_tensors_must_fit_into_their_storage(tmp_path):
    content = [("data/0", np.arange(4, dtype="<f4").tobytes())]

    def read(*arguments, **more):
        return read_torch_file(archive(tmp_path / "tensor.pt", tensor_program(*arguments, **more), content))

    np.testing.assert_array_equal(read((2, 2), (2, 1)), [[0, 1], [2, 3]])
    np.testing.assert_array_equal(read((2, 2), (1, 2)), [[0, 2], [1, 3]])
    np.testing.assert_array_equal(read((2,), (1,), offset=2), [2, 3])
    assert read((0, 3), (3, 1), offset=4).shape == (0, 3)
    wrong = [((2, 3), (2, 1)), ((2,), (-1,)), ((5,), (0,)), ((-1, -4), (1, 1)), ((2,), ())]
    for arguments in [*wrong, ((2,), (1,), 3), ((2,), (1,), -1)]:
        with pytest.raises(InteropError, match=r"does not fit into (a storage of 4 elements|its storage)"):
            read(*arguments)
    with pytest.raises(InteropError, match="expected 5 elements of float32, got 16 bytes"):
        read((2,), (1,), count=5)


# -- malicious files: hand-written programs of pickles -------------------------------------------------------------


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def group(*values):
    return b"(" + b"".join(values) + b"t"


def numbers(*values):
    return group(*map(number, values))


def storage(count, key="0", kind="Float"):
    return group(text("storage"), f"ctorch\n{kind}Storage\n".encode(), text(key), text("cpu"), number(count)) + b"Q"


def tensor(of, shape, strides, offset=0, metadata=b""):
    inside = group(of, number(offset), numbers(*shape), numbers(*strides), b"\x89", b"}", metadata)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + inside + b"R"


def read_program(folder, *values, count=64):
    """What a file with {"0": values[0], "1": values[1], …} gives; its storage 0 has `count` float32 numbers."""
    entries = b"".join(text(str(position)) + value + b"s" for position, value in enumerate(values))
    members = [("data/0", np.arange(count, dtype="<f4").tobytes())]
    return read_torch_file(archive(folder / "made.pt", b"\x80\x02}" + entries + b".", members))


def test_the_hand_written_programs_are_valid(tmp_path):
    read = read_program(tmp_path, tensor(storage(64), (2, 2), (3, 1), 5), number(7))
    np.testing.assert_array_equal(read["0"], [[5, 6], [8, 9]])
    assert read["1"] == 7


def test_a_tensor_as_a_storage_is_refused(tmp_path):
    """Regression: an empty tensor of shape (2⁵⁰, 0) has a len of 2⁵⁰ and no memory, so that the heap was read."""
    empty = tensor(storage(64, kind="Byte"), (2**50, 0), (1, 1))
    members = [("data/0", bytes(64))]
    for stand_in in (empty, group(empty, text("u1")), text("0"), b"N", b"}"):
        for count, stride in ((2, 2**40), (100_000, 1)):
            program = b"\x80\x02}" + text("w") + tensor(stand_in, (count,), (stride,)) + b"s."
            with pytest.raises(InteropError, match="called in a way that no state_dict needs"):
                read_torch_file(archive(tmp_path / "evil.pt", program, members))


@pytest.mark.parametrize("shape", [(2**62,), (2**64, 0), (2**61, 2**61, 0), (0,) * 65, (-1, -1), (2**126,), (1,) * 65])
def test_shapes_that_numpy_cannot_have_are_refused(tmp_path, shape):
    with pytest.raises(InteropError, match="does not fit into"):
        read_program(tmp_path, tensor(storage(64), shape, (1,) * len(shape)))


def test_strides_of_axes_of_size_1_are_ignored(tmp_path):
    read = read_program(tmp_path, tensor(storage(64), (1, 2, 1), (2**60, 3, 2**61)))
    assert read["0"].tolist() == [[[0.0], [3.0]]]


@pytest.mark.parametrize(
    "arguments",
    [b")", b"N", group(b"N"), group(storage(64)), group(storage(64), b"N", b"N", b"N", b"N", b"N"), numbers(1, 2)],
)
@pytest.mark.parametrize(
    "function",
    ["torch._utils\n_rebuild_tensor_v2", "torch._utils\n_rebuild_parameter", "torch\nSize", "torch\nFloatStorage"],
)
def test_functions_called_with_other_arguments_are_refused(tmp_path, function, arguments):
    with pytest.raises(InteropError):
        read_program(tmp_path, f"c{function}\n".encode() + arguments + b"R")


@pytest.mark.parametrize(
    "reference",
    [b"N", b")", numbers(1), group(text("storage"), text("FloatStorage"), text("0"), text("cpu"), number(64))],
)
def test_invalid_references_to_storages_are_refused(tmp_path, reference):
    with pytest.raises(InteropError, match="expected a reference to a storage"):
        read_program(tmp_path, tensor(reference + b"Q", (1,), (1,)))


def test_a_storage_of_two_types_is_refused(tmp_path):
    one, other = (tensor(storage(64, kind=kind), (1,), (1,)) for kind in ("Float", "Int"))
    with pytest.raises(InteropError, match="data/0 is read as i4 and as f4"):
        read_program(tmp_path, one, other)
    with pytest.raises(InteropError, match="data/1 is missing"):
        read_program(tmp_path, tensor(storage(64, key="1"), (1,), (1,)))


def test_storages_and_functions_as_values_are_refused(tmp_path):
    for value in (storage(64), b"ctorch\nSize\n", group(b"]" + storage(64) + b"a")):
        with pytest.raises(InteropError, match="not part of a tensor"):
            read_program(tmp_path, value)


def test_nesting_is_limited(tmp_path):
    assert read_program(tmp_path, b")" + b"\x85" * 60)
    for levels in (64, 100_000):
        with pytest.raises(
            InteropError, match=r"dictionaries, lists and tuples nested more than 64 deep|requires more"
        ):
            read_program(tmp_path, b")" + b"\x85" * levels)


def test_shared_values_count_as_often_as_they_occur(tmp_path):
    double = b"q\x00h\x00\x86"  # memo[0] = x; (x, x)
    assert read_program(tmp_path, b")" + 10 * double)
    with pytest.raises(InteropError, match="written out: the file requires more"):
        read_program(tmp_path, b")" + 40 * double)


def test_cyclic_containers_are_refused(tmp_path):
    for itself in (b"]q\x00h\x00a", b"}q\x00" + text("k") + b"h\x00s", b"]q\x00h\x00\x85a"):
        with pytest.raises(InteropError, match="holds itself"):
            read_program(tmp_path, itself)


def test_a_tensor_may_occur_twice(tmp_path):
    read = read_program(tmp_path, tensor(storage(64), (2,), (1,)) + b"q\x00", b"h\x00")
    assert read["0"].tolist() == read["1"].tolist() == [0, 1]


def test_memory_is_bounded_by_the_size_of_the_file(tmp_path):
    """8,000 tensors of one storage of 1 MB would be 8 GB of arrays."""
    views = [tensor(storage(2**18), (2**18,), (1,))] * 8000
    with pytest.raises(InteropError, match=r"a tensor of shape \(262144,\): the file requires more than the"):
        read_program(tmp_path, *views, count=2**18)
    assert len(read_program(tmp_path, *views[:10], count=2**18)) == 10
    for many in (b"]" * 500_000, b"}" * 500_000, b")" + b"".join(b"r" + struct.pack("<I", n) for n in range(400_000))):
        with pytest.raises(InteropError, match="what the pickle builds: the file requires more"):
            read_program(tmp_path, many)


def test_huge_integers_are_refused(tmp_path):
    huge = b"\x8b" + struct.pack("<I", 20_000) + b"\x7f" * 20_000
    with pytest.raises(InteropError, match="an integer of 159,999 bits"):
        read_program(tmp_path, huge)
    with pytest.raises(InteropError):
        read_program(tmp_path, b"I" + b"9" * 20_000 + b"\n")


def test_keys_that_are_not_strings_or_integers_are_refused(tmp_path):
    for key in (b")" + b"q\x00h\x00\x86" * 60, b"]", b"N", tensor(storage(64), (1,), (1,))):
        with pytest.raises(InteropError, match="keys of dictionaries"):
            read_program(tmp_path, b"}" + key + b"Ns")


def test_the_archive_is_validated_before_it_is_read(tmp_path):
    path = archive(tmp_path / "twice.pt", b"\x80\x02N.", [("data/0", b"1")])
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data/0", b"2")
    with pytest.raises(InteropError, match="several members"):
        read_torch_file(path)
    with pytest.raises(InteropError, match="byteorder"):
        read_torch_file(archive(tmp_path / "order.pt", b"\x80\x02N.", [("byteorder", b"middle")]))
    content = archive(tmp_path / "size.pt", b"\x80\x02N.").read_bytes()
    sizes = content.rindex(b"PK\1\2") + 20
    for size in (2**31 - 1, 0xFFFFFFFE):
        (tmp_path / "size.pt").write_bytes(content[:sizes] + struct.pack("<II", size, size) + content[sizes + 8 :])
        with pytest.raises(InteropError, match="which it cannot have"):
            read_torch_file(tmp_path / "size.pt")


# -- negation bit, booleans, sparse tensors ------------------------------------------------------------------------


def test_the_negation_bit_is_read(tmp_path):
    negative = b"}" + text("neg") + b"\x88s"
    read = read_program(tmp_path, tensor(storage(64), (3,), (2,), 1, negative))
    assert read["0"].tolist() == [-1, -3, -5]
    wrong = (b"}" + text("conj") + b"\x88s", negative[:-1] + text("conj") + b"\x88u", b"}", b"N", group(negative))
    for metadata in wrong:
        with pytest.raises(InteropError):
            read_program(tmp_path, tensor(storage(64), (3,), (2,), 1, metadata))


def test_the_negation_bit_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    torch.save({"imag": numbers.conj().imag, "half": numbers.conj().imag[1:]}, tmp_path / "negative.pt")
    read = read_torch_file(tmp_path / "negative.pt")
    np.testing.assert_array_equal(read["imag"], numbers.conj().imag.resolve_neg().numpy())
    assert read["half"].tolist() == [4]


def test_a_nonzero_byte_is_true(tmp_path):
    program = b"\x80\x02}" + text("w") + tensor(storage(3, kind="Bool"), (3,), (1,)) + b"s."
    read = read_torch_file(archive(tmp_path / "bool.pt", program, [("data/0", b"\0\1\2")]))
    assert read["w"].dtype == bool and read["w"].view(np.uint8).tolist() == [0, 1, 1]


def test_sparse_quantized_and_meta_tensors_are_refused_with_advice(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = [
        ("sparse", torch.eye(3).to_sparse()),
        ("complex", torch.ones(2, dtype=torch.complex64)),
        ("complex", torch.ones(2, dtype=torch.complex128).conj()),
        ("meta", torch.ones(2, device="meta")),
        ("dtype", torch.ones(2).to(torch.float8_e5m2)),
    ]
    for name, value in tensors:
        torch.save({"w": value}, tmp_path / "other.pt")
        with pytest.raises(InteropError, match="it has .*" + name):
            read_torch_file(tmp_path / "other.pt")


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
