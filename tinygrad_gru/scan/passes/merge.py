"""Merge: several operations of one kind as one operation on joined arrays.

    [x A, x B]      =  x [A, B]             products with the same left operand
    [f(a), f(b)]    =  f([a, b])            and what is done to each of them afterwards
    a A + b B       =  [a, b] [A; B]        sums of products
    [xᵀ a, xᵀ b]    =  xᵀ [a, b]            products that are summed over time

Arrays are joined along their last axis. The parts of a joined array are slices of it, which cost nothing; and where
the parts are made one by one, the plan has each written into its slice, so that joining them costs nothing either.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..ir import Graph, Program, Value, broadcast_shape
from .schedule import ELEMENTWISE, VIEWS, schedule

# -- products with the same left operand, and what becomes of them --------------------------------------------------


@dataclass(eq=False)
class _Bundle:
    """Values made in the same way, one a lane, and the bundles to which some of the lanes together lead.

    The lanes stand in the order in which they are joined: those with the same fate are neighbours.
    """

    lanes: list[Value]
    source: _Bundle | None = None
    joined: Value | None = None
    following: list[_Bundle] = field(default_factory=list)


def merge_lanes(program: Program) -> Program:
    """Join the products in the loop that have one left operand, and the elementwise operations that follow them."""
    graph, levels = program.graph, schedule(program)
    consumers: dict[Value, list[Value]] = defaultdict(list)
    products: dict[Value, list[Value]] = defaultdict(list)
    for value in program.values():
        if levels.get(value) == "loop":
            for i in dict.fromkeys(value.inputs):
                consumers[i].append(value)
            if _has_invariant_right(value, levels):
                products[value.inputs[0]].append(value)
    bundle_of: dict[Value, _Bundle] = {}
    given = {*program.carry, *program.xs}

    def fate(lane: Value) -> Hashable:
        """What becomes of a lane, in terms that lanes with the same fate share; None if it has no other's fate."""
        if not consumers[lane]:
            return None
        value, *later = consumers[lane]
        if later and consumers[value] != later:  # as in e / (1 + e) another may read it, together with what is made
            return None
        fits = value.op in ELEMENTWISE and (value.shape, value.dtype) == (lane.shape, lane.dtype)
        if not fits or value in bundle_of:
            return None
        terms: list[Hashable] = [value.op, value.attributes]
        for i in value.inputs:
            if i is lane:
                terms.append("lane")
            elif i in lane.inputs and i in bundle_of:
                terms.append("what the lane is made of")
            elif _spreads(i):
                terms.append(i.number)  # the same for all
            elif i.shape[-1] == lane.shape[-1] and levels.get(i) in ("invariant", "hoisted"):
                terms.append(("known before", i.shape[:-1]))
            elif i.shape == lane.shape and _has_invariant_right(i, levels):
                terms.append(("product of", i.inputs[0].number))
            else:
                return None
        return tuple(terms)

    def bundle(lanes: list[Value], source: _Bundle | None) -> _Bundle:
        own = _Bundle([], source)
        bundle_of.update(dict.fromkeys(lanes, own))
        for lot in _grouped(lanes, fate):
            then = {consumers[lane][0]: lane for lane in lot} if len(lot) > 1 else {}
            if len(then) == len(lot):
                following = bundle(list(then), own)
                lot = [then[value] for value in following.lanes]
            own.lanes += lot
        return own

    for lanes in products.values():
        if len(lanes) > 1 and len({lane.shape[0] for lane in lanes}) == 1:
            bundle(lanes, None)

    def joined(own: _Bundle, done: Mapping[Value, Value]) -> Value:
        lanes, source = own.lanes, own.source
        if source is None:
            return _product(graph, done[lanes[0].inputs[0]], [done[lane.inputs[1]] for lane in lanes])
        assert source.joined is not None
        columns = []
        for column in zip(*(lane.inputs for lane in lanes)):
            earlier = bundle_of.get(column[0])
            if earlier is not None and earlier.joined is not None and earlier in (source, source.source):
                columns.append(_part(graph, earlier.joined, earlier.lanes, column))
            elif _spreads(column[0]):
                columns.append(done[column[0]])
            elif levels.get(column[0]) == "loop":
                columns.append(_product(graph, done[column[0].inputs[0]], [done[i.inputs[1]] for i in column]))
            else:
                columns.append(join(graph, [done[i] for i in column], given))
        return graph.add(lanes[0].op, columns, broadcast_shape(columns), lanes[0].dtype, **dict(lanes[0].attributes))

    def rule(value: Value, done: Mapping[Value, Value]) -> Value | None:
        own = bundle_of.get(value)
        if own is None:
            return None
        if own.joined is None:
            own.joined = joined(own, done)
        return _part(graph, own.joined, own.lanes, [value])

    return program.rebuilt(rule)


def merge_products(program: Program) -> Program:
    """Join the products that have one left operand and are done at the same level, and nothing else."""
    graph, levels = program.graph, schedule(program)
    lots: dict[Hashable, list[Value]] = defaultdict(list)
    for value in program.values():
        if _has_invariant_right(value, levels) and levels[value] != "invariant":
            lots[levels[value], value.inputs[0]].append(value)

    def rule(value: Value, done: Mapping[Value, Value]) -> Value | None:
        lot = lots.get((levels.get(value), value.inputs[0]), []) if value.op == "matmul" else []
        if len(lot) < 2 or value not in lot:
            return None
        return _part(graph, _product(graph, done[value.inputs[0]], [done[v.inputs[1]] for v in lot]), lot, [value])

    return program.rebuilt(rule)


def _grouped(lanes: Iterable[Value], fate: Callable[[Value], Hashable]) -> list[list[Value]]:
    """Lanes with the same fate together; one without is alone."""
    lots: dict[Hashable, list[Value]] = {}
    for lane in lanes:
        found = fate(lane)
        lots.setdefault(lane if found is None else found, []).append(lane)
    return list(lots.values())


# -- sums of products, and products that are summed over time --------------------------------------------------------


def merge_sums(program: Program) -> Program:
    """Join the terms of sums of products, and the products (and sums) that are added up over all steps."""
    graph, levels, values = program.graph, schedule(program), program.values()
    uses = Counter(i for value in values for i in value.inputs) + Counter(program.outputs)
    user = {i: value for value in values for i in value.inputs if uses[i] == 1}

    def made(value: Value) -> bool:
        """Whether an operation makes it, which can be told where to write."""
        return levels.get(value, "invariant") != "invariant" and value.op not in VIEWS and value not in program.outputs

    def is_inner(value: Value, top: Value) -> bool:
        return value.op == "add" and uses[value] == 1 and value.is_like(top) and levels.get(value) == levels[top]

    def terms(top: Value) -> list[Value]:
        found, stack = [], [*reversed(top.inputs)]
        while stack:
            value = stack.pop()
            if is_inner(value, top):
                stack += reversed(value.inputs)
            else:
                found.append(value)
        return found

    def is_term(value: Value, top: Value) -> bool:
        fits = _has_invariant_right(value, levels) and value.is_like(top) and levels[value] == levels[top]
        return fits and uses[value] == 1 and made(value.inputs[0])

    added: dict[Value, list[Value]] = {}  # of a sum those terms that are products
    for top in values:
        whole = top in levels and not (top in user and user[top].op == "add" and is_inner(top, user[top]))
        if top.op == "add" and whole:
            products = [term for term in terms(top) if is_term(term, top)]
            if len({product.inputs[0] for product in products}) == len(products) > 1:
                added[top] = products
    summed: dict[Hashable, list[Value]] = defaultdict(list)  # what is only there to be summed over time
    for value in dict.fromkeys(program.sums):
        if uses[value] == program.sums.count(value) and levels.get(value) in ("hoisted", "sunk"):
            if value.op == "matmul" and len(value.shape) == len(value.inputs[0].shape) == 2 and made(value.inputs[1]):
                summed[value.inputs[0]].append(value)
            elif value.op == "sum" and len(value.inputs[0].shape) == 2 and value["axis"] == (0,):
                summed[value.attributes].append(value)
    products_of = [lot for key, lot in summed.items() if isinstance(key, Value) and len(lot) > 1]

    groups = [[product.inputs[0] for product in products] for products in added.values()]
    groups += [[product.inputs[1] for product in lot] for lot in products_of]
    groups.sort(key=len, reverse=True)

    def rank(value: Value) -> tuple:
        """A common order in which as many groups as possible are neighbours."""
        return *(value not in group for group in groups), value.number

    for products in added.values():
        products.sort(key=lambda product: rank(product.inputs[0]))
    # Sums of what is joined already are joined too.
    lots = products_of + [
        [value for value in lot if value.inputs[0] in group]
        for key, lot in summed.items() if not isinstance(key, Value)
        for group in groups[:1] if set(group) <= {value.inputs[0] for value in lot}
    ]  # fmt: skip
    for lot in lots:
        lot.sort(key=lambda value: rank(value.inputs[-1]))
    lot_of = {value: lot for lot in lots for value in lot}

    def rule(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value in lot_of:
            lot = lot_of[value]
            operands = [done[other.inputs[-1]] for other in lot]
            if value.op == "sum":
                operand = concat(graph, operands)
                shape = (*value.shape[:-1], operand.shape[-1])
                whole = graph.add("sum", (operand,), shape, value.dtype, **dict(value.attributes))
            else:
                whole = _product(graph, done[value.inputs[0]], operands)
            return _part(graph, whole, lot, [value])
        if value not in added:
            return None
        products = added[value]
        left = concat(graph, [done[p.inputs[0]] for p in products])
        right = concat(graph, [done[p.inputs[1]] for p in products], axis=0)
        total = graph.add("matmul", (left, right), value.shape, value.dtype)
        for term in terms(value):
            if term not in products:
                total = graph.add("add", (done[term], total), value.shape, value.dtype)
        return total

    return program.rebuilt(rule)


# -- joining ---------------------------------------------------------------------------------------------------------


def concat(graph: Graph, values: Sequence[Value], axis: int = -1) -> Value:
    """The values side by side along an axis."""
    first, shape = values[0], list(values[0].shape)
    axis %= len(shape)
    shape[axis] = sum(v.shape[axis] for v in values)
    return graph.add("concat", values, tuple(shape), first.dtype, axis=axis)


def join(graph: Graph, values: Sequence[Value], given: Container[Value]) -> Value:
    """The values side by side; made so from the beginning where they are made alike. What is given is as it is."""
    first = values[0]
    if any(v in given for v in values):
        return concat(graph, values)
    of_matrices = first.op == "matmul" and len(first.shape) == len(first.inputs[0].shape) == 2
    if of_matrices and all(v.op == "matmul" and v.inputs[0] is first.inputs[0] for v in values):
        return _product(graph, first.inputs[0], [v.inputs[1] for v in values])
    if first.op in ELEMENTWISE and _alike(values):
        columns = zip(*(v.inputs for v in values))
        operands = [column[0] if _spreads(column[0]) else join(graph, column, given) for column in columns]
        return graph.add(first.op, operands, broadcast_shape(operands), first.dtype, **dict(first.attributes))
    return concat(graph, values)


def _product(graph: Graph, left: Value, rights: Sequence[Value]) -> Value:
    right = concat(graph, rights)
    return graph.add("matmul", (left, right), (left.shape[0], right.shape[1]), rights[0].dtype)


def _part(graph: Graph, whole: Value, lanes: Sequence[Value], part: Sequence[Value]) -> Value:
    """The slice of `whole`, which joins `lanes`, that belongs to those that follow each other in `part`."""
    start = sum(lane.shape[-1] for lane in lanes[: lanes.index(part[0])])
    width = sum(lane.shape[-1] for lane in part)
    if width == whole.shape[-1]:
        return whole
    shape = (*whole.shape[:-1], width)
    index = (*(("slice", 0, n, 1) for n in shape[:-1]), ("slice", start, start + width, 1))
    return graph.add("getitem", (whole,), shape, whole.dtype, index=index)


def _spreads(value: Value) -> bool:
    """Whether the value is the same along the last axis."""
    return not value.shape or value.shape[-1] == 1


def _alike(values: Sequence[Value]) -> bool:
    """Whether all are made by the same operation, of operands that can be joined or are the same for all."""
    kinds = {(v.op, v.attributes, v.shape, v.dtype) for v in values}

    def fits(column: tuple[Value, ...]) -> bool:
        if _spreads(column[0]):
            return all(v is column[0] for v in column)
        return len({v.shape for v in column}) == 1 and column[0].shape[-1] == values[0].shape[-1]

    return len(kinds) == 1 and all(map(fits, zip(*(v.inputs for v in values))))


def _has_invariant_right(value: Value, levels: dict[Value, str]) -> bool:
    """Whether it is a product of matrices with one that is the same at all steps on the right."""
    if value.op != "matmul" or value not in levels:
        return False
    left, right = value.inputs
    return len(left.shape) == len(right.shape) == 2 and levels.get(right) == "invariant"
