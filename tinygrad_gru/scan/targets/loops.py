"""Loop nests: code generation shared by targets that write statements on array elements instead of array calls.

    v6 = V4[t * 1024 + i * 64 + j] + S5[i * 64 + j]
    v11 = tanh_float32(v6)
    V11[t * 1024 + i * 64 + j] = v11

Arrays are C-contiguous, so an element is addressed by one number, whose strides are known when the source is written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from ...native import address
from ..ir import Value
from ..passes.clusters import Cluster
from ..passes.schedule import VIEWS
from ..passes.storage import Plan
from ..tracing.traced_array import Untraceable, as_index
from .elements import Language, expression, in_register
from .host import view_text
from .source import Buffer, Names

AXES = ("i", "j", "k", "l", "m", "n")
#: Names of the indices of loops inside of a nest.
_POSITION_AXES = ("p", "q", "r", "s", "u", "w")


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

    def transposed(self) -> Memory:
        """The same memory with the last two axes swapped."""
        return self._replace(view=np.swapaxes(self.view, -1, -2))


def as_matrices(left: Memory, right: Memory, out: Memory) -> tuple[Memory, Memory, Memory]:
    """The operands and the result of a matmul as matrices with the same axes before them."""
    a, b, c = left.view, right.view, out.view
    if a.ndim == 1:
        a, c = a[None], np.expand_dims(c, c.ndim - (b.ndim > 1))
    if b.ndim == 1:
        b, c = b[:, None], c[..., None]
    a, b = (np.broadcast_to(x, (*c.shape[:-2], *x.shape[-2:])) for x in (a, b))
    return left._replace(view=a), right._replace(view=b), out._replace(view=c)


def _misses(*memories: Memory, axis: int) -> int:
    """How many of them a loop along an axis does not read contiguously; all, where there is nothing to loop over."""
    sizes = [memory.view.shape[axis] for memory in memories]
    return sum(size == 1 or memory.strides[axis] not in (0, 1) for size, memory in zip(sizes, memories))


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
        self.moves = {
            "concat": self.concat, "scatter": self.scatter, "rearrange": self.rearrange, "arange": self.arange,
            "gather": self.gather, "scatter_add": self.scatter_add, "argmax": self.argmax, "argmin": self.argmax,
        }  # fmt: skip

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

    # -- products of several matrices ----------------------------------------------------------------------------------

    def matmul(self, value: Value, in_memory: bool = False) -> list[Nest]:
        """out[…, i, j] = Σₚ a[…, i, p] b[…, p, j], innermost along an axis along which memory is contiguous.

        in_memory  whether that may be another axis than p, so that sums are accumulated in memory; else each in a
                   variable, as threads on a GPU need
        """
        a, b, out = as_matrices(*map(self.layout.memory, (*value.inputs, value)))
        inner, dtype, language = a.view.shape[-1], in_register(value.dtype), self.language
        by_columns, by_rows = _misses(b, out, axis=-1), _misses(a, out, axis=-2)
        nest = Nest(out.view.shape)
        if not in_memory or _misses(a, b.transposed(), axis=-1) <= min(by_columns, by_rows):
            total, added = f"total{value.number}", self._term(nest, a, b, nest.axes, _POSITION_AXES[0], dtype)
            sum_ = language.assign(total, language.apply("plus", dtype, total, added))
            nest.lines = [language.declare(total, language.literal(0, dtype), dtype)]
            nest.lines += language.repeat(_POSITION_AXES[0], inner, [sum_])
            nest.lines.append(language.assign(nest.at(out).element(nest.axes), total))
            return [nest]
        if by_rows < by_columns:  # outᵀ = bᵀ aᵀ
            a, b, out = b.transposed(), a.transposed(), out.transposed()
        *outer, columns = out.view.shape
        axes, nest = AXES[: len(outer) + 1], Nest(outer)
        element, zero = nest.at(out).element(axes), language.literal(0, dtype)
        nest.lines = language.repeat(axes[-1], columns, [language.assign(element, zero)])
        for count, width, begin in ((inner // 4, 4, 0), (inner % 4, 1, inner - inner % 4)):  # four per load and store
            text = element
            for place in range(begin, begin + width):
                position = f"({_POSITION_AXES[0]} * {width} + {place})"
                text = language.apply("plus", dtype, text, self._term(nest, a, b, axes, position, dtype))
            body = language.repeat(axes[-1], columns, [language.assign(element, text)])
            nest.lines += language.repeat(_POSITION_AXES[0], count, body) if count else []
        return [nest]

    def _term(self, nest: Nest, a: Memory, b: Memory, axes: Sequence[str], position: str, dtype: np.dtype) -> str:
        """a[…, i, p] b[…, p, j]"""
        texts = nest.at(a).read((*axes[:-1], position)), nest.at(b).read((*axes[:-2], position, axes[-1]))
        casts = [t if m.base.dtype == dtype else self.language.cast(t, dtype) for m, t in zip((a, b), texts)]
        return self.language.apply("multiply", dtype, *casts)

    # -- positions that are values -------------------------------------------------------------------------------------

    def arange(self, value: Value) -> list[Nest]:
        index = "i" if value.shape[0] > 1 else "0"  # an axis of length one has no loop
        return [self.fill(value, self.language.cast(index, value.dtype))]

    def gather(self, value: Value) -> list[Nest]:
        """out[…, i, …] = x[…, rows[i], …]"""
        source, rows = map(self.layout.memory, value.inputs)
        nest = Nest(value.shape)
        at, nest.lines = self._at_position(value, nest, nest.axes, source, rows)
        element = nest.at(self.layout.memory(value)).element(nest.axes)
        nest.lines.append(self.language.assign(element, nest.at(source).read(at)))
        return [nest]

    def scatter_add(self, value: Value) -> list[Nest]:
        """out[…, rows[i], …] += values[…, i, …], one i after the other, for positions may repeat"""
        values, rows = value.inputs
        begin, end = value["axis"], value["axis"] + len(rows.shape)
        nest = Nest((*values.shape[:begin], *values.shape[end:]))
        axes = (*nest.axes[:begin], *_POSITION_AXES[: end - begin], *nest.axes[begin:])
        lines = self.add_at_positions(value, nest, axes, self.layout.memory(value))
        for axis in reversed(range(begin, end)):
            lines = self.language.repeat(axes[axis], values.shape[axis], lines)
        nest.lines = lines
        return [self.fill(value, self.language.literal(0, in_register(value.dtype))), nest]

    def add_at_positions(
        self, value: Value, nest: Nest, axes: Sequence[str], out: Memory, statement: str | None = None
    ) -> list[str]:
        """The lines that add the element of a scatter-add's values that is at these indices to its element of `out`.

        statement  the text that does it, with {0} for the element and {1} for what is added
        """
        values, rows = map(self.layout.memory, value.inputs)
        at, lines = self._at_position(value, nest, axes, out, rows)
        element, added = nest.at(out).element(at), nest.at(values).read(axes)
        if statement is not None:
            return [*lines, statement.format(element, added)]
        total = self.language.apply("add", in_register(out.base.dtype), element, added)
        return [*lines, self.language.assign(element, total)]

    def _at_position(
        self, value: Value, nest: Nest, axes: Sequence[str], array: Memory, rows: Memory
    ) -> tuple[tuple[str, ...], list[str]]:
        """The indices of the element of an array that is at a position along an axis, and the lines that read that."""
        language, axis = self.language, value["axis"]
        end, given, at = axis + rows.view.ndim, f"given{value.number}", f"at{value.number}"
        read = language.cast(nest.at(rows).read(axes[axis:end]), np.int64)
        found = language.operations["position"].format(given, array.view.shape[axis])
        lines = [language.define(given, read, np.int64), language.define(at, found, np.int64)]
        return (*axes[:axis], at, *axes[end:]), lines

    def argmax(self, value: Value) -> list[Nest]:
        """The position of the first maximum (or minimum) along an axis; NaN comes before any number.

        A long axis is searched in several places at once, so that no comparison waits for the one before.
        """
        (x,), axis, language, nest = value.inputs, value["axis"], self.language, Nest(value.shape)
        source, out, dtype = nest.at(self.layout.memory(x)), nest.at(self.layout.memory(value)), in_register(x.dtype)
        n, along, order = x.shape[axis], _POSITION_AXES[0], "less_equal" if value.op == "argmax" else "greater_equal"
        places = 8 if n >= 64 else 1
        size = n // places

        def read(position: str) -> str:
            return source.read((*nest.axes[:axis], position, *nest.axes[axis:]))

        def named(name: str, place: int) -> str:
            return f"{name}{value.number}_{place}"

        def challenge(place: int, element: str, position: str) -> list[str]:
            """An element wins if it is not ≤ the best one, or is NaN, unless the best one is."""
            best, found, wins = (named(name, place) for name in ("best", "found", "wins"))
            beyond = language.apply("logical_not", bool, f"({language.apply(order, bool, element, best)})")
            is_number, never = language.apply("equal", bool, best, best), language.apply("less", bool, best, best)
            return language.block([
                language.define(wins, language.apply("where", bool, is_number, beyond, never), bool),
                language.assign(best, language.apply("where", dtype, wins, element, best)),
                language.assign(found, language.apply("where", np.int64, wins, position, found)),
            ])  # fmt: skip

        def challenges(place: int, begin: int) -> list[str]:
            position, element = f"({begin} + {along})" if begin else along, named("element", place)
            lines = [language.define(element, read(position), dtype)]
            return language.block([*lines, *challenge(place, element, language.cast(position, np.int64))])

        for place in range(places):
            first = language.literal(place * size, np.int64)
            nest.lines.append(language.declare(named("best", place), read(str(place * size)), dtype))
            nest.lines.append(language.declare(named("found", place), first, np.int64))
        body = [line for place in range(places) for line in challenges(place, place * size)]
        nest.lines += language.repeat(along, size, body)
        for place in range(1, places):  # in order, so that of equal ones the first wins
            nest.lines += challenge(0, named("best", place), named("found", place))
        if n % places:
            nest.lines += language.repeat(along, n % places, challenges(0, places * size))
        nest.lines.append(language.assign(out.element(nest.axes), named("found", 0)))
        return [nest]
