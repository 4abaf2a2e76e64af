"""A node of an ONNX graph, as those see it who make something runnable of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from ...backend import backend_of, resolve, to_host
from ...ops.op import unwrap
from ...tensor import Tensor
from ..errors import InteropError

OWN_DOMAINS = ("", "ai.onnx")


class Call:
    """A call of an operator: its kind, its settings, and the names of what it reads and writes.

    opset   the version of the operators' definitions that the file was written for
    """

    def __init__(self, node: onnx.NodeProto, opset: int):
        self.kind, self.opset = node.op_type, opset
        self.inputs, self.outputs = tuple(node.input), tuple(node.output)
        texts = (node.op_type, node.name, node.domain, *node.input, *node.output, *(a.name for a in node.attribute))
        if not all(isinstance(text, str) for text in texts):
            raise InteropError(f"a node {node.op_type!r} has a name that is no text, or reads or gives one")
        first = next((name for name in self.outputs if name), "")
        self.place = f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} that gives {first!r}"
        self.attribute_types = {attribute.name: attribute.type for attribute in node.attribute}
        if len(self.attribute_types) < len(node.attribute) or any(a.ref_attr_name for a in node.attribute):
            raise self.refused("it has a setting twice, or one that only a function can have")
        if node.domain not in OWN_DOMAINS:
            raise self.refused(f"operators of {node.domain!r} are not known here, only those of ONNX itself")
        if not first:
            raise self.refused("it has no output")
        self._settings = {attribute.name: _value(attribute) for attribute in node.attribute}
        self._asked: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._settings

    def setting(self, name: str, default: Any = None) -> Any:
        """The attribute of that name, which is then known to be understood."""
        self._asked.add(name)
        return self._settings.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """An attribute that is 0 or 1; what other numbers mean, runtimes do not agree upon."""
        value = self.setting(name, int(default))
        if value not in (0, 1):
            raise self.refused(f"{name} is {value}, expected 0 or 1")
        return bool(value)

    def finish(self) -> None:
        """Raise InteropError if the node has settings that nobody has asked for."""
        unknown = sorted(self._settings.keys() - self._asked)
        if unknown:
            raise self.refused(f"it has settings that are not known here: {', '.join(unknown)}")

    def refused(self, reason: str) -> InteropError:
        return InteropError(f"{self.place}: {reason}")


def _value(attribute: onnx.AttributeProto) -> Any:
    try:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type == onnx.AttributeProto.STRINGS:
            return [text.decode() for text in value]
        return value.decode() if isinstance(value, bytes) else value
    except (ValueError, AttributeError) as error:  # of a type that there is not; or no text
        raise InteropError(f"the setting {attribute.name!r} cannot be read: {error}") from error


def type_name(kind: int) -> str:
    """ONNX's name of a type of element."""
    known = onnx.TensorProto.DataType
    return known.Name(kind) if kind in known.values() else f"number {kind}"


def host_array(value: onnx.TensorProto) -> np.ndarray:
    """The numbers of a constant of the file: as many as its shape says, no less and no more."""
    what = f"the constant {value.name!r}"
    if value.data_type not in _KNOWN_TYPES:
        raise InteropError(f"{what} is of type {type_name(value.data_type)}, which there is no array of here")
    dtype, shape = np.dtype(dtype_name(value.data_type)), tuple(value.dims)
    possible = len(shape) <= _MOST_AXES and min(shape, default=0) >= 0 and math.prod(filter(None, shape)) < 2**60
    if not possible or value.HasField("segment"):
        raise InteropError(f"{what} has the shape {shape[:8]}, or is in parts: there is no such array here")
    if value.data_location == onnx.TensorProto.EXTERNAL:
        raise InteropError(f"{what} has its numbers in another file, which only a model that is read by its path has")
    if value.HasField("raw_data"):
        unit, count, found = "bytes", math.prod(shape) * dtype.itemsize, len(value.raw_data)
    else:
        unit, count, found = (
            "numbers",
            math.prod(shape),
            len(getattr(value, onnx.helper.tensor_dtype_to_field(value.data_type))),
        )
    if count != found:
        raise InteropError(f"{what} of shape {shape} needs {count} {unit}, and the file has {found}")
    array = onnx.numpy_helper.to_array(value)
    return array.view(np.uint8) != 0 if dtype.kind == "b" else array  # any byte that is not 0 is True


def dtype_name(kind: int) -> str:
    """NumPy's name of a type of element."""
    if kind not in _KNOWN_TYPES:
        raise InteropError(f"type {type_name(kind)}: there is no array of it here")
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind))


def integers(value: Any) -> list[int]:
    """The integers in a tensor that says something about shapes or axes."""
    return to_host(unwrap(value)).ravel().tolist()


def constant(array: Any, like: Tensor | None = None) -> Tensor:
    """A host array as a Tensor, where `like` lives."""
    return Tensor(np.asarray(array), device=resolve("numpy") if like is None else backend_of(like.data))


def one_of(call: Call, name: str, value: Any, expected: Sequence[Any]) -> Any:
    """`value`, which must be one of those."""
    if value not in expected:
        raise call.refused(f"{name} is {value!r}, expected one of {', '.join(map(repr, expected))}")
    return value


_MOST_AXES = 32
_TYPES = onnx.TensorProto
_KNOWN_TYPES = {
    _TYPES.FLOAT, _TYPES.DOUBLE, _TYPES.FLOAT16, _TYPES.INT8, _TYPES.INT16, _TYPES.INT32, _TYPES.INT64,
    _TYPES.UINT8, _TYPES.UINT16, _TYPES.UINT32, _TYPES.UINT64, _TYPES.BOOL,
}  # fmt: skip
