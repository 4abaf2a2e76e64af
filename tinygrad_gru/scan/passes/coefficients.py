"""Coefficients."""

from __future__ import annotations

from collections.abc import Callable

from ...backend import is_half
from ..ir import Graph, Program, Value, broadcast_shape
from .ranges import Ranges


def collect(program: Program) -> Program:
    """g ⊙ p ⊙ q as g ⊙ (p ⊙ q), and g ⊙ p + g ⊙ q as g ⊙ (p + q), for all p and q that do not depend on the carry.

    Every value is held as a coefficient times the value that carries the cotangent, and multiplied out where an
    operation other than these needs it. Of two factors that meet in a coefficient one is bounded by what makes it, as
    σ′ and tanh′ are: the product of two numbers of any size may be too large or too small where g ⊙ p is not. In half
    precision it soon is, bounded or not, so there nothing is gathered.
    """
    graph, in_loop = program.graph, program.depending_on(program.carry)
    given = set(program.carry) | set(program.xs)
    ranges = Ranges(graph)
    forms: dict[Value, tuple[Value, Value | None]] = {}  # carrier and coefficient, None for 1

    def times(a: Value, b: Value, like: Value) -> Value:
        return graph.add("multiply", (a, b), broadcast_shape((a, b)), like.dtype)

    def whole(value: Value) -> Value:
        carrier, coefficient = forms[value]
        return carrier if coefficient is None else times(carrier, coefficient, value)

    def may_meet(*factors: Value) -> bool:
        return sum(not ranges.are_moderate(factor) for factor in factors) <= 1

    for value in program.values():
        if value in given or value not in in_loop or is_half(value.dtype):
            forms[value] = (value, None) if value in given or value not in in_loop else (_of(value, whole, graph), None)
            continue
        moving = [i for i in value.inputs if i in in_loop]
        still = [i for i in value.inputs if i not in in_loop]
        scales = len(moving) == 1 and len(still) == 1 and moving[0].is_like(value) and _scales(still[0], value)
        if value.op == "multiply" and scales:
            carrier, coefficient = forms[moving[0]]
            if coefficient is None:
                forms[value] = carrier, still[0]
            elif may_meet(coefficient, still[0]):
                forms[value] = carrier, times(coefficient, still[0], value)
            else:
                forms[value] = times(carrier, coefficient, value), still[0]
        elif value.op == "negative" and forms[moving[0]][1] is not None:
            carrier, coefficient = forms[moving[0]]
            assert coefficient is not None
            forms[value] = carrier, graph.add("negative", (coefficient,), coefficient.shape, value.dtype)
        elif value.op in ("add", "subtract") and len(moving) == 2 and _one_carrier(forms, value):
            one = graph.scalar(1.0)
            (carrier, p), (_, q) = (forms[i] for i in value.inputs)
            p, q = p or one, q or one
            if may_meet(p, q):
                forms[value] = carrier, _plus(graph, value.op, p, q, value.dtype)
            else:
                forms[value] = _of(value, whole, graph), None
        else:
            forms[value] = _of(value, whole, graph), None
    return program.rewritten(whole)


def _of(value: Value, whole: Callable[[Value], Value], graph: Graph) -> Value:
    """The same operation on its operands as they are when multiplied out."""
    return value.with_inputs(graph, tuple(map(whole, value.inputs)))


def _one_carrier(forms: dict, value: Value) -> bool:
    (a, p), (b, q) = (forms[i] for i in value.inputs)
    return a is b and a.is_like(value) and (p is not None or q is not None)


def _scales(value: Value, result: Value) -> bool:
    """Whether the operand can be a coefficient of the result: it may be a number, or the same along an axis."""
    if value.op == "scalar":
        return True
    fits = len(value.shape) == len(result.shape) and all(n in (1, m) for n, m in zip(value.shape, result.shape))
    return fits and value.dtype == result.dtype


def _plus(graph: Graph, op: str, a: Value, b: Value, dtype: object) -> Value:
    """a ± b, with a negative b taken in."""
    shape = broadcast_shape((a, b))
    if b.op == "negative":
        return graph.add("subtract" if op == "add" else "add", (a, b.inputs[0]), shape, dtype)
    if a.op == "negative" and op == "add":
        return graph.add("subtract", (b, a.inputs[0]), shape, dtype)
    return graph.add(op, (a, b), shape, dtype)
