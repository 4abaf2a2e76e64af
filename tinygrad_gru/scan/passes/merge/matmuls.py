"""Merged matmuls: products with one left operand become one product with concatenated weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ...ir import Program, Value
from ..schedule import schedule
from .concat import has_invariant_right, merged_matmul, slice_of


def merge_matmuls(program: Program) -> Program:
    """[x A, x B] as x [A, B]: products with one left operand, at one level, become one."""
    graph, levels = program.graph, schedule(program)
    groups: dict[tuple[str, Value], list[Value]] = defaultdict(list)
    for value in program.values():
        if has_invariant_right(value, levels) and levels[value] != "invariant":
            groups[levels[value], value.inputs[0]].append(value)
    group_of = {value: group for group in groups.values() if len(group) > 1 for value in group}

    def slice_of_product(value: Value, done: Mapping[Value, Value]) -> Value | None:
        group = group_of.get(value)
        if group is None:
            return None
        whole = merged_matmul(graph, done[value.inputs[0]], [done[product.inputs[1]] for product in group])
        return slice_of(graph, whole, group, [value])

    return program.rebuilt(slice_of_product)
