"""Simplify: the same mathematics in fewer operations inside the loop.

Equal values are one already, by the way in which a listing grows. Here sums are put in the order in which their terms
become known, and what multiplies a cotangent is gathered, so that it can be computed for all steps at once. No rewrite
loses more than rounding does, whatever the numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ...backend import is_half
from ..ir import Program, Value, broadcast_shape


def reassociate(program: Program) -> Program:
    """a + h U + b as (a + b) + h U: what does not depend on the carry is added before the loop.

    That is one product, [a h b] [1; U; 1], and the terms of a product have no order. Another sum stays as it is: in
    (x + h) + y, x and h may be large and cancel, which (x + y) + h would not survive.
    """
    graph, in_loop = program.graph, program.depending_on(program.carry)
    uses = Counter(i for value in program.values() for i in value.inputs) + Counter(program.outputs)
    given = {*program.carry, *program.xs}

    sums: dict[Value, list[Value]] = {}  # the terms of every sum whose terms in the loop are all products of matrices
    for value in program.values():
        if value.op == "add" and value in in_loop and value not in given and _is_uniform(value):
            inner = {i: sums[i] for i in value.inputs if i in sums and uses[i] == 1}
            if all(i not in in_loop or i.op == "matmul" or i in inner for i in value.inputs):
                sums[value] = [term for i in value.inputs for term in inner.get(i, [i])]

    def ordered(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value not in sums:
            return None
        total, *others = (done[term] for term in sorted(sums[value], key=lambda term: term in in_loop))
        for part in others:
            total = graph.add("add", (total, part), broadcast_shape((total, part)), value.dtype)
        return total

    return program.rebuilt(ordered)


def fold_casts_into_sums(program: Program) -> Program:
    """Sums of half precision without a copy in float32, where the target adds up in float32 in any case."""

    def narrow(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value.op != "astype" or not is_half(value.dtype) or value.inputs[0].op != "sum":
            return None
        (total,) = value.inputs
        (wide,) = total.inputs
        if wide.op != "astype" or wide.inputs[0].dtype != value.dtype:
            return None
        terms = done[wide.inputs[0]]
        return program.graph.add("sum", (terms,), value.shape, value.dtype, **dict(total.attributes))

    return program.rebuilt(narrow)


def swap_where(program: Program) -> Program:
    """where(c, a, b) as where(not c, b, a), if a is there for nothing else: the plan then writes b over it."""
    graph, in_loop = program.graph, program.depending_on(program.carry)
    uses = Counter(i for value in program.values() for i in value.inputs) + Counter(program.outputs)

    def swapped(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value.op != "where" or value.inputs[0] in in_loop:
            return None
        condition, a, b = value.inputs
        if a not in in_loop or uses[a] != 1 or not a.is_like(value):
            return None
        otherwise = graph.add("logical_not", (done[condition],), condition.shape, condition.dtype)
        return graph.add("where", (otherwise, done[b], done[a]), value.shape, value.dtype)

    return program.rebuilt(swapped)


def _is_uniform(value: Value) -> bool:
    """Whether a sum may be made in another order: in one dtype, and without an outer sum of a row and a column."""
    alike = all(i.op == "scalar" or i.dtype == value.dtype for i in value.inputs)
    return alike and any(i.shape == value.shape for i in value.inputs)
