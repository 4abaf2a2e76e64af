"""The safetensors format: named arrays and a few words of metadata, in a file that holds no code.

    8 bytes        the length of the header, little-endian
    header         JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …,
                          "__metadata__": {"key": "value", …}}
    data           the arrays' bytes one after another, little-endian, C order; offsets count from here

https://github.com/huggingface/safetensors defines it. The reader trusts nothing: a header that does not describe the
bytes that follow it, to the last one, is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from .limits import FileFormatError

_DTYPES = {
    "BOOL": "?",
    "U8": "u1", "I8": "i1",
    "U16": "<u2", "I16": "<i2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4",
    "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(code).newbyteorder("="): name for name, code in _DTYPES.items()}
_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000
_ALIGNMENT = 8


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
        kind = _NAMES.get(array.dtype.newbyteorder("="))
        if kind is None:
            raise SafetensorsError(f"{name} has dtype {array.dtype}, which safetensors files do not know")
        if name == _METADATA:
            raise SafetensorsError(f"a tensor cannot be called {_METADATA}: the format keeps that name for itself")
        end = offset + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode("ascii")
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    file.write(len(encoded).to_bytes(_LENGTH_BYTES, "little"))
    file.write(encoded)
    for name in names:
        array = tensors[name]
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def read(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata in the bytes of a file. Raises SafetensorsError where they are not in order."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    begin = _LENGTH_BYTES + length
    if len(content) < _LENGTH_BYTES or length > _LONGEST_HEADER or begin > len(content):
        raise SafetensorsError("the header is not there or goes past the end of the file")
    try:
        header = json.loads(content[_LENGTH_BYTES:begin])
        metadata = {str(key): str(value) for key, value in header.pop(_METADATA, {}).items()}
        entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SafetensorsError(f"the header cannot be read: {error}") from error
    data = memoryview(content)[begin:]
    tensors = {}
    offset = 0
    for name, entry in entries:
        tensors[name], offset = _tensor(name, entry, data, offset)
    if offset != len(data):
        raise SafetensorsError(f"the header describes {offset} bytes of data, but {len(data)} follow it")
    return tensors, metadata


def _tensor(name: str, entry: Mapping[str, Any], data: memoryview, offset: int) -> tuple[np.ndarray, int]:
    """One array, which must begin at `offset`, and where it ends."""
    try:
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if kind not in _DTYPES:
            raise SafetensorsError(f"{name} has dtype {kind}, which NumPy does not have")
        dtype = np.dtype(_DTYPES[kind])
        size = math.prod(shape)
        if begin != offset or end - begin != size * dtype.itemsize or end > len(data) or min(shape, default=0) < 0:
            raise SafetensorsError(f"{name}: {kind} of shape {shape} is not what bytes {begin} to {end} hold")
        array = np.frombuffer(data, dtype, size, begin).reshape(shape)
    except (ValueError, TypeError, KeyError) as error:
        raise error if isinstance(error, SafetensorsError) else SafetensorsError(f"{name}: {error}") from error
    return array.astype(dtype.newbyteorder("=")), end
