"""The safetensors format: named arrays and a few words of metadata, in a file that holds no code.

    8 bytes        the length of the header, little-endian
    header         JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …,
                          "__metadata__": {"key": "value", …}}
    data           the arrays' bytes one after another, little-endian, C order; offsets count from here

https://github.com/huggingface/safetensors defines it. The reader trusts nothing: a header that does not describe the
bytes that follow it, to the last one, is an error, and is known to be one before the first array is made.
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
_NAMES = {np.dtype(code).newbyteorder("="): name for name, code in _DTYPES.items()}
_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
_ALIGNMENT = 8
_MOST_AXES = 64  # NumPy's


class SafetensorsError(FileFormatError):
    """Bytes that are not a whole safetensors file, or values that cannot be put into one."""


def write(file: BinaryIO, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write host arrays by name, and metadata (strings by name), to an open binary file."""
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    # Widest first, as the format's own library does it: then every array begins at a multiple of its item size.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    offset = 0
    for name in names:
        array = tensors[name]
        kind = "BF16" if array.dtype.name == "bfloat16" else _NAMES.get(array.dtype.newbyteorder("="))
        if kind is None:
            raise SafetensorsError(f"{name} has dtype {array.dtype}, which safetensors files do not know")
        if name == _METADATA or not is_text(name):
            raise SafetensorsError(f"a tensor cannot be called {name!r}: no reader of the format takes that name")
        end = offset + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode("ascii")
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    file.write(len(encoded).to_bytes(_LENGTH_BYTES, "little"))
    file.write(encoded)
    for name in names:
        array = tensors[name] if header[name]["dtype"] != "BF16" else tensors[name].view(np.uint16)
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def read(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata in the bytes of a file. Raises SafetensorsError where they are not in order.

    bfloat16, which NumPy does not have, becomes float32; that is exact.
    """
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    begin = _LENGTH_BYTES + length
    if len(content) < _LENGTH_BYTES or length > _LONGEST_HEADER or begin > len(content):
        raise SafetensorsError("the header is not there or goes past the end of the file")
    try:
        header = parse_json(content[_LENGTH_BYTES:begin])
    except FileFormatError as error:
        raise SafetensorsError(f"the header cannot be read: {error}") from error
    if type(header) is not dict:
        raise SafetensorsError(f"the header cannot be read: expected an object, got a {type(header).__name__}")
    metadata = header.pop(_METADATA, {})
    if type(metadata) is not dict or not all(type(value) is str for value in metadata.values()):
        raise SafetensorsError("the header cannot be read: its metadata are not strings by name")
    entries = sorted(
        (_entry(name, entry) for name, entry in header.items()), key=lambda entry: (entry.begin, entry.end)
    )
    offset = 0
    for entry in entries:
        if entry.begin != offset:
            raise SafetensorsError(
                f"{_short(entry.name)} begins at byte {entry.begin} of the data, but byte {offset} follows what comes "
                "before it: the arrays overlap, or leave a gap"
            )
        offset = entry.end
    if offset != len(content) - begin:
        raise SafetensorsError(f"the header describes {offset} bytes of data, but {len(content) - begin} follow it")
    return {entry.name: _array(entry, content, begin) for entry in entries}, metadata


class _Entry(NamedTuple):
    """Where an array lies in the data, and as what."""

    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _entry(name: str, entry: Any) -> _Entry:
    """What the header says of one array, if that is possible in itself."""
    if not is_text(name):
        raise SafetensorsError(f"{_short(name)}: the name is no text that can be written")
    if type(entry) is not dict or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"{_short(name)}: expected a dtype, a shape and data_offsets, and nothing else")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(kind) is not str or kind not in _STORED:
        raise SafetensorsError(f"{_short(name)} has dtype {_short(kind)}, which NumPy does not have")
    if not _are_sizes(shape, _MOST_AXES) or not _are_sizes(offsets, 2) or len(offsets) != 2:
        raise SafetensorsError(f"{_short(name)}: its shape or its offsets are no list of a few whole numbers")
    begin, end = offsets
    if end - begin != math.prod(shape) * np.dtype(_STORED[kind]).itemsize or math.prod(filter(None, shape)) >= 2**60:
        raise SafetensorsError(f"{_short(name)}: {kind} of shape {shape} is not what bytes {begin} to {end} can hold")
    return _Entry(name, kind, tuple(shape), begin, end)


def _array(entry: _Entry, content: bytes, begin: int) -> np.ndarray:
    """An array of its own, in the order of the host's bytes."""
    stored = np.frombuffer(content, _STORED[entry.kind], math.prod(entry.shape), begin + entry.begin)
    stored = stored.reshape(entry.shape)
    if entry.kind == "BOOL":  # any byte but 0 is true
        return stored != 0
    if entry.kind == "BF16":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(stored.dtype.newbyteorder("="))


def _are_sizes(values: Any, most: int) -> bool:
    """Whether this is a list of at most so many integers from 0 on, of which NumPy can make a shape."""
    return type(values) is list and len(values) <= most and all(type(n) is int and 0 <= n < 2**62 for n in values)


def is_text(name: str) -> bool:
    """Whether a string has no halves of characters, which JSON can escape and nobody can encode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    """A value of the file for a message."""
    if type(value) is not str:
        return f"a {type(value).__name__}"
    return ascii(value if len(value) <= 100 else f"{value[:100]}…")[1:-1]
