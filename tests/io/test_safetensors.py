import io
import json

import numpy as np
import pytest

from tinygrad_gru.io import safetensors

DTYPES = ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def written(tensors, metadata=None):
    file = io.BytesIO()
    safetensors.write(file, tensors, metadata)
    return file.getvalue()


def some_tensors():
    random = np.random.default_rng(0)
    tensors = {kind: (random.random((2, 3)) * 9).astype(kind) for kind in DTYPES}
    tensors |= {"scalar": np.float32(2.5).reshape(()), "empty": np.zeros((0, 4), "f4"), "late.é": np.arange(3)}
    tensors |= {"transposed": np.arange(6.0).reshape(2, 3).T, "big_endian": np.arange(4, dtype=">f4")}
    return tensors


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype.newbyteorder("=") == theirs[name].dtype.newbyteorder("="), name
        assert ours[name].shape == theirs[name].shape, name
        assert np.array_equal(ours[name], theirs[name]), name


def test_what_is_written_is_read_back():
    tensors, metadata = safetensors.read(written(some_tensors(), {"a": 'β"\n'}))
    assert_same(tensors, some_tensors())
    assert metadata == {"a": 'β"\n'}
    assert all(array.flags.writeable for array in tensors.values())


def test_the_formats_own_library_reads_our_files(tmp_path):
    theirs = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "ours.safetensors"
    path.write_bytes(written(some_tensors(), {"a": "b"}))
    assert_same(some_tensors(), theirs.load_file(path))


def test_we_read_the_files_of_the_formats_own_library():
    theirs = pytest.importorskip("safetensors.numpy")
    tensors = {name: np.ascontiguousarray(array) for name, array in some_tensors().items() if name != "big_endian"}
    ours, metadata = safetensors.read(theirs.save(tensors, metadata={"a": "b"}))
    assert_same(ours, tensors)
    assert metadata == {"a": "b"}


def test_data_begins_at_a_multiple_of_eight_and_the_widest_arrays_come_first():
    content = written({"a": np.zeros(3, "u1"), "b": np.ones(3, "f8")})
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length])["b"]["data_offsets"] == [0, 24]


@pytest.mark.parametrize("array", [np.zeros(2, "c8"), np.array(["text"]), np.array([None])])
def test_dtypes_outside_the_format_are_refused(array):
    with pytest.raises(safetensors.SafetensorsError, match="x has dtype"):
        written({"x": array})


def test_the_name_of_the_metadata_is_reserved():
    with pytest.raises(safetensors.SafetensorsError, match="__metadata__"):
        written({"__metadata__": np.zeros(2)})


def test_every_truncation_is_detected():
    content = written({"a": np.arange(4.0), "b": np.arange(3)}, {"key": "value"})
    for length in range(len(content)):
        with pytest.raises(safetensors.SafetensorsError):
            safetensors.read(content[:length])
    with pytest.raises(safetensors.SafetensorsError):
        safetensors.read(content + b"\0")


def file_with(header, data=b"\0" * 8):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4" + b"\0" * 100,
        b"\xff" * 64,
        file_with(b"not JSON"),
        file_with(b"\xff\xfe"),
        file_with(b"[" * 100_000),
        file_with([1, 2]),
        file_with({"x": 3}),
        file_with({"x": {}}),
        file_with({"x": ENTRY, "__metadata__": [1]}),
        file_with({"x": {**ENTRY, "dtype": "BF16"}}),
        file_with({"x": {**ENTRY, "dtype": "C64", "shape": [1]}}),
        file_with({"x": {**ENTRY, "more": 1}}),
        file_with({"x": {**ENTRY, "shape": [True, 2]}}),
        file_with({"x": {**ENTRY, "shape": [1] * 65 + [2]}}),
        file_with({"x": {**ENTRY, "shape": [2**31] * 200_000}}),
        file_with({"x": {**ENTRY, "shape": [2**61, 0], "data_offsets": [0, 0]}}, b""),
        file_with({"x": {**ENTRY, "data_offsets": [8, 16]}}),
        file_with({"x": {**ENTRY, "data_offsets": [-8, 0]}}),
        file_with({"x": {**ENTRY, "data_offsets": [0, 8], "shape": [2**40]}}),
        file_with({"x": ENTRY, "y": {**ENTRY, "data_offsets": [4, 12]}}, b"\0" * 12),  # they overlap
        file_with({"x": ENTRY, "y": {**ENTRY, "data_offsets": [12, 20]}}, b"\0" * 20),  # a gap
        file_with({"\ud800": ENTRY}),
        file_with({"x": ENTRY, "__metadata__": {"a": 1}}),
        file_with(
            b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}'
        ),
        file_with(b'{"x":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}'),
        file_with(b'{"x":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'),
        file_with(json.dumps({"x": ENTRY}).encode("utf-16")),
        file_with({"x": {**ENTRY, "dtype": ["F32"]}}),
        file_with({"x": {**ENTRY, "shape": [3]}}),
        file_with({"x": {**ENTRY, "shape": [-2]}}),
        file_with({"x": {**ENTRY, "shape": [-1, -2]}}),
        file_with({"x": {**ENTRY, "shape": [2.0]}}),
        file_with({"x": {**ENTRY, "shape": "2"}}),
        file_with({"x": {**ENTRY, "data_offsets": [0, 16], "shape": [4]}}),
        file_with({"x": {**ENTRY, "data_offsets": [4, 12]}}),
        file_with({"x": {**ENTRY, "data_offsets": [0]}}),
        file_with({"x": {**ENTRY, "data_offsets": ["0", "8"]}}),
        file_with({"x": ENTRY, "y": ENTRY}),
        file_with({"x": ENTRY, "y": {**ENTRY, "data_offsets": "ab"}}),
        file_with({"x": {**ENTRY, "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}}, b""),
    ],
)
def test_invalid_safetensors_files_are_refused(content):
    with pytest.raises(safetensors.SafetensorsError):
        safetensors.read(content)


def test_the_header_is_validated_before_any_array_is_built(monkeypatch):
    content = file_with({"x": ENTRY, "y": {**ENTRY, "data_offsets": [8, 16], "dtype": "F99"}}, b"\0" * 16)
    monkeypatch.setattr(np, "frombuffer", None)
    with pytest.raises(safetensors.SafetensorsError, match="F99"):
        safetensors.read(content)


def test_messages_are_short_and_can_be_printed():
    with pytest.raises(safetensors.SafetensorsError) as caught:
        safetensors.read(file_with({"x\ud800" * 100_000: {**ENTRY, "dtype": "é" * 100_000}}))
    assert len(str(caught.value).encode()) < 2000


def test_arrays_may_be_listed_in_any_order_and_be_empty():
    second = {**ENTRY, "data_offsets": [8, 16]}
    empty = {**ENTRY, "shape": [0, 3], "data_offsets": [8, 8]}
    tensors, _ = safetensors.read(file_with({"y": second, "e": empty, "x": ENTRY}, np.arange(4, dtype="<f4").tobytes()))
    assert (tensors["x"].tolist(), tensors["y"].tolist(), tensors["e"].shape) == ([0, 1], [2, 3], (0, 3))


def test_bfloat16_becomes_float32_exactly():
    numbers = np.array([1.5, -2.0, 3.25e38, 1e-40], "f4").view("u4") & 0xFFFF0000
    entry = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}
    tensors, _ = safetensors.read(file_with({"x": entry}, (numbers >> 16).astype("<u2").tobytes()))
    assert tensors["x"].dtype == np.float32 and tensors["x"].shape == (2, 2)
    np.testing.assert_array_equal(tensors["x"].view("u4").ravel(), numbers)


def test_bfloat16_is_written_as_such():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([[1.5, -2.0], [3.0, 1e30]], "f4").astype(ml_dtypes.bfloat16)
    content = written({"x": array, "turned": array.T, "one": array[0, 0].reshape(())})
    assert b"BF16" in content
    tensors, _ = safetensors.read(content)
    assert_same(tensors, {"x": array.astype("f4"), "turned": array.T.astype("f4"), "one": np.float32(1.5).reshape(())})


def test_bfloat16_of_pytorch_and_back():
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("safetensors.torch")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    tensor = torch.randn(3, 2).to(torch.bfloat16)
    tensors, _ = safetensors.read(theirs.save({"x": tensor}))
    np.testing.assert_array_equal(tensors["x"], tensor.float().numpy())
    back = theirs.load(written({"x": tensors["x"].astype(ml_dtypes.bfloat16)}))
    assert back["x"].dtype == torch.bfloat16 and torch.equal(back["x"], tensor)


def test_any_nonzero_byte_is_true():
    entry = {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}
    tensors, _ = safetensors.read(file_with({"x": entry}, b"\0\1\2"))
    assert tensors["x"].dtype == bool and tensors["x"].view("u1").tolist() == [0, 1, 1]


def test_the_header_of_the_invalid_cases_is_valid_itself():
    tensors, _ = safetensors.read(file_with({"x": ENTRY}))
    assert tensors["x"].tolist() == [0.0, 0.0]
