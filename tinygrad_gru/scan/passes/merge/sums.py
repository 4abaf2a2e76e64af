"""Merged sums: sums of products as one product, and products that are summed over time as one.

    a A + b B       =  [a, b] [A; B]        concatenated along the axis that the product contracts
    Σₜ [xᵀ a, xᵀ b] =  Σₜ xᵀ [a, b]         the gradients of weights with one input

Both concatenate a and b, the cotangents of the gates in a backward pass, so both take them in one order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ...ir import Graph, Program, Value
from ..schedule import Level, is_computed_per_step, schedule
from .concat import concat, has_invariant_right, merged_matmul, slice_of


def merge_sums(program: Program) -> Program:
    """a A + b B as [a, b] [A; B], and the products (and sums) that are summed over all steps as one.

    v0 = carry(position=0)                       (2, 4) float32
    v1 = x(position=0)                           (2, 4) float32
    v2 = constant(position=0)                    (4, 4) float32
    v3 = constant(position=1)                    (4, 4) float32
    v4 = multiply(v0, v1)                        (2, 4) float32
    v5 = negative(v0)                            (2, 4) float32
    v6 = matmul(v4, v2)                          (2, 4) float32
    v7 = matmul(v5, v3)                          (2, 4) float32
    v8 = add(v6, v7)                             (2, 4) float32
    v9 = transpose(v1, axes=(1, 0))              (4, 2) float32
    v10 = matmul(v9, v4)                         (4, 4) float32
    v11 = matmul(v9, v5)                         (4, 4) float32
    carry v0 -> v8; xs v1; sums v10, v11
      =>
    v0 = carry(position=0)                       (2, 4) float32
    v1 = x(position=0)                           (2, 4) float32
    v2 = constant(position=0)                    (4, 4) float32
    v3 = constant(position=1)                    (4, 4) float32
    v4 = multiply(v0, v1)                        (2, 4) float32
    v5 = negative(v0)                            (2, 4) float32
    v9 = transpose(v1, axes=(1, 0))              (4, 2) float32
    v12 = concat(v4, v5, axis=1)                 (2, 8) float32
    v13 = concat(v2, v3, axis=0)                 (8, 4) float32
    v14 = matmul(v12, v13)                       (2, 4) float32
    v15 = matmul(v9, v12)                        (4, 8) float32
    v16 = getitem(v15, index=(('slice', 0, 4, 1), ('slice', 0, 4, 1))) (4, 4) float32
    v17 = getitem(v15, index=(('slice', 0, 4, 1), ('slice', 4, 8, 1))) (4, 4) float32
    carry v0 -> v14; xs v1; sums v16, v17
    """
    graph, facts = program.graph, _Facts.of(program)
    additions = _additions(facts)
    products, sums = _summed_over_time(facts)
    operands = [[product.inputs[0] for product in addition.products] for addition in additions.values()]
    operands += [[product.inputs[1] for product in group] for group in products]
    operands.sort(key=len, reverse=True)
    rank = _common_order(operands)

    for addition in additions.values():
        addition.products.sort(key=lambda product: rank(product.inputs[0]))
    groups = products + list(_sums_of_concatenated(sums, operands))
    for group in groups:
        group.sort(key=lambda value: rank(value.inputs[-1]))
    group_of = {value: group for group in groups for value in group}

    def merged(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value in group_of:
            group = group_of[value]
            return slice_of(graph, _merged_over_time(graph, group, done), group, [value])
        return _merged_addition(graph, value, additions[value], done) if value in additions else None

    return program.rebuilt(merged)


class _Facts(NamedTuple):
    """A program, the levels of its values, and the operation that uses a value where there is only one use."""

    program: Program
    levels: Mapping[Value, Level]
    sole_use: Mapping[Value, Value]

    @classmethod
    def of(cls, program: Program) -> _Facts:
        sole_use = {value: users[0] for value, users in program.users.items() if program.uses[value] == 1}
        return cls(program, schedule(program), sole_use)

    def can_be_written_in_place(self, value: Value) -> bool:
        """Whether an operation computes the value at every step, and so can write it into a slice."""
        return is_computed_per_step(value, self.levels) and value not in self.program.outputs


# -- sums of products ------------------------------------------------------------------------------------------------


class _Addition(NamedTuple):
    """A decomposed sum: its terms that are products to be merged, and the others."""

    products: list[Value]
    others: list[Value]


def _additions(facts: _Facts) -> dict[Value, _Addition]:
    """The sums in which there are several products to be merged."""
    found: dict[Value, _Addition] = {}
    for value in facts.program.values():
        if value.op != "add" or value not in facts.levels or _is_partial_sum(value, facts.sole_use.get(value), facts):
            continue
        terms = _terms(value, facts)
        products = [term for term in terms if _is_mergeable(term, value, facts)]
        if len({product.inputs[0] for product in products}) == len(products) > 1:
            found[value] = _Addition(products, [term for term in terms if term not in products])
    return found


def _is_partial_sum(value: Value, total: Value | None, facts: _Facts) -> bool:
    """Whether the value is a sum that is used only as a term of `total`."""
    if total is None or not total.op == value.op == "add":
        return False
    return (
        facts.program.uses[value] == 1 and value.is_like(total) and facts.levels.get(value) == facts.levels.get(total)
    )


def _terms(total: Value, facts: _Facts) -> list[Value]:
    """The terms of a sum, from left to right."""
    terms, stack = [], [*reversed(total.inputs)]
    while stack:
        value = stack.pop()
        if _is_partial_sum(value, total, facts):
            stack += reversed(value.inputs)
        else:
            terms.append(value)
    return terms


def _is_mergeable(term: Value, total: Value, facts: _Facts) -> bool:
    """Whether the term is a product with a weight, used nowhere else, whose left operand can be written in place."""
    levels = facts.levels
    fits = has_invariant_right(term, levels) and term.is_like(total) and levels[term] == levels[total]
    return fits and facts.program.uses[term] == 1 and facts.can_be_written_in_place(term.inputs[0])


def _merged_addition(graph: Graph, total: Value, addition: _Addition, done: Mapping[Value, Value]) -> Value:
    """[a, b] [A; B], plus the other terms."""
    left = concat(graph, [done[product.inputs[0]] for product in addition.products])
    right = concat(graph, [done[product.inputs[1]] for product in addition.products], axis=0)
    result = graph.add("matmul", (left, right), total.shape, total.dtype)
    for term in addition.others:
        result = graph.add("add", (done[term], result), total.shape, total.dtype)
    return result


# -- sums over time --------------------------------------------------------------------------------------------------


def _summed_over_time(facts: _Facts) -> tuple[list[list[Value]], list[list[Value]]]:
    """The groups of values used only as sums over time: products with one left operand, and sums over the rows."""
    products: dict[Value, list[Value]] = defaultdict(list)
    sums: dict[Hashable, list[Value]] = defaultdict(list)
    outputs = facts.program.sums
    for value in dict.fromkeys(outputs):
        if facts.program.uses[value] != outputs.count(value) or facts.levels.get(value) not in ("hoisted", "sunk"):
            continue
        if value.op == "matmul":
            is_matrix = len(value.shape) == len(value.inputs[0].shape) == 2
            if is_matrix and facts.can_be_written_in_place(value.inputs[1]):
                products[value.inputs[0]].append(value)
        elif value.op == "sum" and len(value.inputs[0].shape) == 2 and value["axis"] == (0,):
            sums[value.attributes].append(value)
    return [group for group in products.values() if len(group) > 1], list(sums.values())


def _sums_of_concatenated(sums: Sequence[list[Value]], operands: Sequence[list[Value]]) -> Iterator[list[Value]]:
    """The sums of all that is concatenated in the largest of the groups of operands."""
    largest = set(operands[0]) if operands else set()
    for group in sums:
        if largest and largest <= {value.inputs[0] for value in group}:
            yield [value for value in group if value.inputs[0] in largest]


def _common_order(groups: Sequence[list[Value]]) -> Callable[[Value], tuple]:
    """The key of an order in which the members of as many groups as possible are neighbours."""
    return lambda value: (*(value not in group for group in groups), value.number)


def _merged_over_time(graph: Graph, group: Sequence[Value], done: Mapping[Value, Value]) -> Value:
    """xᵀ [a, b] in place of xᵀ a and xᵀ b, or the sum of [a, b] over its rows."""
    first, operands = group[0], [done[value.inputs[-1]] for value in group]
    if first.op == "matmul":
        return merged_matmul(graph, done[first.inputs[0]], operands)
    operand = concat(graph, operands)
    shape = (*first.shape[:-1], operand.shape[-1])
    return graph.add("sum", (operand,), shape, first.dtype, **dict(first.attributes))
