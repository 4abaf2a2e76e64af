"""CUDA target: elementwise work as kernels, products by cuBLAS, and all launches of a pass captured as one graph.

    def forward(static, first, chunk, steps):
        (S5, W30,) = static
        (V4, V11,) = chunk
        for t, now, v3, in steps:
            product(v3, W30, S5)
            forward_2(1024, t, now, V4, S5, V11)

Names are those of the other targets (`source.Names`). Invariant values are first copied into memory of the workspace
(`forward_invariant`), where the graph finds them at every run. Nothing waits for the device.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from ...backend import Backend, cuda_of, is_floating, is_matrix, record_launches, uses_graphs
from ..ir import Program, Value
from ..passes.clusters import Cluster, clusters
from ..passes.merge import merge_matmuls, merge_sums
from ..passes.pack import materialize_operands
from ..passes.plan import plan as planned
from ..passes.schedule import ELEMENTWISE, VIEWS, Level, base_of, schedule
from ..passes.simplify import fold_casts_into_sums
from ..passes.sink import sink_into_loop
from ..passes.storage import Plan
from ..tracing.traced_array import Untraceable
from .cuda_kernels import Kernels
from .elements import CUDA, PYTHON, check_operation
from .host import compiled, invariant_lines, output_copies
from .loops import Layout, LoopWriter, Memory, Nest
from .source import Buffer, Buffers, Calls, Rewrite, Source, Stages, TimeSums, calls_once
from .workspace import Workspace

#: Rows per chunk, and the most steps of a chunk: a graph has some launches for each.
_CHUNK_ROWS, _STEPS = 2**16, 2**10
_DTYPES = frozenset({"bfloat16", "float16", "float32", "float64", "int32", "int64", "bool"})

#: Those passes that save launches (an operation in a kernel costs next to nothing), and constants at fixed addresses.
PASSES: tuple[Rewrite, ...] = (fold_casts_into_sums, merge_matmuls, merge_sums, materialize_operands)


class CudaTarget:
    """CUDA on a GPU. Without a backend its programs can be printed, but not run."""

    def __init__(self, backend: Backend | None = None):
        self.backend = backend

    def passes(self, name: str) -> Sequence[Rewrite]:
        return PASSES

    def plan(self, program: Program, kept: Collection[Value]) -> Plan:
        looped = [value for value, level in schedule(program).items() if level == "loop" and value.op not in VIEWS]
        shapes = {value.shape if value.op in ELEMENTWISE else None for value in looped}
        # A loop of one nest stays one, for it becomes one kernel (`Emitter._walk`).
        levels = sink_into_loop(program, products=False, shape=shapes.pop() if len(shapes) == 1 else None)
        # Scratch is not shared: little is left of it, and the order of operations may change.
        return planned(program, kept, levels, chunk_rows=_CHUNK_ROWS, copies_views=True, shares_scratch=())

    def emit(self, plan: Plan, name: str) -> Source:
        return Emitter(plan, name).emit()

    def load(self, source: Source, stages: Stages) -> CudaExecutable:
        return CudaExecutable(source, stages, self.backend)


class CudaExecutable:
    """A source that runs on a GPU."""

    def __init__(self, source: Source, stages: Stages, backend: Backend | None):
        self.source, self.stages, self.backend = source, stages, backend
        if backend is not None:
            self.cuda = cuda = cuda_of(backend)
            functions = {"product": cuda.product, "products": cuda.products, "add_rows": cuda.add_rows}
            functions |= cuda.kernels(source.loop.text, list(source.loop.texts))
            namespace = compiled(source, {**functions, "direction": direction}, backend.xp)
            self.function, self.prepare = namespace[source.name], namespace[f"{source.name}_invariant"]

    def workspace(
        self, length: int, reverse: bool, given: Mapping[Value, Any], fresh: Collection[Value] = ()
    ) -> Workspace:
        assert self.backend is not None, "without a GPU the source can only be read"
        with self.backend.as_current():
            workspace = Workspace(self.source, length, reverse, given, self.backend, step_arguments)
        workspace.graphs = CapturedPass(self.cuda)
        return workspace

    def run(self, constants: Sequence[Any], workspace: Workspace) -> list[Any]:
        calls, shares, name = self.source.calls, self.source.sums.shares, f"scan, {self.source.name}"
        with self.backend.as_current() if self.backend is not None else nullcontext():
            self.prepare(constants, workspace.static, workspace.length)
            launches = [partial(self.function, workspace.static, *arguments) for arguments in workspace.chunks]
            graphs = workspace.graphs.run(launches)
            record_launches(len(shares), name)  # the copies of the results
            record_launches(calls.once + (graphs or len(launches) * calls.chunk + workspace.length * calls.step), name)
            totals = [(workspace.total(position), index) for position, index in shares]
            return [(total if index is None else total[index]).copy() for total, index in totals]


class CapturedPass:
    """The launches of a pass, captured as one CUDA graph per chunk when they are run a second time."""

    def __init__(self, cuda: Any):
        self.cuda = cuda
        self.captured: dict[int, list[Any]] = {}  # by the compute type of cuBLAS
        self.is_warm = False

    def run(self, chunks: Sequence[partial]) -> int:
        """Launch the chunks in order: the first time directly, then as graphs. Returns the number of graphs."""
        if not self.is_warm or not uses_graphs():
            for launch in chunks:
                launch()
            self.is_warm = True
            return 0
        compute_type = self.cuda.compute_type(np.float32)
        if compute_type not in self.captured:
            self.captured[compute_type] = [self.cuda.graph(launch) for launch in chunks]
        for graph in self.captured[compute_type]:
            graph.launch()
        return len(chunks)


def step_arguments(workspace: Workspace, times: range) -> list[tuple]:
    """For each step its position in the chunk, the half of a double-buffered carry that is current, and the buffers
    that are bound there. At a fused boundary also the position of the next step, −1 after the last."""
    first, after = min(times[0], times[-1]), 1 if times.step < 0 else 0
    numbers: list[tuple[int, ...]] = [(t - first, (t + after) % 2) for t in times]
    if workspace.source.loop.fused_boundary:
        following = [*(number[0] for number in numbers[1:]), -1]
        numbers = [(*number, next_step) for number, next_step in zip(numbers, following)]
    return [(*number, *views) for number, views in zip(numbers, workspace.step_views(times))]


def direction(steps: Sequence[tuple]) -> int:
    """By how much the position of a step differs from that of the step before."""
    return 1 if steps[-1][0] >= steps[0][0] else -1


class Emitter:
    """Writes the source of a plan: kernels, and the host's functions that launch them and the products."""

    def __init__(self, plan: Plan, name: str):
        self.plan, self.name = plan, name
        self.layout = Layout(plan, _DTYPES)
        self.names, self.writer = self.layout.names, LoopWriter(self.layout, CUDA)
        self.sums = TimeSums(plan, leading_axes_only=True)  # of leading axes only is the sum a product
        self.buffers = Buffers()
        self.kernels = Kernels(name, self.buffers)
        self.copies: dict[str, Buffer] = {}

    def emit(self) -> Source:
        totals = list(enumerate(self.sums.totals))
        for i, value in totals:
            self.buffers.declare(Buffer(f"T{i}", "static", "total", value, i))
        before = self._region("hoisted")
        found = clusters(self.plan, self.names.carry_copies())
        walk = self._walk(found)
        before += walk
        loop = [] if walk else self._loop(found)
        after = self._region("sunk")
        after += [line for i, v in totals if not self.sums.is_contracted(v) for line in self._sum(i, v)]
        after += output_copies(self.names, self.buffers)
        constants = invariant_lines(self.names, self.buffers, lambda v, dtype: PYTHON.literal(v["value"], dtype))
        constant_totals = [f"T{i}[...] = w{v.number} * length" for i, v in totals if v in self.names.invariant]
        constant_totals += [f"T{i}[...] = 0" for i, v in totals if self.sums.contraction(v) == "scatter"]
        fused = self.kernels.fused_boundary
        binding = f"for t, now, {'next, ' if fused else ''}{self.buffers.names('step')} in steps:"
        static = [f"    ({self.buffers.names('static')}) = static"] if self.buffers.bound("static") else []
        lines = [
            f"def {self.name}_invariant(constants, static, length):",
            *(static or ["    pass"]),
            *(f"    {line}" for line in constants + constant_totals),
            "",
            f"def {self.name}(static, first, chunk, steps):",
            *static,
            f"    ({self.buffers.names('chunk')}) = chunk",
            *(f"    {line}" for line in before),
            *([f"    {binding}", *(f"        {line}" for line in loop)] if loop else []),
            *(f"    {line}" for line in after),
        ]
        per_chunk, per_step = len(before) + len(after) + fused, len(loop) - fused
        dtypes = {np.dtype(value.dtype) for value in self.plan.program.values() if value.dtype is not None}
        return Source(
            name=self.name, plan=self.plan, lines=lines, buffers=self.buffers, sums=self.sums, loop=self.kernels,
            calls=Calls(calls_once(self.plan) + len(constant_totals), per_chunk, per_step),
            most_steps=sys.maxsize if walk else _STEPS,
            per_step="one launch for all steps" if walk else f"{per_step} launches per step, captured in a graph",
            namespace={dtype.name: dtype.type for dtype in dtypes} | {"inf": math.inf, "nan": math.nan},
        )  # fmt: skip

    # -- regions -------------------------------------------------------------------------------------------------------

    def _region(self, level: Level) -> list[str]:
        """The host's lines for a chunk: launches of kernels, and products."""
        return [line for cluster in clusters(self.plan, {}, level) for line in self._cluster(cluster, level)]

    def _walk(self, found: list[Cluster]) -> list[str]:
        """The host's line for all steps of a chunk, if the loop is one nest whose elements depend on no others."""
        program = self.plan.program
        if len(found) != 1 or not found[0].is_nest:
            return []
        (cluster,) = found
        operands = [i for task in cluster.tasks for i in task.inputs]
        read = [i for i in operands if base_of(i, program.inputs) in program.carry]
        if not all(i in program.carry and i.shape == cluster.shape for i in read):
            return []
        parts = [part for part in zip(program.carry, program.new_carry) if part[0] in read]
        known = {task.value for task in cluster.tasks}
        if not all(new in known for _, new in parts):
            return []
        nest = self.writer.cluster(cluster, [old for old, _ in parts])
        return [self.kernels.walk(nest, [(old, self.layout.memory(old), new) for old, new in parts])]

    def _loop(self, found: list[Cluster]) -> list[str]:
        """The host's lines for a step. If it ends with a kernel and begins with one, both are launched as one."""
        self.kernels.fused_boundary = fused = self._can_fuse_boundary(found)
        lines = [line for cluster in (found[:-1] if fused else found) for line in self._cluster(cluster, "loop")]
        if fused:
            lines[0] = f"if t == steps[0][0]: {lines[0]}"
            lines.append(self.kernels.boundary(self.writer.cluster(found[-1]), self.writer.cluster(found[0])))
        return lines

    def _can_fuse_boundary(self, found: list[Cluster]) -> bool:
        """Whether the first nest of a step may run in the threads of the last nest of the step before.

        Then a thread must read no element that another thread of the same kernel writes.
        """
        if len(found) < 2 or not (found[0].is_nest and found[-1].is_nest):
            return False
        first, last = found[0], found[-1]
        writes_carry = any(task.kind == "copy" or task.value in self.plan.carried for task in first.tasks)
        if first.shape != last.shape or writes_carry:
            return False
        program = self.plan.program
        first_operands = [(i, base_of(i, program.inputs)) for task in first.tasks for i in task.inputs]
        last_operands = [(i, base_of(i, program.inputs)) for task in last.tasks for i in task.inputs]
        scratch = {v for v in first.stored if self.plan.storage_of(v) == "step scratch"}
        carried = all(i is source and i.shape == first.shape for i, source in first_operands if source in program.carry)
        read = all(i is source for i, source in last_operands if source in scratch)
        return carried and read and not any(source in self.plan.concats for _, source in last_operands)

    def _cluster(self, cluster: Cluster, level: Level) -> list[str]:
        if not cluster.is_nest:
            return self._operation(cluster.tasks[0].value, level)
        if level != "loop":  # the terms of totals are read from memory
            terms = {base_of(v, self.plan.program.inputs) for v in self.sums.totals}
            cluster.stored |= {task.value for task in cluster.tasks} & terms
        return [self.kernels.nest(level, self.writer.cluster(cluster))]

    def _operation(self, value: Value, level: Level) -> list[str]:
        if self.sums.is_contracted(value):
            return self._sum(self.sums.totals.index(value), value)
        moves = self.writer.moves
        check_operation(value, {*moves, "matmul", "sum", "max", "min"}, f"there is no kernel for {value.op}")
        if value.op == "matmul":
            return self._product(value, level)
        if value.op in moves:
            return [self.kernels.nest(level, nest) for nest in moves[value.op](value)]
        source, out = map(self.layout.memory, (value.inputs[0], value))
        return [self.kernels.reduction(level, value, source, out)]

    # -- products ------------------------------------------------------------------------------------------------------

    def _product(self, value: Value, level: Level) -> list[str]:
        left, right = value.inputs
        if max(len(left.shape), len(right.shape)) > 2:
            return [self.kernels.nest(level, nest) for nest in self.writer.matmul(value)]
        lines: list[str] = []
        if level != "loop" and (len(left.shape) != 2 or len(right.shape) != 2):
            raise Untraceable("there is no kernel for products of vectors at many steps at once")
        out = self._name(value, level)
        if level != "loop" and right in self.names.invariant and left not in self.names.invariant:
            rows, (k, n) = self._as_rows(left, left.shape[1], level, lines), right.shape
            return [*lines, f"product({rows}.reshape(-1, {k}), {self._name(right, level)}, {out}.reshape(-1, {n}))"]
        matrices = ", ".join(self._as_matrix(v, level, lines) for v in (left, right))
        return [*lines, f"{'product' if level == 'loop' else 'products'}({matrices}, {out})"]

    def _sum(self, position: int, value: Value) -> list[str]:
        """Add up over the steps of a chunk, by a product: of two matrices, or of a row of ones and one."""
        if value in self.names.invariant:
            return []
        total, lines, contraction = f"T{position}", list[str](), self.sums.contraction(value)
        if contraction == "product":
            left, right = (
                f"{self._as_rows(v, v.shape[1], 'sunk', lines)}.reshape(-1, {v.shape[1]})"
                for v in (value.inputs[0].inputs[0], value.inputs[1])
            )
            return [*lines, f"product({left}.T, {right}, {total}, not first)"]
        if contraction == "scatter":  # with atomic additions, for positions may repeat
            shape, dtype = self.sums.shape_and_dtype(position)
            array = np.empty(shape, dtype)
            out, nest = (
                Memory(Buffer(total, "static", "total", value, position), "", array, array),
                Nest(value.inputs[0].shape),
            )
            nest.lines = self.writer.add_at_positions(value, nest, nest.axes, out, "atomicAdd(&{0}, {1});")
            return [self.kernels.nest("sunk", nest)]
        if not is_floating(value.dtype):
            raise Untraceable(f"it sums over time in {np.dtype(value.dtype).name}")
        term, columns = value.inputs[0] if contraction == "sum" else value, math.prod(value.shape)
        matrix = self._as_rows(term, columns, "sunk", lines)
        rows, dtype = math.prod(term.shape) // columns, np.dtype(term.dtype).name
        ones = self.buffers.declare(Buffer(f"ones_{dtype}", "static", "ones", term, rows=rows))
        return [*lines, f"add_rows({ones}, {matrix}.reshape(-1, {columns}), {total}, not first)"]

    def _name(self, value: Value, level: Level) -> str:
        return self.buffers.declare(self.names.at_step(value) if level == "loop" else self.names.at_chunk(value))

    def _as_matrix(self, value: Value, level: Level, lines: list[str]) -> str:
        """The name of the value, if its strides at one step are such that cuBLAS can read it; else that of a copy,
        which is made in `lines`."""
        view = self.layout.memory(value).view
        if is_matrix(view.strides, view.shape, view.itemsize):
            return self._name(value, level)
        return self._contiguous(value, level, lines)

    def _as_rows(self, value: Value, columns: int, level: Level, lines: list[str]) -> str:
        """The name of the value, if all its steps together are a matrix with that many columns; else that of a copy."""
        memory = self.layout.memory(value)
        stack = np.empty((2, *memory.base.shape), memory.base.dtype)
        strides = (stack.strides[0] if memory.time else 0, *memory.view.strides)
        view = np.lib.stride_tricks.as_strided(stack, (2, *memory.view.shape), strides, writeable=False)
        rows = view.reshape(-1, columns)
        if np.may_share_memory(rows, stack) and is_matrix(rows.strides, rows.shape, rows.itemsize):
            return self._name(value, level)
        return self._contiguous(value, level, lines)

    def _contiguous(self, value: Value, level: Level, lines: list[str]) -> str:
        """The name of a contiguous copy of the value, which is made where it is first needed."""
        is_chunk = level != "loop"
        name = f"{'copies' if is_chunk else 'copy'}{value.number}"
        if name not in self.copies:
            self.copies[name] = Buffer(name, "chunk" if is_chunk else "static", "copy", value)
            copy = self.writer.copy(self.layout.memory(value), self.layout.allocated(self.copies[name]))
            lines.append(self.kernels.nest(level, copy))
        return self.buffers.declare(self.copies[name])
