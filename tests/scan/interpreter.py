"""Reference interpreter of programs: value by value, step by step, every result a new array.

It knows nothing of levels, plans and workspaces. It defines what a program computes, and a pass must not change that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_gru.scan.ir import Program, Value


@dataclass
class Results:
    """The results of a program: the last carry, `ys` of all steps stacked in order of time, `sums` over all steps."""

    carry: list[np.ndarray]
    ys: list[np.ndarray]
    sums: list[np.ndarray]

    def arrays(self) -> list[np.ndarray]:
        return [*self.carry, *self.ys, *self.sums]


def interpret(
    program: Program, carry: Sequence[np.ndarray], xs: Sequence[np.ndarray], length: int, reverse: bool = False
) -> Results:
    """Run `program` for `length` steps from `carry`, on the stacks `xs` (length, …), forward or backward in time."""
    carry = list(carry)
    ys: list[list[Any]] = [[None] * length for _ in program.ys]
    sums: list[Any] = [0] * len(program.sums)
    for t in reversed(range(length)) if reverse else range(length):
        known = dict(zip(program.carry, carry)) | dict(zip(program.xs, [x[t] for x in xs]))
        carry = [evaluate(value, known, program.graph.constants) for value in program.new_carry]
        for steps, value in zip(ys, program.ys):
            steps[t] = evaluate(value, known, program.graph.constants)
        sums = [s + evaluate(value, known, program.graph.constants) for s, value in zip(sums, program.sums)]
    return Results(carry, list(map(np.stack, ys)), sums)


def evaluate(value: Value, known: dict[Value, Any], constants: Sequence[np.ndarray]) -> Any:
    """The array of a value, from those that are known; computed ones are added to these."""
    if value not in known:
        known[value] = _computed(value, [evaluate(i, known, constants) for i in value.inputs], constants)
        matches = value.op == "scalar" or (known[value].shape, known[value].dtype) == (value.shape, value.dtype)
        assert matches, f"{value!r} is {known[value].shape} {known[value].dtype}"
    return known[value]


def _computed(value: Value, operands: list[Any], constants: Sequence[np.ndarray]) -> Any:
    match value.op:
        case "scalar":
            return value["value"]
        case "constant":
            return constants[value["position"]]
        case "zeros":
            return np.zeros(value.shape, value.dtype)
        case "matmul":
            return operands[0] @ operands[1]
        case "sum" | "max" | "min":
            return getattr(np, value.op)(operands[0], axis=value["axis"], keepdims=value["keepdims"])
        case "reshape" | "rearrange":
            return np.reshape(operands[0], value.shape)
        case "transpose":
            return np.transpose(operands[0], value["axes"])
        case "broadcast_to":
            return np.broadcast_to(operands[0], value.shape)
        case "astype":
            return operands[0].astype(value.dtype)
        case "arange":
            return np.arange(*value.shape)
        case "argmax" | "argmin":
            return np.asarray(getattr(np, value.op)(operands[0], axis=value["axis"]))
        case "gather":
            lines = np.moveaxis(operands[0], value["axis"], 0)
            rows = np.array([lines[int(i)] for i in operands[1].ravel()]).reshape(*operands[1].shape, *lines.shape[1:])
            return np.moveaxis(rows, range(operands[1].ndim), range(value["axis"], value["axis"] + operands[1].ndim))
        case "scatter_add":
            axis, ndim, result = value["axis"], operands[1].ndim, np.zeros(value.shape, value.dtype)
            lines = np.moveaxis(operands[0], range(axis, axis + ndim), range(ndim))
            for at in np.ndindex(operands[1].shape):
                np.moveaxis(result, axis, 0)[int(operands[1][at])] += lines[at]
            return result
        case "concat":
            return np.concatenate(operands, axis=value["axis"])
        case "getitem":
            return operands[0].ravel()[_flat_indices(value["index"], operands[0].shape)].reshape(value.shape)
        case "scatter":
            result = np.zeros(math.prod(value.shape), value.dtype)
            for index, part in zip(value["indices"], operands):
                result[_flat_indices(index, value.shape)] += part.ravel()
            return result.reshape(value.shape)
        case elementwise:
            result = getattr(np, elementwise)(*operands)
            # An operation on scalars alone has the dtype that the graph gives it.
            return result.astype(value.dtype) if all(i.op == "scalar" for i in value.inputs) else result


def _flat_indices(index: tuple, shape: tuple[int, ...]) -> list[int]:
    """The indices, in the flattened array, of what an index of integers and ("slice", *range) selects."""
    found = [0]
    for entry, size in zip(index, shape):
        entries = [entry % size] if isinstance(entry, int) else range(*entry[1:])
        found = [flat * size + i for flat in found for i in entries]
    return found
