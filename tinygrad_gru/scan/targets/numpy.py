"""NumPy target: a plan as straight-line Python source, in which every operation writes into an array that exists.

    for first, (V1, V3, V5, ), steps in workspace.chunks:
        matmul(V1.reshape(-1, 3), w2, V3.reshape(-1, 5))
        for (v0, v3, v5, ) in steps:
            v0.dot(w4, S4)
            add(v3, S4, S4)
            tanh(S4, v5)

The views that an operation reads and writes at a step are made once, with the workspace, and passed to the loop in a
tuple per step. The names are those of `source.Names`. Before the loop of a linear recurrence stands a scan, after which
the loop's values are computed for many steps:

        scanned = linear_scan(workspace.scratch, (H0,), (V3,), (V5,), workspace.reverse)
        if scanned:
            multiply(V0, V7, V8)
        else:
            for (v0, v3, v5, ) in steps:
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ...backend import is_half, record_launches, resolve
from ...native.blas import runs_in_one_thread
from ..ir import LinearPart, Program, Value
from ..passes import collect, fuse_horizontally, mark_linear, merge_sums, reassociate, swap_where
from ..passes.linear import batches_of, is_zero
from ..passes.plan import plan as planned
from ..passes.plan import rows_of
from ..passes.schedule import ELEMENTWISE, Level
from ..passes.storage import Plan
from .blocked_scan import linear_scan
from .host import UFUNCS, compiled, index_text, invariant_lines, output_copies, scalar_dtype
from .source import Buffer, Buffers, Calls, Names, Rewrite, Source, Stages, TimeSums, calls_once
from .workspace import Workspace

FORWARD_PASSES: tuple[Rewrite, ...] = (reassociate, swap_where, fuse_horizontally, merge_sums, mark_linear)
BACKWARD_PASSES: tuple[Rewrite, ...] = (collect, fuse_horizontally, merge_sums, mark_linear)

#: Elements of a part of the carry at all steps of a chunk, where these are scanned: as many as a cache holds.
_SCANNED = 2**16

#: Half precision is accumulated in float32: it would stop counting at 2048.
_ACCUMULATORS = {"sum": ", dtype='float32'", "max": "", "min": ""}


class NumPyTarget:
    """NumPy on the host."""

    def passes(self, name: str) -> Sequence[Rewrite]:
        return FORWARD_PASSES if name == "forward" else BACKWARD_PASSES

    def plan(self, program: Program, kept: Collection[Value]) -> Plan:
        if not program.linear:
            return planned(program, kept)
        elements = max(math.prod(value.shape) for value in program.carry)
        return planned(program, kept, chunk_rows=rows_of(program) * (_SCANNED // max(elements, 1)))

    def emit(self, plan: Plan, name: str) -> Source:
        return Emitter(plan, name).emit()

    def load(self, source: Source, stages: Stages) -> HostExecutable:
        steps = StepViews if source.plan.program.linear else Workspace.step_views
        return HostExecutable(source, stages, compiled(source, {"linear_scan": linear_scan}), steps)


class StepViews:
    """The buffers of each step of a chunk, made when the loop first needs them, which it seldom does after a scan."""

    def __init__(self, workspace: Workspace, times: range):
        self.workspace, self.times = workspace, times

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[tuple]:
        return iter(self.views)

    @cached_property
    def views(self) -> list[tuple]:
        return self.workspace.step_views(self.times)


class HostExecutable:
    """A source that runs on NumPy arrays.

    steps  the argument of the loop for the steps of a chunk: `steps(workspace, times)`
    """

    def __init__(
        self, source: Source, stages: Stages, namespace: dict[str, Any], steps: Callable[[Workspace, range], Any]
    ):
        self.source, self.stages, self.namespace, self.steps = source, stages, namespace, steps
        self.function = namespace[source.name]
        self._total_types = [source.sums.shape_and_dtype(i) for i in range(len(source.sums.totals))]

    def workspace(
        self, length: int, reverse: bool, given: Mapping[Value, Any], fresh: Collection[Value] = ()
    ) -> Workspace:
        return Workspace(self.source, length, reverse, given, resolve("numpy"), self.steps)

    def run(self, constants: Sequence[Any], workspace: Workspace) -> list[Any]:
        totals = [self._total(position) for position in range(len(self.source.sums.totals))]
        self.function(constants, totals, workspace)
        calls = self.source.calls
        count = calls.once + len(workspace.chunks) * calls.chunk + workspace.length * calls.step
        record_launches(count, f"scan, {self.source.name}")
        return [self._share(totals[position], position, index) for position, index in self.source.sums.shares]

    def _total(self, position: int) -> Any:
        """Zeros for a total, or for each of its columns."""
        shape, dtype = self._total_types[position]
        columns = self.source.sums.columns.get(position)
        if columns:
            return [np.zeros((shape[0], end - begin), dtype) for begin, end in columns]
        return np.zeros(shape, dtype)

    def _share(self, total: Any, position: int, index: tuple | None) -> Any:
        if index is None:
            return total
        if type(total) is list:
            return total[self.source.sums.columns[position].index((index[1].start, index[1].stop))]
        return np.ascontiguousarray(total[index])


class Emitter:
    """Writes the source of a plan.

    loop        the lines that run the steps of a chunk, where these are a function of their own
    step_count  the expression for the number of steps of a chunk
    """

    def __init__(self, plan: Plan, name: str, loop: Sequence[str] | None = None, step_count: str = "len(steps)"):
        self.plan, self.name, self.loop, self.step_count = plan, name, loop, step_count
        self.names, self.sums = Names(plan), TimeSums(plan, of_several=True)
        self.buffers = Buffers()
        self.scalars: dict[str, Any] = {}

    def emit(self) -> Source:
        before = self._region("hoisted")
        loop = self._loop()
        after = self._region("sunk")
        for i, value in enumerate(self.sums.totals):
            if not self.sums.is_contracted(value):
                after += self._sum(i, value)
        after += output_copies(self.names, self.buffers)
        constants = self._invariants()
        looped = list(self.loop) if self.loop is not None else []
        if self.loop is None and loop:
            looped = [f"for ({self.buffers.names('step')}) in steps:", *_indented(loop)]
        if self.plan.program.linear:
            looped = self._scan(looped)
        in_chunk = before + looped + after
        body = [f"({self.buffers.names('static')}) = workspace.static"] if self.buffers.bound("static") else []
        body += constants
        body += [f"for first, ({self.buffers.names('chunk')}), steps in workspace.chunks:"]
        body += _indented(in_chunk) or ["    pass"]
        return Source(
            name=self.name, plan=self.plan, buffers=self.buffers, sums=self.sums, namespace=self.scalars,
            lines=[f"def {self.name}(constants, totals, workspace):", *_indented(body)],
            calls=Calls(calls_once(self.plan), len(before) + len(after), len(loop)),
            per_step=f"{len(loop)} array calls per step" + ", or none after a scan" * bool(self.plan.program.linear),
        )  # fmt: skip

    # -- names ---------------------------------------------------------------------------------------------------------

    def _at_step(self, value: Value) -> str:
        return self.buffers.declare(self.names.at_step(value))

    def _at_chunk(self, value: Value) -> str:
        return self.buffers.declare(self.names.at_chunk(value))

    def _scalar(self, value: Value, dtype: Any) -> str:
        """A scalar as an array without axes, which NumPy takes faster than a Python scalar."""
        name = f"k{value.number}_{np.dtype(dtype).name}"
        self.scalars[name] = np.array(value["value"], dtype)
        return name

    def _operand(self, value: Value, batched: bool, like: Value) -> str:
        if value.op == "scalar":
            return self._scalar(value, scalar_dtype(like))
        if not batched or value in self.names.invariant:
            return self._at_step(value)
        return self._aligned(value, like) if like.op in ELEMENTWISE | {"matmul"} else self._at_chunk(value)

    def _aligned(self, value: Value, like: Value) -> str:
        """A value at all steps of a chunk, with an axis for each of `like`."""
        if value.op == "scalar":
            return self._scalar(value, like.dtype)
        missing = len(like.shape) - len(value.shape)
        name = self._at_chunk(value)
        return f"{name}[:{', None' * missing}, ...]" if missing > 0 and value not in self.names.invariant else name

    def _invariants(self, others: Collection[Value] = ()) -> list[str]:
        """The lines for loop-invariant values, but for `others`."""
        levels, users = self.plan.levels, self.plan.program.users
        contiguous = [
            value for value in users
            if (value.op == "transpose" and any(u.op != "concat" for u in users[value]))
            or (value.op == "concat" and "transpose" in [i.op for i in value.inputs]
                and "loop" in [levels.get(u) for u in users[value] if u.op == "matmul"])
        ]  # fmt: skip
        return invariant_lines(self.names, self.buffers, self._scalar, contiguous, others)

    # -- regions -------------------------------------------------------------------------------------------------------

    def _region(self, level: Level) -> list[str]:
        """The lines for a chunk of steps. A contracted value is summed instead of computed."""
        lines = []
        for value in self.plan.operations(level):
            if value in self.sums.terms:
                continue
            if self.sums.is_contracted(value):
                lines += self._sum(self.sums.totals.index(value), value)
            else:
                lines += self._operation(value, batched=True)
        return lines

    def _loop(self) -> list[str]:
        """The lines for one step."""
        if self.loop is not None:
            return []
        lines = [line for value in self.plan.operations("loop") for line in self._operation(value, batched=False)]
        for position, value in self.names.carry_copies().items():
            name = self.buffers.declare(Buffer(f"n{position}", "step", "next carry", value, position))
            lines.append(f"copyto({name}, {self._at_step(value)})")
        return lines

    def _scan(self, loop: Sequence[str]) -> list[str]:
        """The lines that compute the carry at all steps of a chunk by scans, or by the loop where a scan fails."""
        before, after = batches_of(self.plan)
        lines: list[str] = []
        for values, part in before:
            scan = [line for value in values for line in self._operation(value, batched=True)]
            scan += self._states(part)
            follows = any("scanned = " in line for line in lines)
            lines += ["if scanned:", *_indented(scan)] if follows and scan else scan
        batch = [line for value in after for line in self._operation(value, batched=True)]
        if not batch:
            return [*lines, "if not scanned:", *_indented(loop)]
        return [*lines, "if scanned:", *_indented(batch), "else:", *_indented(loop)]

    def _states(self, part: LinearPart) -> list[str]:
        """The lines that compute parts of the carry at all steps of a chunk."""
        program = self.plan.program
        carry = [program.carry[i] for i in part.positions]
        a, b = ([self._aligned(value, carry[0]) for value in values] for values in (part.a, part.b))
        if not all(map(is_zero, part.a)):
            states = [
                self.buffers.declare(Buffer(f"H{i}", "chunk", "states", value, i))
                for i, value in zip(part.positions, carry)
            ]
            arguments = ", ".join(f"({', '.join(names)},)" for names in (states, a, b))
            return [f"scanned = linear_scan(workspace.scratch, {arguments}, workspace.reverse)"]
        (position,) = part.positions
        new = program.new_carry[position]
        if self.plan.carried.get(new) == position:  # it is written there by its operation
            return []
        there = self.buffers.declare(Buffer(f"N{position}", "chunk", "next carry", new, position))
        return [f"copyto({there}, {b[0]})"]

    def _operation(self, value: Value, batched: bool) -> list[str]:
        out = self._at_chunk(value) if batched else self._at_step(value)
        operands = [self._operand(i, batched, value) for i in value.inputs]
        if value.op in UFUNCS:
            # By position where NumPy allows it, which is faster; maximum and minimum require the keyword.
            last = f"out={out}" if value.op in ("maximum", "minimum") else out
            return [f"{value.op}({', '.join([*operands, last])})"]
        if value.op == "matmul":
            return [self._matmul(value, operands, out, batched)]
        if value.op in ("sum", "max", "min"):
            axes = tuple(a + 1 for a in value["axis"]) if batched else value["axis"]
            call, keepdims = f"{operands[0]}.{value.op}({axes}, ", f"keepdims={value['keepdims']}"
            if is_half(np.dtype(value.dtype)):
                return [f"copyto({out}, {call}{keepdims}{_ACCUMULATORS[value.op]}))"]
            return [f"{call}out={out}, {keepdims})"]
        if value.op == "where":
            condition, a, b = operands
            over = [] if value in self.plan.overwrites else [f"copyto({out}, {b})"]
            return [*over, f"copyto({out}, {a}, where={condition})"]
        if value.op == "astype":
            return [f"copyto({out}, {operands[0]}, 'unsafe')"]  # as an array's own astype does
        if value.op == "rearrange":
            return [f"copyto({out}, {operands[0]}.reshape({out}.shape))"]
        if value.op == "concat":
            if batched:  # an invariant part exists once, not for each step
                operands = [
                    f"broadcast_to({text}, {out}.shape[:1] + {i.shape})" if i in self.names.invariant else text
                    for text, i in zip(operands, value.inputs)
                ]
            return [f"concatenate(({', '.join(operands)},), {value['axis'] + batched}, {out})"]
        if value.op in ("argmax", "argmin"):
            return [f"{operands[0]}.{value.op}({value['axis'] + batched}, {out})"]
        if value.op in ("gather", "scatter_add"):
            if not batched:
                return [f"{value.op}({', '.join(operands)}, {value['axis']}, {out})"]
            return [f"{value.op}_steps({', '.join(operands)}, {value['axis']}, {out}, {self._varying(value)})"]
        assert value.op == "scatter", f"no emitter for {value.op}"
        added = [
            f"{out}[{index_text(index, batched)}] += {operand}" for operand, index in zip(operands, value["indices"])
        ]
        return [f"{out}.fill(0)", *added]

    def _varying(self, value: Value) -> str:
        """Which of its operands change with time, as arguments."""
        return ", ".join([str(i not in self.names.invariant) for i in value.inputs])

    def _matmul(self, value: Value, operands: list[str], out: str, batched: bool) -> str:
        left, right = value.inputs
        if batched and right in self.names.invariant and len(right.shape) == len(left.shape) == 2:
            k, n = right.shape  # one product over the rows of all steps
            return f"matmul({operands[0]}.reshape(-1, {k}), {operands[1]}, {out}.reshape(-1, {n}))"
        of_matrices = len(left.shape) == len(right.shape) == 2 and left.dtype == right.dtype
        if of_matrices and not batched and value not in self.plan.parts:
            # For one row half the time of matmul; it needs an `out` that is contiguous.
            if runs_in_one_thread(left.shape[0], right.shape[0], right.shape[1]):
                return f"{operands[0]}.dot({operands[1]}, {out})"
            return f"dot({operands[0]}, {operands[1]}, {out})"
        return f"matmul({operands[0]}, {operands[1]}, {out})"

    def _sum(self, position: int, value: Value) -> list[str]:
        """The lines that add the terms of a chunk to a total."""
        total = f"totals[{position}]"
        if value in self.names.invariant:
            return [f"add({total}, w{value.number} * {self.step_count}, {total})"]
        contraction = self.sums.contraction(value)
        accumulator = _ACCUMULATORS["sum"] if is_half(np.dtype(value.dtype)) else ""
        if contraction == "product":
            a, b = value.inputs[0].inputs[0], value.inputs[1]
            left = f"{self._at_chunk(a)}.reshape(-1, {a.shape[1]}).T"
            right = f"{self._at_chunk(b)}.reshape(-1, {b.shape[1]})"
            columns = self.sums.columns.get(position)
            parts = [(right, total)]
            if columns:
                parts = [(f"{right}[:, {begin}:{end}]", f"{total}[{n}]") for n, (begin, end) in enumerate(columns)]
            return [
                line for factor, out in parts
                for line in (f"if first: matmul({left}, {factor}, {out})",
                             f"else: add({out}, matmul({left}, {factor}), {out})")
            ]  # fmt: skip
        if contraction == "products":
            pairs = [map(self._at_chunk, product.inputs) for product in self.sums.products(value)]
            return [f"add_products({total}, {', '.join(pair)})" for pair in pairs]
        if contraction == "scatter":
            values, rows = (self._operand(i, True, value) for i in value.inputs)
            return [f"add_at_rows_of_steps({total}, {rows}, {values}, {value['axis']}, {self._varying(value)})"]
        if contraction == "sum":
            axes = (0, *(a + 1 for a in value["axis"]))
            summed = f"{self._at_chunk(value.inputs[0])}.sum({axes}, keepdims={value['keepdims']}{accumulator})"
            return [f"add({total}, {summed}.reshape({total}.shape), {total})"]
        return [f"add({total}, {self._at_chunk(value)}.sum(0{accumulator}), {total})"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
