"""Absent cotangents: a backward program for outputs of which some were not used.

What nobody asked for has no cotangent, and the rules that it would have gone through are not called. Zeros in its place
would not do, for 0 · ∞ is NaN. Which parts of the carry have none may change from step to step: of an LSTM whose
outputs alone are used, the cell has a cotangent from the step before the last on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..ir import Program, Value
from .ranges import Ranges

Zeros = frozenset[Value]

#: What is linear in every operand, so that it gives nothing where one is absent, and in what it adds or joins together.
_LINEAR = frozenset("multiply matmul negative sum reshape rearrange transpose getitem broadcast_to astype".split())
_JOINS = frozenset("add subtract concat scatter where".split())


class Nonlinear(Exception):
    """A rule does to its cotangent what is not linear, so that the program does not tell what it does without one."""


def propagate_zeros(program: Program, absent: Zeros) -> Program:
    """The program of one step for which some cotangents, of the carry and among the reads, are absent.

    What is absent in its turn is `zeros`. Raises Nonlinear.
    """
    graph = program.graph
    present = [v for v in (*program.carry, *program.xs) if v.op == "cotangent" and v not in absent]
    cotangents = program.depending_on(present)

    def rule(value: Value, done: Mapping[Value, Value]) -> Value | None:
        operands = [done[i] for i in value.inputs]
        gone = [i.op == "zeros" for i in operands]
        if not any(gone):
            return None
        chosen = slice(1, None) if value.op == "where" else slice(None)  # not of the condition, which has no cotangent
        others = [i for i, is_gone in zip(value.inputs[chosen], gone[chosen]) if not is_gone]
        if value.op == "where":  # g where the condition holds, else 0
            others = [i for i in others if i.op != "scalar" or i["value"] != 0]
        if value.op in _LINEAR or (value.op == "divide" and gone[0]) or (value.op in _JOINS and not others):
            return graph.zeros(value)
        if value.op not in _JOINS or not all(i in cotangents for i in others):
            raise Nonlinear
        if value.op in ("add", "subtract"):
            other = done[others[0]]
            if other.is_like(value):
                is_negative = value.op == "subtract" and gone[0]
                return graph.add("negative", (other,), value.shape, value.dtype) if is_negative else other
        return None

    reads = tuple(v for v in program.xs if v not in absent)
    return replace(program, xs=reads).rebuilt(rule, zeros=absent)


class ZerosOverTime:
    """What becomes of absent cotangents step by step, from the last on.

    patterns  which cotangents are absent at every step, up to the pattern that stays
    runs      for how many steps which program will do; the last is for all that are left
    """

    def __init__(self, program: Program, absent: Zeros):
        self.programs: dict[Zeros, Program] = {}
        self.patterns: list[Zeros] = [absent]
        self._outputs: dict[int, tuple[list[bool], list[bool], list[bool]]] = {}
        of_ys = absent - set(program.carry)
        while True:
            now = self.patterns[-1]
            found = self.programs[now] = propagate_zeros(program, now) if now else program
            then = of_ys | {part for part, new in zip(program.carry, found.new_carry) if new.op == "zeros"}
            if then == now:
                break
            if then in self.programs:
                raise Nonlinear  # they go round; op by op it is then
            self.patterns.append(then)
        self.runs: list[tuple[Zeros, int]] = []
        count = 1
        for now, then in zip(self.patterns, self.patterns[1:]):
            if then < now and _only_adds(self.programs[then], now - then):
                count += 1
            else:
                self.runs.append((now, count))
                count = 1
        self.runs.append((self.patterns[-1], count))

    def steps(self, length: int) -> list[tuple[Zeros, int]]:
        """The runs for that many steps."""
        result = []
        for i, (pattern, count) in enumerate(self.runs):
            count = length if i == len(self.runs) - 1 else min(count, length)
            if count:
                result.append((pattern, count))
            length -= count
        return result

    def outputs(self, length: int) -> tuple[list[bool], list[bool], list[bool]]:
        """Of the carry, of `each` and of the sums, after that many steps: which have a cotangent."""
        length = min(length, len(self.patterns))
        if length in self._outputs:
            return self._outputs[length]
        met = [self.programs[pattern] for pattern in self.patterns[:length]]
        last = self.programs[self.patterns[length - 1]]
        each = [any(v.op != "zeros" for v in values) for values in zip(*(program.ys for program in met))]
        sums = [any(v.op != "zeros" for v in values) for values in zip(*(program.sums for program in met))]
        self._outputs[length] = [v.op != "zeros" for v in last.new_carry], each, sums
        return self._outputs[length]


def _only_adds(program: Program, zeros: Zeros) -> bool:
    """Whether zeros in these parts of the carry do what their absence does: they are but added to what is there."""
    ranges, gone = Ranges(program.graph), set(zeros)
    for value in program.values():
        zero = [i in gone for i in value.inputs]
        if not any(zero) or value in program.carry:
            continue
        if value.op == "multiply" and not all(zero):
            (other,) = (i for i, is_zero in zip(value.inputs, zero) if not is_zero)
            if not ranges.are_moderate(other):
                return False
        elif value.op in ("matmul", "divide") or value.op not in _LINEAR | _JOINS:
            return False
        elif value.op in _JOINS and not all(zero):
            continue
        gone.add(value)
    return True
