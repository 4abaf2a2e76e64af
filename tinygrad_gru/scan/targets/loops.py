"""Loop nests: code generation shared by targets that write statements on array elements instead of array calls.

    v6 = V4[t * 1024 + i * 64 + j] + S5[i * 64 + j]
    v11 = tanh_float32(v6)
    V11[t * 1024 + i * 64 + j] = v11

Arrays are C-contiguous, so an element is addressed by one number, whose strides are known when the source is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from ..ir import Value
from ..passes.clusters import Cluster
from ..passes.schedule import VIEWS
from ..passes.storage import Plan
from ..tracing.traced_array import Untraceable, as_index
from .elements import Language, expression, in_register
from .host import view_text
from .source import Buffer, Names

AXES = ("i", "j", "k", "l", "m", "n")


class Memory(NamedTuple):
    """The memory of a value at a step: a view of one of the arrays of a buffer.

    time  the variable that selects the array, such as the step t; empty if the buffer is one array
    base  an array of the same layout as each of the buffer's; its elements are never read
    view  the view of `base` that the value is
    """

    buffer: Buffer
    time: str
    base: np.ndarray
    view: np.ndarray

    @property
    def pointer(self) -> str:
        return self.buffer.name

    @property
    def offset(self) -> int:
        return (address(self.view) - address(self.base)) // self.base.itemsize

    @property
    def start(self) -> str:
        """The position of its first element."""
        terms = [f"{self.time} * {self.base.size}"] if self.time else []
        return " + ".join([*terms, f"{self.offset}"] if self.offset or not terms else terms)

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides in elements."""
        return tuple(stride // self.base.itemsize for stride in self.view.strides)

    def element(self, axes: Sequence[str]) -> str:
        """The text of the element at these indices; an axis of length one needs none."""
        terms = [self.start] if self.start != "0" else []
        for axis, n, stride in zip(axes[len(axes) - self.view.ndim :], self.view.shape, self.strides):
            if n > 1 and stride:
                terms.append(axis if stride == 1 else f"{axis} * {stride}")
        return f"{self.pointer}[{' + '.join(terms) or '0'}]"

    def read(self, axes: Sequence[str]) -> str:
        return self.element(axes) + (" != 0" if self.base.dtype == np.bool_ else "")

    def with_view(self, view: np.ndarray) -> Memory:
        """The same memory through another view. Raises Untraceable where that would be a copy."""
        if not np.may_share_memory(view, self.base):
            raise Untraceable("it reshapes an array whose elements are not in that order in memory")
        return self._replace(view=view)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class Layout:
    """The memory of every value of a plan, for a target that computes with some dtypes."""

    def __init__(self, plan: Plan, dtypes: Collection[str]):
        self.plan, self.names, self.dtypes = plan, Names(plan), dtypes

    def memory(self, value: Value) -> Memory:
        """The memory of a value at a step."""
        plan = self.plan
        if value in plan.parts:
            concat, start, stop = plan.parts[value]
            memory = self.memory(concat)
            return memory.with_view(memory.view[..., start:stop])
        if value in plan.program.carry and (position := plan.program.carry.index(value)) in plan.double_buffered:
            return self._double_buffered(position, value, "now")
        if value in plan.program.inputs:
            return self.allocated(self.names.at_chunk(value))
        if value.op in VIEWS:
            memory = self.memory(value.inputs[0])
            names = {"source": memory.view, "broadcast_to": np.broadcast_to}
            return memory.with_view(eval(view_text(value, "source", lead=False), names))
        kind, key = plan.storage[value]
        if kind == "carry":
            return self.next_carry(key, value)
        return self.allocated(self.names.at_step(value) if kind == "step scratch" else self.names.at_chunk(value))

    def next_carry(self, position: int, value: Value) -> Memory:
        """The memory of that part of the next carry."""
        if position in self.plan.double_buffered:
            return self._double_buffered(position, value, "then")
        return self.allocated(Buffer(f"n{position}", "chunk", "next carry", value, position))

    def _double_buffered(self, position: int, value: Value, time: str) -> Memory:
        buffer = Buffer(f"C{position}", "static", "carry", value, position)
        return self.allocated(buffer)._replace(time=time)

    def allocated(self, buffer: Buffer) -> Memory:
        """The memory of a buffer with an array for each step of a chunk, or with one for all."""
        dtype, shape = np.dtype(buffer.value.dtype), buffer.value.shape
        if dtype.name not in self.dtypes or not dtype.isnative:
            raise Untraceable(f"it computes in {dtype.name}")
        if 0 in shape or len(shape) > len(AXES):
            raise Untraceable(f"an array of it has shape {shape}")
        array = np.empty(shape, dtype)
        return Memory(buffer, "t" if buffer.scope == "chunk" else "", array, array)


class Nest:
    """Statements that run at every index of a shape, and the memory that they address."""

    def __init__(self, shape: Sequence[int]):
        self.shape = shape
        self.lines: list[str] = []
        self.memories: list[Memory] = []

    @property
    def axes(self) -> tuple[str, ...]:
        return AXES[: len(self.shape)]

    @property
    def buffers(self) -> dict[str, Memory]:
        """The buffers that it addresses, by name."""
        return {memory.pointer: memory for memory in self.memories}

    def at(self, memory: Memory) -> Memory:
        """The memory, recorded as addressed by a statement."""
        self.memories.append(memory)
        return memory


class LoopWriter:
    """Writes nests for the operations of a plan.

    language  in which statements are written
    moves     by operation: the nests of those that move elements
    """

    def __init__(self, layout: Layout, language: Language):
        self.layout, self.language = layout, language
        self.moves = {"concat": self.concat, "scatter": self.scatter, "rearrange": self.rearrange}

    def cluster(self, cluster: Cluster, given: Collection[Value] = ()) -> Nest:
        """Elementwise operations of one shape. Intermediate values are variables; `cluster.stored` go to memory too.

        given  values that are variables already
        """
        nest = Nest(cluster.shape)
        variables = {value: f"v{value.number}" for value in given}

        def define(value: Value, text: str) -> None:
            variables[value] = f"v{value.number}"
            nest.lines.append(self.language.define(variables[value], text, in_register(value.dtype)))

        def store(memory: Memory, variable: str) -> None:
            nest.lines.append(self.language.assign(nest.at(memory).element(nest.axes), variable))

        def variable(value: Value) -> str:
            if value not in variables and value.op != "scalar":
                define(value, nest.at(self.layout.memory(value)).read(nest.axes))
            return variables.get(value, "")

        for task in cluster.tasks:
            operands = [variable(i) for i in task.inputs]
            if task.kind == "compute":
                define(task.value, expression(task.value, operands, self.language))
                if task.value in cluster.stored:
                    store(self.layout.memory(task.value), variables[task.value])
            else:
                store(self.layout.next_carry(task.position, task.value), operands[0])
        return nest

    def copy(self, source: Memory, target: Memory) -> Nest:
        """A copy between arrays of one shape and dtype."""
        nest = Nest(source.view.shape)
        element = nest.at(target).element(nest.axes)
        nest.lines.append(self.language.assign(element, nest.at(source).element(nest.axes)))
        return nest

    def fill(self, value: Value, text: str) -> Nest:
        nest = Nest(value.shape)
        nest.lines.append(self.language.assign(nest.at(self.layout.memory(value)).element(nest.axes), text))
        return nest

    def concat(self, value: Value) -> list[Nest]:
        nests, start, out = list[Nest](), 0, self.layout.memory(value)
        for part in value.inputs:
            stop = start + part.shape[value["axis"]]
            index = (slice(None),) * value["axis"] + (slice(start, stop),)
            nests.append(self.copy(self.layout.memory(part), out.with_view(out.view[index])))
            start = stop
        return nests

    def rearrange(self, value: Value) -> list[Nest]:
        out = self.layout.memory(value)
        (source,) = value.inputs
        return [self.copy(self.layout.memory(source), out.with_view(out.view.reshape(source.shape)))]

    def scatter(self, value: Value) -> list[Nest]:
        out = self.layout.memory(value)
        nests = [self.fill(value, self.language.literal(0, in_register(value.dtype)))]
        for part, index in zip(value.inputs, value["indices"]):
            nest = Nest(part.shape)
            element = nest.at(out.with_view(out.view[as_index(index)])).element(nest.axes)
            added = nest.at(self.layout.memory(part)).read(nest.axes)
            nest.lines.append(self.language.assign(element, f"{element} + {added}"))
            nests.append(nest)
        return nests


#: By reduction, the function of two elements and its neutral element.
REDUCTIONS = {"sum": ("plus", 0.0), "max": ("maximum", -np.inf), "min": ("minimum", np.inf)}


def check_operation(value: Value, writers: Collection[str] | dict[str, Callable], unknown: str) -> None:
    """Raise Untraceable unless the operation is among the writers, and in one floating dtype where it computes."""
    if value.op not in writers:
        raise Untraceable(unknown)
    if np.dtype(in_register(value.dtype)).kind != "f" and value.op not in ("concat", "rearrange"):
        raise Untraceable(f"it computes {value.op} in {np.dtype(value.dtype).name}")
    if any(i.dtype != value.dtype for i in value.inputs):
        raise Untraceable(f"it computes {value.op} of several dtypes")
