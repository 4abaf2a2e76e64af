"""Operations in JavaScript: loops on the elements of typed arrays, products and reductions.

    product(1, 64, 192, V0, t * 64, 64, 1, w30, 0, 192, 1, S5, 0, 192);
    for (let j = 0; j < 192; j++) {
      const v6 = Math.fround(V4[t * 192 + j] + S5[j]);
      const v11 = Math.fround(Math.tanh(v6));
      V11[t * 192 + j] = v11;
    }

Each array is flat; that of a value at all steps has step t at `t * size`. An axis of length one has no loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....backend import is_floating
from ...ir import Value
from ...passes.clusters import Cluster, Task, clusters
from ...passes.schedule import VIEWS, Level, base_of
from ...passes.storage import Plan
from ...tracing.traced_array import Untraceable
from ..elements import JAVASCRIPT, REDUCTIONS, check_operation, neutral
from ..loops import AXES, Layout, LoopWriter, Memory, Nest, as_matrices
from ..source import Buffer, Buffers, Names, TimeSums

#: The typed array of each dtype. A boolean is a byte, an int64 a number of 53 bits.
ARRAYS = {
    "float32": "Float32Array",
    "float64": "Float64Array",
    "int32": "Int32Array",
    "int64": "Float64Array",
    "bool": "Uint8Array",
}


class JavaScriptNames(Names):
    """Names of arrays, with a suffix where several plans share a scope."""

    def __init__(self, plan: Plan, suffix: str = ""):
        super().__init__(plan)
        self.suffix = suffix

    def at_step(self, value: Value) -> Buffer:
        return self._suffixed(super().at_step(value))

    def at_chunk(self, value: Value) -> Buffer:
        return self._suffixed(super().at_chunk(value))

    def total(self, position: int, value: Value) -> Buffer:
        """The buffer of a sum over time."""
        return self._suffixed(Buffer(f"T{position}", "static", "total", value, position))

    def _suffixed(self, buffer: Buffer) -> Buffer:
        return buffer._replace(name=buffer.name + self.suffix)


class JavaScriptLayout(Layout):
    """The memory of every value of a plan, of loop-invariant ones too.

    known  the memory of values that others have allocated
    suffix  of the names of the other arrays
    """

    names: JavaScriptNames

    def __init__(self, plan: Plan, known: Mapping[Value, Memory] | None = None, suffix: str = ""):
        super().__init__(plan, ARRAYS)
        self.known, self.names = known or {}, JavaScriptNames(plan, suffix)
        for dtype in {np.dtype(value.dtype).name for value in plan.program.values() if value.dtype is not None}:
            if dtype not in ARRAYS:  # where nothing of it is stored, it would not be rounded
                raise Untraceable(f"it computes in {dtype}, which JavaScript does not have")

    def memory(self, value: Value) -> Memory:
        if value in self.known:
            return self.known[value]
        if value in self.names.invariant and value.op not in VIEWS:
            return self.allocated(self.names.at_step(value)._replace(scope="static"))
        return super().memory(value)


class Operations:
    """Writes the statements of a plan, level by level.

    buffers  the arrays that they address
    totals   the memory of each sum over time
    """

    def __init__(self, layout: JavaScriptLayout):
        self.layout, self.plan = layout, layout.plan
        self.writer, self.sums = LoopWriter(layout, JAVASCRIPT), TimeSums(layout.plan)
        self.buffers = Buffers()
        self.totals: list[Memory] = []
        for i, value in enumerate(self.sums.totals):
            if not is_floating(value.dtype):
                raise Untraceable(f"it sums over time in {np.dtype(value.dtype).name}")
            self.totals.append(layout.allocated(layout.names.total(i, value)))

    # -- levels --------------------------------------------------------------------------------------------------------

    def invariant(self) -> list[str]:
        """The statements that run once, before the steps."""
        lines: list[str] = []
        for value in self.plan.operations("invariant"):
            if value.op in ("constant", "zeros"):
                self.buffers.declare(self.layout.memory(value).buffer)
                continue
            cluster = Cluster()
            cluster.tasks, cluster.stored = [Task("compute", value)], {value}
            lines += self._cluster(cluster, "invariant")
        return lines

    def in_loop(self) -> list[str]:
        """The statements of one step."""
        found = clusters(self.plan, self.layout.names.carry_copies())
        return [line for cluster in found for line in self._cluster(cluster, "loop")]

    def over_time(self, level: Level) -> list[str]:
        """The statements for all steps at once, before the loop or after it."""
        return [line for cluster in clusters(self.plan, {}, level) for line in self._cluster(cluster, level)]

    def sums_over_time(self) -> list[str]:
        """The statements that add up what `over_time` has not added up already."""
        rest = [(i, v) for i, v in enumerate(self.sums.totals) if not self.sums.is_contracted(v)]
        return [line for i, value in rest for line in self._sum(i, value)]

    def declare(self, *memories: Memory) -> None:
        """Note that these are addressed."""
        for memory in memories:
            self.buffers.declare(memory.buffer)

    # -- operations ----------------------------------------------------------------------------------------------------

    def _cluster(self, cluster: Cluster, level: Level) -> list[str]:
        if not cluster.is_nest:
            return self._operation(cluster.tasks[0].value, level)
        if level == "sunk":  # the terms of totals are read from memory
            terms = {base_of(v, self.plan.program.inputs) for v in self.sums.totals}
            cluster.stored |= {task.value for task in cluster.tasks} & terms
        return self._at_steps(level, self._loops([self.writer.cluster(cluster)]))

    def _operation(self, value: Value, level: Level) -> list[str]:
        if self.sums.is_contracted(value):
            return self._sum(self.sums.totals.index(value), value)
        moves = self.writer.moves
        check_operation(value, {*moves, "matmul", "sum", "max", "min"}, f"JavaScript has no {value.op} of arrays")
        if value.op == "matmul":
            return self._product(value, level)
        lines = self._loops(moves[value.op](value)) if value.op in moves else self._reduction(value)
        return self._at_steps(level, lines)

    @staticmethod
    def _at_steps(level: Level, lines: list[str]) -> list[str]:
        """Statements of a step, at every step."""
        return loop("t", "length", lines) if lines and level in ("hoisted", "sunk") else lines

    def _loops(self, nests: Sequence[Nest]) -> list[str]:
        for nest in nests:
            self.declare(*nest.memories)
        return [line for nest in nests for line in loops(nest.shape, nest.lines)]

    def _reduction(self, value: Value) -> list[str]:
        """A sum, maximum or minimum; along the last axis it is accumulated in a variable."""
        (source,) = value.inputs
        function = REDUCTIONS[value.op]
        out, read, axes = self.layout.memory(value), self.layout.memory(source), AXES[: len(source.shape)]
        target = _with_axes(out, value).element(axes)
        first, dtype = JAVASCRIPT.literal(neutral(value.op, value.dtype), value.dtype), value.dtype
        lines = self._loops([self.writer.fill(value, first)])
        self.declare(out, read)
        if len(source.shape) - 1 not in value["axis"]:
            text = JAVASCRIPT.apply(function, dtype, target, read.read(axes))
            return lines + loops(source.shape, [JAVASCRIPT.assign(target, text)])
        total = JAVASCRIPT.assign("total", JAVASCRIPT.apply(function, dtype, "total", read.read(axes)))
        body = [f"let total = {first};", *loop(axes[-1], source.shape[-1], [total])]
        body.append(JAVASCRIPT.assign(target, JAVASCRIPT.apply(function, dtype, target, "total")))
        return lines + loops(source.shape[:-1], body)

    # -- products ------------------------------------------------------------------------------------------------------

    def _product(self, value: Value, level: Level) -> list[str]:
        left, right, out = as_matrices(*map(self.layout.memory, (*value.inputs, value)))
        self.declare(left, right, out)
        batch, inner, columns = out.view.shape[:-2], *right.view.shape[-2:]
        rows: Any = left.view.shape[-2]
        if level in ("hoisted", "sunk") and not batch and right.time == "" and all(map(_has_rows, (left, out))):
            # The rows of all steps follow each other: one product.
            rows = "length" if rows == 1 else f"length * {rows}"
            level, left, out = "loop", _rows(left), _rows(out)
        axes = AXES[: len(batch)]
        sizes = f"{rows}, {inner}, {columns}"
        call = f"product({sizes}, {_matrix(left, axes)}, {_matrix(right, axes)}, {_target(out, axes)});"
        return self._at_steps(level, loops(batch, [call]))

    # -- sums over time ------------------------------------------------------------------------------------------------

    def _sum(self, position: int, value: Value) -> list[str]:
        """total += the value at every step"""
        total, contraction = self.totals[position], self.sums.contraction(value)
        if contraction == "product":
            return self._sum_of_products(total, value)
        if contraction == "scatter":
            nest = Nest(value.inputs[0].shape)
            nest.lines = self.writer.add_at_positions(value, nest, nest.axes, total)
            return loop("t", "length", self._loops([nest]))
        term = value
        if contraction == "sum":
            (term,) = value.inputs
            total = _with_axes(total, value)
        memory = self.layout.memory(term)
        self.declare(memory, total)
        return loop("t", "length", added(memory, total))

    def _sum_of_products(self, total: Memory, value: Value) -> list[str]:
        """total += Σₜ aₜᵀ bₜ, as one product where the rows of all steps follow each other."""
        a, b = self.layout.memory(value.inputs[0].inputs[0]), self.layout.memory(value.inputs[1])
        self.declare(a, b, total)
        inner, at_once = f"{a.view.shape[0]}", _has_rows(a) and _has_rows(b)
        if at_once:
            inner = "length" if inner == "1" else f"length * {inner}"
            a, b = _rows(a), _rows(b)
        a = a._replace(view=a.view.T)
        sizes = f"{a.view.shape[0]}, {inner}, {b.view.shape[1]}"
        call = [f"addProduct({sizes}, {_matrix(a)}, {_matrix(b)}, {_target(total)});"]
        return call if at_once else loop("t", "length", call)


def copied(source: Memory, target: Memory) -> list[str]:
    """target = source"""
    axes = AXES[: source.view.ndim]
    return loops(source.view.shape, [JAVASCRIPT.assign(target.element(axes), source.element(axes))])


def added(source: Memory, target: Memory) -> list[str]:
    """target += source, summed along the axes along which the target has length one"""
    axes, dtype = AXES[: source.view.ndim], source.base.dtype
    element = target.element(axes)
    total = JAVASCRIPT.apply("plus", dtype, element, source.read(axes))
    return loops(source.view.shape, [JAVASCRIPT.assign(element, total)])


def new_array(value: Value, steps: str = "") -> str:
    """The expression for an array of zeros, of a value at one step or at a number of `steps`."""
    size = int(np.prod(value.shape, dtype=np.int64))
    return f"new {ARRAYS[np.dtype(value.dtype).name]}({f'{steps} * ' if steps else ''}{size})"


def _with_axes(memory: Memory, reduction: Value) -> Memory:
    """The memory of a reduction with the axes that it has lost, of length one."""
    return memory if reduction["keepdims"] else memory.with_view(np.expand_dims(memory.view, reduction["axis"]))


def _has_rows(memory: Memory) -> bool:
    """Whether the rows of all steps follow each other in memory."""
    return memory.view.size == memory.base.size and memory.view.flags.c_contiguous


def _rows(memory: Memory) -> Memory:
    """The memory of such rows."""
    rows = np.empty(memory.view.shape, memory.base.dtype)
    return memory._replace(time="", base=rows, view=rows)


def _matrix(memory: Memory, axes: Sequence[str] = ()) -> str:
    """The arguments that are a matrix: an array, the position of the first element, the strides of rows and columns."""
    *of_batch, row, column = memory.strides
    lengths = memory.view.shape[: len(of_batch)]
    steps = [f"{axis} * {stride}" for axis, n, stride in zip(axes, lengths, of_batch) if n > 1 and stride]
    start = " + ".join([*([memory.start] if memory.start != "0" or not steps else []), *steps])
    return f"{memory.pointer}, {start}, {row}, {column}"


def _target(memory: Memory, axes: Sequence[str] = ()) -> str:
    """The arguments that are the result of a product, whose columns follow each other."""
    return _matrix(memory, axes).rpartition(", ")[0]


def loop(axis: str, count: Any, lines: Sequence[str]) -> list[str]:
    return [f"for (let {axis} = 0; {axis} < {count}; {axis}++) {{", *(f"  {line}" for line in lines), "}"]


def loops(shape: Sequence[int], lines: Sequence[str]) -> list[str]:
    """The lines in a loop for each axis of the shape that is longer than one; in a block if there is none."""
    result, axes = list(lines), [(axis, n) for axis, n in zip(AXES, shape) if n > 1]
    for axis, n in reversed(axes):
        result = loop(axis, n, result)
    return result if axes or len(lines) == 1 else ["{", *(f"  {line}" for line in result), "}"]
