"""Simplification: the same mathematics in fewer operations inside the loop.

Common subexpressions are eliminated by `Graph.add`, and dead code is not part of a program.
No rewrite loses more than rounding does, whatever the operands.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...backend import is_half
from ..ir import Program, Value, broadcast_shape


def reassociate(program: Program) -> Program:
    """x + h U + b as (x + b) + h U: the terms that do not depend on the carry are added first, which can be hoisted.

        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 4) float32
        v2 = constant(position=0)                    (4, 4) float32
        v3 = constant(position=1)                    (4,) float32
        v4 = matmul(v0, v2)                          (2, 4) float32
        v5 = add(v1, v4)                             (2, 4) float32
        v6 = add(v5, v3)                             (2, 4) float32
        carry v0 -> v6; xs v1
          =>
        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 4) float32
        v2 = constant(position=0)                    (4, 4) float32
        v3 = constant(position=1)                    (4,) float32
        v4 = matmul(v0, v2)                          (2, 4) float32
        v7 = add(v1, v3)                             (2, 4) float32
        v8 = add(v7, v4)                             (2, 4) float32
        carry v0 -> v8; xs v1

    Such a sum is one product, [x h b] [1; U; 1], and a product may add up its terms in any order. Another sum stays
    unchanged: in (x + h) + y, x and h may be large and cancel, which (x + y) + h would not survive.
    """
    graph, in_loop = program.graph, program.depending_on(program.carry)
    terms_of: dict[Value, list[Value]] = {}  # of each sum whose terms in the loop are all products
    for value in program.values():
        if value.op == "add" and value in in_loop and value not in program.inputs and _may_reorder(value):
            inner = {i: terms_of[i] for i in value.inputs if i in terms_of and program.uses[i] == 1}
            if all(i not in in_loop or i.op == "matmul" or i in inner for i in value.inputs):
                terms_of[value] = [term for i in value.inputs for term in inner.get(i, [i])]

    def reordered(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value not in terms_of:
            return None
        total, *others = (done[term] for term in sorted(terms_of[value], key=in_loop.__contains__))
        for term in others:
            total = graph.add("add", (total, term), broadcast_shape((total, term)), value.dtype)
        return total

    return program.rebuilt(reordered)


def _may_reorder(value: Value) -> bool:
    """Whether a sum keeps its cost and its dtype in any order: one dtype, and no outer sum of a row and a column."""
    has_one_dtype = all(i.op == "scalar" or i.dtype == value.dtype for i in value.inputs)
    return has_one_dtype and any(i.shape == value.shape for i in value.inputs)


def swap_where(program: Program) -> Program:
    """where(c, a, b) as where(not c, b, a), if a has no other use: the plan then writes b over a.

    v0 = carry(position=0)                       (2, 4) float32
    v1 = x(position=0)                           (2, 4) float32
    v2 = x(position=1)                           (2, 1) bool
    v3 = multiply(v0, v1)                        (2, 4) float32
    v4 = where(v2, v3, v1)                       (2, 4) float32
    carry v0 -> v4; xs v1, v2
      =>
    v0 = carry(position=0)                       (2, 4) float32
    v1 = x(position=0)                           (2, 4) float32
    v2 = x(position=1)                           (2, 1) bool
    v3 = multiply(v0, v1)                        (2, 4) float32
    v5 = logical_not(v2)                         (2, 1) bool
    v6 = where(v5, v1, v3)                       (2, 4) float32
    carry v0 -> v6; xs v1, v2
    """
    graph, in_loop = program.graph, program.depending_on(program.carry)

    def swapped(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value.op != "where" or value.inputs[0] in in_loop:
            return None
        condition, a, b = value.inputs
        if a not in in_loop or program.uses[a] != 1 or not a.is_like(value):
            return None
        otherwise = graph.add("logical_not", (done[condition],), condition.shape, condition.dtype)
        return graph.add("where", (otherwise, done[b], done[a]), value.shape, value.dtype)

    return program.rebuilt(swapped)


def fold_casts_into_sums(program: Program) -> Program:
    """A sum of half precision without its casts to float32 and back, for targets that accumulate in float32 anyway.

    v0 = x(position=0)                           (2, 4) float16
    v1 = astype(v0)                              (2, 4) float32
    v2 = sum(v1, axis=(0,), keepdims=False)      (4,) float32
    v3 = astype(v2)                              (4,) float16
    xs v0; sums v3
      =>
    v0 = x(position=0)                           (2, 4) float16
    v4 = sum(v0, axis=(0,), keepdims=False)      (4,) float16
    xs v0; sums v4
    """

    def folded(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value.op != "astype" or not is_half(value.dtype) or value.inputs[0].op != "sum":
            return None
        (total,) = value.inputs
        (terms,) = total.inputs
        if total in program.inputs or terms in program.inputs:  # it is given, and what it was computed from is not
            return None
        if terms.op != "astype" or terms.inputs[0].dtype != value.dtype:
            return None
        return program.graph.add("sum", (done[terms.inputs[0]],), value.shape, value.dtype, **dict(total.attributes))

    return program.rebuilt(folded)
