"""Sinking into the loop: for targets with compiled loops, where one more elementwise operation in a loop costs no call.

Such an operation finds its operands in registers. Done before or after the loop for many steps at once, it would write
and read them through memory.
"""

from __future__ import annotations

import math

import numpy as np

from ...backend import is_floating
from ..ir import Program, Value
from .schedule import ELEMENTWISE, Level, base_of, schedule, uses_of_memory

#: From this many rows on, or up to this many bytes of weights, a product is as fast at one step as for many at once.
_ROWS, _BYTES = 4, 2**15


def sink_into_loop(program: Program, products: bool = True, shape: tuple[int, ...] | None = None) -> dict[Value, Level]:
    """The levels of a schedule, with hoisted and sunk operations moved into the loop where they are not slower there.

        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 4) float32
        v2 = constant(position=0)                    (4,) float32      invariant
        v3 = add(v1, v2)                             (2, 4) float32    loop
        v4 = multiply(v0, v3)                        (2, 4) float32    loop
        v5 = tanh(v4)                                (2, 4) float32    loop
        v6 = sum(v5, axis=(0,), keepdims=False)      (4,) float32      sunk
        carry v0 -> v4; xs v1; sums v6

    v3 was hoisted and v5 sunk.

    products  whether products are moved, too
    shape     if given, only elementwise operations of that shape are moved
    """
    levels = schedule(program)
    uses = uses_of_memory(program)

    for value in program.values():  # operands first, for a sunk operation needs its operands in the loop
        joins = value.op == "concat" and shape is None
        moves = levels.get(value) == "sunk" and (joins or _is_cheap_in_loop(value, levels, products))
        moves = moves and shape in (None, value.shape)
        bases = (base_of(operand, program.inputs) for operand in value.inputs)
        if moves and all(levels.get(base) != "sunk" for base in bases):
            levels[value] = "loop"
    for value in reversed(program.values()):  # uses first, for a hoisted operation must not be used outside of the loop
        moves = levels.get(value) == "hoisted" and _is_cheap_in_loop(value, levels, products)
        moves = moves and shape in (None, value.shape)
        users = uses.get(value, ())
        if moves and users and all(levels[user] == "loop" for user in users):
            levels[value] = "loop"
    return levels


def _is_cheap_in_loop(value: Value, levels: dict[Value, Level], products: bool) -> bool:
    """Whether an operation is as fast step by step as for many steps at once."""
    if value.op == "matmul":
        left, right = value.inputs
        is_matrix = len(left.shape) == len(right.shape) == 2 and levels.get(right) == "invariant"
        return products and is_matrix and (_size_in_bytes(right) <= _BYTES or left.shape[0] >= _ROWS)
    arrays = [value, *(operand for operand in value.inputs if operand.op != "scalar")]
    return value.op in ELEMENTWISE and all(is_floating(np.dtype(array.dtype)) for array in arrays)


def _size_in_bytes(value: Value) -> int:
    return math.prod(value.shape) * np.dtype(value.dtype).itemsize
