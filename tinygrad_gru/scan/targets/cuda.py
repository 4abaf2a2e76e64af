"""Emit for CUDA: elementwise work as kernels, products by cuBLAS, and all of it captured as one graph.

    extern "C" __global__ void forward_2(int64 t, int64 now, float32* V4, float32* S5, float32* V11) {
        const int64 then = 1 - now;
        const int n = blockIdx.x * blockDim.x + threadIdx.x;
        if (n >= 1024) return;
        const int i = n / 64, j = n % 64;
        const float32 v6 = V4[t * 1024 + i * 64 + j] + S5[i * 64 + j];
        const float32 v11 = tanh_float32(v6);
        V11[t * 1024 + i * 64 + j] = v11;
    }

    def forward(static, first, batch, steps):
        (S5, W30,) = static
        (V4, V11,) = batch
        for t, now, v3, in steps:
            product(v3, W30, S5)
            forward_2(1024, t, now, V4, S5, V11)

Names are those of the emitters for NumPy and numba. What is the same at all steps is laid into memory of the workspace
first (`forward_fixed`), so that the graph finds it in its place at every run. Nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...backend import THREADS, Backend, cuda_of, is_floating, is_matrix, record_launches, wants_graphs
from ..ir import Program, Value
from ..passes.clusters import Cluster, clusters
from ..passes.merge import merge_matmuls, merge_sums
from ..passes.plan import plan
from ..passes.schedule import VIEWS, Level, base_of
from ..passes.simplify import fold_casts_into_sums
from ..passes.sink import sink_into_loop
from ..passes.storage import Plan, Storage, StorageKind
from ..tracing.traced_array import Untraceable, as_index
from .elements import CUDA, PYTHON, in_register
from .kernels import AXES, LoopEmitted, Memory
from .numpy import FUNCTIONS
from .views import view_text
from .workspace import Workspace

#: Rows of a chunk, and steps that one has at most: a graph has some launches for each.
_CHUNK_ROWS, _STEPS = 2**16, 2**10

#: The numbers that a kernel is given: for one step, for many at once, at the turn from one to the next.
_NUMBERS = {
    "loop": "int64 t, int64 now", "hoisted": "int64 count", "sunk": "int64 count",
    "turn": "int64 t_now, int64 moment, int64 next",
}  # fmt: skip

#: Of the passes those that save launches: an operation in a kernel costs next to nothing.
PASSES: tuple[Callable[[Program], Program], ...] = (fold_casts_into_sums, merge_matmuls, merge_sums)


def emitted(program: Program, name: str, kept: Collection[Value] = (), backend: Backend | None = None) -> CudaEmitted:
    """The program for CUDA. Raises Untraceable, with the reason, if there is no kernel for something in it."""
    stages = [("trace", program)]
    for improve in (*PASSES, lay_in_place):
        stages.append((improve.__name__, improve(stages[-1][1])))
    program = stages[-1][1]
    levels = sink_into_loop(program, products=False)
    # Scratch is not shared: little is left of it, and the order of operations may change.
    made = plan(program, kept, levels, chunk_rows=_CHUNK_ROWS, copies_views=True, shares_scratch=())
    return CudaEmitted(made, name, stages, backend)


def lay_in_place(program: Program) -> Program:
    """What is the same at all steps and read at one as a copy in memory of its own, made once a run."""
    graph, levels = program.graph, sink_into_loop(program, products=False)

    def materialized(value: Value) -> Value:
        return (
            graph.add("materialized", (value,), value.shape, value.dtype) if levels.get(value) == "invariant" else value
        )

    def rule(value: Value, done: Any) -> Value | None:
        if levels.get(value, "invariant") == "invariant" or value.op in VIEWS:
            return None
        return value.with_inputs(graph, [materialized(done[i]) for i in value.inputs])

    rebuilt = program.rebuilt(rule)
    return replace(
        rebuilt, new_carry=tuple(map(materialized, rebuilt.new_carry)), ys=tuple(map(materialized, rebuilt.ys))
    )


class CudaEmitted(LoopEmitted):
    """A program of kernels and products. Without a backend it can be read, but not run."""

    dtypes = frozenset({"bfloat16", "float16", "float32", "float64", "int32", "int64", "bool"})
    most_steps = _STEPS
    language = CUDA
    end = ";"

    def __init__(self, plan: Plan, name: str, stages: Sequence[tuple[str, Program]], backend: Backend | None):
        self.backend = backend
        self.kernels: dict[str, str] = {}  # the source of each
        self.used: dict[str, str] = {}  # what the kernel that is being written names, and of which dtype
        self.turns = False  # whether the end of a step and the beginning of the next are one kernel
        self.ones_rows = 0  # how many rows a step has at most, of those that are summed
        super().__init__(plan, name, stages)
        self.prepare = self.namespace[f"{name}_invariant"]
        self.as_current = nullcontext if backend is None else backend.as_current
        if backend is not None:
            self.zeros, self.broadcast_to = backend.zeros, backend.xp.broadcast_to
            self.namespace |= {f: getattr(backend.xp, f) for f in FUNCTIONS}
            self.cuda = cuda_of(backend)
            self.namespace |= self.cuda.kernels(self.cuda_source, list(self.kernels))
            self.namespace |= {f: getattr(self.cuda, f) for f in ("product", "products", "add_rows")}
        dtypes = {np.dtype(value.dtype) for value in plan.program.values() if value.dtype is not None}
        self.namespace |= {dtype.name: dtype.type for dtype in dtypes}
        self.namespace |= {"inf": math.inf, "nan": math.nan}

    @property
    def cuda_source(self) -> str:
        return "\n".join(self.kernels.values())

    def in_words(self) -> str:
        return f"{self.loop_calls} launches a step, captured in a graph"

    def workspace(self, length: int, reverse: bool, given: Mapping[Value, Any]) -> CudaWorkspace:
        return CudaWorkspace(self, length, reverse, given)

    def run(self, constants: Sequence[Any], workspace: Any) -> list[Any]:
        with self.as_current():
            self.prepare(constants, workspace.static, workspace.length)
            graphs = workspace.play(self.function)
            record_launches(len(self.shares), f"scan, {self.name}")  # what leaves is copied
            if graphs:
                record_launches(self.invariant_calls + graphs, f"scan, {self.name}")
            else:
                self._note(len(workspace.chunks), workspace.length)
            totals = [workspace.totals[place] for place, _ in self.shares]
            return [(total if index is None else total[index]).copy() for total, (_, index) in zip(totals, self.shares)]

    # -- the functions -------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        for i, value in enumerate(self.totals):
            shape, dtype = self.total_forms[i]
            self.static[f"T{i}"] = total = self.plan.program.graph.add("total", (value,), shape, dtype, position=i)
            self.plan.storage[total] = Storage("step", total.number)
        before = self._launches("hoisted")
        loop = self._loop()
        after = self._launches("sunk")
        rest = [i for i, v in enumerate(self.totals) if not self._is_contracted(v)]
        after += [line for i in rest for line in self._sum(i, self.totals[i])]
        after += self._view_outputs()
        self.loop_calls, self.chunk_calls = len(loop) - self.turns, len(before) + len(after) + self.turns
        constants = [
            line for v in self.plan.program.values() if self._is_invariant(v) for line in self._invariant_lines(v)
        ]
        constant = [f"T{i}[...] = w{v.number} * length" for i, v in enumerate(self.totals) if self._is_invariant(v)]
        numbers = "t, now, next" if self.turns else "t, now"
        steps = (
            [f"for {numbers}, {self._tuple(self.steps)} in steps:", *(f"    {line}" for line in loop)] if loop else []
        )
        self.invariant_calls = self._calls_once() + len(constant)
        named = [f"    ({self._tuple(self.static)}) = static"] if self.static else []
        self.lines = [
            f"def {self.name}_invariant(constants, static, length):",
            *(named or ["    pass"]),
            *(f"    {line}" for line in constants + constant),
            "",
            f"def {self.name}(static, first, batch, steps):",
            *named,
            f"    ({self._tuple(self.batch)}) = batch",
            *(f"    {line}" for line in before + steps + after),
        ]
        self.loop_lines = [line for kernel in self.kernels.values() for line in kernel.splitlines() + [""]]

    def _launches(self, level: Level) -> list[str]:
        """The host's lines for what is done for many steps at once: launches of kernels, and products."""
        found = clusters(self.plan, {}, level)
        return [line for cluster in found for line in self._cluster(cluster, level)]

    def _loop(self) -> list[str]:
        """The host's lines for a step. If it ends with a kernel and begins with one, both are launched as one."""
        found = clusters(self.plan, self._left_to_copy())
        self.turns = self._can_turn(found)
        lines = [line for cluster in (found[:-1] if self.turns else found) for line in self._cluster(cluster, "loop")]
        if self.turns:
            lines[0] = f"if t == steps[0][0]: {lines[0]}"
            lines.append(self._turn(found[-1], found[0]))
        return lines

    def _can_turn(self, found: list[Cluster]) -> bool:
        """Whether the first nest of a step may follow the last one of the step before in the same threads.

        Then what one of them writes where the other reads, each thread must read where it has written itself.
        """
        if len(found) < 2 or not (found[0].is_nest and found[-1].is_nest):
            return False
        first, last = found[0], found[-1]
        writes_carry = any(task.kind == "copy" or task.value in self.plan.carried for task in first.tasks)
        if first.shape != last.shape or writes_carry:
            return False
        begins = [(i, base_of(i, self.given)) for task in first.tasks for i in task.inputs]
        ends = [(i, base_of(i, self.given)) for task in last.tasks for i in task.inputs]
        scratch = {v for v in first.stored if self.plan.storage_of(v) == "step"}
        carried = all(
            i is source and i.shape == first.shape for i, source in begins if source in self.plan.program.carry
        )
        read = all(i is source for i, source in ends if source in scratch)
        return carried and read and not any(source in self.plan.concats for _, source in ends)

    def _turn(self, last: Cluster, first: Cluster) -> str:
        """Write the kernel that ends a step and begins the next; return the host's line."""
        self.used = {}
        ending, beginning = self._nest(last), self._nest(first)
        return self._launch("turn", str(math.prod(last.shape)), [
            "const int n = blockIdx.x * blockDim.x + threadIdx.x;",
            f"if (n >= {math.prod(last.shape)}) return;",
            *_indices("n", last.shape, range(len(last.shape))),
            "{",
            "    const int64 t = t_now, now = moment, then = 1 - moment;",
            *(f"    {line}" for line in ending),
            "}",
            "if (next < 0) return;",
            "{",
            "    const int64 t = next, now = 1 - moment;",
            *(f"    {line}" for line in beginning),
            "}",
        ])  # fmt: skip

    def _invariant_lines(self, value: Value) -> list[str]:
        if value.op == "materialized":
            return [f"copyto({self.step_name(value)}, w{value.inputs[0].number})"]
        if value.op in VIEWS:
            return [f"w{value.number} = {view_text(value, self._operand(value.inputs[0], False, value), lead=False)}"]
        return super()._invariant_lines(value)

    def constant(self, value: Value, like: Any) -> str:
        return PYTHON.literal(value["value"], like)

    def steps_of(self, view: Callable[[str, Value, int], Any], places: range) -> Any:
        """For each step its number in the chunk, the moment of a fleeting carry, and the views that the step names.

        At a turn also the number of the next step, −1 after the last.
        """
        first, after = min(places[0], places[-1]), 1 if places.step < 0 else 0
        numbers: list[tuple[int, ...]] = [(t - first, (t + after) % 2) for t in places]
        if self.turns:
            nexts = [*(pair[0] for pair in numbers[1:]), -1]
            numbers = [(*pair, following) for pair, following in zip(numbers, nexts)]
        views = ([view(name, value, t) for name, value in self.steps.items()] or [None] for t in places)
        return [(*these, *seen) for these, seen in zip(numbers, views)]

    # -- names ---------------------------------------------------------------------------------------------------------

    def step_name(self, value: Value) -> str:
        if value.op == "materialized":
            self.static[f"W{value.number}"] = value
            return f"W{value.number}"
        if not self._is_invariant(value) and value in self.plan.storage and self.plan.storage_of(value) == "step":
            self.static[f"S{value.number}"] = value
            return f"S{value.number}"
        return super().step_name(value)

    def batch_name(self, value: Value) -> str:
        if self._is_invariant(value):
            return self.step_name(value)
        self.batch[f"V{value.number}"] = value
        return f"V{value.number}"

    def _named(self, name: str, value: Value, moment: str) -> Memory:
        memory = super()._named(name, value, moment)
        self.used[name] = np.dtype(value.dtype).name
        (self.batch if moment == "t" else self.static)[name] = value
        return memory

    # -- kernels -------------------------------------------------------------------------------------------------------

    def _kernel(self, level: str, shape: Sequence[int], lines: Sequence[str]) -> str:
        """Write a kernel that does the lines at every index of that shape; return the host's line that launches it."""
        size = math.prod(shape)
        if level == "loop":
            body = [
                "const int n = blockIdx.x * blockDim.x + threadIdx.x;",
                f"if (n >= {size}) return;",
                *_indices("n", shape, range(len(shape))),
            ]
        else:
            body = [
                "const int64 n = int64(blockIdx.x) * blockDim.x + threadIdx.x;",
                f"if (n >= count * {size}) return;",
                f"const int64 t = n / {size};",
                *_indices(f"int(n % {size})", shape, range(len(shape))),
            ]
        return self._launch(level, str(size), [*body, *lines])

    def _launch(self, level: str, threads: str, body: Sequence[str]) -> str:
        """Write a kernel; return the host's line that launches it with so many threads a step."""
        name = f"{self.name}_{len(self.kernels) + 1}"
        first = _NUMBERS[level]
        pointers = [f"{dtype}* {array}" for array, dtype in self.used.items()]
        then = ["const int64 then = 1 - now;"] if level == "loop" and any("then *" in line for line in body) else []
        self.kernels[name] = "\n".join([
            f'extern "C" __global__ void {name}({", ".join([first, *pointers])}) {{',
            *(f"    {line}" for line in (*then, *body)),
            "}",
            "",
        ])  # fmt: skip
        arrays = ", ".join(self.used)
        self.used = {}
        if level in ("loop", "turn"):
            return f"{name}({threads}, t, now, {'next, ' if level == 'turn' else ''}{arrays})"
        return f"{name}({threads} * {self.step_count}, {self.step_count}, {arrays})"

    def _cluster(self, cluster: Cluster, level: str) -> list[str]:
        if not cluster.is_nest:
            return self._other(cluster.tasks[0].value, level)
        self.used = {}
        if level != "loop":  # what is summed over time is read from memory
            cluster.stored |= {task.value for task in cluster.tasks} & {base_of(v, self.given) for v in self.totals}
        return [self._kernel(level, cluster.shape, self._nest(cluster))]

    def _declared(self, value: Value) -> str:
        return f"const {in_register(value.dtype).name} v{value.number}"

    def _other(self, value: Value, level: str) -> list[str]:
        if self._is_contracted(value):
            return self._sum(self.totals.index(value), value)
        writers = {
            "matmul": self._product, "concat": self._joined, "scatter": self._placed, "rearrange": self._rearranged,
            "sum": self._reduced, "max": self._reduced, "min": self._reduced,
        }  # fmt: skip
        if value.op not in writers:
            raise Untraceable(f"there is no kernel for {value.op}")
        if not is_floating(value.dtype) and value.op not in ("concat", "rearrange"):
            raise Untraceable(f"it computes {value.op} in {np.dtype(value.dtype).name}")
        if any(i.dtype != value.dtype for i in value.inputs):
            raise Untraceable(f"it computes {value.op} of several dtypes")
        self.used = {}
        return writers[value.op](value, level)

    def _joined(self, value: Value, level: str) -> list[str]:
        lines, start, axis = [], 0, value["axis"]
        for part in value.inputs:
            out, stop = self._at(value), start + part.shape[axis]
            lines.append(self._copied(part, out.seen(out.view[(slice(None),) * axis + (slice(start, stop),)]), level))
            start = stop
        return lines

    def _rearranged(self, value: Value, level: str) -> list[str]:
        out = self._at(value)
        return [self._copied(value.inputs[0], out.seen(out.view.reshape(value.inputs[0].shape)), level)]

    def _copied(self, source: Value, place: Memory, level: str) -> str:
        axes = AXES[: len(source.shape)]
        return self._kernel(level, source.shape, [f"{place.element(axes)} = {self._at(source).element(axes)};"])

    def _placed(self, value: Value, level: str) -> list[str]:
        axes = AXES[: len(value.shape)]
        zero = f"{self._at(value).element(axes)} = {CUDA.literal(0, in_register(value.dtype))};"
        lines = [self._kernel(level, value.shape, [zero])]
        for part, index in zip(value.inputs, value["indices"]):
            out, axes = self._at(value), AXES[: len(part.shape)]
            place = out.seen(out.view[as_index(index)]).element(axes)
            lines.append(self._kernel(level, part.shape, [f"{place} = {place} + {self._at(part).read(axes)};"]))
        return lines

    def _reduced(self, value: Value, level: str) -> list[str]:
        """A sum, or what is largest or smallest, by a block of threads for each element of the result."""
        (source,) = value.inputs
        function, neutral = {"sum": ("plus", 0.0), "max": ("maximum", -np.inf), "min": ("minimum", np.inf)}[value.op]
        shape, kept = source.shape, [a for a in range(len(source.shape)) if a not in value["axis"]]
        size, axes, dtype = math.prod(shape[a] for a in kept), AXES[: len(shape)], in_register(value.dtype)
        out = self._at(value)
        place = out.seen(out.view if value["keepdims"] else np.expand_dims(out.view, value["axis"])).element(axes)
        at_n = ["const int64 n = blockIdx.x;"]
        if level != "loop":
            at_n += [f"const int64 t = n / {size};"]
        body = [
            f"__shared__ {dtype.name} shared[{THREADS}];",
            *at_n,
            *_indices(f"int(n % {size})", shape, kept),
            f"{dtype.name} total = {CUDA.literal(neutral, dtype)};",
            f"for (int m = threadIdx.x; m < {math.prod(shape[a] for a in value['axis'])}; m += {THREADS}) {{",
            *(f"    {line}" for line in _indices("m", shape, value["axis"])),
            f"    total = {function}(total, {dtype.name}({self._at(source).read(axes)}));",
            "}",
            "shared[threadIdx.x] = total;",
            "__syncthreads();",
            f"for (int half = {THREADS // 2}; half > 0; half /= 2) {{",
            "    const int other = threadIdx.x + half;",
            f"    if (threadIdx.x < half) shared[threadIdx.x] = {function}(shared[threadIdx.x], shared[other]);",
            "    __syncthreads();",
            "}",
            f"if (threadIdx.x == 0) {place} = shared[0];",
        ]
        return [self._launch(level, str(size * THREADS), body)]

    # -- products ------------------------------------------------------------------------------------------------------

    def _product(self, value: Value, level: str) -> list[str]:
        left, right = value.inputs
        if max(len(left.shape), len(right.shape)) > 2:
            raise Untraceable(f"there is no kernel for products of {left.shape} and {right.shape}")
        lines: list[str] = []
        if level == "loop":
            left, right = (self._as_matrix(v, level, lines) for v in (left, right))
            names = map(self.step_name, (left, right, value))
            return [*lines, f"product({', '.join(names)})"]
        if len(left.shape) != 2 or len(right.shape) != 2:
            raise Untraceable("there is no kernel for products of vectors at many steps at once")
        if self._is_invariant(right) and not self._is_invariant(left):  # one product of the rows of all steps
            left, (k, n) = self._as_rows(left, left.shape[1], level, lines), right.shape
            a, b, out = map(self.batch_name, (left, right, value))
            return [*lines, f"product({a}.reshape(-1, {k}), {b}, {out}.reshape(-1, {n}))"]
        left, right = (self._as_matrix(v, level, lines) for v in (left, right))
        return [*lines, f"products({', '.join(map(self.batch_name, (left, right, value)))})"]

    def _sum(self, position: int, value: Value) -> list[str]:
        """Add up over the steps of a chunk, by a product: of two matrices, or of a row of ones and one."""
        if self._is_invariant(value):
            return []
        total, lines = f"T{position}", list[str]()
        kind = self._contraction(value) if not self._used(value) else None
        if kind == "product":
            factors = (value.inputs[0].inputs[0], value.inputs[1])
            left, right = (
                f"{self.batch_name(self._as_rows(v, v.shape[1], 'sunk', lines))}.reshape(-1, {v.shape[1]})"
                for v in factors
            )
            return [*lines, f"product({left}.T, {right}, {total}, not first)"]
        summed = value.inputs[0] if kind == "sum" else value
        if not is_floating(value.dtype):
            raise Untraceable(f"it sums over time in {np.dtype(value.dtype).name}")
        columns = math.prod(self.total_forms[position][0])
        summed = self._as_rows(summed, columns, "sunk", lines)
        self.ones_rows = max(self.ones_rows, math.prod(summed.shape) // columns)
        ones = f"ones_{np.dtype(summed.dtype).name}"
        self.static[ones] = self.plan.program.graph.add("ones", (), (1, 1), summed.dtype)
        return [*lines, f"add_rows({ones}, {self.batch_name(summed)}.reshape(-1, {columns}), {total}, not first)"]

    def _contraction(self, value: Value) -> str | None:
        kind = super()._contraction(value)
        if kind == "sum" and value["axis"] != tuple(range(len(value["axis"]))):
            return None  # of leading axes only is the sum a product
        return kind

    def _as_matrix(self, value: Value, level: str, lines: list[str]) -> Value:
        """The value, if cuBLAS can read it where it lies at one step; else a copy, which the lines make."""
        view = self._seen(value).view
        return value if is_matrix(view.strides, view.shape, view.itemsize) else self._settled(value, level, lines)

    def _as_rows(self, value: Value, columns: int, level: str, lines: list[str]) -> Value:
        """The value, if at all steps together it lies as a matrix with so many columns; else a copy."""
        memory = self._seen(value)
        whole = np.empty((2, *memory.whole.shape), memory.whole.dtype)
        strides = (whole.strides[0] if memory.moment else 0, *memory.view.strides)
        shown = np.lib.stride_tricks.as_strided(whole, (2, *memory.view.shape), strides, writeable=False)
        rows = shown.reshape(-1, columns)
        lies_so = np.may_share_memory(rows, whole) and is_matrix(rows.strides, rows.shape, rows.itemsize)
        return value if lies_so else self._settled(value, level, lines)

    def _seen(self, value: Value) -> Memory:
        """Where it lies, without naming it in a kernel."""
        memory, self.used = self._at(value), {}
        return memory

    def _settled(self, value: Value, level: str, lines: list[str]) -> Value:
        """A copy of a value that lies row by row."""
        kind: StorageKind = "step" if level == "loop" else "batch"
        copy = self.plan.program.graph.add("settled", (value,), value.shape, value.dtype, level=kind)
        if copy not in self.plan.storage:
            self.plan.storage[copy] = Storage(kind, copy.number)
            lines.append(self._copied(value, self._at(copy), level))
        return copy


class CudaWorkspace(Workspace):
    """The arrays of a CUDA program, and the graphs that were captured over them."""

    def __init__(self, emitted: CudaEmitted, length: int, reverse: bool, given: Mapping[Value, Any]):
        with emitted.as_current():
            self.rows_of_ones = emitted.ones_rows
            super().__init__(emitted, length, reverse, given)
        self.cuda = emitted.cuda
        names = list(emitted.static)
        self.totals = [self.static[names.index(f"T{i}")] for i in range(len(emitted.totals))]
        self.graphs: dict[int, list[Any]] = {}  # by what cuBLAS computes in
        self.is_warm = False

    def play(self, function: Callable[..., None]) -> int:
        """Do what the function launches, chunk after chunk: the first time directly, then by so many graphs."""
        if not self.is_warm or not wants_graphs():
            for chunk in self.chunks:
                function(self.static, *chunk)
            self.is_warm = True
            return 0
        mode = self.cuda.compute_type(np.float32)
        if mode not in self.graphs:
            self.graphs[mode] = [self.cuda.graph(partial(function, self.static, *chunk)) for chunk in self.chunks]
        for graph in self.graphs[mode]:
            graph.launch()
        return len(self.graphs[mode])

    def view(self, name: str, value: Value, where: int | slice) -> Any:
        if name.startswith("ones"):
            ones = self.emitted.zeros((1, max(self.size * self.rows_of_ones, 1)), value.dtype)
            ones.fill(1)
            record_launches(1, f"scan, {self.emitted.name}")
            return ones
        return super().view(name, value, where)


def _indices(number: str, shape: Sequence[int], axes: Sequence[int]) -> list[str]:
    """The declarations of the indices along these axes, from the number of an element among those of the axes."""
    declared, below = [], 1
    for axis in reversed(axes):
        n = shape[axis]
        if n > 1:
            text = number if below == 1 else f"{number} / {below}"
            is_first = below * n == math.prod(shape[a] for a in axes)
            declared.append(f"{AXES[axis]} = {text}" if is_first else f"{AXES[axis]} = {text} % {n}")
        below *= n
    return [f"const int {', '.join(reversed(declared))};"] if declared else []
