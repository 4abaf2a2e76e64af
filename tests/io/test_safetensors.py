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


def test_the_name_of_the_metadata_is_taken():
    with pytest.raises(safetensors.SafetensorsError, match="__metadata__"):
        written({"__metadata__": np.zeros(2)})


def test_every_truncation_is_noticed():
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
def test_what_is_no_safetensors_file_is_refused(content):
    with pytest.raises(safetensors.SafetensorsError):
        safetensors.read(content)


def test_the_hand_made_header_itself_is_sound():
    tensors, _ = safetensors.read(file_with({"x": ENTRY}))
    assert tensors["x"].tolist() == [0.0, 0.0]
