"""Storage: the array of each value of a scheduled program.

    carry          the array of a part of the carry: all its versions over time, or two (double-buffered)
    stack          one array for all steps, of an output
    chunk          one array for the steps of a chunk, of values that pass between the loop and the operations around it
    step scratch   one array for one step, of values used in the loop only
    chunk scratch  one array for the steps of a chunk, of values used before or after the loop only

A view needs no storage. A chunk is as many steps as are computed at once outside of the loop: enough rows for a product
to be fast, few enough for the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..ir import Program, Value
from .schedule import VIEWS, Level, base_of

StorageKind = Literal["carry", "stack", "chunk", "step scratch", "chunk scratch"]

#: The kind of scratch for values that live within one level.
SCRATCH: Mapping[Level, StorageKind] = {
    "hoisted": "chunk scratch", "loop": "step scratch", "sunk": "chunk scratch",
}  # fmt: skip


class Storage(NamedTuple):
    """An array: its kind, and its key: a position in the carry, or the number of the value that it is allocated for."""

    kind: StorageKind
    key: int


class Slice(NamedTuple):
    """A slice of the array of a concatenation, along its last axis."""

    concat: Value
    start: int
    stop: int


@dataclass(eq=False, repr=False)
class Plan:
    """A scheduled program and the storage of its values.

    levels           when each value is computed
    storage          the array of each value that has one, its own or a reused one
    carried          the values that are written into the next carry by the operation that computes them: the position
    parts            the operands of concatenations that are written into slices of the result
    double_buffered  the positions of those parts of the carry that only the next step reads
    overwrites       the values of `where` that are written over their last operand, which is used nowhere else
    chunk_rows       how many rows (steps times the size of the first axis) a chunk has
    copies_views     whether outputs that are views are copied, so that all outputs are contiguous
    """

    program: Program
    levels: Mapping[Value, Level]
    chunk_rows: int
    storage: dict[Value, Storage] = field(default_factory=dict)
    carried: dict[Value, int] = field(default_factory=dict)
    parts: dict[Value, Slice] = field(default_factory=dict)
    double_buffered: set[int] = field(default_factory=set)
    overwrites: set[Value] = field(default_factory=set)
    copies_views: bool = False

    def operations(self, level: Level) -> list[Value]:
        """The values of a level that an operation must compute, in order."""
        values, concats = self.program.values(), self.concats
        return [v for v in values if self.levels.get(v) == level and v.op not in VIEWS and v not in concats]

    @property
    def concats(self) -> set[Value]:
        """The concatenations that need no copy, since their operands are written into slices of them."""
        return {part.concat for part in self.parts.values()} | {v for v in self.parts if v.op == "concat"}

    def storage_of(self, value: Value) -> StorageKind | None:
        """The kind of array in whose memory a value is; None for inputs of the program and what is loop-invariant."""
        base = base_of(value, self.program.inputs)
        while base in self.parts:
            base = self.parts[base].concat
        return self.storage[base].kind if base in self.storage else None

    def is_view_of_stack(self, value: Value) -> bool:
        """Whether the value at all steps is a view of one array for all steps."""
        base = base_of(value, self.program.inputs)
        is_stacked = base in self.program.inputs or self.storage_of(base) in ("stack", "carry")
        return is_stacked and not (self.copies_views and base is not value)

    def __repr__(self) -> str:
        """The program, with the level and the storage of every value."""
        values = [value for value in self.program.values() if value.op != "scalar"]
        return "\n".join(
            [f"{value!r:<62} {self.levels.get(value, ''):<9} {self._storage_text(value)}".rstrip() for value in values]
        )

    def _storage_text(self, value: Value) -> str:
        if value in self.program.inputs or self.levels[value] == "invariant":
            return ""
        if value.op in VIEWS:
            return f"view of {value.inputs[0].name}"
        if value in self.parts:
            concat, start, stop = self.parts[value]
            return f"{concat.name}[..., {start}:{stop}]"
        kind, key = self.storage[value]
        over = f", over {value.inputs[-1].name}" if value in self.overwrites else ""
        return f"{kind} {key}{over}"
