"""Coefficients of cotangents: a backward pass is linear in them, so what multiplies a cotangent is collected.

The coefficient does not depend on the carry, so it is computed before the loop, for many steps at once. In the loop
each cotangent is multiplied once.
"""

from __future__ import annotations

from typing import NamedTuple

from ...backend import is_half
from ..ir import Graph, Program, Value, broadcast_shape
from .ranges import Ranges


def collect(program: Program) -> Program:
    """g ⊙ p ⊙ q as g ⊙ (p ⊙ q), and g ⊙ p + g ⊙ q as g ⊙ (p + q), for all p and q that do not depend on the carry.

        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 4) float32
        v2 = x(position=1)                           (2, 4) float32
        v3 = multiply(v0, v1)                        (2, 4) float32
        v4 = tanh(v2)                                (2, 4) float32
        v5 = multiply(v3, v4)                        (2, 4) float32
        carry v0 -> v5; xs v1, v2
          =>
        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 4) float32
        v2 = x(position=1)                           (2, 4) float32
        v4 = tanh(v2)                                (2, 4) float32
        v6 = multiply(v1, v4)                        (2, 4) float32
        v7 = multiply(v0, v6)                        (2, 4) float32
        carry v0 -> v7; xs v1, v2

    Of two factors that meet in a coefficient one must be bounded by the operation that computes it, as σ′ and tanh′
    are: the product of two factors of any size may overflow or underflow where g ⊙ p does not. In half precision it
    soon does, bounded or not, so there nothing is collected.
    """
    collector = _Collector(program)
    for value in program.values():
        collector.forms[value] = collector.form_of(value)
    return program.rewritten(collector.expanded)


class _Form(NamedTuple):
    """A value as carrier ⊙ coefficient; a coefficient of None is 1."""

    carrier: Value
    coefficient: Value | None = None


class _Collector:
    """The forms of the values of a program."""

    def __init__(self, program: Program):
        self.program, self.graph = program, program.graph
        self.in_loop = program.depending_on(program.carry)
        self.ranges = Ranges(program.graph)
        self.forms: dict[Value, _Form] = {}

    def form_of(self, value: Value) -> _Form:
        """The form of a value, given those of its operands."""
        if value in self.program.inputs or value not in self.in_loop:
            return _Form(value)
        form = None
        if not is_half(value.dtype):
            if value.op == "multiply":
                form = self.form_of_product(value)
            elif value.op == "negative":
                form = self.form_of_negative(value)
            elif value.op in ("add", "subtract"):
                form = self.form_of_sum(value)
        return form or _Form(value.with_inputs(self.graph, tuple(map(self.expanded, value.inputs))))

    def form_of_product(self, value: Value) -> _Form | None:
        """(g ⊙ p) ⊙ q: q joins the coefficient, or the coefficient is multiplied out."""
        moving = [i for i in value.inputs if i in self.in_loop]
        factors = [i for i in value.inputs if i not in self.in_loop]
        if len(moving) != 1 or len(factors) != 1 or not moving[0].is_like(value) or not _scales(factors[0], value):
            return None
        (carrier, coefficient), (factor,) = self.forms[moving[0]], factors
        if coefficient is None:
            return _Form(carrier, factor)
        if self.may_meet(coefficient, factor):
            return _Form(carrier, self.times(coefficient, factor, value))
        return _Form(self.times(carrier, coefficient, value), factor)

    def form_of_negative(self, value: Value) -> _Form | None:
        """−(g ⊙ p): the sign joins the coefficient."""
        carrier, coefficient = self.forms[value.inputs[0]]
        if coefficient is None:
            return None
        return _Form(carrier, self.graph.add("negative", (coefficient,), coefficient.shape, value.dtype))

    def form_of_sum(self, value: Value) -> _Form | None:
        """g ⊙ p ± g ⊙ q: the coefficients are added."""
        if not all(i in self.in_loop for i in value.inputs):
            return None
        (carrier, p), (other, q) = (self.forms[i] for i in value.inputs)
        if carrier is not other or not carrier.is_like(value) or p is q is None:
            return None
        one = self.graph.scalar(1.0)
        p, q = p or one, q or one
        return _Form(carrier, _sum(self.graph, value.op, p, q, value.dtype)) if self.may_meet(p, q) else None

    def expanded(self, value: Value) -> Value:
        """A value multiplied out."""
        carrier, coefficient = self.forms[value]
        return carrier if coefficient is None else self.times(carrier, coefficient, value)

    def times(self, a: Value, b: Value, like: Value) -> Value:
        return self.graph.add("multiply", (a, b), broadcast_shape((a, b)), like.dtype)

    def may_meet(self, *factors: Value) -> bool:
        return sum(not self.ranges.are_moderate(factor) for factor in factors) <= 1


def _scales(factor: Value, result: Value) -> bool:
    """Whether a factor can be a coefficient of the result: a scalar, or an array that broadcasts to it axis by axis."""
    if factor.op == "scalar":
        return True
    fits = len(factor.shape) == len(result.shape) and all(n in (1, m) for n, m in zip(factor.shape, result.shape))
    return fits and factor.dtype == result.dtype


def _sum(graph: Graph, op: str, a: Value, b: Value, dtype: object) -> Value:
    """a ± b; of a negative operand the sign joins the operation."""
    shape = broadcast_shape((a, b))
    if b.op == "negative":
        return graph.add("subtract" if op == "add" else "add", (a, b.inputs[0]), shape, dtype)
    if a.op == "negative" and op == "add":
        return graph.add("subtract", (b, a.inputs[0]), shape, dtype)
    return graph.add(op, (a, b), shape, dtype)
