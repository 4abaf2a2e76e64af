"""Sources: emitted programs and their buffers, and the interface of targets.

A target is passes, a plan, `emit` and `load`; `build` calls them in this order. Emitting reads the plan and changes
nothing: arrays that a target needs besides those of the plan are buffers of the source.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..ir import Program, Value
from ..passes.schedule import VIEWS
from ..passes.storage import Plan
from ..tracing.traced_array import as_index

Rewrite = Callable[[Program], Program]
#: Names of passes, and the programs that they returned; the first is the traced program.
Stages = list[tuple[str, Program]]


class Buffer(NamedTuple):
    """An array that a source names.

    scope     when the name is bound: "static" per workspace, "chunk" per chunk of steps, "step" per step;
              "local" names are variables that the source computes itself
    kind      "value": where the plan has put the value; "carry": part `position` of the carry at all times, or at
              even and odd ones; "next carry": that part after the step; "states": that part at all times of a chunk,
              before its first step and after each; "output": output `position` of every step;
              the target's own are "total": sum `position` over time, "ones": as many as a chunk has of the `rows` that
              a step has, and "copy": a contiguous copy of the value
    """

    name: str
    scope: str
    kind: str
    value: Value
    position: int = 0
    rows: int = 0


class Buffers(dict[str, Buffer]):
    """The buffers that a source names, in the order in which they were declared."""

    def declare(self, buffer: Buffer) -> str:
        """Add a buffer; returns its name."""
        if buffer.scope != "local":
            known = self.get(buffer.name)
            if known is None or known.rows < buffer.rows:
                self[buffer.name] = buffer
        return buffer.name

    def bound(self, scope: str) -> list[Buffer]:
        """The buffers of a scope."""
        return [buffer for buffer in self.values() if buffer.scope == scope]

    def names(self, scope: str) -> str:
        """The text of the tuple that binds the names of a scope."""
        return "".join([f"{buffer.name}, " for buffer in self.bound(scope)]) or "_, "


class Calls(NamedTuple):
    """The numbers of library calls, or launches, per run, per chunk and per step."""

    once: int
    chunk: int
    step: int


class Source(NamedTuple):
    """An emitted program.

    lines      the text of the function `name`, in Python; `run` of an executable calls it
    loop       the target's own part: functions or kernels that `lines` call, with their text in `loop.lines`
    per_step   the cost of a step, in words
    namespace  the globals of `lines` besides the library's functions
    """

    name: str
    plan: Plan
    lines: list[str]
    buffers: Buffers
    sums: TimeSums
    calls: Calls
    per_step: str
    namespace: Mapping[str, Any]
    loop: Any = None
    most_steps: int = sys.maxsize  # of a chunk

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def loop_lines(self) -> list[str]:
        return self.loop.lines if self.loop else []


class Executable(Protocol):
    """A loaded source, which runs in workspaces made for a number of steps."""

    source: Source
    stages: Stages

    def workspace(self, length: int, reverse: bool, given: Mapping[Value, Any], fresh: Collection[Value] = ()) -> Any:
        """Arrays for `length` steps; `given` are those that exist already, `fresh` the xs and ys that may be bound to
        other arrays in each run."""

    def run(self, constants: Sequence[Any], workspace: Any) -> list[Any]:
        """Run on these closed-over arrays and on the arrays of a workspace; returns the sums over time."""


class Target(Protocol):
    """A code generator. Each raises Untraceable, with the reason, for a program that it cannot compile."""

    def passes(self, name: str) -> Sequence[Rewrite]:
        """The passes for the program of that name, "forward" or "backward"."""

    def plan(self, program: Program, kept: Collection[Value]) -> Plan: ...

    def emit(self, plan: Plan, name: str) -> Source: ...

    def load(self, source: Source, stages: Stages) -> Executable: ...


def build(target: Target, program: Program, name: str, kept: Collection[Value] = ()) -> Any:
    """The executable of a program. `kept` are those of its inputs whose arrays are read after the run."""
    stages = [("trace", program)]
    for rewrite in target.passes(name):
        stages.append((rewrite.__name__, rewrite(stages[-1][1])))
    return target.load(target.emit(target.plan(stages[-1][1], kept), name), stages)


class Names:
    """The names of a plan's values: `w3` is loop-invariant, `v3` is value 3 at one step, `V3` at all of a chunk.

    `S3` is scratch for one step and `B3` for a chunk, which values may share; `W3` is a constant in a certain layout.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.invariant = {value for value, level in plan.levels.items() if level == "invariant"}

    def at_step(self, value: Value) -> Buffer:
        """The buffer of a value at one step."""
        if value.op in ("materialized", "packed") and value in self.invariant:
            return Buffer(f"W{value.number}", "static", "value", value)
        if value in self.invariant:
            return Buffer(f"w{value.number}", "local", "value", value)
        if self.plan.storage_of(value) != "step scratch":
            return Buffer(f"v{value.number}", "step", "value", value)
        storage = self.plan.storage.get(value)
        name = f"v{value.number}" if storage is None else f"S{storage.key}"
        return Buffer(name, "static", "value", value)  # the same array at every step

    def at_chunk(self, value: Value) -> Buffer:
        """The buffer of a value at all steps of a chunk."""
        if value in self.invariant:
            return self.at_step(value)
        storage = self.plan.storage.get(value)
        name = f"B{storage.key}" if storage is not None and storage.kind == "chunk scratch" else f"V{value.number}"
        return Buffer(name, "chunk", "value", value)

    def carry_copies(self) -> dict[int, Value]:
        """The parts of the next carry that are copied, since no operation writes them in place, by position."""
        program, carried = self.plan.program, self.plan.carried
        return {
            i: value
            for i, value in enumerate(program.new_carry)
            if carried.get(value) != i and not self._stays_zero(i, value)
        }

    def _stays_zero(self, position: int, value: Value) -> bool:
        """Whether that part of the carry is always zero and never read."""
        return value.op == "zeros" and not self.plan.program.uses[self.plan.program.carry[position]]

    def output_copies(self) -> dict[int, Value]:
        """The outputs of every step that are views, or slices of other arrays, by their positions."""
        return {i: value for i, value in enumerate(self.plan.program.ys) if not self.plan.is_view_of_stack(value)}


#: Bytes of a total from which on its columns are products by themselves: of a smaller one they are too narrow.
_LARGE = 2**21


class TimeSums:
    """The sums over time of a program: which totals are accumulated, and how their terms are added.

    A matrix product, a sum or a scatter-add that only its total needs is contracted: the total is one product, one sum,
    or one scatter-add, over the rows of all steps, and the terms are not computed.

    leading_axes_only  whether only sums over the first axes are contracted
    of_several         whether products of several matrices are contracted, and sums of such
    totals             the values that are accumulated
    shares  for each sum of the program, the position of its total and its index in that, None for all of it
    """

    def __init__(self, plan: Plan, leading_axes_only: bool = False, of_several: bool = False):
        self.plan, self.leading_axes_only, self.of_several = plan, leading_axes_only, of_several
        self._contractions: dict[Value, str | None] = {}

    @cached_property
    def totals(self) -> list[Value]:
        return list(dict.fromkeys(map(self._total_of, self.plan.program.sums)))

    @cached_property
    def shares(self) -> list[tuple[int, tuple | None]]:
        totals = [(value, self._total_of(value)) for value in self.plan.program.sums]
        return [
            (self.totals.index(total), None if total is value else as_index(value["index"])) for value, total in totals
        ]

    @cached_property
    def columns(self) -> dict[int, list[tuple[int, int]]]:
        """By position the columns that are shares of a large product, such as the gradient of joined weights.

        On the host each is a product by itself, in an array of its own: it would take longer to copy them.
        """
        found = dict[int, list[tuple[int, int]]]()
        for position, value in enumerate(self.totals):
            shape, dtype = self.shape_and_dtype(position)
            if self.contraction(value) == "product" and math.prod(shape) * dtype.itemsize > _LARGE:
                indices = [index or (...,) for total, index in self.shares if total == position]
                ranges = [(index[-1].start, index[-1].stop) for index in indices if type(index[-1]) is slice]
                if indices == [(slice(0, shape[0], 1), slice(begin, end, 1)) for begin, end in ranges]:
                    found[position] = sorted(set(ranges))
        return found

    def shape_and_dtype(self, position: int) -> tuple[tuple[int, ...], Any]:
        """The shape and dtype of a total. Half precision is accumulated in float32: it would stop counting at 2048."""
        value = self.totals[position]
        return value.shape, np.promote_types(value.dtype, np.float32)

    def is_contracted(self, value: Value) -> bool:
        """Whether the value is needed for its total alone, and that is computed without it."""
        return value in self.totals and self.contraction(value) is not None

    def contraction(self, value: Value) -> str | None:
        """How a total is computed without the value: by a "product", "products", a "sum" or a "scatter"."""
        if value not in self._contractions:
            contraction = self._contraction(value)
            self._contractions[value] = contraction if contraction and not self._is_needed(value) else None
        return self._contractions[value]

    def _contraction(self, value: Value) -> str | None:
        levels = self.plan.levels
        if levels.get(value) not in ("hoisted", "sunk"):
            return None
        if value.op == "matmul":
            left, right = value.inputs
            is_transposed = left.op == "transpose" and left["axes"] == (1, 0) and left not in self.plan.program.inputs
            varies = is_transposed and all(levels.get(i) != "invariant" for i in (left.inputs[0], right))
            if varies and len(right.shape) == 2:
                return "product"
        if self.of_several and self.products(value):
            return "products"
        if value.op == "scatter_add":
            return "scatter"
        if value.op == "sum" and levels.get(value.inputs[0]) != "invariant":
            leads = value["axis"] == tuple(range(len(value["axis"])))
            return "sum" if leads or not self.leading_axes_only else None
        return None

    def products(self, value: Value) -> list[Value]:
        """The products of several matrices of which a value is the sum, where they are used for nothing else."""
        uses, is_float = self.plan.program.uses, np.dtype(value.dtype) in (np.float32, np.float64)
        if self.plan.levels.get(value) not in ("hoisted", "sunk") or not is_float:
            return []
        if value.op == "matmul" and len(value.shape) > 2:
            left, right = value.inputs
            varies = all(self.plan.levels.get(i) != "invariant" and i.dtype == value.dtype for i in value.inputs)
            return [value] if varies and left.shape[:-2] == right.shape[:-2] else []
        if value.op == "add" and all(i.is_like(value) and uses[i] == 1 for i in value.inputs):
            found = [self.products(i) for i in value.inputs]
            return [*found[0], *found[1]] if all(found) else []
        return []

    @cached_property
    def terms(self) -> set[Value]:
        """The values that contracted sums of products do without."""
        sums = [value for value in self.totals if self.contraction(value) == "products"]
        found, stack = set[Value](), [i for value in sums if value.op == "add" for i in value.inputs]
        while stack:
            value = stack.pop()
            found.add(value)
            stack += value.inputs if value.op == "add" else ()
        return found

    def _is_needed(self, value: Value) -> bool:
        """Whether the value itself is needed: not its total, nor a slice of that."""
        program = self.plan.program
        outputs = (*program.new_carry, *program.ys, *program.coefficients)
        return value in outputs or not self._slices.issuperset(self.plan.program.users.get(value, ()))

    @cached_property
    def _slices(self) -> set[Value]:
        """The sums that are slices of a total and nothing else."""
        program = self.plan.program
        return {value for value in program.sums if value.op == "getitem" and not program.users.get(value)}

    def _total_of(self, value: Value) -> Value:
        if value not in self._slices or value in self.plan.program.inputs:
            return value
        total = value.inputs[0]
        return total if self.contraction(total) is not None else value


def calls_once(plan: Plan) -> int:
    """The number of array calls that compute the invariant values."""
    free = VIEWS | {"constant", "scalar"}
    return len([v for v, level in plan.levels.items() if level == "invariant" and v.op not in free])
