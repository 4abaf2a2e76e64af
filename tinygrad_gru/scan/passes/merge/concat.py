"""Concatenation of values, and slices of it.

Values are concatenated along their last axis. A slice of the concatenation is a view, which costs nothing. Neither does
the concatenation where its operands are computed by operations: the plan has each written into its slice.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from ...ir import Graph, Value, broadcast_shape
from ..schedule import ELEMENTWISE, Level


def concat(graph: Graph, values: Sequence[Value], axis: int = -1) -> Value:
    """The concatenation of values along an axis."""
    first, shape = values[0], list(values[0].shape)
    axis %= len(shape)
    shape[axis] = sum(v.shape[axis] for v in values)
    return graph.add("concat", values, tuple(shape), first.dtype, axis=axis)


def slice_of(graph: Graph, concatenated: Value, members: Sequence[Value], selected: Sequence[Value]) -> Value:
    """The slice of `concatenated`, the concatenation of `members`, with the selected members, which are adjacent."""
    start = sum(member.shape[-1] for member in members[: members.index(selected[0])])
    width = sum(member.shape[-1] for member in selected)
    if width == concatenated.shape[-1]:
        return concatenated
    shape = (*concatenated.shape[:-1], width)
    index = (*(("slice", 0, n, 1) for n in shape[:-1]), ("slice", start, start + width, 1))
    return graph.add("getitem", (concatenated,), shape, concatenated.dtype, index=index)


def merged_matmul(graph: Graph, left: Value, rights: Sequence[Value]) -> Value:
    """left @ [right, right, …]: one product in place of several."""
    right = concat(graph, rights)
    return graph.add("matmul", (left, right), (left.shape[0], right.shape[1]), rights[0].dtype)


def fused_concat(graph: Graph, values: Sequence[Value], inputs: Container[Value]) -> Value:
    """The concatenation of values; isomorphic ones are computed as one operation on concatenated operands.

    inputs  the inputs of the program, which are available, whatever operation has computed them
    """
    first = values[0]
    if any(v in inputs for v in values):
        return concat(graph, values)
    is_product = first.op == "matmul" and len(first.shape) == len(first.inputs[0].shape) == 2
    if is_product and all(v.op == "matmul" and v.inputs[0] is first.inputs[0] for v in values):
        return merged_matmul(graph, first.inputs[0], [v.inputs[1] for v in values])
    if first.op in ELEMENTWISE and _are_isomorphic(values):
        columns = zip(*(v.inputs for v in values))
        operands = [column[0] if broadcasts(column[0]) else fused_concat(graph, column, inputs) for column in columns]
        return graph.add(first.op, operands, broadcast_shape(operands), first.dtype, **dict(first.attributes))
    return concat(graph, values)


def _are_isomorphic(values: Sequence[Value]) -> bool:
    """Whether one operation computes all of them, from operands that can be concatenated or are the same for all."""
    operations = {(v.op, v.attributes, v.shape, v.dtype) for v in values}

    def fits(column: tuple[Value, ...]) -> bool:
        if broadcasts(column[0]):
            return all(v is column[0] for v in column)
        return len({v.shape for v in column}) == 1 and column[0].shape[-1] == values[0].shape[-1]

    return len(operations) == 1 and all(map(fits, zip(*(v.inputs for v in values))))


def broadcasts(value: Value) -> bool:
    """Whether the value is broadcast along the last axis, so that it goes with slices and with the concatenation."""
    return not value.shape or value.shape[-1] == 1


def has_invariant_right(value: Value, levels: Mapping[Value, Level]) -> bool:
    """Whether the value is a product of matrices with a loop-invariant right operand."""
    if value.op != "matmul" or value not in levels:
        return False
    left, right = value.inputs
    return len(left.shape) == len(right.shape) == 2 and levels.get(right) == "invariant"
