"""Workspaces: the arrays of a plan for a number of steps, and all views of them that its source names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from ...backend import Backend, record_launches
from ..ir import Value
from ..passes.plan import chunk_length
from ..passes.schedule import VIEWS, base_of
from .host import view_text
from .source import Buffer, Source


class Workspace:
    """Arrays for `length` steps of a source.

    carry    for each part of the carry its values at all times, (length + 1, …), or at even and odd ones
    xs       the inputs of every step; those in `given` are used without a copy, the others are allocated
    ys       the outputs of every step
    static   the buffers that are bound once
    chunks   for each chunk whether it is the first one, its buffers, and what `steps(workspace, times)` gives
    bytes    how much memory it has allocated
    graphs   what a target has captured of a run on these arrays, to replay it
    bound    the xs and ys that are arrays of others, other ones in each run: none, but where a target says so
    """

    bound: Set[Value] = frozenset()

    def __init__(
        self, source: Source, length: int, reverse: bool, given: Mapping[Value, Any], backend: Backend,
        steps: Callable[[Workspace, range], Any],
    ):  # fmt: skip
        self.source, self.length, self.reverse, self.given = source, length, reverse, frozenset(given)
        self.backend, self.bytes = backend, 0
        plan = source.plan
        program = plan.program
        self.size = min(chunk_length(program, length, plan.chunk_rows), source.most_steps)
        self.carry = [
            self._stack(v, 2 if i in plan.double_buffered else length + 1) for i, v in enumerate(program.carry)
        ]
        self.xs = {v: given[v] if v in given else self._stack(v, length) for v in program.xs}
        self.stacks = {v: self._stack(v, length) for v, storage in plan.storage.items() if storage.kind == "stack"}
        self.scratch: dict[Any, Any] = {}
        self.ys: list[Any] = []
        for value in program.ys:
            is_view = plan.is_view_of_stack(value)
            self.ys.append(self._view(value, slice(0, length)) if is_view else self._stack(value, length))
        self.static = tuple(self.view(buffer, 0) for buffer in source.buffers.bound("static"))
        self.graphs: Any = None
        self.chunks: list[tuple[bool, tuple, Any]] = []
        for (begin, end), arrays in zip(self._chunk_ranges(), self._chunk_views()):
            times = range(begin, end)[::-1] if reverse else range(begin, end)
            self.chunks.append((not self.chunks, arrays, steps(self, times)))

    def _chunk_ranges(self) -> list[tuple[int, int]]:
        begins = range(0, self.length, self.size)
        return [
            (begin, min(begin + self.size, self.length)) for begin in (reversed(begins) if self.reverse else begins)
        ]

    def _chunk_views(self) -> Iterator[tuple]:
        """The buffers that are bound for each chunk."""
        buffers = self.source.buffers.bound("chunk")
        for begin, end in self._chunk_ranges():
            yield tuple(self.view(buffer, slice(begin, end)) for buffer in buffers) or (None,)

    def put(self, value: Value, array: Any) -> None:
        """Let an array be an x of the next run."""
        self.xs[value][...] = array

    def renew(self) -> None:
        """Give bound ys new arrays, which the next run writes: called after `put`, before the run."""

    def unbind(self) -> None:
        """Forget bound arrays."""

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        array = self.backend.aligned_zeros(shape, dtype)
        self.bytes += array.nbytes
        return array

    def _stack(self, value: Value, length: int) -> Any:
        return self._zeros((length, *value.shape), value.dtype)

    def carry_at(self, time: int) -> list[Any]:
        """The parts of the carry at a time: 0 is before the first step, `length` after the last."""
        return [_part(stack, time) for stack in self.carry]

    def stack_of(self, value: Value) -> Any:
        """The stack of an input of the program over all steps."""
        return self._at(value, slice(0, self.length))

    def step_views(self, times: range) -> list[tuple]:
        """For each step the buffers that are bound there."""
        views = [self._views(buffer, times) for buffer in self.source.buffers.bound("step")]
        return list(zip(*views)) if views else [(None,)] * len(times)

    def _views(self, buffer: Buffer, times: range) -> list[Any]:
        """The array of a buffer at each of the steps: slices of one for all of them, where there is one."""
        if self._is_double_buffered(buffer):
            return [self.view(buffer, t) for t in times]
        begin, end = min(times), max(times) + 1
        array = self.view(buffer, slice(begin, end))
        return [array[t - begin, ...] for t in times]

    def _is_double_buffered(self, buffer: Buffer) -> bool:
        plan = self.source.plan
        if buffer.kind == "next carry":
            return buffer.position in plan.double_buffered
        base = base_of(buffer.value, plan.program.inputs)
        if base in plan.program.carry:
            return plan.program.carry.index(base) in plan.double_buffered
        storage = plan.storage.get(base)  # also of a value that is overwritten by a part of the next carry
        return storage is not None and storage.kind == "carry" and storage.key in plan.double_buffered

    def total(self, position: int) -> Any:
        """The array of a sum over time, for targets that keep it here."""
        return self._own(("total", position), *self.source.sums.shape_and_dtype(position))

    def view(self, buffer: Buffer, where: int | slice) -> Any:
        """The array of a buffer at one step or at a range of steps."""
        if buffer.kind == "value":
            return self._view(buffer.value, where)
        if buffer.kind == "output":
            return self.ys[buffer.position][where]
        if buffer.kind == "carry":
            return self.carry[buffer.position]
        if buffer.kind == "next carry":
            return _part(self.carry[buffer.position], where, moved=0 if self.reverse else 1)
        if buffer.kind == "states":
            assert isinstance(where, slice)
            return self.carry[buffer.position][where.start : where.stop + 1]
        if buffer.kind == "total":
            return self.total(buffer.position)
        if buffer.kind == "ones":
            ones = self._own(buffer.name, (1, max(self.size * buffer.rows, 1)), buffer.value.dtype)
            ones.fill(1)
            record_launches(1, f"scan, {self.source.name}")
            return ones
        assert buffer.kind == "copy", buffer
        if buffer.scope == "static":
            return self._own(buffer.name, buffer.value.shape, buffer.value.dtype)
        return self._in_chunk(buffer.name, buffer.value, where)

    def _at(self, value: Value, where: int | slice) -> Any:
        """A value that has an array of its own, at one step or at a range of steps."""
        plan = self.source.plan
        program = plan.program
        if value in program.carry:
            return _part(self.carry[program.carry.index(value)], where, moved=1 if self.reverse else 0)
        if value in self.xs:
            return _part(self.xs[value], where)
        if value in plan.parts:
            concat, start, stop = plan.parts[value]
            return self._at(concat, where)[..., start:stop]
        kind, key = plan.storage[value]
        if kind == "carry":
            return _part(self.carry[key], where, moved=0 if self.reverse else 1)
        if kind == "stack":
            return _part(self.stacks[value], where)
        if kind == "step scratch":
            return self._own((kind, key), value.shape, value.dtype)
        return self._in_chunk((kind, key), value, where)

    def _in_chunk(self, key: Any, value: Value, where: int | slice) -> Any:
        array = self._own(key, (self.size, *value.shape), value.dtype)
        if isinstance(where, slice):
            return array[: where.stop - where.start]
        return _part(array, where % self.size)  # chunks begin at multiples of their size

    def _own(self, key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        if key not in self.scratch:
            self.scratch[key] = self._zeros(shape, dtype)
        return self.scratch[key]

    def _view(self, value: Value, where: int | slice) -> Any:
        """A value, or the view that it is of another, at one step or at a range of steps."""
        if value.op not in VIEWS or value in self.source.plan.program.inputs:
            return self._at(value, where)
        source = self._view(value.inputs[0], where)
        names = {"broadcast_to": self.backend.xp.broadcast_to, "source": source}
        return eval(view_text(value, "source", lead=isinstance(where, slice)), names)


def _part(stack: Any, where: int | slice, moved: int = 0) -> Any:
    """A view of one step or of a range of steps, an array also for a value without axes."""
    if isinstance(where, slice):
        return stack[where.start + moved : where.stop + moved]
    return stack[(where + moved) % len(stack), ...]
