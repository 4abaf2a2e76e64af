"""Plan: the storage of every value, from the levels at which it is computed and used.

Outputs are stored for all steps, values that pass between levels for the steps of a chunk, and the rest in
reused scratch. Concatenations and selections are written where their operands are (see `buffers`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping

from ..ir import Program, Value
from .buffers import concatenate_in_place, overwrite_operands, share_scratch
from .schedule import VIEWS, Level, base_of, is_computed_per_step, schedule, uses_of_memory
from .storage import SCRATCH, Plan, Storage

#: Rows (steps times the size of the first axis) that a chunk should have.
CHUNK_ROWS = 256

#: Loop-invariant values that have an array: copies in the layout that a loop needs.
_COPIES = frozenset({"materialized", "packed"})


def plan(
    program: Program,
    kept: Collection[Value] = (),
    levels: Mapping[Value, Level] | None = None,
    *,
    chunk_rows: int | None = None,
    copies_views: bool = False,
    shares_scratch: Collection[Level] = tuple(SCRATCH),
) -> Plan:
    """The plan of a program.

        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 3) float32
        v2 = constant(position=0)                    (3, 4) float32    invariant
        v3 = constant(position=1)                    (4, 4) float32    invariant
        v4 = matmul(v1, v2)                          (2, 4) float32    hoisted   chunk 4
        v5 = matmul(v0, v3)                          (2, 4) float32    loop      step scratch 5
        v6 = add(v4, v5)                             (2, 4) float32    loop      step scratch 5
        v7 = tanh(v6)                                (2, 4) float32    loop      carry 0
        v8 = exp(v7)                                 (2, 4) float32    sunk      stack 8
        carry v0 -> v7; xs v1; ys v8

    kept            the inputs of the program that are still needed afterwards, as residuals of the backward pass
    levels          when its values are computed; by default as `schedule` says
    chunk_rows, copies_views  as in `Plan`
    shares_scratch  the levels in which an array is used again when its value is no longer needed, or written over
    """
    levels = schedule(program) if levels is None else levels
    result = Plan(program, levels, CHUNK_ROWS if chunk_rows is None else chunk_rows, copies_views=copies_views)
    uses = _levels_of_uses(result)
    outputs = {base_of(value, program.inputs) for value in program.ys}
    _assign_carry(result, uses, {*outputs, *kept})
    concatenate_in_place(result, uses, outputs)
    for value in program.values():
        if not is_computed_per_step(value, levels):
            continue
        if value in result.carried:
            result.storage[value] = Storage("carry", result.carried[value])
        elif value in outputs:
            result.storage[value] = Storage("stack", value.number)
        elif value not in result.storage and value not in result.parts and uses[value] - {levels[value]}:
            result.storage[value] = Storage("chunk", value.number)
    if "loop" in shares_scratch:
        overwrite_operands(result)
    share_scratch(result, shares_scratch)
    own = [value for value in levels if value.op in _COPIES]
    result.storage.update({value: Storage("step scratch", value.number) for value in own})
    return result


def _levels_of_uses(plan: Plan) -> dict[Value, set[Level]]:
    """The levels at which the memory of each value is read."""
    program, uses = plan.program, defaultdict[Value, set[Level]](set)
    for value, users in uses_of_memory(program).items():
        uses[value].update(map(plan.levels.__getitem__, users))
    for value in program.sums:
        uses[base_of(value, program.inputs)].add("sunk")
    if program.linear:  # a scan reads coefficients at all steps; then the loop's values are computed for many steps
        for value in program.coefficients:
            uses[base_of(value, program.inputs)].add("loop")
        for value in (*program.carry, *program.values()):
            if plan.levels.get(value, "loop") == "loop":
                uses[value].add("sunk")
    return uses


def _assign_carry(plan: Plan, uses: dict[Value, set[Level]], needed: Collection[Value]) -> None:
    """Find which parts of the next carry are written where they belong, and of which two versions are enough.

    A part that cannot be written in place is copied at the end of each step.
    """
    program = plan.program
    for position, value in enumerate(program.new_carry):
        if plan.levels.get(value) == "loop" and value.op not in VIEWS and value not in plan.carried:
            plan.carried[value] = position
        else:
            uses[base_of(value, program.inputs)].add("loop")
    for position, (value, new) in enumerate(zip(program.carry, program.new_carry)):
        versions = {value, new} if plan.carried.get(new) == position else {value}
        if all(uses[version] <= {"loop"} and version not in needed for version in versions):
            plan.double_buffered.add(position)


def chunk_length(program: Program, length: int, chunk_rows: int) -> int:
    """How many steps a chunk has."""
    return max(1, min(length, math.ceil(chunk_rows / rows_of(program))))


def rows_of(program: Program) -> int:
    """The rows of a step: the size of the first axis."""
    return max([value.shape[0] for value in (*program.carry, *program.xs) if value.shape] + [1])
