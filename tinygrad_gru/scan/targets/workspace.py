"""Workspace: the arrays of a plan for one length of time, and all views of them that its program will use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..ir import Value
from ..passes.plan import chunk_length
from ..passes.schedule import VIEWS
from .views import view_text


class Workspace:
    """Arrays for `length` steps of an emitted program.

    carry   for each part of the carry its values at all moments, (length + 1, …), or in turn at even and odd ones
    reads   what the program reads at every step; arrays that are given are used as they are, the others are made
    each    the outputs of every step
    static, chunks  the views, in the order in which the program names them
    """

    def __init__(self, emitted: Any, length: int, reverse: bool, given: Mapping[Value, Any]):
        self.emitted, self.length, self.reverse, self.given = emitted, length, reverse, frozenset(given)
        plan = emitted.plan
        program = plan.program
        self.size = min(chunk_length(program, length, plan.chunk_rows), emitted.most_steps)
        self.carry = [
            self._stack(v, 2 if i in plan.double_buffered else length + 1) for i, v in enumerate(program.carry)
        ]
        self.xs = {v: given[v] if v in given else self._stack(v, length) for v in program.xs}
        self.stacks = {v: self._stack(v, length) for v, storage in plan.storage.items() if storage[0] == "stack"}
        self.scratch: dict[Any, np.ndarray] = {}
        self.ys: list[np.ndarray] = []
        for value in program.ys:
            seen = plan.is_view_of_stack(value)
            self.ys.append(self._view(value, slice(0, length)) if seen else self._stack(value, length))
        self.static = tuple(self.view(name, value, 0) for name, value in emitted.static.items())
        begins = range(0, length, self.size)
        self.chunks: list[tuple[bool, tuple, Any]] = []
        for begin in reversed(begins) if reverse else begins:
            end = min(begin + self.size, length)
            steps = slice(begin, end)
            batch = tuple(self.view(name, value, steps) for name, value in emitted.batch.items()) or (None,)
            places = range(begin, end)[::-1] if reverse else range(begin, end)
            self.chunks.append((not self.chunks, batch, emitted.steps_of(self.view, places)))

    def _stack(self, value: Value, length: int) -> Any:
        return self.emitted.zeros((length, *value.shape), value.dtype)

    @property
    def bytes(self) -> int:
        """How much memory its own arrays take; some outputs are views of them."""
        arrays = (*self.carry, *self.stacks.values(), *self.scratch.values(), *self.ys)
        read = (array for value, array in self.xs.items() if value not in self.given)
        return sum(array.nbytes for array in (*arrays, *read) if array.base is None)

    def at_moment(self, moment: int) -> list[np.ndarray]:
        """The parts of the carry at a moment: 0 is before the first step in time, `length` after the last."""
        return [_part(stack, moment) for stack in self.carry]

    def whole(self, value: Value) -> np.ndarray:
        """What the program was given, at all steps."""
        return self._at(value, slice(0, self.length))

    def _at(self, value: Value, where: int | slice) -> np.ndarray:
        """A value that lives in an array of its own, at one step or at a range of steps."""
        plan = self.emitted.plan
        program = plan.program
        if value in program.carry:
            return _part(self.carry[program.carry.index(value)], where, moved=1 if self.reverse else 0)
        if value in self.xs:
            return _part(self.xs[value], where)
        if value in plan.parts:
            whole, start, stop = plan.parts[value]
            return self._at(whole, where)[..., start:stop]
        kind, key = plan.storage[value]
        if kind == "carry":
            return _part(self.carry[key], where, moved=0 if self.reverse else 1)
        if kind == "stack":
            return _part(self.stacks[value], where)
        if kind == "step":
            return self._own(("step", key), value, ())
        array = self._own((kind, key), value, (self.size,))
        if isinstance(where, slice):
            return array[: where.stop - where.start]
        return _part(array, where % self.size)  # chunks begin at multiples of their size

    def _own(self, key: Any, value: Value, lead: tuple[int, ...]) -> np.ndarray:
        if key not in self.scratch:
            self.scratch[key] = self.emitted.zeros((*lead, *value.shape), value.dtype)
        return self.scratch[key]

    def _view(self, value: Value, where: int | slice) -> np.ndarray:
        """A value, or the view that it is of another, at one step or at a range of steps."""
        given = self.emitted.given
        if value.op not in VIEWS or value in given:
            return self._at(value, where)
        source = self._view(value.inputs[0], where)
        names = {"broadcast_to": self.emitted.broadcast_to, "source": source}
        return eval(view_text(value, "source", lead=isinstance(where, slice)), names)

    def view(self, name: str, value: Value, where: int | slice) -> np.ndarray:
        """What the program calls by this name at one step or at a range of steps."""
        if name.startswith("E"):
            return self.ys[int(name[1:])][where]
        if name.startswith("n"):
            return _part(self.carry[int(name[1:])], where, moved=0 if self.reverse else 1)
        if name.startswith("C"):
            return self.carry[int(name[1:])]
        return self._view(value, where)


def _part(stack: np.ndarray, where: int | slice, moved: int = 0) -> np.ndarray:
    """A view of one step or of a range of steps, an array also where a step is a number."""
    if isinstance(where, slice):
        return stack[where.start + moved : where.stop + moved]
    return stack[(where + moved) % len(stack), ...]
