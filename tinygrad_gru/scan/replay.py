"""Replay: a traced step run again op by op on the arrays that it had, without running its Python.

The ops are recorded like those of eager mode, so second derivatives are taken of them by their own rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import ops
from ..backend import CheckedIndex, as_array, astype, backend_of
from ..tape import Node
from ..tensor import Tensor
from .ir import Value
from .tracing.trace import Trace
from .tracing.traced_array import TracedArray, as_index


def replay(
    trace: Trace, constants: Sequence[Any], carry: Sequence[Tensor], xs: Sequence[Tensor], length: int, reverse: bool
) -> list[Tensor]:
    """The last carry and the stacked ys of the traced step, run over time on these inputs and constants."""
    state = list(carry)
    ys: list[list[Tensor]] = []
    for t in reversed(range(length)) if reverse else range(length):
        outputs = _step(trace, constants, [*state, *(x[t, ...] for x in xs)])
        state = outputs[: len(state)]
        ys.append(outputs[len(state) :])
    return [*state, *(ops.stack(list(y)) for y in zip(*(reversed(ys) if reverse else ys)))]


def _step(trace: Trace, constants: Sequence[Any], inputs: Sequence[Tensor]) -> list[Tensor]:
    forward = trace.forward
    arrays = dict(zip((*forward.carry, *forward.xs), (x.data for x in inputs)))
    tensors: dict[Node, Tensor] = {t.node: x for t, x in zip(forward.inputs, inputs) if t.node is not None}

    def tensor(value: Value, node: Node | None) -> Tensor:
        if node is not None and node in tensors:
            return tensors[node]
        return Tensor.from_node(
            evaluate(value, arrays, constants), node if node is None or node.number < forward.start else None
        )

    def setting(x: Any) -> Any:
        if type(x) in (tuple, list, CheckedIndex):
            return type(x)(map(setting, x))
        return evaluate(x.value, arrays, constants) if isinstance(x, TracedArray) else x

    for call in forward.calls:
        operands = [tensor(o.value, o.node) if o.value is not None else o.literal for o in call.operands]
        result = tensors[call.node] = call.op(*operands, **{name: setting(x) for name, x in call.settings.items()})
        if call.value is not None:
            arrays[call.value] = result.data
    return [tensor(value, t.node) for value, t in zip((*forward.new_carry, *forward.ys), forward.outputs)]


def evaluate(target: Value, known: dict[Value, Any], constants: Sequence[Any]) -> Any:
    """The array of a value, computed from the known ones, to which those that are computed on the way are added."""
    stack = [target]
    while stack:
        value = stack[-1]
        missing = [i for i in value.inputs if i not in known]
        if value not in known and missing:
            stack += missing
            continue
        if value not in known:
            operands = [known[i] for i in value.inputs]
            known[value] = _computed(value, operands, (*constants, *known.values()))
        stack.pop()
    return known[target]


def _computed(value: Value, operands: list[Any], arrays: Sequence[Any]) -> Any:
    """The array that the operation of a value gives on these operands; `arrays` begin with the constants."""
    if value.op == "scalar":
        return value["value"]
    if value.op == "constant":
        return arrays[value["position"]]
    backend = next(backend_of(x) for x in (*operands, *arrays) if hasattr(x, "dtype"))
    xp: Any = backend.xp
    if value.op == "zeros":
        return backend.zeros(value.shape, value.dtype)
    if value.op == "arange":
        return backend.arange(*value.shape)
    if value.op in ("sum", "max", "min"):
        result = getattr(xp, value.op)(operands[0], axis=value["axis"], keepdims=value["keepdims"])
    elif value.op in ("reshape", "rearrange"):
        result = xp.reshape(operands[0], value.shape)
    elif value.op == "transpose":
        result = xp.permute_dims(operands[0], value["axes"])
    elif value.op == "broadcast_to":
        result = xp.broadcast_to(operands[0], value.shape)
    elif value.op == "astype":
        result = operands[0]
    elif value.op == "concat":
        result = xp.concat(operands, axis=value["axis"])
    elif value.op == "getitem":
        result = operands[0][as_index(value["index"]) + (...,)]
    elif value.op in ("argmax", "argmin"):
        result = getattr(xp, value.op)(operands[0], axis=value["axis"])
    elif value.op == "gather":
        result = backend.advanced_index(operands[0], (slice(None),) * value["axis"] + (operands[1],))
    elif value.op == "scatter_add":
        result = backend.scatter(value.shape, [(slice(None),) * value["axis"] + (operands[1],)], operands[:1])
    elif value.op == "scatter":
        result = backend.scatter(value.shape, [as_index(index) for index in value["indices"]], operands)
    else:
        result = getattr(xp, value.op)(*operands)
    result = as_array(result)
    return result if result.dtype == value.dtype else astype(result, value.dtype)
