"""Fuse: what a target wants whose loops are compiled, so that an operation in them costs no call.

There elementwise operations are cheapest side by side in one nest of loops over rows and columns: what one makes the
next finds in a register. So those that the schedule has put before and after the loop are drawn into it, and those in
it are gathered into as few nests as their order allows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...backend import is_floating
from ..ir import Program, Value
from .plan import Plan, source_of
from .schedule import ELEMENTWISE, VIEWS, schedule

#: From so many rows on, or up to so many bytes of weights, a product is as fast at one step as for many at once.
_ROWS, _BYTES = 4, 2**15


def lay_out(program: Program) -> Program:
    """What the loop reads of weights and constants as copies that lie as it wants them, made once a run.

    The right operand of a product is packed in panels of a few columns, all else "laid" row by
    row. A right operand that changes from step to step is packed anew at each.
    """
    graph, levels = program.graph, sink_into_loop(program)

    def materialized(value: Value) -> Value:
        return (
            graph.add("materialized", (value,), value.shape, value.dtype) if levels.get(value) == "invariant" else value
        )

    def product(value: Value, done: Mapping[Value, Value]) -> Value:
        left, right = value.inputs
        inner, columns = right.shape if len(right.shape) == 2 else (right.shape[0], 1)
        rows = left.shape[0] if len(left.shape) == 2 else 1
        panel = panel_width(rows, columns, value.dtype)
        packed = graph.add("packed", (done[right],), (-(-columns // panel), inner, panel), right.dtype)
        sizes = (rows, inner, columns)
        return graph.add("product", (materialized(done[left]), packed), value.shape, value.dtype, sizes=sizes)

    def rule(value: Value, done: Mapping[Value, Value]) -> Value | None:
        if levels.get(value) != "loop" or value.op in VIEWS:
            return None
        if value.op == "matmul" and max(len(i.shape) for i in value.inputs) <= 2:
            return product(value, done)
        return value.with_inputs(graph, [materialized(done[i]) for i in value.inputs])

    rebuilt = program.rebuilt(rule)
    return replace(rebuilt, new_carry=tuple(map(materialized, rebuilt.new_carry)))


def panel_width(rows: int, columns: int, dtype: Any) -> int:
    """How many columns a panel has, for products with so many rows and columns: the more, the fewer rows there are.

    So that enough of the result is in the making at a time to keep the processor busy.
    """
    in_bytes = 64 if rows > 3 else 128 if rows > 1 else 256
    return min(in_bytes // np.dtype(dtype).itemsize, columns)


def sink_into_loop(program: Program, products: bool = True) -> dict[Value, str]:
    """The level of every value, with as much in the loop as is not slower there; `products` may come too."""
    levels = schedule(program)
    given = frozenset(program.carry) | frozenset(program.xs)
    users = _users(program, given)

    def can_come(value: Value, level: str) -> bool:
        if levels.get(value) != level or value in given:
            return False
        if value.op == "matmul":
            if not products:
                return False
            left, right = value.inputs
            is_small = size_in_bytes(right) <= _BYTES or left.shape[0] >= _ROWS
            return levels.get(right) == "invariant" and len(left.shape) == len(right.shape) == 2 and is_small
        return value.op in ELEMENTWISE and all(is_floating(np.dtype(v.dtype)) for v in (value, *_arrays(value)))

    for value in program.values():
        comes = can_come(value, "sunk") or (value.op == "concat" and levels.get(value) == "sunk")
        if comes and all(levels.get(source_of(i, given)) != "sunk" for i in value.inputs):
            levels[value] = "loop"
    for value in reversed(program.values()):
        if can_come(value, "hoisted") and users[value] and all(levels[user] == "loop" for user in users[value]):
            levels[value] = "loop"
    return levels


def size_in_bytes(value: Value) -> int:
    return math.prod(value.shape) * np.dtype(value.dtype).itemsize


def _arrays(value: Value) -> list[Value]:
    return [i for i in value.inputs if i.op != "scalar"]


def _users(program: Program, given: frozenset[Value]) -> dict[Value, list[Value]]:
    """The operations that read what lives at a source."""
    users: dict[Value, list[Value]] = defaultdict(list)
    for value in program.values():
        if value not in given and value.op not in VIEWS:
            for i in value.inputs:
                users[source_of(i, given)].append(value)
    return users


@dataclass(frozen=True)
class Job:
    """Something to be done: "make" a value, or "copy" it to the next carry."""

    kind: str
    value: Value
    position: int = 0

    @property
    def inputs(self) -> tuple[Value, ...]:
        return self.value.inputs if self.kind == "make" else (self.value,)

    @property
    def is_elementwise(self) -> bool:
        return self.kind != "make" or self.value.op in ELEMENTWISE


@dataclass
class Cluster:
    """Jobs that are done together: elementwise ones of one shape, or one that is none.

    stored  the values made here that must be written to memory, since somebody else reads them
    """

    jobs: list[Job] = field(default_factory=list)
    stored: set[Value] = field(default_factory=set)

    @property
    def is_nest(self) -> bool:
        return self.jobs[0].is_elementwise

    @property
    def shape(self) -> tuple[int, ...]:
        return self.jobs[0].value.shape


def clusters(plan: Plan, copies: Mapping[int, Value], level: str = "loop") -> list[Cluster]:
    """The jobs of a level, in clusters in the order in which they are done.

    copies  the values that are copied to the next carry, by position
    A job is done as soon as what it needs is there; what does not depend on the carry, only where it is first needed.
    """
    program, given, joined = plan.program, plan.given, plan.joined
    making = [Job("make", value) for value in plan.at(level)]
    scratch = "step" if level == "loop" else "batch"
    ending = [Job("copy", v, i) for i, v in copies.items()]
    depth: dict[Value, int] = {}

    def finds_in_register(job: Job, source: Value) -> bool:
        """Whether the job, in one nest with what makes the source, needs it in no other way than from there."""
        made = source.op in ELEMENTWISE and source not in given and plan.levels.get(source) == level
        fits = job.is_elementwise and source.shape == job.value.shape
        return made and fits and all(i is source for i in job.inputs if source_of(i, given) is source)

    def made(source: Value) -> int:
        """At which depth it is made; -1 if it is there when the step begins."""
        if source in joined:
            return max(made(source_of(i, given)) for i in source.inputs)
        return depth.get(source, -1)

    def earliest(job: Job) -> int:
        sources = {source_of(i, given) for i in job.inputs}
        return max((made(s) + (not finds_in_register(job, s)) for s in sources), default=0)

    for job in making:
        depth[job.value] = earliest(job)
    readers: dict[Value, list[Job]] = defaultdict(list)
    for job in (*making, *ending):
        for source in {source_of(i, given) for i in job.inputs}:
            readers[source].append(job)
    in_carry = program.depending_on(program.carry)
    for job in reversed(making):
        value, users = job.value, [user for user in readers[job.value] if user.kind == "make"]
        if job.is_elementwise and value not in in_carry and value not in plan.parts and users:
            depth[value] = min(depth[user.value] - (not finds_in_register(user, value)) for user in users)

    found: dict[tuple, Cluster] = defaultdict(Cluster)
    for job in making:
        shape = job.value.shape if job.is_elementwise else job.value
        found[depth[job.value], job.is_elementwise, shape].jobs.append(job)
    for job in ending:
        begin, shape = earliest(job), job.value.shape
        nests = [key for key in found if key[1] and key[2] == shape and key[0] >= begin]
        found[min(nests, default=(begin, True, shape))].jobs.append(job)
    result = [found[key] for key in sorted(found, key=lambda key: key[:2])]
    for cluster in result:
        for job in cluster.jobs:
            value = job.value
            if job.kind == "make":
                here = all(user in cluster.jobs and finds_in_register(user, value) for user in readers[value])
                if not here or plan.storage_of(value) != scratch or value in plan.parts:
                    cluster.stored.add(value)
    return result
