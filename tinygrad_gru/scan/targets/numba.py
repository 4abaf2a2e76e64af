"""Emit for numba: the loop over the steps as one compiled function; what is before and after it stays NumPy source.

    product(16, 64, 64, V0, t * 1024, 64, 1, W30, 0, S5, 0, 64)
    for i in range(16):
        for j in range(64):
            v6 = V4[t * 1024 + i * 64 + j] + S5[i * 64 + j]
            v11 = tanh_float32(v6)
            V11[t * 1024 + i * 64 + j] = v11

V11 is where v11 begins at the first step of a chunk, S5 is scratch for one step, W30 is the same at all steps. Memory
is addressed by numbers that are known when the source is written: all arrays of a workspace lie row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..ir import Program, Value
from ..passes.clusters import Cluster, clusters
from ..passes.merge import merge_matmuls, merge_sums
from ..passes.pack import pack_operands
from ..passes.plan import plan
from ..passes.schedule import Level
from ..passes.sink import sink_into_loop
from ..passes.storage import Plan
from ..tracing.traced_array import Untraceable, as_index
from . import numba_math as native
from .elements import PYTHON
from .kernels import AXES, LoopEmitted, Memory, address, nest

#: Rows of a chunk. Outside the loop little is left but sums over time, which are the faster the longer they are.
_CHUNK_ROWS = 1024


def emitted(program: Program, name: str, kept: Collection[Value] = (), threads: int = 1) -> NumbaEmitted:
    """The program for numba. Raises Untraceable, with the reason, if its loop cannot be compiled so.

    Of the passes only those that join products are worth it: an operation in a nest costs next to nothing.
    """
    stages = [("trace", program)]
    for improve in (merge_matmuls, merge_sums, pack_operands):
        stages.append((improve.__name__, improve(stages[-1][1])))
    program = stages[-1][1]
    levels = sink_into_loop(program)
    # Scratch of the loop is not shared: little is left of it, and the order of operations may change.
    shared: tuple[Level, ...] = ("hoisted", "sunk")
    made = plan(program, kept, levels, chunk_rows=_CHUNK_ROWS, copies_views=True, shares_scratch=shared)
    return NumbaEmitted(made, name, stages, threads)


class _Entangled(Exception):
    """Rows of the batch depend on each other."""


class NumbaEmitted(LoopEmitted):
    """A program whose loop is a compiled function; several threads share the batch, where its rows are independent."""

    step_count = "int(steps[0][0])"
    dtypes = frozenset(native.POINTERS)

    def __init__(self, plan: Plan, name: str, stages: Sequence[tuple[str, Program]], threads: int):
        self.threads = threads
        super().__init__(plan, name, stages)

    def in_words(self) -> str:
        threads = f", shared by {self.threads} threads" if self.threads > 1 else ""
        return f"a compiled loop of {self.loop_calls} nests and products{threads}"

    # -- the function ------------------------------------------------------------------------------------------------

    def _loop(self) -> list[str]:
        found = clusters(self.plan, self._left_to_copy())
        self.loop_calls = len(found)
        try:
            lines = [line for cluster in found for line in self._cluster(cluster)]
        except _Entangled:
            self.threads = 1
            lines = [line for cluster in found for line in self._cluster(cluster)]
        if not lines:
            return []
        names = ", ".join(["t", "now", "then", *self.values])
        pointers = [
            f"{name} = pointer_{np.dtype(value.dtype).name}(steps[{place}])"
            for place, (name, value) in enumerate(self.values.items(), start=4)
        ]
        self.loop_lines = [
            "@apart",
            f"def step({names}):",
            *(f"    {line}" for line in lines),
            "",
            "@entry",
            "def loop(steps):",
            "    count, t, onwards, now = steps[0], steps[1], steps[2], steps[3]",
            *(f"    {line}" for line in pointers),
            "    for _ in range(count):",
            "        then = 1 - now",
            f"        step({names})",
            "        t, now = t + onwards, then",
            "",
        ]
        self.namespace |= {"pack": native.pack, "in_threads": native.in_threads}
        return ["loop(steps[0])" if self.threads == 1 else "in_threads(loop, steps)"]

    def _invariant_lines(self, value: Value) -> list[str]:
        if value.op not in ("materialized", "packed"):
            return super()._invariant_lines(value)
        name, (source,) = f"W{value.number}", value.inputs
        self.static[name] = value
        if value.op == "materialized":
            return [f"copyto({name}, w{source.number})"]
        return [f"pack(w{source.number}.reshape({value.shape[1]}, -1), {name})"]

    def steps_of(self, view: Callable[[str, Value, Any], np.ndarray], places: range) -> Any:
        """What the loop is given, for each thread: numbers, and where arrays begin.

        The numbers are how many steps, at which of the chunk they begin, in which direction, and at which of the two
        moments of a fleeting carry.
        """
        if self.loop_lines and "loop" not in self.namespace:
            self.namespace["loop"] = _compiled("\n".join(self.loop_lines), f"<scan {self.name}>")
        first, last = sorted((places[0], places[-1]))
        begins, shares = [], []
        for name, value in self.values.items():
            memory = self.memory[name]
            array = view(name, value, slice(first, last + 1) if memory.moment == "t" else 0)
            assert array.strides == np.empty(array.shape, array.dtype).strides, f"{name} does not lie row by row"
            begins.append(address(array))
            shares.append(memory.whole.nbytes // self.threads if self._is_shared(memory) else 0)
        moment = places[0] + (1 if places.step < 0 else 0)
        numbers = [len(places), places[0] - first, places.step, moment % 2]
        threads = range(self.threads)
        return [np.array([*numbers, *(b + i * s for b, s in zip(begins, shares))], np.int64) for i in threads]

    # -- threads -----------------------------------------------------------------------------------------------------

    @property
    def _batch(self) -> int:
        """Rows of the batch, if there is one."""
        return max((v.shape[0] for v in self.plan.program.carry if len(v.shape) == 2), default=0)

    def _is_shared(self, memory: Memory) -> bool:
        """Whether each thread has rows of its own in what is there."""
        return self.threads > 1 and memory.whole.ndim == 2 and memory.whole.shape[0] == self._batch

    def _reached(self, memory: Memory) -> Memory:
        """The memory, if it shows each thread its own rows, or all of them the same."""
        view, whole = memory.view, memory.whole
        if self._is_shared(memory):
            is_apart = view.ndim == 2 and view.shape[0] == whole.shape[0] and view.strides[0] == whole.strides[0]
            is_apart = is_apart and memory.offset < memory.strides[0]
        else:
            is_apart = view.ndim < 2 or view.shape[0] == 1 or view.strides[0] == 0
        if self.threads > 1 and not is_apart:
            raise _Entangled
        return memory

    def _rows(self, rows: int) -> int:
        """How many of these rows are a thread's own."""
        if self.threads > 1 and (rows != self._batch or rows % self.threads):
            raise _Entangled
        return rows // self.threads

    # -- elementwise operations ----------------------------------------------------------------------------------------

    def _cluster(self, cluster: Cluster) -> list[str]:
        if not cluster.is_nest:
            return self._other(cluster.tasks[0].value)
        shape = cluster.shape
        if self.threads > 1:
            if len(shape) != 2:
                raise _Entangled
            shape = (self._rows(shape[0]), shape[1])
        return nest(shape, self._nest(cluster))

    # -- other operations ----------------------------------------------------------------------------------------------

    def _other(self, value: Value) -> list[str]:
        writers = {
            "product": self._product, "packed": self._packed, "concat": self._joined, "scatter": self._placed,
            "rearrange": self._rearranged, "sum": self._reduced, "max": self._reduced, "min": self._reduced,
        }  # fmt: skip
        if self.threads > 1 and value.op != "product":
            raise _Entangled
        if value.op not in writers:
            raise Untraceable(f"there are no loops for {value.op} of {len(value.inputs[0].shape)} axes")
        if np.dtype(value.dtype).kind != "f" and value.op not in ("concat", "rearrange"):
            raise Untraceable(f"it computes {value.op} in {np.dtype(value.dtype).name}")
        if any(i.dtype != value.dtype for i in value.inputs):
            raise Untraceable(f"it computes {value.op} of several dtypes")
        return writers[value.op](value)

    def _product(self, value: Value) -> list[str]:
        rows, inner, columns = value["sizes"]
        left, out = (self._reached(self._at(v)) for v in (value.inputs[0], value))
        right = self._at(value.inputs[1])
        if self.threads > 1 and not self._is_invariant(value.inputs[1]):
            raise _Entangled
        down, along = left.strides if len(left.strides) == 2 else (0, *left.strides)
        below = out.strides[0] if rows > 1 else 0
        sizes = f"{self._rows(rows)}, {inner}, {columns}"
        left_text = f"{left.pointer}, {left.start}, {down}, {along}"
        right_text = f"{right.pointer}, {right.start}, {right.view.shape[2]}"
        return [f"product({sizes}, {left_text}, {right_text}, {out.pointer}, {out.start}, {below})"]

    def _packed(self, value: Value) -> list[str]:
        """A matrix that changes from step to step, as `native.pack` packs one that does not."""
        (matrix,) = value.inputs
        source, width = self._at(matrix), value.shape[2]
        columns = matrix.shape[1] if len(matrix.shape) == 2 else 1
        axes = ("j", f"(min(i * {width}, {columns - width}) + k)")
        return nest(value.shape, [f"{self._at(value).element(AXES[:3])} = {source.element(axes[: len(matrix.shape)])}"])

    def _joined(self, value: Value) -> list[str]:
        lines, out, start, axis = [], self._at(value), 0, value["axis"]
        for part in value.inputs:
            stop = start + part.shape[axis]
            lines += self._copied(part, out.seen(out.view[(slice(None),) * axis + (slice(start, stop),)]))
            start = stop
        return lines

    def _rearranged(self, value: Value) -> list[str]:
        out = self._at(value)
        return self._copied(value.inputs[0], out.seen(out.view.reshape(value.inputs[0].shape)))

    def _copied(self, source: Value, place: Memory) -> list[str]:
        axes = AXES[: len(source.shape)]
        return nest(source.shape, [f"{place.element(axes)} = {self._at(source).element(axes)}"])

    def _filled(self, value: Value, text: str) -> list[str]:
        return nest(value.shape, [f"{self._at(value).element(AXES[: len(value.shape)])} = {text}"])

    def _placed(self, value: Value) -> list[str]:
        out, lines = self._at(value), self._filled(value, PYTHON.literal(0, value.dtype))
        for part, index in zip(value.inputs, value["indices"]):
            axes = AXES[: len(part.shape)]
            place = out.seen(out.view[as_index(index)]).element(axes)
            lines += nest(part.shape, [f"{place} = {place} + {self._at(part).read(axes)}"])
        return lines

    def _reduced(self, value: Value) -> list[str]:
        """A sum, or what is largest or smallest; along the last axis it is gathered in a register."""
        (source,) = value.inputs
        function, neutral = {"sum": ("plus", 0.0), "max": ("maximum", -np.inf), "min": ("minimum", np.inf)}[value.op]
        axes, out, first = AXES[: len(source.shape)], self._at(value), PYTHON.literal(neutral, value.dtype)
        view = out.view if value["keepdims"] else np.expand_dims(out.view, value["axis"])
        place, element = out.seen(view).element(axes), self._at(source).read(axes)
        lines = self._filled(value, first)
        if len(source.shape) - 1 not in value["axis"]:
            return lines + nest(source.shape, [f"{place} = {function}({place}, {element})"])
        gather = [f"for {axes[-1]} in range({source.shape[-1]}):", f"    total = {function}(total, {element})"]
        return lines + nest(source.shape[:-1], [f"total = {first}", *gather, f"{place} = {function}({place}, total)"])


@lru_cache(maxsize=64)
def _compiled(source: str, filename: str) -> Callable:
    """The function `loop` of a source; compiling takes a second, and equal loops are not rare: one a layer."""
    return native.compiled(source, filename)
