"""Symbolic zeros: backward programs for outputs that no loss uses.

The cotangent of such an output is a symbolic zero: operations on it are left out of the program. An array of
zeros would not do, for 0 · ∞ is NaN. Which parts of the carry are symbolic zeros may change from step to step: of an
LSTM whose outputs alone are used, the cell has a cotangent from the step before the last on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter

from ..ir import Program, Value
from .ranges import Ranges

_op = attrgetter("op")

#: The inputs of a backward program, carry and xs, that are symbolic zeros.
Zeros = frozenset[Value]

#: Operations that are linear in each operand, so that a zero operand gives zero; those of which other terms remain.
_LINEAR = frozenset("multiply matmul negative sum reshape rearrange transpose getitem broadcast_to astype".split())
_ADDITIVE = frozenset("add subtract concat scatter where".split())
#: Those that are linear in the first operand, and have positions as the second, which have no cotangent.
_INDEXING = frozenset({"gather", "scatter_add"})


class Nonlinear(Exception):
    """A rule is not linear in its cotangent, so that its result for a symbolic zero is unknown."""


def propagate_zeros(program: Program, zeros: Zeros) -> Program:
    """The backward program of one step with symbolic zeros for some inputs; raises Nonlinear.

    Here the cotangent v1 is zero:

        v0 = cotangent(position=0)                   (2, 4) float32
        v1 = cotangent(position=1)                   (2, 4) float32
        v2 = x(position=0)                           (2, 4) float32
        v3 = multiply(v0, v2)                        (2, 4) float32
        v4 = multiply(v1, v2)                        (2, 4) float32
        v5 = add(v3, v4)                             (2, 4) float32
        carry v0 -> v5; xs v1, v2; ys v4
          =>
        v0 = cotangent(position=0)                   (2, 4) float32
        v2 = x(position=0)                           (2, 4) float32
        v3 = multiply(v0, v2)                        (2, 4) float32
        v6 = zeros()                                 (2, 4) float32
        carry v0 -> v3; xs v2; ys v6

    An output that is itself zero is a value `zeros`.
    """
    cotangents = program.depending_on([v for v in program.inputs if v.op == "cotangent" and v not in zeros])

    def propagated(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if "zeros" not in map(_op, map(done.__getitem__, value.inputs)):
            return None
        is_zero = {operand: done[operand].op == "zeros" for operand in value.inputs}
        return _without_zeros(program, value, done, is_zero, cotangents)

    xs = tuple(v for v in program.xs if v not in zeros)
    return replace(program, xs=xs).rebuilt(propagated, zeros=zeros)


def _without_zeros(
    program: Program, value: Value, done: Mapping[Value, Value], is_zero: Mapping[Value, bool], cotangents: set[Value]
) -> Value | None:
    """A value of which some operands are symbolic zeros; None if its operation is kept, on zeros."""
    graph = program.graph
    operands = value.inputs[1:] if value.op == "where" else value.inputs  # a condition has no cotangent
    terms = [operand for operand in operands if not is_zero[operand]]
    if value.op == "where":  # where(condition, g, 0) is linear in g
        terms = [term for term in terms if term.op != "scalar" or term["value"] != 0]
    is_first = value.op in {"divide"} | _INDEXING and is_zero[value.inputs[0]]
    if value.op in _LINEAR or is_first or (value.op in _ADDITIVE and not terms):
        return graph.zeros(value)
    if value.op not in _ADDITIVE or not all(term in cotangents for term in terms):
        raise Nonlinear
    if value.op in ("add", "subtract"):
        term = done[terms[0]]
        if term.is_like(value):
            is_negative = value.op == "subtract" and is_zero[value.inputs[0]]
            return graph.add("negative", (term,), value.shape, value.dtype) if is_negative else term
    return None


class ZerosOverTime:
    """The symbolic zeros at each step of a backward pass, from the last step on, up to a fixed point.

    patterns  the inputs that are zero at each step; the last pattern is that of all further steps
    segments  how many steps in a row run which program; the last segment has all further steps
    """

    def __init__(self, program: Program, zeros: Zeros):
        self.programs: dict[Zeros, Program] = {}
        self.patterns: list[Zeros] = [zeros]
        self._has_cotangent: dict[int, tuple[list[bool], list[bool], list[bool]]] = {}
        zeros_of_xs = zeros - set(program.carry)
        while True:
            pattern = self.patterns[-1]
            step = self.programs[pattern] = propagate_zeros(program, pattern) if pattern else program
            next_pattern = zeros_of_xs | {v for v, new in zip(program.carry, step.new_carry) if new.op == "zeros"}
            if next_pattern == pattern:
                break
            if next_pattern in self.programs:
                raise Nonlinear  # a cycle of patterns: no fixed point
            self.patterns.append(next_pattern)
        self.segments: list[tuple[Zeros, int]] = []
        count = 1
        for pattern, next_pattern in zip(self.patterns, self.patterns[1:]):
            if next_pattern < pattern and _are_only_added(self.programs[next_pattern], pattern - next_pattern):
                count += 1  # the next program will do for this step too, on arrays of zeros
            else:
                self.segments.append((pattern, count))
                count = 1
        self.segments.append((self.patterns[-1], count))

    def steps(self, length: int) -> list[tuple[Zeros, int]]:
        """The segments of a pass over `length` steps."""
        result = []
        for i, (pattern, count) in enumerate(self.segments):
            count = length if i == len(self.segments) - 1 else min(count, length)
            if count:
                result.append((pattern, count))
            length -= count
        return result

    def outputs(self, length: int) -> tuple[list[bool], list[bool], list[bool]]:
        """Which parts of the carry, which ys and which sums have a cotangent after `length` steps."""
        length = min(length, len(self.patterns))
        if length not in self._has_cotangent:
            programs = [self.programs[pattern] for pattern in self.patterns[:length]]
            ys = [any(v.op != "zeros" for v in values) for values in zip(*(program.ys for program in programs))]
            sums = [any(v.op != "zeros" for v in values) for values in zip(*(program.sums for program in programs))]
            self._has_cotangent[length] = [v.op != "zeros" for v in programs[-1].new_carry], ys, sums
        return self._has_cotangent[length]


def _are_only_added(program: Program, inputs: Zeros) -> bool:
    """Whether arrays of zeros for these inputs do what symbolic zeros do: no factor that may be infinite meets them."""
    ranges, zeros = Ranges(program.graph), set(inputs)
    for value in program.values():
        if value in program.carry or zeros.isdisjoint(value.inputs):
            continue
        zero = [operand in zeros for operand in value.inputs]
        if value.op == "multiply" and not all(zero):
            (factor,) = (operand for operand, is_zero in zip(value.inputs, zero) if not is_zero)
            if not ranges.are_moderate(factor):
                return False
        elif value.op in _INDEXING and zero == [True, False]:
            pass
        elif value.op in ("matmul", "divide") or value.op not in _LINEAR | _ADDITIVE:
            return False
        elif value.op in _ADDITIVE and not all(zero):
            continue
        zeros.add(value)
    return True
