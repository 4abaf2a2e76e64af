"""Nodes of an ONNX graph, as the importer reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from ....backend import backend_of, resolve, to_host
from ....ops.op import unwrap
from ....tensor import Tensor
from ...errors import InteropError
from ..tensors import ONNX_DOMAINS


class Node:
    """A node: its operator, its attributes, and the names of its inputs and outputs.

    label  the node in error messages
    opset  the version of the operators' definitions that the file was written for
    """

    def __init__(self, node: onnx.NodeProto, opset: int):
        self.op_type, self.opset = node.op_type, opset
        self.inputs, self.outputs = tuple(node.input), tuple(node.output)
        texts = (node.op_type, node.name, node.domain, *node.input, *node.output, *(a.name for a in node.attribute))
        if not all(isinstance(text, str) for text in texts):
            raise InteropError(f"a node {node.op_type!r} has a name, an input or an output that is not text")
        first = next((name for name in self.outputs if name), "")
        self.label = f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} with output {first!r}"
        self.attribute_types = {attribute.name: attribute.type for attribute in node.attribute}
        if len(self.attribute_types) < len(node.attribute) or any(a.ref_attr_name for a in node.attribute):
            raise self.error("it has an attribute twice, or one that only a function can have")
        if node.domain not in ONNX_DOMAINS:
            raise self.error(f"operators of {node.domain!r} are not supported, only those of ONNX itself")
        if not first:
            raise self.error("it has no output")
        self._attributes = {attribute.name: _value(attribute) for attribute in node.attribute}
        self._read: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self._attributes

    def attribute(self, name: str, default: Any = None) -> Any:
        """The attribute of that name, which counts as supported from now on."""
        self._read.add(name)
        return self._attributes.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """An attribute that is 0 or 1; runtimes do not agree on what other values mean."""
        value = self.attribute(name, int(default))
        if value not in (0, 1):
            raise self.error(f"{name} is {value}, expected 0 or 1")
        return bool(value)

    def check_all_read(self) -> None:
        """Raise InteropError if the node has attributes that were never read, and so have no effect here."""
        unknown = sorted(self._attributes.keys() - self._read)
        if unknown:
            raise self.error(f"it has attributes that are not supported: {', '.join(unknown)}")

    def error(self, reason: str) -> InteropError:
        return InteropError(f"{self.label}: {reason}")


def _value(attribute: onnx.AttributeProto) -> Any:
    try:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type == onnx.AttributeProto.STRINGS:
            return [text.decode() for text in value]
        return value.decode() if isinstance(value, bytes) else value
    except (ValueError, AttributeError) as error:  # of an unknown type, or not text
        raise InteropError(f"the attribute {attribute.name!r} cannot be read: {error}") from error


def integers(value: Any) -> list[int]:
    """The integers in a tensor of shapes or axes."""
    return to_host(unwrap(value)).ravel().tolist()


def constant(array: Any, like: Tensor | None = None) -> Tensor:
    """A host array as a Tensor, on the backend of `like`."""
    return Tensor(np.asarray(array), device=resolve("numpy") if like is None else backend_of(like.data))


def one_of(node: Node, name: str, value: Any, expected: Sequence[Any]) -> Any:
    """`value`, which must be one of the expected ones."""
    if value not in expected:
        raise node.error(f"{name} is {value!r}, expected one of {', '.join(map(repr, expected))}")
    return value
