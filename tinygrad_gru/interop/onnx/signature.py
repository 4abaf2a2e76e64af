"""What ONNX's own definition of an operator says of a node: how many inputs, which attributes, which element types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import onnx.defs

from ... import ops
from ...tensor import Tensor
from .call import Call, dtype_name

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional

#: NumPy's names of the element types in definitions, such as "tensor(float)", that there are arrays of.
_ELEMENTS = {
    f"tensor({name})": dtype_name(kind)
    for name, kind in (("float", 1), ("uint8", 2), ("int8", 3), ("uint16", 4), ("int16", 5), ("int32", 6), ("int64", 7),
                       ("bool", 9), ("float16", 10), ("double", 11), ("uint32", 12), ("uint64", 13))
}  # fmt: skip


class Signature:
    """The definition of the operator of a node, which the node is checked against when this is made.

    It knows the element types: inputs are checked before a call, where NumPy would promote what ONNX does not allow,
    and outputs get the type that they have there (the sum of int32 is int32, and wraps).
    """

    def __init__(self, call: Call):
        try:
            schema = onnx.defs.get_schema(call.kind, call.opset, "")
        except onnx.defs.SchemaError:
            raise call.refused(f"there is no operator {call.kind} in opset {call.opset}") from None
        self.call = call
        for name, kind in call.attribute_types.items():
            known: Any = schema.attributes.get(name)
            if known is not None and int(known.type.value) != kind:
                raise call.refused(f"its setting {name} is of another type than {known.type.name.lower()}")
        missing = [name for name, known in schema.attributes.items() if known.required and not call.has(name)]
        if missing:
            raise call.refused(f"it lacks the setting {', '.join(missing)}")
        self.inputs = self._checked("inputs", call.inputs, schema.inputs, schema.min_input, schema.max_input)
        self.outputs = self._checked("outputs", call.outputs, schema.outputs, schema.min_output, schema.max_output)
        self.allowed = {t.type_param_str: set(t.allowed_type_strs) for t in schema.type_constraints}

    def _checked(self, what: str, names: Sequence[str], formal: Sequence[Any], least: int, most: int) -> list[Any]:
        """The formal parameter of each name."""
        if not least <= len(names) <= most:
            raise self.call.refused(f"it has {len(names)} {what}, and {self.call.kind} has {least} to {most}")
        row = [formal[min(k, len(formal) - 1)] for k in range(len(names))]
        for name, parameter in zip(names, row):
            if not name and what == "inputs" and parameter.option != _OPTIONAL:
                raise self.call.refused(f"its input {parameter.name} is left out, and is none that may be")
        return row

    def check(self, tensors: Sequence[Tensor | None]) -> dict[str, str]:
        """Raise InteropError unless the inputs have types that belong together; returns the types that were found."""
        bound: dict[str, str] = {}
        for parameter, tensor in zip(self.inputs, tensors):
            if tensor is None:
                continue
            dtype, wanted = str(tensor.dtype), parameter.type_str
            same = bound.setdefault(wanted, dtype) if parameter.is_homogeneous else dtype
            allowed = [_ELEMENTS[name] for name in self.allowed.get(wanted, {wanted}) if name in _ELEMENTS]
            if dtype not in allowed or same != dtype:
                expected = same if same != dtype else ", ".join(sorted(allowed))
                raise self.call.refused(f"its input {parameter.name} is {dtype}, expected {expected}")
        return bound

    def typed(self, results: Sequence[Tensor], bound: dict[str, str]) -> tuple[Tensor, ...]:
        """The outputs, of the types that they have in ONNX."""
        typed = []
        for parameter, result in zip(self.outputs, results):
            dtype = _ELEMENTS.get(parameter.type_str, bound.get(parameter.type_str))
            typed.append(result if dtype in (None, str(result.dtype)) else ops.astype(result, dtype=dtype))
        return tuple(typed)
