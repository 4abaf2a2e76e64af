"""ONNX's schemas: a node is checked against the definition of its operator (inputs, attributes, element types)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import onnx.defs

from .... import ops
from ....tensor import Tensor
from ..tensors import dtype_name
from .node import Node

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional

#: NumPy's names of the element types of schemas, such as "tensor(float)", that arrays have.
_ELEMENTS = {
    f"tensor({name})": dtype_name(data_type)
    for name, data_type in (
        ("float", 1), ("uint8", 2), ("int8", 3), ("uint16", 4), ("int16", 5), ("int32", 6), ("int64", 7),
        ("bool", 9), ("float16", 10), ("double", 11), ("uint32", 12), ("uint64", 13),
    )
}  # fmt: skip


class NodeSchema:
    """The schema of a node's operator; the node is checked against it at construction.

    When the node runs, the element types of its inputs are checked, where NumPy would promote what ONNX does not allow,
    and its outputs are cast to their types in ONNX (the sum of int32 is int32, and wraps).
    """

    def __init__(self, node: Node):
        try:
            schema = onnx.defs.get_schema(node.op_type, node.opset, "")
        except onnx.defs.SchemaError:
            raise node.error(f"there is no operator {node.op_type} in opset {node.opset}") from None
        self.node = node
        for name, attribute_type in node.attribute_types.items():
            known: Any = schema.attributes.get(name)
            if known is not None and int(known.type.value) != attribute_type:
                raise node.error(f"its attribute {name} is of another type than {known.type.name.lower()}")
        missing = [name for name, known in schema.attributes.items() if known.required and not node.has(name)]
        if missing:
            raise node.error(f"it lacks the attribute {', '.join(missing)}")
        self.inputs = self._checked("inputs", node.inputs, schema.inputs, schema.min_input, schema.max_input)
        self.outputs = self._checked("outputs", node.outputs, schema.outputs, schema.min_output, schema.max_output)
        self.allowed = {t.type_param_str: set(t.allowed_type_strs) for t in schema.type_constraints}

    def _checked(self, what: str, names: Sequence[str], formal: Sequence[Any], low: int, high: int) -> list[Any]:
        """The formal parameter for each name."""
        if not low <= len(names) <= high:
            raise self.node.error(f"it has {len(names)} {what}, and {self.node.op_type} has {low} to {high}")
        parameters = [formal[min(k, len(formal) - 1)] for k in range(len(names))]
        for name, parameter in zip(names, parameters):
            if not name and what == "inputs" and parameter.option != _OPTIONAL:
                raise self.node.error(f"its input {parameter.name} is left out, and is not optional")
        return parameters

    def check_inputs(self, tensors: Sequence[Tensor | None]) -> dict[str, str]:
        """Raise InteropError unless the inputs have allowed element types; returns the dtype of each type parameter."""
        bound: dict[str, str] = {}
        for parameter, tensor in zip(self.inputs, tensors):
            if tensor is None:
                continue
            dtype, type_str = str(tensor.dtype), parameter.type_str
            same = bound.setdefault(type_str, dtype) if parameter.is_homogeneous else dtype
            allowed = [_ELEMENTS[name] for name in self.allowed.get(type_str, {type_str}) if name in _ELEMENTS]
            if dtype not in allowed or same != dtype:
                expected = same if same != dtype else ", ".join(sorted(allowed))
                raise self.node.error(f"its input {parameter.name} is {dtype}, expected {expected}")
        return bound

    def cast_outputs(self, results: Sequence[Tensor], bound: dict[str, str]) -> tuple[Tensor, ...]:
        """The outputs, in the element types that they have in ONNX."""
        outputs = []
        for parameter, result in zip(self.outputs, results):
            dtype = _ELEMENTS.get(parameter.type_str, bound.get(parameter.type_str))
            outputs.append(result if dtype in (None, str(result.dtype)) else ops.astype(result, dtype=dtype))
        return tuple(outputs)
