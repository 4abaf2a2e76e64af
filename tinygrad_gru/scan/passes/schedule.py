"""Schedule: when is each value computed? Hoist and sink are one question.

    fixed   once: it does not change with time
    before  for many steps at once, before the loop over them: it changes with time but not with the carry
    loop    step by step: it depends on the carry, and the next carry on it
    after   for many steps at once, after the loop: it depends on the carry, but no later step on it

In the forward pass `before` takes x W out of the loop; in the backward pass `after` turns Σₜ xₜᵀ gₜ into one product.
"""

from __future__ import annotations

from ..ir import Program, Value

ELEMENTWISE = frozenset(
    "add subtract multiply divide negative power exp expm1 log log1p sqrt tanh sin cos abs sign maximum minimum where "
    "less less_equal greater greater_equal equal not_equal logical_not astype".split()
)
#: What another view of the same memory gives: it costs nothing and is had wherever its source is.
VIEWS = frozenset({"reshape", "transpose", "broadcast_to", "getitem"})


def schedule(program: Program) -> dict[Value, str]:
    """The level of every value that the program computes."""
    values = program.values()
    given = set(program.carry) | set(program.xs)
    changing = program.depending_on([*program.carry, *program.xs])
    in_carry = program.depending_on(program.carry)
    needed = _ancestors_within(program, [v for v in program.new_carry if v in in_carry], in_carry)
    needed |= _ancestors_within(program, [v for v in values if v in in_carry and not batches(v, changing)], in_carry)
    levels: dict[Value, str] = {}
    for value in values:
        if value in given or value.op == "scalar":
            continue
        if value not in changing:
            levels[value] = "invariant"
        elif value in needed:
            levels[value] = "loop"
        elif value in in_carry:
            levels[value] = "sunk"
        else:
            levels[value] = "hoisted"
    for value in values:  # what cannot be computed for many steps at once is computed step by step, and what needs it
        if levels.get(value) == "hoisted" and (
            not batches(value, changing) or any(levels.get(i) == "loop" for i in value.inputs)
        ):
            levels[value] = "loop"
    return levels


def _ancestors_within(program: Program, values: list[Value], within: set[Value]) -> set[Value]:
    given = set(program.carry) | set(program.xs)
    found: set[Value] = set()
    stack = [v for v in values if v not in given]
    while stack:
        value = stack.pop()
        if value not in found:
            found.add(value)
            stack.extend(i for i in value.inputs if i in within and i not in given)
    return found


def batches(value: Value, changing: set[Value]) -> bool:
    """Whether the operation can be done for many steps at once, along a new first axis."""
    if value.op == "matmul":
        return all(len(i.shape) >= 2 for i in value.inputs)
    return value.op in ELEMENTWISE | VIEWS | {"sum", "max", "min", "concat", "scatter", "rearrange"}
