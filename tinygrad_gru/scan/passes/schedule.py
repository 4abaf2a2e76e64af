"""Schedule: the level of every value, that is when it is computed. Hoisting and sinking are one question.

    invariant  once per run: it does not change with time
    hoisted    for many steps at once, before the loop: it changes with time but does not depend on the carry
    loop       step by step: it depends on the carry, and the next carry on it
    sunk       for many steps at once, after the loop: it depends on the carry, but no later step on it

In the forward pass x W is hoisted. In the backward pass the gradient of W, Σₜ xₜᵀ gₜ, is sunk and becomes one product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from ..ir import Program, Value

Level = Literal["invariant", "hoisted", "loop", "sunk"]

ELEMENTWISE = frozenset(
    "add subtract multiply divide negative power exp expm1 log log1p sqrt tanh sin cos abs sign maximum minimum where "
    "less less_equal greater greater_equal equal not_equal logical_not astype floor_divide remainder".split()
)
#: Operations whose result is a view of their operand's memory: they cost nothing and need no storage.
VIEWS = frozenset({"reshape", "transpose", "broadcast_to", "getitem"})

#: Operations that can be batched over time, along a new first axis; so can products of matrices.
_BATCHABLE = ELEMENTWISE | VIEWS | set(
    "sum max min argmax argmin concat scatter gather scatter_add rearrange".split()
)  # fmt: skip


def schedule(program: Program) -> dict[Value, Level]:
    """The level of every value that the program computes.

    v0 = carry(position=0)                       (2, 4) float32
    v1 = x(position=0)                           (2, 3) float32
    v2 = constant(position=0)                    (3, 4) float32    invariant
    v3 = constant(position=1)                    (4, 4) float32    invariant
    v4 = matmul(v1, v2)                          (2, 4) float32    hoisted
    v5 = matmul(v0, v3)                          (2, 4) float32    loop
    v6 = add(v4, v5)                             (2, 4) float32    loop
    v7 = tanh(v6)                                (2, 4) float32    loop
    v8 = exp(v7)                                 (2, 4) float32    sunk
    carry v0 -> v7; xs v1; ys v8
    """
    changing = program.depending_on(program.inputs)
    in_carry = program.depending_on(program.carry)
    batched = batchable(program.values())
    in_loop = _ancestors((*program.new_carry, *(in_carry - batched)), in_carry - program.inputs)
    levels: dict[Value, Level] = {}
    looped: set[Value] = set()
    for value in program.values():
        if value in program.inputs or value.op == "scalar":
            continue
        if value not in changing:
            levels[value] = "invariant"
        elif value in in_loop:
            levels[value] = "loop"
            looped.add(value)
        elif value in in_carry:
            levels[value] = "sunk"
        elif value in batched and looped.isdisjoint(value.inputs):
            levels[value] = "hoisted"
        else:  # it cannot be computed for many steps at once, or uses what cannot
            levels[value] = "loop"
            looped.add(value)
    return levels


def _ancestors(values: Iterable[Value], within: set[Value]) -> set[Value]:
    """Those of the values that are in a set, and all members of it on which they depend through members."""
    found: set[Value] = set()
    stack = [value for value in values if value in within]
    while stack:
        value = stack.pop()
        if value not in found:
            found.add(value)
            stack.extend(within.intersection(value.inputs))
    return found


def batchable(values: Iterable[Value]) -> set[Value]:
    """Those of the values that one operation can compute for many steps."""
    return {
        value
        for value in values
        if value.op in _BATCHABLE
        or (value.op == "matmul" and len(value.inputs[0].shape) >= 2 and len(value.inputs[1].shape) >= 2)
    }


def is_computed_per_step(value: Value, levels: Mapping[Value, Level]) -> bool:
    """Whether an operation computes the value for every step: no input of the program, no view, not loop-invariant."""
    return levels.get(value, "invariant") != "invariant" and value.op not in VIEWS


def base_of(value: Value, inputs: Collection[Value]) -> Value:
    """The value whose memory a view shows; the value itself if it is none, or an input of the program."""
    while value.op in VIEWS and value not in inputs:
        value = value.inputs[0]
    return value


def uses_of_memory(program: Program) -> dict[Value, set[Value]]:
    """The operations that use a value, directly or through views of it."""
    uses: dict[Value, set[Value]] = defaultdict(set)
    views = {value for value in program.values() if value.op in VIEWS}
    for value, users in program.users.items():
        uses[base_of(value, program.inputs)] |= {*users} - views
    return uses
