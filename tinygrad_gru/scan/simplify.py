"""Simplify: the same mathematics in fewer operations inside the loop.

Equal values are one already, by the way in which a listing grows. Here sums are put in the order in which their terms
become known, and what multiplies a cotangent is gathered, so that it can be computed for all steps at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from ..backend import is_half
from .listing import Listing, Value, broadcast_shape
from .program import Program


def reassociate(program: Program) -> Program:
    """a + (b + c) with the terms that do not depend on the carry first: they are added before the loop.

    Of x W + h U + b so only "+ h U" stays in the loop. Rounding changes as it does whenever a sum is reordered.
    """
    listing, in_loop = program.listing, program.depending_on(program.carry)
    uses = Counter(i for value in program.values() for i in value.inputs) + Counter(program.outputs)
    given = {*program.carry, *program.reads}

    sums: dict[Value, list[Value]] = {}  # the terms of every sum that is not itself a term
    opened: set[Value] = set()
    for top in reversed(program.values()):
        if top.op == "add" and top in in_loop and top not in opened and _is_uniform(top):
            sums[top], stack = [], [*reversed(top.inputs)]
            while stack:
                value = stack.pop()
                if value.op == "add" and value not in given and uses[value] == 1 and _is_uniform(value):
                    opened.add(value)
                    stack += reversed(value.inputs)
                else:
                    sums[top].append(value)

    def ordered(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value not in sums:
            return None
        total, *others = (done[term] for term in sorted(sums[value], key=lambda term: term in in_loop))
        for part in others:
            total = listing.add("add", (total, part), broadcast_shape((total, part)), value.dtype)
        return total

    return program.rebuilt(ordered)


def interpolate(program: Program) -> Program:
    """(1 − z) ⊙ a + z ⊙ b as a + z ⊙ (b − a): one operation fewer in the loop, and 1 − z is not needed in it."""
    listing, in_loop = program.listing, program.depending_on(program.carry)

    def stepped(value: Value, done: Mapping[Value, Value]) -> Value | None:
        found = _interpolation(value) if value in in_loop else None
        if found is None:
            return None
        z, a, b = (done[part] for part in found)
        step = listing.add("subtract", (b, a), value.shape, value.dtype)
        part = listing.add("multiply", (z, step), value.shape, value.dtype)
        return listing.add("add", (a, part), value.shape, value.dtype)

    return program.rebuilt(stepped)


def narrow_sums(program: Program) -> Program:
    """Sums of half precision without a copy in float32, where the target adds up in float32 in any case."""

    def narrow(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value.op != "astype" or not is_half(value.dtype) or value.inputs[0].op != "sum":
            return None
        (total,) = value.inputs
        (wide,) = total.inputs
        if wide.op != "astype" or wide.inputs[0].dtype != value.dtype:
            return None
        terms = done[wide.inputs[0]]
        return program.listing.add("sum", (terms,), value.shape, value.dtype, **dict(total.attributes))

    return program.rebuilt(narrow)


#: What gives zeros if any operand is zero.
_GIVES_ZERO = frozenset("multiply matmul negative sum reshape rearrange transpose getitem broadcast_to astype".split())


def without(program: Program, absent: Collection[Value]) -> Program:
    """The program with zeros for some of its reads: cotangents of outputs that nobody used. They are never added.

    A part of the carry may be absent too, if it begins with zeros; it is if nothing is ever added to it.
    """
    listing = program.listing
    reads = tuple(v for v in program.reads if v not in absent)
    begins_with_zeros = {v for v in program.carry if v in absent}

    def rule(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value in absent:
            return listing.zeros(value)
        operands = [done[i] for i in value.inputs]
        gone = [i.op == "zeros" for i in operands]
        if any(gone) and (value.op in _GIVES_ZERO or (value.op in ("add", "subtract", "place") and all(gone))):
            return listing.zeros(value)
        if any(gone) and value.op in ("add", "subtract"):
            (other,) = (i for i, is_zero in zip(operands, gone) if not is_zero)
            if other.is_like(value):
                is_negative = value.op == "subtract" and gone[0]
                return listing.add("negative", (other,), value.shape, value.dtype) if is_negative else other
        return None

    while True:
        found = replace(program, reads=reads).rebuilt(rule, zeros=begins_with_zeros)
        changing = {v for v, new in zip(found.carry, found.new) if v in begins_with_zeros and new.op != "zeros"}
        if not changing:
            return found
        begins_with_zeros -= changing


def _interpolation(value: Value) -> tuple[Value, Value, Value] | None:
    """z, a and b if the value is (1 − z) ⊙ a + z ⊙ b, in any order."""
    if value.op != "add" or any(i.op != "multiply" for i in value.inputs):
        return None
    for kept, new in (value.inputs, value.inputs[::-1]):
        for rest, a in (kept.inputs, kept.inputs[::-1]):
            if rest.op != "subtract" or rest.inputs[0].op != "scalar" or rest.inputs[0]["value"] != 1:
                continue
            for z, b in (new.inputs, new.inputs[::-1]):
                if z is rest.inputs[1] and all(part.is_like(value) for part in (z, a, b)):
                    return z, a, b
    return None


def overwrite(program: Program) -> Program:
    """where(c, a, b) as where(not c, b, a), if a is there for nothing else: the plan then writes b over it."""
    listing, in_loop = program.listing, program.depending_on(program.carry)
    uses = Counter(i for value in program.values() for i in value.inputs) + Counter(program.outputs)

    def swapped(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if value.op != "where" or value.inputs[0] in in_loop:
            return None
        condition, a, b = value.inputs
        if a not in in_loop or uses[a] != 1 or not a.is_like(value):
            return None
        otherwise = listing.add("logical_not", (done[condition],), condition.shape, condition.dtype)
        return listing.add("where", (otherwise, done[b], done[a]), value.shape, value.dtype)

    return program.rebuilt(swapped)


def collect(program: Program) -> Program:
    """g ⊙ p ⊙ q as g ⊙ (p ⊙ q), and g ⊙ p + g ⊙ q as g ⊙ (p + q), for all p and q that do not depend on the carry.

    Every value is held as a coefficient times the value that carries the cotangent, and multiplied out where an
    operation other than these needs it.
    """
    listing, in_loop = program.listing, program.depending_on(program.carry)
    given = set(program.carry) | set(program.reads)
    forms: dict[Value, tuple[Value, Value | None]] = {}  # carrier and coefficient, None for 1

    def whole(value: Value) -> Value:
        carrier, coefficient = forms[value]
        if coefficient is None:
            return carrier
        return listing.add("multiply", (carrier, coefficient), value.shape, value.dtype)

    def scaled(form: tuple, op: str, factor: Value, like: Value) -> tuple[Value, Value | None]:
        carrier, coefficient = form
        if coefficient is None and op == "multiply":
            return carrier, factor
        one = listing.scalar(1.0) if coefficient is None else coefficient
        return carrier, listing.add(op, (one, factor), broadcast_shape((one, factor)), like.dtype)

    for value in program.values():
        if value in given or value not in in_loop:
            forms[value] = (value, None)
            continue
        moving = [i for i in value.inputs if i in in_loop]
        still = [i for i in value.inputs if i not in in_loop]
        scales = len(moving) == 1 and len(still) == 1 and moving[0].is_like(value) and _scales(still[0], value)
        if scales and (value.op == "multiply" or (value.op == "divide" and moving[0] is value.inputs[0])):
            forms[value] = scaled(forms[moving[0]], value.op, still[0], value)
        elif value.op == "negative" and forms[moving[0]][1] is not None:
            carrier, coefficient = forms[moving[0]]
            assert coefficient is not None
            forms[value] = carrier, listing.add("negative", (coefficient,), coefficient.shape, value.dtype)
        elif value.op in ("add", "subtract") and len(moving) == 2 and _one_carrier(forms, value):
            (carrier, p), (_, q) = (forms[i] for i in value.inputs)
            one = listing.scalar(1.0)
            forms[value] = carrier, _plus(listing, value.op, p or one, q or one, value.dtype)
        else:
            inputs = tuple(whole(i) for i in value.inputs)
            forms[value] = (value.with_inputs(listing, inputs), None)
    return program.rewritten(whole)


def _one_carrier(forms: dict, value: Value) -> bool:
    (a, p), (b, q) = (forms[i] for i in value.inputs)
    return a is b and a.is_like(value) and (p is not None or q is not None)


def _scales(value: Value, result: Value) -> bool:
    """Whether the operand can be a coefficient of the result: it may be a number, or the same along an axis."""
    if value.op == "scalar":
        return True
    fits = len(value.shape) == len(result.shape) and all(n in (1, m) for n, m in zip(value.shape, result.shape))
    return fits and value.dtype == result.dtype


def _plus(listing: Listing, op: str, a: Value, b: Value, dtype: object) -> Value:
    """a ± b, with a negative b taken in."""
    shape = broadcast_shape((a, b))
    if b.op == "negative":
        return listing.add("subtract" if op == "add" else "add", (a, b.inputs[0]), shape, dtype)
    if a.op == "negative" and op == "add":
        return listing.add("subtract", (b, a.inputs[0]), shape, dtype)
    return listing.add(op, (a, b), shape, dtype)


def _is_uniform(value: Value) -> bool:
    """Whether a sum may be made in another order: in one dtype, and without an outer sum of a row and a column."""
    alike = all(i.op == "scalar" or i.dtype == value.dtype for i in value.inputs)
    return alike and any(i.shape == value.shape for i in value.inputs)
