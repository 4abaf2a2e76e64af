"""Sums over time as a native function, which adds the rows of a chunk: the gradients of weights and biases.

    add_product(64, rows, 256, V0, 0, 64, V231, 0, 256, T1, 0, 256)    T1 += Σₜ v0ᵀ v231
    add_rows(rows, 256, V231, 0, 256, T2, 0)                           T2 += Σₜ Σ v231 over the rows of a step

BLAS packs its operands at every product. Where a chunk has 256 rows they are in the L2 cache, from which registers are
filled as fast as they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from .... import native
from ...ir import Value
from ...passes.schedule import base_of
from ...passes.storage import Plan
from ...tracing.traced_array import Untraceable
from ..loops import Layout, Memory
from ..source import TimeSums

#: Rows that a chunk should have for it, and the most bytes of a total: larger ones do not stay in the L2 cache with a
#: chunk of their operands, and BLAS is as fast in longer chunks.
ROWS, _LARGEST = 256, 2**19
#: The least columns of a result, but for one.
_COLUMNS = 8


@dataclass
class Sums:
    """The sums over time that a native function computes.

    positions  those of the totals
    arguments  the memory that it reads, by the names of pointers
    """

    positions: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    arguments: dict[str, Memory] = field(default_factory=dict)


class SumsEmitter:
    """Writes the sums of a plan, as far as they are products of rows, or sums of rows, in the memory of the loop.

    threads  among which the rows of a total are shared
    """

    def __init__(self, plan: Plan, layout: Layout, threads: int):
        self.plan, self.layout, self.threads = plan, layout, threads
        self.sums, self.time_sums = Sums(), TimeSums(plan, of_several=True)

    def are_all(self) -> bool:
        """Whether there are sums, and nothing else is computed before or after the loop."""
        sums, emitted = self.time_sums, self.emit(0)
        outside = {*self.plan.operations("hoisted"), *self.plan.operations("sunk")} - sums.terms
        return bool(emitted.lines) and outside == {sums.totals[position] for position in emitted.positions}

    def emit(self, first: int) -> Sums:
        """The sums; their arguments follow `first` other ones: the share of a thread, pointers, and totals."""
        bodies = list[str]()
        totals = self.time_sums.totals
        if any(math.prod(value.shape) * np.dtype(value.dtype).itemsize > _LARGEST for value in totals):
            return self.sums
        for position, value in enumerate(totals):
            if position in self.time_sums.columns:
                continue
            with suppress(Untraceable):
                if lines := self._total(value, f"T{position}"):
                    self.sums.positions.append(position)
                    bodies += lines
        if bodies:
            dtypes = [memory.base.dtype.name for memory in self.sums.arguments.values()]
            dtypes += [self.time_sums.shape_and_dtype(i)[1].name for i in self.sums.positions]
            names = [*self.sums.arguments, *(f"T{position}" for position in self.sums.positions)]
            rows = next(iter(self.sums.arguments.values())).base.shape[0]
            self.sums.lines = [
                "def sums(steps):",
                f"    rows, share = steps[0] * {rows}, steps[{first}]",
                *(
                    f"    {name} = pointer_{dtype}(steps[{i}])"
                    for i, (name, dtype) in enumerate(zip(names, dtypes), first + 1)
                ),
                *(f"    {line}" for line in bodies),
                "",
            ]
        return self.sums

    def _total(self, value: Value, total: str) -> list[str]:
        """The lines that add to a total, or none where that is left to NumPy."""
        contraction = self.time_sums.contraction(value)
        if contraction == "product":
            return self._product(value.inputs[0].inputs[0], value.inputs[1], total)
        if contraction == "sum" and value["axis"] == (0,) and self._has_rows(value.inputs[0]):
            start, stride, columns = self._rows(value.inputs[0])
            text = f"add_rows(rows, {columns}, {start}, {stride}, {total}, 0)"
            return [text] if self.threads == 1 else ["if share == 0:", f"    {text}"]
        return []

    def _product(self, left: Value, right: Value, total: str) -> list[str]:
        if not (self._has_rows(left) and self._has_rows(right) and left.dtype == right.dtype):
            return []
        if right.shape[1] == 1:  # a column, as a row
            left, right = right, left
        m, n = left.shape[1], right.shape[1]
        if n < _COLUMNS and m > 1:
            return []
        (a, a_stride, _), (b, b_stride, _) = self._rows(left), self._rows(right)
        size = m // self.threads if m % self.threads == 0 else m
        moved, row = ("", "0") if size == m else (f" + share * {size}", f"share * {size * n}")
        text = f"add_product({size}, rows, {n}, {a}{moved}, {a_stride}, {b}, {b_stride}, {total}, {row}, {n})"
        return [text] if self.threads == 1 or size < m else ["if share == 0:", f"    {text}"]

    def _has_rows(self, value: Value) -> bool:
        """Whether a value is a matrix of floats of which, when the loop has run, there is one for each step of a chunk:
        none that is computed afterwards, or in scratch that others may have written since."""
        if len(value.shape) != 2 or value.dtype not in ("float32", "float64"):
            return False
        base = base_of(value, self.plan.program.inputs)
        return self.plan.levels.get(base) != "sunk" and self.plan.storage_of(value) != "chunk scratch"

    def _rows(self, value: Value) -> tuple[str, int, int]:
        """The pointer and the start of a value's rows, at all steps of a chunk, their stride, and their columns. Raises
        Untraceable where the rows of all steps have no common stride."""
        memory = self.layout.memory(value)
        batch, columns = value.shape
        stride, column_stride = memory.base.size // batch, memory.strides[1]
        is_regular = memory.time == "t" and memory.base.shape[0] == batch and stride * batch == memory.base.size
        if not is_regular or (batch > 1 and memory.strides[0] != stride) or (columns > 1 and column_stride != 1):
            raise Untraceable("rows without a common stride")
        self.sums.arguments.setdefault(memory.pointer, memory)
        return f"{memory.pointer}, {memory.offset}", stride, columns


class NativeSums:
    """Adds the sums of a chunk to the totals."""

    def __init__(self, function: native.Function, positions: Sequence[int], in_threads: Callable):
        self.function, self.positions, self.in_threads = function, positions, in_threads

    def __call__(self, steps: Sequence[np.ndarray], totals: Sequence[np.ndarray]) -> None:
        addresses = [native.address(totals[position]) for position in self.positions]
        for share in steps:
            share[-len(addresses) :] = addresses
        if len(steps) == 1:
            self.function(steps[0])
        else:
            self.in_threads(self.function, steps)
