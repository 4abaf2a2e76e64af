"""A program run in the most obvious way: value by value, step by step, every result a new array.

It knows nothing of levels, plans and workspaces, so it says what a listing means, and a pass is right if it does not
change that.
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
    """What a program gives: the last carry, `ys` of all steps stacked in order of time, `sums` over all steps."""

    carry: list[np.ndarray]
    ys: list[np.ndarray]
    sums: list[np.ndarray]

    def arrays(self) -> list[np.ndarray]:
        return [*self.carry, *self.ys, *self.sums]


def interpret(
    program: Program, carry: Sequence[np.ndarray], reads: Sequence[np.ndarray], length: int, reverse: bool = False
) -> Results:
    """Run `program` for `length` steps from `carry`, reading the stacks `reads` (length, …), forwards or backwards."""
    carry = list(carry)
    ys: list[list[Any]] = [[None] * length for _ in program.ys]
    sums: list[Any] = [0] * len(program.sums)
    for t in reversed(range(length)) if reverse else range(length):
        known = dict(zip(program.carry, carry)) | dict(zip(program.xs, [read[t] for read in reads]))
        carry = [evaluate(value, known, program.graph.constants) for value in program.new_carry]
        for steps, value in zip(ys, program.ys):
            steps[t] = evaluate(value, known, program.graph.constants)
        sums = [s + evaluate(value, known, program.graph.constants) for s, value in zip(sums, program.sums)]
    return Results(carry, list(map(np.stack, ys)), sums)


def evaluate(value: Value, known: dict[Value, Any], constants: Sequence[np.ndarray]) -> Any:
    """The array of a value, from those that are known; what is found is known from then on."""
    if value not in known:
        known[value] = _made(value, [evaluate(i, known, constants) for i in value.inputs], constants)
        said = value.op == "scalar" or (known[value].shape, known[value].dtype) == (value.shape, value.dtype)
        assert said, f"{value!r} is {known[value].shape} {known[value].dtype}"
    return known[value]


def _made(value: Value, operands: list[Any], constants: Sequence[np.ndarray]) -> Any:
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
        case "concat":
            return np.concatenate(operands, axis=value["axis"])
        case "getitem":
            return operands[0].ravel()[_places(value["index"], operands[0].shape)].reshape(value.shape)
        case "scatter":
            whole = np.zeros(math.prod(value.shape), value.dtype)
            for index, part in zip(value["indices"], operands):
                whole[_places(index, value.shape)] += part.ravel()
            return whole.reshape(value.shape)
        case elementwise:
            result = getattr(np, elementwise)(*operands)
            # Numbers alone take the dtype that the listing gives them.
            return result.astype(value.dtype) if all(i.op == "scalar" for i in value.inputs) else result


def _places(index: tuple, shape: tuple[int, ...]) -> list[int]:
    """The places, in the array seen as one row, of the entries at an index of integers and ("slice", *range)."""
    places = [0]
    for entry, size in zip(index, shape):
        chosen = [entry % size] if isinstance(entry, int) else range(*entry[1:])
        places = [place * size + i for place in places for i in chosen]
    return places
