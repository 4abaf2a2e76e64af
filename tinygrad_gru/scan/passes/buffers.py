"""Buffer reuse: values that share memory, so that a concatenation copies nothing and a loop stays in the cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from itertools import pairwise

from ..ir import Value
from .schedule import ELEMENTWISE, VIEWS, Level, base_of, is_computed_per_step
from .storage import SCRATCH, Plan, Slice, Storage

# -- concatenations in place -----------------------------------------------------------------------------------------


def concatenate_in_place(plan: Plan, uses: Mapping[Value, set[Level]], outputs: Collection[Value]) -> None:
    """Let the operands of a concatenation along the last axis be written into slices of the result.

        v0 = carry(position=0)                       (2, 4) float32
        v1 = constant(position=0)                    (8, 4) float32    invariant
        v2 = tanh(v0)                                (2, 4) float32    loop      v4[..., 0:4]
        v3 = exp(v0)                                 (2, 4) float32    loop      v4[..., 4:8]
        v4 = concat(v2, v3, axis=1)                  (2, 8) float32    loop      step scratch 4
        v5 = matmul(v4, v1)                          (2, 4) float32    loop      carry 0
        carry v0 -> v5

    Nothing else shares the array of the result: an operand may be needed when the result is not, and the reverse.

    uses     the levels that use the memory of a value
    outputs  the values whose memory holds an output of every step
    """
    inputs, parts = plan.program.inputs, plan.parts
    reshaped = {base_of(v, inputs) for v in plan.program.values() if v.op == "reshape" and v not in inputs}
    kept_apart = {*reshaped, *outputs, *plan.carried, *inputs}  # a slice has no view of another shape

    def is_free(value: Value) -> bool:
        is_apart = value in kept_apart or value in parts
        return not is_apart and is_computed_per_step(value, plan.levels)

    concats = [v for v in plan.program.values() if v.op == "concat" and is_free(v)]
    for concat in sorted(concats, key=lambda v: len(v.inputs), reverse=True):
        operands = concat.inputs
        if concat["axis"] != len(concat.shape) - 1:
            continue
        are_free = all(is_free(part) and part.op != "concat" for part in operands)
        if are_free and len(set(operands)) == len(operands):
            start = 0
            for part in operands:
                parts[part] = Slice(concat, start, start + part.shape[-1])
                start += part.shape[-1]
            used_at = {level for v in (concat, *operands) for level in (plan.levels[v], *uses[v])}
            plan.storage[concat] = Storage("step scratch" if used_at == {"loop"} else "chunk", concat.number)
        elif all(part in parts for part in operands) and _are_neighbours([parts[part] for part in operands]):
            first, last = parts[operands[0]], parts[operands[-1]]
            parts[concat] = Slice(first.concat, first.start, last.stop)
            if {plan.levels[concat], *uses[concat]} != {"loop"}:
                plan.storage[first.concat] = Storage("chunk", first.concat.number)


def _are_neighbours(slices: list[Slice]) -> bool:
    """Whether each slice begins where the one before it ends."""
    return all(a.concat is b.concat and a.stop == b.start for a, b in pairwise(slices))


# -- selections in place ---------------------------------------------------------------------------------------------


def overwrite_operands(plan: Plan) -> None:
    """Let the result of where(c, a, b) in the loop be written over b, if b is used nowhere else.

    v0 = carry(position=0)                       (2, 4) float32
    v1 = x(position=0)                           (2, 1) bool
    v2 = exp(v0)                                 (2, 4) float32    loop      step scratch 2
    v3 = tanh(v2)                                (2, 4) float32    loop      carry 0
    v4 = where(v1, v0, v3)                       (2, 4) float32    loop      carry 0, over v3
    carry v0 -> v4; xs v1
    """
    program, concats = plan.program, plan.concats
    for value in reversed(program.values()):  # so that the storage of a result is known when its operand gets the same
        if value.op != "where" or plan.levels.get(value) != "loop" or value in plan.parts:
            continue
        last = value.inputs[2]
        is_alike = last.is_like(value) and plan.levels.get(last) == "loop" and last.op not in VIEWS
        has_storage = last in plan.storage or last in plan.parts or last in concats
        storage = plan.storage.get(value)
        if is_alike and program.uses[last] == 1 and not has_storage and (storage is None or storage.kind != "stack"):
            plan.overwrites.add(value)
            if storage is not None:
                plan.storage[last] = storage


# -- scratch -----------------------------------------------------------------------------------------------------------


def share_scratch(plan: Plan, levels: Collection[Level]) -> None:
    """Let the values that live within one level share a few arrays: register allocation by linear scan.

        v0 = carry(position=0)                       (2, 4) float32
        v1 = constant(position=0)                    (4, 4) float32    invariant
        v2 = matmul(v0, v1)                          (2, 4) float32    loop      step scratch 2
        v3 = tanh(v2)                                (2, 4) float32    loop      step scratch 2
        v4 = matmul(v3, v1)                          (2, 4) float32    loop      step scratch 4
        v5 = matmul(v4, v1)                          (2, 4) float32    loop      step scratch 2
        v6 = tanh(v5)                                (2, 4) float32    loop      carry 0
        carry v0 -> v6

    An array is free after the last use of its value. An elementwise operation may write over an operand.

    levels  those in which it is done; in others each value has an array of its own
    """
    inputs, concats = plan.program.inputs, plan.concats
    base_of_view = {value: base_of(value, inputs) for value in plan.program.values() if value.op in VIEWS}
    outputs = [base_of_view.get(value, value) for value in plan.program.outputs]
    for level, kind in SCRATCH.items():
        operations = plan.operations(level)
        bases = [dict.fromkeys(map(base_of_view.get, value.inputs, value.inputs)) for value in operations]
        last_use = {base: position for position, used in enumerate(bases) for base in used}
        last_use.update(dict.fromkeys(outputs, len(operations)))
        free: dict[tuple, list[Storage]] = defaultdict(list)
        for position, value in enumerate(operations):
            overwritten = value.inputs[2] if value in plan.overwrites else None
            ending = [
                base for base in bases[position]
                if level in levels and last_use[base] == position and base is not overwritten and base not in concats
                and base in plan.storage and plan.storage[base].kind == kind
            ]  # fmt: skip
            writes_over = value.op in ELEMENTWISE and value.op != "where"
            if writes_over:
                _release(plan, ending, free)
            if value not in plan.storage and value not in plan.parts:
                idle = free[value.shape, value.dtype]
                if overwritten is not None:
                    plan.storage[value] = plan.storage[overwritten]
                else:
                    plan.storage[value] = idle.pop() if idle else Storage(kind, value.number)
            if not writes_over:
                _release(plan, ending, free)


def _release(plan: Plan, values: list[Value], free: dict[tuple, list[Storage]]) -> None:
    for value in values:
        free[value.shape, value.dtype].append(plan.storage[value])
