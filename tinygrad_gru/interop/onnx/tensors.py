"""Element types and tensors of ONNX files, as NumPy's."""

from __future__ import annotations

import math

import numpy as np
import onnx

from ..errors import InteropError

#: Names of the domain of ONNX's own operators.
ONNX_DOMAINS = ("", "ai.onnx")

_MAX_RANK = 32
_TYPES = onnx.TensorProto
_ARRAY_TYPES = {
    _TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.INT8, _TYPES.INT16, _TYPES.INT32, _TYPES.INT64,
    _TYPES.UINT8, _TYPES.UINT16, _TYPES.UINT32, _TYPES.UINT64, _TYPES.BOOL,
}  # fmt: skip


def type_name(data_type: int) -> str:
    """ONNX's name of an element type."""
    known = onnx.TensorProto.DataType
    return known.Name(data_type) if data_type in known.values() else f"number {data_type}"


def host_array(value: onnx.TensorProto) -> np.ndarray:
    """The values of a tensor in the file. Raises InteropError unless their number is that of its shape."""
    what = f"the constant {value.name!r}"
    if value.data_type not in _ARRAY_TYPES:
        raise InteropError(f"{what} is of type {type_name(value.data_type)}, which is not supported")
    dtype, shape = np.dtype(dtype_name(value.data_type)), tuple(value.dims)
    possible = len(shape) <= _MAX_RANK and min(shape, default=0) >= 0 and math.prod(filter(None, shape)) < 2**60
    if not possible or value.HasField("segment"):
        raise InteropError(f"{what} has the shape {shape[:8]}, or is in segments: not supported")
    if value.data_location == onnx.TensorProto.EXTERNAL:
        raise InteropError(f"{what} has external data, which is read only if the model is given by its path")
    if value.HasField("raw_data"):
        unit, count, found = "bytes", math.prod(shape) * dtype.itemsize, len(value.raw_data)
    else:
        field = onnx.helper.tensor_dtype_to_field(value.data_type)
        unit, count, found = "numbers", math.prod(shape), len(getattr(value, field))
    if count != found:
        raise InteropError(f"{what} of shape {shape} needs {count} {unit}, and the file has {found}")
    array = onnx.numpy_helper.to_array(value)
    return array.view(np.uint8) != 0 if dtype.kind == "b" else array  # any byte that is not 0 is True


def dtype_name(data_type: int) -> str:
    """NumPy's name of an element type."""
    if data_type not in _ARRAY_TYPES:
        raise InteropError(f"type {type_name(data_type)} is not supported")
    return str(onnx.helper.tensor_dtype_to_np_dtype(data_type))
