"""A node of an ONNX graph, as those see it who make something runnable of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from ...backend import backend_of, resolve, to_host
from ...ops.op import raw
from ...tensor import Tensor
from ..errors import InteropError


class Call:
    """A call of an operator: its kind, its settings, and the names of what it reads and writes.

    opset   the version of the operators' definitions that the file was written for
    """

    def __init__(self, node: onnx.NodeProto, opset: int):
        self.kind, self.opset = node.op_type, opset
        self.inputs, self.outputs = tuple(node.input), tuple(node.output)
        self.place = f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} that gives {node.output[0]!r}"
        self._settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}

    def setting(self, name: str, default: Any = None) -> Any:
        """The attribute of that name, which is then known to be understood."""
        value = self._settings.pop(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def finish(self) -> None:
        """Raise InteropError if the node has settings that nobody has asked for."""
        if self._settings:
            raise self.refused(f"it has settings that are not known here: {', '.join(sorted(self._settings))}")

    def refused(self, reason: str) -> InteropError:
        return InteropError(f"{self.place}: {reason}")


def host_array(value: onnx.TensorProto) -> np.ndarray:
    """The numbers of a constant of the file."""
    if value.data_type not in _KNOWN_TYPES:
        kind = onnx.TensorProto.DataType.Name(value.data_type)
        raise InteropError(f"the constant {value.name!r} is of type {kind}, which there is no array of here")
    return onnx.numpy_helper.to_array(value)


def dtype_name(kind: int) -> str:
    """NumPy's name of a type of element."""
    if kind not in _KNOWN_TYPES:
        raise InteropError(f"type {onnx.TensorProto.DataType.Name(kind)}: there is no array of it here")
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind))


def integers(value: Any) -> list[int]:
    """The integers in a tensor that says something about shapes or axes."""
    return to_host(raw(value)).ravel().tolist()


def constant(array: Any, like: Tensor | None = None) -> Tensor:
    """A host array as a Tensor, where `like` lives."""
    return Tensor(np.asarray(array), device=resolve("numpy") if like is None else backend_of(like.data))


def one_of(call: Call, name: str, value: Any, expected: Sequence[Any]) -> Any:
    """`value`, which must be one of those."""
    if value not in expected:
        raise call.refused(f"{name} is {value!r}, expected one of {', '.join(map(repr, expected))}")
    return value


_TYPES = onnx.TensorProto
_KNOWN_TYPES = {
    _TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.INT8, _TYPES.INT16, _TYPES.INT32, _TYPES.INT64,
    _TYPES.UINT8, _TYPES.UINT16, _TYPES.UINT32, _TYPES.UINT64, _TYPES.BOOL,
}  # fmt: skip
