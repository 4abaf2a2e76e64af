"""Workspaces of native loops, which read and write the arrays of others where these are, instead of copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import repeat
from typing import Any

import numpy as np

from ....backend import resolve
from ....native import address
from ...ir import Value
from ...passes.schedule import base_of
from ..source import Buffer, Source
from ..workspace import Workspace

#: Bytes of the array of all steps from which on it is bound: a smaller one is copied in less time.
LEAST_BOUND = 2**16


class NativeWorkspace(Workspace):
    """A workspace of a loop whose arguments are addresses, which are changed where an array is bound.

    Of the `fresh` values those are bound that are large and nothing else is a view of: an x that is no y, a y that has
    a stack of its own and is one y only.

    missing  those that the next run needs and that have no array yet
    """

    def __init__(
        self, source: Source, length: int, reverse: bool, given: Mapping[Value, Any], fresh: Collection[Value],
        steps: Callable[[Workspace, range], list[np.ndarray]],
    ):  # fmt: skip
        program, storage = source.plan.program, source.plan.storage
        stacks = {y for y in program.ys if program.ys.count(y) == 1 and y in storage and storage[y].kind == "stack"}
        large = [v for v in fresh if length * math.prod(v.shape) * np.dtype(v.dtype).itemsize >= LEAST_BOUND]
        self.bound = stacks.union(set(program.xs).difference(given, program.ys)).intersection(large)
        super().__init__(source, length, reverse, given, resolve("numpy"), steps)
        loop = source.loop

        def value_in(buffer: Buffer) -> Value | None:
            return base_of(buffer.value, program.inputs) if buffer.kind == "value" else None

        self._columns: dict[Value, list[int]] = {value: [] for value in self.bound}
        for column, memory in enumerate([*loop.arguments.values(), None, *loop.sums.arguments.values()], start=4):
            value = None if memory is None else value_in(memory.buffer)
            if value in self.bound:
                self._columns[value].append(column)
        #: The arguments of all chunks and threads in one array, and the columns of a bound value in it.
        self._table = np.array([share for _, _, shares in self.chunks for share in shares])
        rows = iter(self._table)
        self.chunks = [(first, arrays, [next(rows) for _ in shares]) for first, arrays, shares in self.chunks]
        #: Addresses from where a bound value begins on: a run that Ctrl-C has ended leaves nothing to the next.
        self._offsets = {
            value: self._table[:, columns] - address(self._array(value)) for value, columns in self._columns.items()
        }
        self._viewed = self.bound & set(map(value_in, source.buffers.bound("chunk")))
        self._unbound = {value: _without_memory(self._array(value)) for value in self.bound}
        self.unbind()

    def _stack(self, value: Value, length: int) -> Any:
        if value in self.bound:
            return np.empty((length, *value.shape), value.dtype)  # never touched
        return super()._stack(value, length)

    def _array(self, value: Value) -> Any:
        return self.xs[value] if value in self.xs else self.stacks[value]

    def put(self, value: Value, array: Any) -> None:
        if value not in self.bound:
            return super().put(value, array)
        if not (array.flags.c_contiguous and array.flags.aligned and array.dtype == self._array(value).dtype):
            array = np.array(array, value.dtype, order="C")
        self._bind(value, array)

    def renew(self) -> None:
        for value in self.bound & set(self.stacks):
            known = self.stacks[value]
            self._bind(value, np.empty(known.shape, known.dtype))
        if self._viewed:
            self._bind_views(self._chunk_views())

    def unbind(self) -> None:
        self.missing = {value for value in self.bound if self._columns[value] or value in self._viewed}
        for value, array in self._unbound.items():
            self._set(value, array)
        if self._viewed:
            self._bind_views(repeat(()))

    def _bind(self, value: Value, array: np.ndarray) -> None:
        """Let the next run read an x from, or write a y to, this array."""
        assert array.shape == self._array(value).shape and array.flags.c_contiguous, (value, array.shape)
        self._table[:, self._columns[value]] = self._offsets[value] + address(array)
        self.missing.discard(value)
        self._set(value, array)

    def _set(self, value: Value, array: np.ndarray) -> None:
        if value in self.xs:
            self.xs[value] = array
        else:
            self.stacks[value] = array
            self.ys[self.source.plan.program.ys.index(value)] = array

    def _bind_views(self, views: Iterable[tuple]) -> None:
        """Let these be the buffers of each chunk."""
        self.chunks = [(first, arrays, shares) for (first, _, shares), arrays in zip(self.chunks, views)]


def _without_memory(array: np.ndarray) -> np.ndarray:
    """An array of that shape and dtype, all of whose elements are one zero."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)
