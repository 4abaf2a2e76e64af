"""Plan: where every value lives.

    stack    one array for all steps: what leaves the program, and the carry itself
    chunk    one array for the steps of a chunk: what passes between the loop and what runs before and after it
    scratch  one array for one step (in the loop) or for one chunk (outside), used again as soon as nobody needs it
    view     another view of where its source lives
    part     a slice of a joined array: its parts are written where it lives, so that joining them is no work

A chunk is as many steps as are computed at once outside of the loop: enough rows for a product to be fast, few enough
for them to stay in the cache.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise

from ..ir import Program, Value
from .schedule import ELEMENTWISE, VIEWS, schedule

#: Rows (steps times the length of the first axis) that a chunk should have.
CHUNK_ROWS = 256


@dataclass
class Plan:
    """A scheduled program and the homes of its values.

    levels      when each value is computed
    home        where each value lives: ("stack" | "chunk" | "step" | "batch", key); views have none
    carried     the carry parts whose next value is written into the stack by the operation that makes it
    parts       of what is made in its place: the joined array, and from where to where along the last axis
    fleeting    the carry parts that only the next step reads, so that two moments of them are enough
    overwrites  values of `where` that are written over their last operand, which nobody else needs
    chunk_rows  how many rows a chunk has at least, as far as there are so many
    copies_views  whether outputs that are views are copied, so that all outputs lie row by row
    """

    program: Program
    levels: dict[Value, str]
    storage: dict[Value, tuple[str, int]] = field(default_factory=dict)
    carried: dict[Value, int] = field(default_factory=dict)
    parts: dict[Value, tuple[Value, int, int]] = field(default_factory=dict)
    double_buffered: set[int] = field(default_factory=set)
    overwrites: set[Value] = field(default_factory=set)
    chunk_rows: int = field(default_factory=lambda: CHUNK_ROWS)
    copies_views: bool = False

    def at(self, level: str) -> list[Value]:
        """The values of a level that an operation must compute, in order."""
        joined = self.joined
        return [
            v for v in self.program.values()
            if self.levels.get(v) == level and v.op not in VIEWS and v not in joined
        ]  # fmt: skip

    @property
    def joined(self) -> set[Value]:
        """The joined arrays whose parts are made in their places."""
        return {whole for whole, _, _ in self.parts.values()} | {v for v in self.parts if v.op == "concat"}

    def storage_of(self, value: Value) -> str:
        """In what kind of array the memory of a value is; the empty string for what the program is given."""
        source = source_of(value, self.given)
        while source in self.parts:
            source = self.parts[source][0]
        return self.storage.get(source, ("", 0))[0]

    @property
    def given(self) -> frozenset[Value]:
        return frozenset(self.program.carry) | frozenset(self.program.xs)

    def is_seen_whole(self, value: Value) -> bool:
        """Whether the value at all steps is a view of an array for all steps."""
        source = source_of(value, self.given)
        lies_whole = source in self.given or self.storage_of(source) in ("stack", "carry")
        return lies_whole and not (self.copies_views and source is not value)


def source_of(value: Value, given: frozenset[Value]) -> Value:
    """The value whose memory a view shows; the value itself if it is none."""
    while value.op in VIEWS and value not in given:
        value = value.inputs[0]
    return value


def chunk_length(program: Program, length: int, chunk_rows: int) -> int:
    rows = max([v.shape[0] for v in (*program.carry, *program.xs) if v.shape] or [1])
    return max(1, min(length, math.ceil(chunk_rows / max(rows, 1))))


def plan(program: Program, kept: Collection[Value] = (), levels: dict[Value, str] | None = None) -> Plan:
    """The plan of a program, where its values are computed at these levels, by default those of `schedule`.

    kept  those of the values it is given that somebody wants afterwards
    """
    levels = schedule(program) if levels is None else levels
    given = frozenset(program.carry) | frozenset(program.xs)
    result = Plan(program, levels)
    readers: dict[Value, set[str]] = defaultdict(set)  # the levels that read what lives at a source
    for value in program.values():
        if value in given or value not in levels or value.op in VIEWS:
            continue
        for i in value.inputs:
            readers[source_of(i, given)].add(levels[value])
    for value in program.sums:
        readers[source_of(value, given)].add("sunk")

    outputs = {source_of(value, given) for value in program.ys}
    for position, value in enumerate(program.new_carry):
        if levels.get(value) == "loop" and value.op not in VIEWS and value not in result.carried:
            result.carried[value] = position
        else:
            readers[source_of(value, given)].add("loop")  # it is copied there

    for position, (value, new) in enumerate(zip(program.carry, program.new_carry)):
        held = {value, new} if result.carried.get(new) == position else {value}
        if all(readers[v] <= {"loop"} and v not in outputs and v not in kept for v in held):
            result.double_buffered.add(position)
    _join_in_place(result, readers, outputs)
    for value in program.values():
        level = levels.get(value)
        if value in given or level in (None, "invariant") or value.op in VIEWS or value in result.parts:
            continue
        if value in result.carried:
            result.storage[value] = ("carry", result.carried[value])
        elif value in outputs:
            result.storage[value] = ("stack", value.number)
        elif value in result.storage:
            continue
        elif readers[value] - {level}:
            result.storage[value] = ("chunk", value.number)
    _overwrite(result)
    _share_scratch(result, given)
    return result


def _overwrite(result: Plan) -> None:
    """Let a value of `where` have the memory of its last operand, if that is there for nothing else."""
    values = result.program.values()
    uses = Counter(i for value in values for i in value.inputs) + Counter(result.program.outputs)
    levels = result.levels
    for value in reversed(values):  # so that one that is written over is known to be, when its own operand is looked at
        if value.op != "where" or value in result.given:
            continue
        last = value.inputs[2]
        alike = last.is_like(value) and levels.get(last) == levels.get(value)
        own = uses[last] == 1 and last.op not in VIEWS and last not in result.given
        placed = last in result.storage or last in result.parts or last in result.joined or value in result.parts
        storage = result.storage.get(value, ("step", 0))
        if alike and own and not placed and levels[value] == "loop" and storage[0] in ("carry", "chunk", "step"):
            result.overwrites.add(value)
            if value in result.storage:
                result.storage[last] = storage


def _join_in_place(result: Plan, readers: dict[Value, set[str]], outputs: set[Value]) -> None:
    """Let the parts of what is joined along the last axis be written where the joined array lives.

    That array is nobody else's: a part of it may be needed when it is not, and it when a part is not.
    """
    levels, given, parts = result.levels, result.given, result.parts

    reshaped = {source_of(v, given) for v in result.program.values() if v.op == "reshape" and v not in given}

    def is_free(value: Value) -> bool:  # a slice cannot be seen at another shape
        made = levels.get(value, "invariant") != "invariant" and value.op not in VIEWS and value not in given
        return (
            made
            and value not in reshaped
            and value not in parts
            and value not in outputs
            and value not in result.carried
        )

    joined = [v for v in result.program.values() if v.op == "concat" and is_free(v)]
    for whole in sorted(joined, key=lambda v: len(v.inputs), reverse=True):
        if whole["axis"] != len(whole.shape) - 1:
            continue
        made_here = all(is_free(part) and part.op != "concat" for part in whole.inputs)
        if len(set(whole.inputs)) == len(whole.inputs) and made_here:
            start = 0
            for part in whole.inputs:
                parts[part] = (whole, start, start + part.shape[-1])
                start += part.shape[-1]
            seen = {level for v in (whole, *whole.inputs) for level in (levels[v], *readers[v])}
            result.storage[whole] = ("step" if seen == {"loop"} else "chunk", whole.number)
            continue
        places = [parts[part] for part in whole.inputs if part in parts]
        follow = all(a[0] is b[0] and a[2] == b[1] for a, b in pairwise(places))
        if follow and len(places) == len(whole.inputs):  # they are neighbours in a larger one
            larger = places[0][0]
            parts[whole] = (larger, places[0][1], places[-1][2])
            if {levels[whole], *readers[whole]} != {"loop"}:
                result.storage[larger] = ("chunk", larger.number)


def _share_scratch(result: Plan, given: frozenset[Value]) -> None:
    """Give the values that live only while their level runs a few arrays in turn."""
    joined = result.joined
    for level, kind in (("hoisted", "batch"), ("loop", "step"), ("sunk", "batch")):
        order = result.at(level)
        last: dict[Value, int] = {}
        for place, value in enumerate(order):
            for i in value.inputs:
                last[source_of(i, given)] = place
        for value in (*result.program.sums, *result.program.ys, *result.program.new_carry):
            last[source_of(value, given)] = len(order)
        free: dict[tuple, list[tuple[str, int]]] = defaultdict(list)
        for place, value in enumerate(order):
            dying = [
                s for s in dict.fromkeys(source_of(i, given) for i in value.inputs)
                if last.get(s) == place and result.storage.get(s, ("",))[0] == kind and s not in joined
                and not (value in result.overwrites and s is value.inputs[2])
            ]  # fmt: skip
            # An elementwise operation may write over an operand that nobody needs after it.
            if value.op in ELEMENTWISE and value.op != "where":
                _release(result, dying, free)
            if value in result.overwrites and value not in result.storage:
                result.storage[value] = result.storage[value.inputs[2]]
            if value not in result.storage and value not in result.parts:
                shelf = free[(level, value.shape, value.dtype)]
                result.storage[value] = shelf.pop() if shelf else (kind, value.number)
            if value.op not in ELEMENTWISE or value.op == "where":
                _release(result, dying, free)


def _release(result: Plan, dying: list[Value], free: dict) -> None:
    for value in dying:
        level = result.levels[value]
        free[(level, value.shape, value.dtype)].append(result.storage[value])
