"""llvm target: the loop over the steps as one native function; what runs before and after it stays NumPy source.

    product(16, 64, 64, V0, t * 1024, 64, 1, W30, 0, S5, 0, 64)
    for i in range(16):
        for j in range(64):
            v6 = V4[t * 1024 + i * 64 + j] + S5[i * 64 + j]
            v11 = tanh_float32(v6)
            V11[t * 1024 + i * 64 + j] = v11

V11 is a pointer to v11 at the first step of a chunk, S5 is scratch for one step, W30 is loop-invariant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .... import native
from ...ir import Program, Value
from ...passes.clusters import Cluster, clusters
from ...passes.merge import merge_matmuls, merge_sums
from ...passes.pack import pack_operands
from ...passes.plan import plan as planned
from ...passes.sink import sink_into_loop
from ...passes.storage import Plan
from ..elements import PYTHON, REDUCTIONS, check_operation, neutral
from ..host import compiled
from ..loops import AXES, Layout, LoopWriter, Memory, Nest
from ..numpy import Emitter, HostExecutable
from ..source import Rewrite, Source, Stages
from ..workspace import Workspace
from .operands import Preparation, operands_of, pack
from .shares import LEAST_ROW, batch_of, rounds_by_rows, run_shares, threads_for, work_of
from .sums import ROWS, NativeSums, Sums, SumsEmitter
from .workspace import NativeWorkspace

#: Rows of a chunk. Outside the loop little is left but sums over time, which are the faster the longer they are.
_CHUNK_ROWS = 1024


@dataclass(frozen=True)
class LLVMTarget:
    """The host, through native functions. Threads share the rows of the batch where these are independent.

    threads  their number; None: by the rule of `threads_for`

    Of the passes only those that merge products are worth it: an operation in a nest costs next to nothing.
    """

    threads: int | None = None

    def passes(self, name: str) -> Sequence[Rewrite]:
        return merge_matmuls, merge_sums, pack_operands

    def plan(self, program: Program, kept: Collection[Value]) -> Plan:
        levels = sink_into_loop(program)
        # Scratch of the loop is not shared: little is left of it, and the order of operations may change.
        plan = planned(
            program, kept, levels, chunk_rows=_CHUNK_ROWS, copies_views=True, shares_scratch=("hoisted", "sunk")
        )
        if SumsEmitter(plan, Layout(plan, native.DTYPES), threads=1).are_all():
            plan.chunk_rows = min(ROWS, _CHUNK_ROWS)
        return plan

    def emit(self, plan: Plan, name: str) -> Source:
        rows, work = batch_of(plan), 0
        threads, reason = self.threads or 1, ""
        if self.threads is None:
            work = work_of(plan)
            threads, reason = threads_for(rows, work, max(1, plan.chunk_rows // max(rows, 1)))
            if threads > 1 and rounds_by_rows(plan):
                threads, reason = 1, f"threads would round functions of rows shorter than {LEAST_ROW} bytes otherwise"
        try:
            loop = LoopEmitter(plan, threads, rows).emit()
        except _DependentRows:
            reason = "its rows depend on each other"
            if rows % threads:
                reason = f"{rows} rows are not {threads} equal shares"
            loop = LoopEmitter(plan, 1, rows).emit()
        loop.work = work
        source = HostEmitter(plan, name, loop).emit()
        words = f"shared by {loop.threads} threads" if loop.threads > 1 else "in one thread"
        return source._replace(
            loop=loop, calls=source.calls._replace(step=loop.parts),
            per_step=f"a compiled loop of {loop.parts} nests and products, {words}{f': {reason}' * bool(reason)}",
        )  # fmt: skip

    def load(self, source: Source, stages: Stages) -> HostExecutable:
        namespace = compiled(source, {"pack": pack, "run_shares": run_shares})
        if not native.problem():  # without llvmlite it can only be printed
            text, flushes = "\n".join(source.loop.lines), source.name == "backward"
            if source.loop.parts:
                namespace["loop"] = native.function(text, flushes=flushes)
            if source.loop.sums.positions:
                function, positions = native.function(text, "sums", flushes), source.loop.sums.positions
                namespace["sums"] = NativeSums(function, positions, partial(run_shares, work=source.loop.work))
            namespace["prepare"] = Preparation(operands_of(source.plan))

        def steps(workspace: Workspace, times: range) -> list[np.ndarray]:
            return loop_arguments(source.loop, workspace, times)

        return NativeExecutable(source, stages, namespace, steps)


class NativeExecutable(HostExecutable):
    """A source whose loop is native, which reads and writes arrays of others where these are."""

    def workspace(
        self, length: int, reverse: bool, given: Mapping[Value, Any], fresh: Collection[Value] = ()
    ) -> Workspace:
        return NativeWorkspace(self.source, length, reverse, given, fresh, self.steps)

    def run(self, constants: Sequence[Any], workspace: Workspace) -> list[Any]:
        assert isinstance(workspace, NativeWorkspace) and not workspace.missing
        return super().run(constants, workspace)


class HostEmitter(Emitter):
    """Writes what runs before and after the loop: `prepare` computes its operands, `sums` the sums over time."""

    def __init__(self, plan: Plan, name: str, loop: Loop):
        call = "loop(steps[0])" if loop.threads == 1 else f"run_shares(loop, steps, {loop.work})"
        calls = [call] * bool(loop.parts) + ["sums(steps, totals)"] * bool(loop.sums.positions)
        super().__init__(plan, name, calls, step_count="int(steps[0][0])")
        self.native_sums = loop.sums.positions

    def _sum(self, position: int, value: Value) -> list[str]:
        return [] if position in self.native_sums else super()._sum(position, value)

    def _invariants(self, others: Collection[Value] = ()) -> list[str]:
        program, operands = self.plan.program, operands_of(self.plan)
        names = [self.buffers.declare(self.names.at_step(value)) for value in operands]
        computed, needed = set(operands), {*program.new_carry, *program.ys, *program.sums}
        for value in reversed(program.values()):  # their own operands, unless others need them
            users = program.users.get(value, ())
            if value in self.names.invariant and value not in needed and users and computed.issuperset(users):
                computed.add(value)
        prepared = [f"prepare(constants, workspace)  # {', '.join(names)}: joined, transposed, in panels"] * bool(names)
        return [*prepared, *super()._invariants(computed)]


class _DependentRows(Exception):
    """Rows of the batch depend on each other."""


@dataclass
class Loop:
    """The loop over the steps of a chunk as a function of one array of integers.

    arguments  the memory that it addresses, by the names of pointers
    parts      the number of nests and products of a step
    work       multiply-adds of a step, where the rule chose the threads; else 0
    sums       the sums over time that another function computes
    """

    threads: int
    batch: int
    lines: list[str] = field(default_factory=list)
    arguments: dict[str, Memory] = field(default_factory=dict)
    parts: int = 0
    work: int = 0
    sums: Sums = field(default_factory=Sums)

    def is_shared(self, memory: Memory) -> bool:
        """Whether each thread has its own rows of that array."""
        return self.threads > 1 and memory.base.ndim == 2 and memory.base.shape[0] == self.batch


def loop_arguments(loop: Loop, workspace: Workspace, times: range) -> list[np.ndarray]:
    """The arguments of the loop, and of sums, for each thread: integers and addresses.

    The integers are the number of steps, the position of the first one in the chunk, the direction, and the half of a
    double-buffered carry that is current.
    """
    first, last = sorted((times[0], times[-1]))

    def begin(memory: Memory) -> int:
        array = workspace.view(memory.buffer, slice(first, last + 1) if memory.buffer.scope == "chunk" else 0)
        assert array.strides == np.empty(array.shape, array.dtype).strides, f"{memory.pointer} is not C-contiguous"
        return native.address(array)

    shares = [memory.base.nbytes // loop.threads * loop.is_shared(memory) for memory in loop.arguments.values()]
    begins, of_sums = (list(map(begin, arguments.values())) for arguments in (loop.arguments, loop.sums.arguments))
    version = times[0] + (1 if times.step < 0 else 0)
    numbers, totals = [len(times), times[0] - first, times.step, version % 2], [0] * len(loop.sums.positions)
    return [
        np.array([*numbers, *(b + i * s for b, s in zip(begins, shares)), i, *of_sums, *totals], np.int64)
        for i in range(loop.threads)
    ]


class LoopEmitter:
    """Writes the loop of a plan. Raises _DependentRows where threads cannot share the batch."""

    def __init__(self, plan: Plan, threads: int, batch: int):
        self.plan, self.loop = plan, Loop(threads, batch)
        self.layout = Layout(plan, native.DTYPES)
        self.writer = LoopWriter(self.layout, PYTHON)

    def emit(self) -> Loop:
        found = clusters(self.plan, self.layout.names.carry_copies())
        lines = [line for cluster in found for line in self._cluster(cluster)]
        self.loop.parts = len(found)
        if lines:
            self.loop.lines = self._function(lines)
        self.loop.sums = SumsEmitter(self.plan, self.layout, self.loop.threads).emit(4 + len(self.loop.arguments))
        self.loop.lines += self.loop.sums.lines
        return self.loop

    def _function(self, lines: list[str]) -> list[str]:
        arguments = self.loop.arguments
        names = ", ".join(["t", "now", "then", *arguments])
        pointers = [
            f"{name} = pointer_{memory.base.dtype.name}(steps[{n}])"
            for n, (name, memory) in enumerate(arguments.items(), start=4)
        ]
        return [
            f"def step({names}):",
            *(f"    {line}" for line in lines),
            "",
            "def loop(steps):",
            "    count, t, direction, now = steps[0], steps[1], steps[2], steps[3]",
            *(f"    {line}" for line in pointers),
            "    for _ in range(count):",
            "        then = 1 - now",
            f"        step({names})",
            "        t, now = t + direction, then",
            "",
        ]

    def _addressed(self, memories: Iterable[Memory]) -> None:
        for memory in memories:
            self.loop.arguments.setdefault(memory.pointer, memory)

    # -- threads -------------------------------------------------------------------------------------------------------

    def _check_rows(self, memory: Memory) -> None:
        """Raise _DependentRows unless a thread addresses its own rows of shared arrays, and of others what all do."""
        view, base = memory.view, memory.base
        if self.loop.is_shared(memory):
            is_own = view.ndim == 2 and view.shape[0] == base.shape[0] and view.strides[0] == base.strides[0]
            is_own = is_own and memory.offset < memory.strides[0]
        else:
            is_own = view.ndim < 2 or view.shape[0] == 1 or view.strides[0] == 0
        if self.loop.threads > 1 and not is_own:
            raise _DependentRows

    def _rows(self, rows: int) -> int:
        """The number of these rows per thread."""
        threads = self.loop.threads
        if threads > 1 and (rows != self.loop.batch or rows % threads):
            raise _DependentRows
        return rows // threads

    # -- operations ----------------------------------------------------------------------------------------------------

    def _cluster(self, cluster: Cluster) -> list[str]:
        if not cluster.is_nest:
            return self._operation(cluster.tasks[0].value)
        nest = self.writer.cluster(cluster)
        if self.loop.threads > 1:
            if len(nest.shape) != 2:
                raise _DependentRows
            nest.shape = (self._rows(nest.shape[0]), nest.shape[1])
        for memory in nest.memories:
            self._check_rows(memory)
        return self._loops([nest])

    def _loops(self, nests: Sequence[Nest]) -> list[str]:
        for nest in nests:
            self._addressed(nest.memories)
        return [line for nest in nests for line in loops(nest.shape, nest.lines)]

    def _operation(self, value: Value) -> list[str]:
        moves = self.writer.moves
        writers = {
            "product": self._product, "packed": self._packed, "matmul": self._matmul,
            "sum": self._reduction, "max": self._reduction, "min": self._reduction,
        }  # fmt: skip
        if self.loop.threads > 1 and value.op != "product":
            raise _DependentRows
        check_operation(
            value, {*moves, *writers}, f"there are no loops for {value.op} of {len(value.inputs[0].shape)} axes"
        )
        return self._loops(moves[value.op](value)) if value.op in moves else writers[value.op](value)

    def _product(self, value: Value) -> list[str]:
        rows, inner, columns = value["sizes"]
        left, out, right = map(self.layout.memory, (value.inputs[0], value, value.inputs[1]))
        self._check_rows(left)
        self._check_rows(out)
        if self.loop.threads > 1 and value.inputs[1] not in self.layout.names.invariant:
            raise _DependentRows
        self._addressed((left, out, right))
        row_stride, column_stride = left.strides if len(left.strides) == 2 else (0, *left.strides)
        out_stride = out.strides[0] if rows > 1 else 0
        sizes = f"{self._rows(rows)}, {inner}, {columns}"
        left_text = f"{left.pointer}, {left.start}, {row_stride}, {column_stride}"
        right_text = f"{right.pointer}, {right.start}, {right.view.shape[2]}"
        return [f"product({sizes}, {left_text}, {right_text}, {out.pointer}, {out.start}, {out_stride})"]

    def _matmul(self, value: Value) -> list[str]:
        """A product of several matrices, one after the other."""
        return self._loops(self.writer.matmul(value, in_memory=True))

    def _packed(self, value: Value) -> list[str]:
        """A matrix that changes over time, copied into the layout of `pack`."""
        (matrix,) = value.inputs
        source, width = self.layout.memory(matrix), value.shape[2]
        columns = matrix.shape[1] if len(matrix.shape) == 2 else 1
        axes = ("j", f"(min(i * {width}, {columns - width}) + k)")
        nest = self.writer.fill(value, source.element(axes[: len(matrix.shape)]))
        nest.at(source)
        return self._loops([nest])

    def _reduction(self, value: Value) -> list[str]:
        """A sum, maximum or minimum; along the last axis it is accumulated in a variable."""
        (source,) = value.inputs
        function = REDUCTIONS[value.op]
        out, read, axes = self.layout.memory(value), self.layout.memory(source), AXES[: len(source.shape)]
        view = out.view if value["keepdims"] else np.expand_dims(out.view, value["axis"])
        target, element = out.with_view(view).element(axes), read.read(axes)
        first = PYTHON.literal(neutral(value.op, value.dtype), value.dtype)
        lines = self._loops([self.writer.fill(value, first)])
        self._addressed((out, read))
        if len(source.shape) - 1 not in value["axis"]:
            return lines + loops(source.shape, [f"{target} = {function}({target}, {element})"])
        total = f"total{value.number}"  # a variable has one dtype
        accumulate = [f"for {axes[-1]} in range({source.shape[-1]}):", f"    {total} = {function}({total}, {element})"]
        body = [f"{total} = {first}", *accumulate, f"{target} = {function}({target}, {total})"]
        return lines + loops(source.shape[:-1], body)


def loops(shape: Sequence[int], lines: Sequence[str]) -> list[str]:
    """The lines in a loop for each axis of the shape."""
    result = list(lines)
    for axis, n in reversed(list(zip(AXES, shape))):
        result = PYTHON.repeat(axis, n, result)
    return result
