"""The safetensors format: named arrays and string metadata, in a file without code.

    8 bytes        the length of the header, little-endian
    header         JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …,
                          "__metadata__": {"key": "value", …}}
    data           the arrays' bytes one after another, little-endian, C order; offsets count from here

https://github.com/huggingface/safetensors defines it. The reader validates the whole header before it builds an array:
it must describe exactly the bytes that follow it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .limits import FileFormatError
from .strict_json import parse_json

_DTYPES = {
    "BOOL": "?",
    "U8": "u1", "I8": "i1",
    "U16": "<u2", "I16": "<i2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4",
    "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_STORED = {**_DTYPES, "BOOL": "u1", "BF16": "<u2"}
_DTYPE_NAMES = {np.dtype(code).newbyteorder("="): name for name, code in _DTYPES.items()}
_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_MAX_HEADER = 100_000_000
_ALIGNMENT = 8
_MAX_NDIM = 64  # NumPy's


class SafetensorsError(FileFormatError):
    """Bytes are not a valid safetensors file, or values cannot be written to one."""


def write(file: BinaryIO, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write host arrays by name, and metadata (strings by name), to an open binary file."""
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    # Widest first, as in the format's own library: then every array begins at a multiple of its item size.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    offset = 0
    for name in names:
        array = tensors[name]
        dtype = "BF16" if array.dtype.name == "bfloat16" else _DTYPE_NAMES.get(array.dtype.newbyteorder("="))
        if dtype is None:
            raise SafetensorsError(f"{name} has dtype {array.dtype}, which the safetensors format does not have")
        if name == _METADATA or not is_text(name):
            raise SafetensorsError(f"invalid tensor name {name!r}: readers of the format do not accept it")
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode("ascii")
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    file.write(len(encoded).to_bytes(_LENGTH_BYTES, "little"))
    file.write(encoded)
    for name in names:
        array = tensors[name] if header[name]["dtype"] != "BF16" else tensors[name].view(np.uint16)
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def read(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata in the bytes of a file. Raises SafetensorsError if it is invalid.

    bfloat16, which NumPy does not have, is converted to float32, exactly.
    """
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    begin = _LENGTH_BYTES + length
    if len(content) < _LENGTH_BYTES or length > _MAX_HEADER or begin > len(content):
        raise SafetensorsError("the header is missing or extends beyond the end of the file")
    try:
        header = parse_json(content[_LENGTH_BYTES:begin])
    except FileFormatError as error:
        raise SafetensorsError(f"the header cannot be read: {error}") from error
    if type(header) is not dict:
        raise SafetensorsError(f"the header cannot be read: expected an object, got a {type(header).__name__}")
    metadata = header.pop(_METADATA, {})
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        raise SafetensorsError("the header cannot be read: its metadata is not an object of strings")
    entries = sorted(
        (_entry(name, entry) for name, entry in header.items()), key=lambda entry: (entry.begin, entry.end)
    )
    offset = 0
    for entry in entries:
        if entry.begin != offset:
            raise SafetensorsError(
                f"{_short(entry.name)} begins at byte {entry.begin} of the data, but the previous array ends at byte "
                f"{offset}: the arrays overlap, or leave a gap"
            )
        offset = entry.end
    if offset != len(content) - begin:
        raise SafetensorsError(f"the header describes {offset} bytes of data, but {len(content) - begin} follow it")
    return {entry.name: _array(entry, content, begin) for entry in entries}, metadata


class _Entry(NamedTuple):
    """The header entry of an array: its dtype, shape and byte range in the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _entry(name: str, entry: Any) -> _Entry:
    """Parse and validate the header entry of one array."""
    if not is_text(name):
        raise SafetensorsError(f"{_short(name)}: the name has lone surrogates")
    if type(entry) is not dict or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"{_short(name)}: expected a dtype, a shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in _STORED:
        raise SafetensorsError(f"{_short(name)} has dtype {_short(dtype)}, which NumPy does not have")
    if not _are_sizes(shape, _MAX_NDIM) or not _are_sizes(offsets, 2) or len(offsets) != 2:
        raise SafetensorsError(f"{_short(name)}: expected its shape and its offsets to be lists of integers from 0 on")
    begin, end = offsets
    if end - begin != math.prod(shape) * np.dtype(_STORED[dtype]).itemsize or math.prod(filter(None, shape)) >= 2**60:
        raise SafetensorsError(f"{_short(name)}: {dtype} of shape {shape} does not fit bytes {begin} to {end}")
    return _Entry(name, dtype, tuple(shape), begin, end)


def _array(entry: _Entry, content: bytes, begin: int) -> np.ndarray:
    """A copy of the array, in the byte order of the host."""
    stored = np.frombuffer(content, _STORED[entry.dtype], math.prod(entry.shape), begin + entry.begin)
    stored = stored.reshape(entry.shape)
    if entry.dtype == "BOOL":  # any byte but 0 is true
        return stored != 0
    if entry.dtype == "BF16":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(stored.dtype.newbyteorder("="))


def _are_sizes(values: Any, most: int) -> bool:
    """Whether `values` is a list of at most `most` integers from 0 on that NumPy accepts as sizes."""
    return type(values) is list and len(values) <= most and all(type(n) is int and 0 <= n < 2**62 for n in values)


def is_text(name: str) -> bool:
    """Whether a string has no lone surrogates, which JSON can escape but UTF-8 cannot encode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    """A value from the file, for an error message."""
    if type(value) is not str:
        return f"a {type(value).__name__}"
    return ascii(value if len(value) <= 100 else f"{value[:100]}…")[1:-1]
