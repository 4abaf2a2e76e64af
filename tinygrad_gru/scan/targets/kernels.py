"""Emit loops: what the emitters have in common that write what is done to each element, rather than array calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..ir import Program, Value
from ..passes.clusters import Cluster
from ..passes.schedule import VIEWS
from ..passes.storage import Plan
from ..tracing.traced_array import Untraceable
from .elements import PYTHON, Language, expression
from .numpy import Emitted
from .views import view_text

AXES = ("i", "j", "k", "l", "m", "n")


@dataclass(frozen=True)
class Memory:
    """Where a value lies: behind a pointer to arrays like `whole`, in that of a moment, seen through a view.

    moment  the variable that counts the arrays, such as the step t; empty if there is only one
    whole, view  show how the value lies in its array; their numbers are never read
    """

    pointer: str
    moment: str
    whole: np.ndarray
    view: np.ndarray

    @property
    def offset(self) -> int:
        return (address(self.view) - address(self.whole)) // self.whole.itemsize

    @property
    def start(self) -> str:
        """The place of its first element."""
        terms = [f"{self.moment} * {self.whole.size}"] if self.moment else []
        return " + ".join([*terms, f"{self.offset}"] if self.offset or not terms else terms)

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(stride // self.whole.itemsize for stride in self.view.strides)

    def element(self, axes: Sequence[str]) -> str:
        """The element at these indices; where there is only one along an axis, that."""
        terms = [self.start] if self.start != "0" else []
        for axis, n, stride in zip(axes[len(axes) - self.view.ndim :], self.view.shape, self.strides):
            if n > 1 and stride:
                terms.append(axis if stride == 1 else f"{axis} * {stride}")
        return f"{self.pointer}[{' + '.join(terms) or '0'}]"

    def read(self, axes: Sequence[str]) -> str:
        return self.element(axes) + (" != 0" if self.whole.dtype == np.bool_ else "")

    def seen(self, view: np.ndarray) -> Memory:
        if not np.may_share_memory(view, self.whole):
            raise Untraceable("it looks at an array in an order in which it does not lie in memory")
        return replace(self, view=view)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def nest(shape: Sequence[int], lines: Sequence[str]) -> list[str]:
    """The lines, done at every index of that shape."""
    result = list(lines)
    for axis, n in reversed(list(zip(AXES, shape))):
        result = [f"for {axis} in range({n}):", *(f"    {line}" for line in result)]
    return result


class LoopEmitted(Emitted):
    """A program in whose source arrays have names, and elements of them are addressed by numbers.

    memory, values  what is named so far: how it lies in memory, and which value it is
    """

    dtypes: frozenset[str] = frozenset()  # those that the target computes with
    language: Language = PYTHON
    end = ""  # of a statement

    def __init__(self, plan: Plan, name: str, stages: Sequence[tuple[str, Program]]):
        self.memory: dict[str, Memory] = {}
        self.values: dict[str, Value] = {}
        super().__init__(plan, name, stages)

    def _at(self, value: Value) -> Memory:
        """Where a value lies at a step."""
        plan = self.plan
        if value in plan.parts:
            whole, start, stop = plan.parts[value]
            memory = self._at(whole)
            return memory.seen(memory.view[..., start:stop])
        if value in plan.program.carry and (position := plan.program.carry.index(value)) in plan.double_buffered:
            return self._named(f"C{position}", value, "now")
        if value in self.given:
            return self._named(f"V{value.number}", value, "t")
        if value.op in VIEWS:
            memory = self._at(value.inputs[0])
            names = {"source": memory.view, "broadcast_to": np.broadcast_to}
            return memory.seen(eval(view_text(value, "source", lead=False), names))
        kind, key = plan.storage[value]
        if kind == "carry":
            return self._next(key, value)
        if kind == "step":
            return self._named(f"{'W' if self._is_invariant(value) else 'S'}{value.number}", value, "")
        return self._named(f"V{value.number}", value, "t")

    def _next(self, position: int, value: Value) -> Memory:
        """Where that part of the next carry lies."""
        if position in self.plan.double_buffered:
            return replace(self._named(f"C{position}", value, "now"), moment="then")
        return self._named(f"n{position}", value, "t")

    def _named(self, name: str, value: Value, moment: str) -> Memory:
        """What the loop calls by a name."""
        if name not in self.memory:
            dtype = np.dtype(value.dtype)
            if dtype.name not in self.dtypes or not dtype.isnative:
                raise Untraceable(f"it computes in {dtype.name}")
            if 0 in value.shape or len(value.shape) > len(AXES):
                raise Untraceable(f"an array of it has shape {value.shape}")
            array = np.empty(value.shape, dtype)
            self.memory[name], self.values[name] = Memory(name, moment, array, array), value
        return self.memory[name]

    def _nest(self, cluster: Cluster) -> list[str]:
        """What is done at every index of a nest, in statements of the target."""
        axes, lines = AXES[: len(cluster.shape)], list[str]()
        names: dict[Value, str] = {}  # what is in a register

        def state(target: str, text: str) -> None:
            lines.append(f"{target} = {text}{self.end}")

        def register(value: Value) -> str:
            if value not in names and value.op != "scalar":
                names[value] = f"v{value.number}"
                state(self._declared(value), self._reached(self._at(value)).read(axes))
            return names.get(value, "")

        for task in cluster.tasks:
            operands = [register(i) for i in task.inputs]
            if task.kind == "compute":
                names[task.value] = f"v{task.value.number}"
                state(self._declared(task.value), expression(task.value, operands, self.language))
                if task.value in cluster.stored:
                    state(self._reached(self._at(task.value)).element(axes), names[task.value])
            else:
                state(self._reached(self._next(task.position, task.value)).element(axes), operands[0])
        return lines

    def _declared(self, value: Value) -> str:
        """The beginning of a statement that gives a register its value."""
        return f"v{value.number}"

    def _reached(self, memory: Memory) -> Memory:
        """The memory, if what does the nest may reach for it."""
        return memory
