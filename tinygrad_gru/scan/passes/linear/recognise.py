"""Recognition of linear recurrences: hₜ = aₜ ⊙ hₜ₋₁ + bₜ with a and b that do not depend on h.

A carry is linear and diagonal in itself if its next value is computed from it by additions, subtractions, and products,
quotients and selections with values that do not depend on it, all of the carry's own shape and floating dtype; then the
same operations on pairs (a, b) give its coefficients. With several parts a and b may depend in any way on parts that
come before, but not in a circle. The backward pass of such a step is of that kind again, for its derivative by the
carry is a.

The coefficients only say what a scan may compute: the step's operations remain in the program, and the scan's result
must be what they give (`targets/blocked_scan.py` says when it is taken).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...ir import Graph, LinearPart, Program, Value, broadcast_shape
from ..ranges import Ranges
from ..schedule import ELEMENTWISE, VIEWS, is_batchable, schedule

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
    for value in looped:
        if not is_batchable(value):
            raise NotLinear(f"{value.op} is computed step by step")
    depends = [program.depending_on([value]) for value in program.carry]
    parts: list[LinearPart] = []
    remaining = dict(enumerate(program.new_carry))
    while remaining:
        free = [i for i, new in remaining.items() if not any(new in depends[j] for j in remaining if j != i)]
        if not free:
            raise NotLinear("parts of its state depend on each other", is_close)
        for i in free:
            try:
                a, b = _Coefficients(program.graph, program.carry[i], depends[i]).of(remaining.pop(i))
            except _Nonlinear as found:
                value, *why = found.args
                text = f"{value.name} = {_call(value)} {why[0] if why else 'is not linear in its state'}"
                raise NotLinear(text, is_close) from None
            parts.append(LinearPart(i, a, b))
    if all(is_zero(part.a) for part in parts):
        raise NotLinear("its state is an earlier input")
    return tuple(parts)


def is_zero(value: Value) -> bool:
    return value.op == "scalar" and value["value"] == 0


def _call(value: Value) -> str:
    return f"{value.op}({', '.join(operand.name for operand in value.inputs)})"


class _Nonlinear(Exception):
    """The value that is not linear in the carry, or not of its shape and dtype; and why, if it is something else."""


class _Coefficients:
    """The pairs (a, b) of values that are a ⊙ carry + b.

    moving  the values that depend on the carry
    """

    def __init__(self, graph: Graph, carry: Value, moving: set[Value]):
        self.graph, self.carry, self.moving = graph, carry, moving
        self.zero, self.one, self.ranges = graph.scalar(0.0), graph.scalar(1.0), Ranges(graph)
        self.rules: Mapping[str, Callable[[Value], tuple[Value, Value]]] = {
            "add": self.sum, "subtract": self.sum, "negative": self.negative, "multiply": self.product,
            "divide": self.quotient, "where": self.selection,
        }  # fmt: skip

    def of(self, value: Value) -> tuple[Value, Value]:
        """The coefficients of a value. Raises _Nonlinear."""
        pairs = {self.carry: (self.one, self.zero)}
        self.pairs = pairs
        for step in self._operations(value):
            if step is self.carry:
                continue
            fits = step.is_like(self.carry) and np.dtype(step.dtype) in (np.float32, np.float64)
            if (
                step.op not in self.rules
                or not fits
                or not all(map(self._is_operand, step.inputs[step.op == "where" :]))
            ):
                raise _Nonlinear(step)
            pairs[step] = self.rules[step.op](step)
        return self.pair(value)

    def pair(self, value: Value) -> tuple[Value, Value]:
        return self.pairs[value] if value in self.moving else (self.zero, value)

    def sum(self, value: Value) -> tuple[Value, Value]:
        (a, b), (c, d) = map(self.pair, value.inputs)
        return self.combined(value.op, a, c), self.combined(value.op, b, d)

    def negative(self, value: Value) -> tuple[Value, Value]:
        a, b = self.pair(value.inputs[0])
        return self.combined("subtract", self.zero, a), self.combined("subtract", self.zero, b)

    def product(self, value: Value) -> tuple[Value, Value]:
        left, right = value.inputs
        if left in self.moving and right in self.moving:
            raise _Nonlinear(value)
        factor, (a, b) = (right, self.pair(left)) if left in self.moving else (left, self.pair(right))
        self.check_product(value, factor, a)
        return self.times(factor, a), self.times(factor, b)

    def quotient(self, value: Value) -> tuple[Value, Value]:
        numerator, divisor = value.inputs
        if divisor in self.moving:
            raise _Nonlinear(value)
        a, b = self.pair(numerator)
        self.check_product(value, divisor, a)
        return self._add("divide", a, divisor), b if b is self.zero else self._add("divide", b, divisor)

    def selection(self, value: Value) -> tuple[Value, Value]:
        condition, one, other = value.inputs
        if condition in self.moving:
            raise _Nonlinear(value)
        (a, b), (c, d) = self.pair(one), self.pair(other)
        return self._selected(condition, a, c), self._selected(condition, b, d)

    def check_product(self, value: Value, factor: Value, a: Value) -> None:
        """Raise _Nonlinear unless one of two factors is bounded: a p q may not overflow where (a h p) q does not."""
        if not any(map(self.ranges.are_moderate, (factor, a))):
            raise _Nonlinear(value, "is a product of coefficients of any size, which may overflow")

    def combined(self, op: str, x: Value, y: Value) -> Value:
        """x + y or x − y, in few operations."""
        if y is self.zero:
            return x
        if x is self.zero:
            return (
                y if op == "add" else self.graph.scalar(-y["value"]) if y.op == "scalar" else self._add("negative", y)
            )
        if x.op == y.op == "scalar":
            return self.graph.scalar(float(x["value"] + y["value"] if op == "add" else x["value"] - y["value"]))
        return self._add(op, x, y)

    def times(self, factor: Value, x: Value) -> Value:
        if x is self.zero or factor is self.one:
            return x
        if x.op == "scalar" and abs(x["value"]) == 1:
            return factor if x["value"] == 1 else self._add("negative", factor)
        return self._add("multiply", factor, x)

    def _selected(self, condition: Value, x: Value, y: Value) -> Value:
        if x is y:
            return x
        shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
        return self.graph.add("where", (condition, x, y), shape, self.carry.dtype)

    def _add(self, op: str, *operands: Value) -> Value:
        return self.graph.add(op, operands, broadcast_shape(operands), self.carry.dtype)

    def _is_operand(self, operand: Value) -> bool:
        """Whether an operand needs no cast: coefficients are computed in the carry's dtype."""
        return operand.op == "scalar" or operand.dtype == self.carry.dtype

    def _operations(self, value: Value) -> Sequence[Value]:
        """The values that depend on the carry and that this one needs, in topological order."""
        found: set[Value] = set()
        stack = [value] if value in self.moving else []
        while stack:
            one = stack.pop()
            if one not in found:
                found.add(one)
                stack += [i for i in one.inputs if i in self.moving and one is not self.carry]
        return sorted(found, key=lambda one: one.number)
