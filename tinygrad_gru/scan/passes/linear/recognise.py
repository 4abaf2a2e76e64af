"""Recognition of linear recurrences: hₜ = aₜ ⊙ hₜ₋₁ + bₜ with a and b that do not depend on h.

A carry is linear and diagonal in itself if its next value is computed from it by additions, subtractions, and products,
quotients and selections with values that do not depend on it, all of the carry's own shape and floating dtype; then the
same operations on pairs (a, b) give its coefficients. With several parts a and b may depend in any way on parts that
come before, but not in a circle, except that two parts may be the real and the imaginary part of complex numbers that
are multiplied by others. The backward pass of such a step is of that kind again, for its derivative by the
carry is a.

The coefficients only say what a scan may compute: the step's operations remain in the program, and the scan's result
must be what they give (`targets/blocked_scan.py` says when it is taken).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...ir import LinearPart, Program, Value, broadcast_shape
from ..ranges import Ranges
from ..schedule import ELEMENTWISE, VIEWS, batchable, schedule

#: Up to this many elements of a part a scan needs less time than a loop of array calls, whose overhead it saves.
MOST_ELEMENTS = 64


class NotLinear(Exception):
    """Why a recurrence is not linear and diagonal. `is_close`: all else that it does to its carry is elementwise."""

    def __init__(self, reason: str, is_close: bool = False):
        super().__init__(reason)
        self.is_close = is_close


def mark_linear(program: Program) -> Program:
    """Notes the coefficients of carries that are linear and diagonal in themselves: a scan may replace the loop.

        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 4) float32
        v2 = x(position=1)                           (2, 4) float32
        v3 = subtract(v1, v0)                        (2, 4) float32
        v4 = multiply(v2, v3)                        (2, 4) float32
        v5 = add(v0, v4)                             (2, 4) float32
        carry v0 -> v5; xs v1, v2
          =>
        v0 = carry(position=0)                       (2, 4) float32
        v1 = x(position=0)                           (2, 4) float32
        v2 = x(position=1)                           (2, 4) float32
        v3 = subtract(v1, v0)                        (2, 4) float32
        v4 = multiply(v2, v3)                        (2, 4) float32
        v5 = add(v0, v4)                             (2, 4) float32
        v9 = negative(v2)                            (2, 4) float32
        v10 = multiply(v2, v1)                       (2, 4) float32
        v11 = add(1.0, v9)                           (2, 4) float32
        carry v0 -> v5; xs v1, v2; linear v0 -> v11 * v0 + v10

    Only where a part has few elements. With many, a call of the loop has work enough.
    """
    if not all(0 < math.prod(value.shape) <= MOST_ELEMENTS for value in program.carry):
        return program
    try:
        return replace(program, linear=linear_parts(program))
    except NotLinear:
        return program


def why_not_linear(program: Program) -> str:
    """In words why the program is not marked as linear; empty if it is, or if it is far from being linear."""
    try:
        linear_parts(program)
    except NotLinear as reason:
        return str(reason) if reason.is_close else ""
    largest = max(math.prod(value.shape) for value in program.carry)
    if largest > MOST_ELEMENTS:
        return f"{largest} elements per step are enough for a loop (a scan is faster up to {MOST_ELEMENTS})"
    return ""


def linear_parts(program: Program) -> tuple[LinearPart, ...]:
    """The parts of the carry with their coefficients, in an order in which they can be computed. Raises NotLinear."""
    levels = schedule(program)
    looped = [value for value in program.values() if levels.get(value) == "loop"]
    if not looped:
        raise NotLinear("it has no loop")
    is_close = all(value.op in ELEMENTWISE | VIEWS for value in looped)
    if len(batched := batchable(looped)) < len(looped):
        value = next(value for value in looped if value not in batched)
        raise NotLinear(f"{value.op} is computed step by step")
    depends = [program.depending_on([value]) for value in program.carry]
    parts: list[LinearPart] = []
    remaining = set(range(len(program.carry)))
    while remaining:
        circles = [_circle(i, remaining, program, depends) for i in sorted(remaining)]
        found = min(circles, key=len)
        try:
            parts.append(_part(program, found, depends))
        except _Nonlinear as reason:
            value, *why = reason.args
            text = f"{value.name} = {_call(value)} {why[0] if why else 'is not linear in its state'}"
            raise NotLinear(text, is_close) from None
        if len(found) > 1 and len(parts[-1].a) != 2:
            raise NotLinear("parts of its state depend on each other, and are not complex numbers", is_close)
        remaining -= set(found)
    if all(map(is_zero, (value for part in parts for value in part.a))):
        raise NotLinear("its state is an earlier input")
    return tuple(parts)


def _circle(first: int, remaining: Collection[int], program: Program, depends: Sequence[set[Value]]) -> list[int]:
    """A part of the carry and those of the remaining ones on which it depends, directly or not."""
    found = [first]
    for i in found:
        found += [j for j in remaining if j not in found and program.new_carry[i] in depends[j]]
    return sorted(found)


def _part(program: Program, positions: Sequence[int], depends: Sequence[set[Value]]) -> LinearPart:
    """The coefficients of parts that depend on each other: real, or complex, or more than these. Raises _Nonlinear."""
    carry = [program.carry[i] for i in positions]
    moving = set().union(*(depends[i] for i in positions))
    coefficients = _Coefficients(program, carry, moving)
    rows = [coefficients.of(program.new_carry[i]) for i in positions]
    b = tuple(row[-1] for row in rows)
    if len(rows) == 2:
        (re, minus_im, _), (im, again, _) = rows
        if re is again and coefficients.are_opposite(im, minus_im):
            return LinearPart(tuple(positions), (re, im), b)
    return LinearPart(tuple(positions), rows[0][:1], b)


def is_zero(value: Value) -> bool:
    return value.op == "scalar" and value["value"] == 0


def _call(value: Value) -> str:
    return f"{value.op}({', '.join(operand.name for operand in value.inputs)})"


class _Nonlinear(Exception):
    """The value that is not linear in the carry, or not of its shape and dtype; and why, if it is something else."""


class _Coefficients:
    """The tuples (a, …, b) of values that are a ⊙ carry + … + b.

    carry   parts of one shape
    moving  the values that depend on them
    """

    def __init__(self, program: Program, carry: Sequence[Value], moving: set[Value]):
        self.graph, self.given, self.carry, self.moving = program.graph, program.inputs, carry, moving
        self.like = carry[0]
        self.zero, self.one, self.ranges = self.graph.scalar(0.0), self.graph.scalar(1.0), Ranges(self.graph)
        self.none = (self.zero,) * len(carry)
        self.known = {
            value: (*(self.one if other is value else self.zero for other in carry), self.zero) for value in carry
        }
        self.rules: Mapping[str, Callable[[Value], tuple[Value, ...]]] = {
            "add": self.sum, "subtract": self.sum, "negative": self.negative, "multiply": self.product,
            "divide": self.quotient, "where": self.selection,
        }  # fmt: skip

    def of(self, value: Value) -> tuple[Value, ...]:
        """The coefficients of a value. Raises _Nonlinear."""
        for one in self._operations(value):
            fits = one.is_like(self.like) and np.dtype(one.dtype) in (np.float32, np.float64)
            if not fits or (one not in self.carry and not self._has_rule(one)):
                raise _Nonlinear(one)
            if one not in self.known:
                self.known[one] = self.rules[one.op](one)
        return self.terms(value)

    def terms(self, value: Value) -> tuple[Value, ...]:
        return self.known[value] if value in self.moving else (*self.none, value)

    def sum(self, value: Value) -> tuple[Value, ...]:
        return tuple([self.combined(value.op, x, y) for x, y in zip(*map(self.terms, value.inputs))])

    def negative(self, value: Value) -> tuple[Value, ...]:
        return tuple([x if x is self.zero else self._negative(x) for x in self.terms(value.inputs[0])])

    def product(self, value: Value) -> tuple[Value, ...]:
        left, right = value.inputs
        if left in self.moving and right in self.moving:
            raise _Nonlinear(value)
        factor, moving = (right, left) if left in self.moving else (left, right)
        terms = self.checked(value, factor, self.terms(moving))
        return tuple([self.times(factor, x) for x in terms])

    def quotient(self, value: Value) -> tuple[Value, ...]:
        numerator, divisor = value.inputs
        if divisor in self.moving:
            raise _Nonlinear(value)
        terms = self.checked(value, divisor, self.terms(numerator))
        return tuple([x if x is self.zero else self._add("divide", x, divisor) for x in terms])

    def selection(self, value: Value) -> tuple[Value, ...]:
        condition, one, other = value.inputs
        if condition in self.moving:
            raise _Nonlinear(value)
        return tuple([self._selected(condition, x, y) for x, y in zip(self.terms(one), self.terms(other))])

    def checked(self, value: Value, factor: Value, terms: tuple[Value, ...]) -> tuple[Value, ...]:
        """The terms, if one of two factors is bounded: a p q may not overflow where (a h p) q does not."""
        if not self.ranges.are_moderate(factor) and not all(map(self.ranges.are_moderate, terms[:-1])):
            raise _Nonlinear(value, "is a product of coefficients of any size, which may overflow")
        return terms

    def combined(self, op: str, x: Value, y: Value) -> Value:
        """x + y or x − y, in few operations."""
        if y is self.zero:
            return x
        if x is self.zero:
            return y if op == "add" else self._negative(y)
        if x.op == y.op == "scalar":
            return self.graph.scalar(float(x["value"] + y["value"] if op == "add" else x["value"] - y["value"]))
        if self._is_negative(x) and (op == "subtract" or self._is_negative(y)):  # −x − y = −(x + y)
            return self._negative(self.combined("add", x.inputs[0], y if op == "subtract" else y.inputs[0]))
        return self._add(op, x, y)

    def times(self, factor: Value, x: Value) -> Value:
        if x is self.zero or factor is self.one:
            return x
        if x.op == "scalar" and abs(x["value"]) == 1:
            return factor if x["value"] == 1 else self._negative(factor)
        if self._is_negative(x):
            return self._negative(self._add("multiply", factor, x.inputs[0]))
        return self._add("multiply", factor, x)

    def are_opposite(self, x: Value, y: Value) -> bool:
        return x is self._negative(y) or y is self._negative(x)

    def _negative(self, x: Value) -> Value:
        """−x. Signs are outermost, so that opposite values are found to be that."""
        if self._is_negative(x):
            return x.inputs[0]
        return self.graph.scalar(-x["value"]) if x.op == "scalar" else self._add("negative", x)

    def _is_negative(self, x: Value) -> bool:
        return x.op == "negative" and x not in self.given

    def _selected(self, condition: Value, x: Value, y: Value) -> Value:
        if x is y:
            return x
        if all(i is self.zero or self._is_negative(i) for i in (x, y)):
            x, y = (i if i is self.zero else i.inputs[0] for i in (x, y))
            return self._negative(self._selected(condition, x, y))
        shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
        return self.graph.add("where", (condition, x, y), shape, self.like.dtype)

    def _add(self, op: str, *operands: Value) -> Value:
        return self.graph.add(op, operands, broadcast_shape(operands), self.like.dtype)

    def _has_rule(self, value: Value) -> bool:
        """Whether there is a rule for the operation, and its operands need no cast."""
        operands = value.inputs[1:] if value.op == "where" else value.inputs
        return value.op in self.rules and all(i.op == "scalar" or i.dtype == self.like.dtype for i in operands)

    def _operations(self, value: Value) -> Sequence[Value]:
        """The values that depend on the carry and that this one needs, in topological order."""
        found: set[Value] = set()
        stack = [value] if value in self.moving else []
        while stack:
            one = stack.pop()
            if one not in found:
                found.add(one)
                stack += [i for i in one.inputs if i in self.moving and one not in self.carry]
        return sorted(found, key=lambda one: one.number)
