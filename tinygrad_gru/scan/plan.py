"""Plan: where every value lives.

    stack    one array for all steps: what leaves the program, and the carry itself
    chunk    one array for the steps of a chunk: what passes between the loop and what runs before and after it
    scratch  one array for one step (in the loop) or for one chunk (outside), used again as soon as nobody needs it
    view     another view of where its source lives

A chunk is as many steps as are computed at once outside of the loop: enough rows for a product to be fast, few enough
for them to stay in the cache.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from .listing import Value
from .program import Program
from .schedule import ELEMENTWISE, VIEWS, schedule

#: Rows (steps times the length of the first axis) that a chunk should have.
CHUNK_ROWS = 1024


@dataclass
class Plan:
    """A scheduled program and the homes of its values.

    levels   when each value is computed
    home     where each value lives: ("stack" | "chunk" | "step" | "batch", key); views have none
    carried  the carry parts whose next value is written into the stack by the operation that makes it
    """

    program: Program
    levels: dict[Value, str]
    home: dict[Value, tuple[str, int]] = field(default_factory=dict)
    carried: dict[Value, int] = field(default_factory=dict)

    def at(self, level: str) -> list[Value]:
        """The values of a level that an operation must compute, in order."""
        return [v for v in self.program.values() if self.levels.get(v) == level and v.op not in VIEWS]


def source_of(value: Value, given: frozenset[Value]) -> Value:
    """The value whose memory a view shows; the value itself if it is none."""
    while value.op in VIEWS and value not in given:
        value = value.inputs[0]
    return value


def chunk_length(program: Program, length: int) -> int:
    rows = max([v.shape[0] for v in (*program.carry, *program.reads) if v.shape] or [1])
    return max(1, min(length, math.ceil(CHUNK_ROWS / max(rows, 1))))


def plan(program: Program) -> Plan:
    levels = schedule(program)
    given = frozenset(program.carry) | frozenset(program.reads)
    result = Plan(program, levels)
    readers: dict[Value, set[str]] = defaultdict(set)  # the levels that read what lives at a source
    for value in program.values():
        if value in given or value not in levels or value.op in VIEWS:
            continue
        for i in value.inputs:
            readers[source_of(i, given)].add(levels[value])
    for value in program.sums:
        readers[source_of(value, given)].add("after")

    outputs = {v for v in program.each if v.op not in VIEWS}
    for value in program.each:
        if value.op in VIEWS:
            readers[source_of(value, given)].add("after")
    for position, value in enumerate(program.new):
        if levels.get(value) == "loop" and value.op not in VIEWS and value not in result.carried:
            result.carried[value] = position
        else:
            readers[source_of(value, given)].add("loop")  # it is copied there

    for value in program.values():
        level = levels.get(value)
        if value in given or level in (None, "fixed") or value.op in VIEWS:
            continue
        if value in result.carried:
            result.home[value] = ("carry", result.carried[value])
        elif value in outputs:
            result.home[value] = ("stack", value.number)
        elif readers[value] - {level}:
            result.home[value] = ("chunk", value.number)
    _share_scratch(result, given)
    return result


def _share_scratch(result: Plan, given: frozenset[Value]) -> None:
    """Give the values that live only while their level runs a few arrays in turn."""
    for level, kind in (("before", "batch"), ("loop", "step"), ("after", "batch")):
        order = result.at(level)
        last: dict[Value, int] = {}
        for place, value in enumerate(order):
            for i in value.inputs:
                last[source_of(i, given)] = place
        for value in (*result.program.sums, *result.program.each, *result.program.new):
            last[source_of(value, given)] = len(order)
        free: dict[tuple, list[tuple[str, int]]] = defaultdict(list)
        for place, value in enumerate(order):
            dying = [
                s for s in dict.fromkeys(source_of(i, given) for i in value.inputs)
                if last.get(s) == place and result.home.get(s, ("",))[0] == kind
            ]  # fmt: skip
            # An elementwise operation may write over an operand that nobody needs after it.
            if value.op in ELEMENTWISE and value.op != "where":
                _release(result, dying, free)
            if value not in result.home:
                shelf = free[(level, value.shape, value.dtype)]
                result.home[value] = shelf.pop() if shelf else (kind, value.number)
            if value.op not in ELEMENTWISE or value.op == "where":
                _release(result, dying, free)


def _release(result: Plan, dying: list[Value], free: dict) -> None:
    for value in dying:
        level = result.levels[value]
        free[(level, value.shape, value.dtype)].append(result.home[value])
