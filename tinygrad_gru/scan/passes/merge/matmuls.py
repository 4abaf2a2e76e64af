"""Merged matmuls: products with one left operand become one product with concatenated weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ...ir import Program, Value
from ..schedule import schedule
from .concat import has_invariant_right, merged_matmul, slice_of


def merge_matmuls(program: Program) -> Program:
    """[x A, x B] as x [A, B]: products with one left operand, at one level, become one.

    v0 = carry(position=0)                       (2, 4) float32
    v1 = constant(position=0)                    (4, 4) float32
    v2 = constant(position=1)                    (4, 4) float32
    v3 = matmul(v0, v1)                          (2, 4) float32
    v4 = matmul(v0, v2)                          (2, 4) float32
    v5 = multiply(v3, v4)                        (2, 4) float32
    carry v0 -> v5
      =>
    v0 = carry(position=0)                       (2, 4) float32
    v1 = constant(position=0)                    (4, 4) float32
    v2 = constant(position=1)                    (4, 4) float32
    v6 = concat(v1, v2, axis=1)                  (4, 8) float32
    v7 = matmul(v0, v6)                          (2, 8) float32
    v8 = getitem(v7, index=(('slice', 0, 2, 1), ('slice', 0, 4, 1))) (2, 4) float32
    v9 = getitem(v7, index=(('slice', 0, 2, 1), ('slice', 4, 8, 1))) (2, 4) float32
    v10 = multiply(v8, v9)                       (2, 4) float32
    carry v0 -> v10
    """
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
        merged = merged_matmul(graph, done[value.inputs[0]], [done[product.inputs[1]] for product in group])
        return slice_of(graph, merged, group, [value])

    return program.rebuilt(slice_of_product)
