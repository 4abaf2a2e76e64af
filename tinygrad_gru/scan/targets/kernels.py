"""Emit loops: what the emitters have in common that write what is done to each element, rather than array calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir import Program, Value
from ..passes.clusters import Cluster
from ..passes.schedule import VIEWS
from ..passes.storage import Plan
from ..tracing.traced_array import Untraceable
from .elements import AXES, Memory, expression
from .numpy import Emitted
from .views import view_text


class LoopEmitted(Emitted):
    """A program in whose source arrays have names, and elements of them are addressed by numbers.

    memory, values  what is named so far: how it lies in memory, and which value it is
    """

    dtypes: frozenset[str] = frozenset()  # those that the target computes with
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
                state(self._declared(task.value), expression(task.value, operands))
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
