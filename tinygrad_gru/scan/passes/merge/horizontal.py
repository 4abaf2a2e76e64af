"""Horizontal fusion: isomorphic elementwise operations on several arrays become one on their concatenation.

A GRU computes r = σ(h U_r + …) and z = σ(h U_z + …) by the same operations on the same shapes. XLA's horizontal fusion
does this to kernels, LLVM's SLP vectoriser to scalars. As in the latter, groups grow from seeds, the products with one
left operand, along the uses of their members as long as these are isomorphic (`find_groups`). Then each group is
rewritten as one operation of which its members are slices (`_fused`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from ...ir import Program, Value, broadcast_shape
from ..schedule import ELEMENTWISE, Level, schedule
from .concat import broadcasts, fused_concat, has_invariant_right, merged_matmul, slice_of


def fuse_horizontally(program: Program) -> Program:
    """[f(x A), f(x B)] as f(x [A, B]): products with one left operand in the loop, and their isomorphic uses.

    v0 = carry(position=0)                       (2, 4) float32
    v1 = constant(position=0)                    (4, 4) float32
    v2 = constant(position=1)                    (4, 4) float32
    v3 = matmul(v0, v1)                          (2, 4) float32
    v4 = tanh(v3)                                (2, 4) float32
    v5 = matmul(v0, v2)                          (2, 4) float32
    v6 = tanh(v5)                                (2, 4) float32
    v7 = multiply(v4, v6)                        (2, 4) float32
    carry v0 -> v7
      =>
    v0 = carry(position=0)                       (2, 4) float32
    v1 = constant(position=0)                    (4, 4) float32
    v2 = constant(position=1)                    (4, 4) float32
    v8 = concat(v1, v2, axis=1)                  (4, 8) float32
    v9 = matmul(v0, v8)                          (2, 8) float32
    v11 = tanh(v9)                               (2, 8) float32
    v12 = getitem(v11, index=(('slice', 0, 2, 1), ('slice', 0, 4, 1))) (2, 4) float32
    v14 = getitem(v11, index=(('slice', 0, 2, 1), ('slice', 4, 8, 1))) (2, 4) float32
    v15 = multiply(v12, v14)                     (2, 4) float32
    carry v0 -> v15
    """
    groups = find_groups(program)

    def slice_of_group(value: Value, done: Mapping[Value, Value]) -> Value | None:
        group = groups.group_of.get(value)
        if group is None:
            return None
        if group.fused is None:
            group.fused = _fused(group, groups, done)
        return slice_of(program.graph, group.fused, group.members, [value])

    return program.rebuilt(slice_of_group)


@dataclass(eq=False, repr=False)
class Group:
    """Isomorphic operations that become one.

    members   their values, in the order in which they are concatenated
    producer  the group of which each member uses one member; None for a group of products
    fused     the value that concatenates the members, once it is built
    """

    members: list[Value]
    producer: Group | None
    fused: Value | None = None


class Groups:
    """The groups of a program, and what is needed to find them: levels, and uses in the loop."""

    def __init__(self, program: Program):
        self.program = program
        self.levels: Mapping[Value, Level] = schedule(program)
        self.uses: dict[Value, list[Value]] = defaultdict(list)
        self.group_of: dict[Value, Group] = {}


# -- finding groups --------------------------------------------------------------------------------------------------


def find_groups(program: Program) -> Groups:
    """The groups that grow from products in the loop with one left operand."""
    groups = Groups(program)
    seeds: dict[Value, list[Value]] = defaultdict(list)
    for value in program.values():
        if groups.levels.get(value) == "loop":
            for operand in dict.fromkeys(value.inputs):
                groups.uses[operand].append(value)
            if has_invariant_right(value, groups.levels):
                seeds[value.inputs[0]].append(value)
    for products in seeds.values():
        if len(products) > 1:
            _grow(groups, products, None)
    return groups


def _grow(groups: Groups, candidates: Sequence[Value], producer: Group | None) -> Group:
    """Make the candidates a group, and likewise their uses, as far as these have one signature.

    Members whose uses are a group become neighbours, so that its operand is one slice of theirs.
    """
    group = Group([], producer)
    groups.group_of.update(dict.fromkeys(candidates, group))
    by_signature: dict[Hashable, list[Value]] = {}
    for candidate in candidates:
        signature = _signature_of_use(candidate, groups)
        by_signature.setdefault(candidate if signature is None else signature, []).append(candidate)
    for alike in by_signature.values():
        candidate_of = {groups.uses[candidate][0]: candidate for candidate in alike} if len(alike) > 1 else {}
        if len(candidate_of) == len(alike):  # each has a use of its own
            users = _grow(groups, list(candidate_of), group)
            alike = [candidate_of[user] for user in users.members]
        group.members += alike
    return group


def _signature_of_use(candidate: Value, groups: Groups) -> Hashable:
    """A key by which the uses of candidates can be fused; None if that of this one cannot.

    The first use counts. Others may follow if they use its value too, as in e / (1 + e).
    """
    if not groups.uses[candidate]:
        return None
    user, *later = groups.uses[candidate]
    if later and groups.uses[user] != later:
        return None
    if user.op not in ELEMENTWISE or not user.is_like(candidate) or user in groups.group_of:
        return None
    operands = [_signature_of_operand(operand, candidate, groups) for operand in user.inputs]
    return None if None in operands else (user.op, user.attributes, *operands)


def _signature_of_operand(operand: Value, candidate: Value, groups: Groups) -> Hashable:
    """A key by which the operands at one position can be fused; None if this one cannot."""
    if operand is candidate:
        return "candidate"
    if operand in candidate.inputs and operand in groups.group_of:
        return "operand of the candidate"
    if broadcasts(operand):
        return operand.number  # one operand for all
    if operand.shape[-1] == candidate.shape[-1] and groups.levels.get(operand) in ("invariant", "hoisted"):
        return "concatenated before the loop", operand.shape[:-1]
    if operand.shape == candidate.shape and has_invariant_right(operand, groups.levels):
        return "product with", operand.inputs[0].number
    return None


# -- rewriting them --------------------------------------------------------------------------------------------------


def _fused(group: Group, groups: Groups, done: Mapping[Value, Value]) -> Value:
    """One operation that computes all members of a group, side by side."""
    graph, first = groups.program.graph, group.members[0]
    if group.producer is None:
        return merged_matmul(graph, done[first.inputs[0]], [done[product.inputs[1]] for product in group.members])
    columns = zip(*(member.inputs for member in group.members))
    operands = [_fused_operand(column, group.producer, groups, done) for column in columns]
    return graph.add(first.op, operands, broadcast_shape(operands), first.dtype, **dict(first.attributes))


def _fused_operand(column: Sequence[Value], producer: Group, groups: Groups, done: Mapping[Value, Value]) -> Value:
    """One operand in place of those that the members of a group have at one position."""
    graph, first, program = groups.program.graph, column[0], groups.program
    source = groups.group_of.get(first)
    if source is not None and source in (producer, producer.producer):
        assert source.fused is not None
        return slice_of(graph, source.fused, source.members, column)
    if broadcasts(first):
        return done[first]
    if groups.levels.get(first) == "loop":
        return merged_matmul(graph, done[first.inputs[0]], [done[product.inputs[1]] for product in column])
    return fused_concat(graph, [done[operand] for operand in column], program.inputs)
