"""Trace: the step, run once on symbols, and its backward, run once by the ops' own rules.

Two traces are equal, and may share a compiled plan, if they are one program: one listing of all that the step does, and
of its backward either the listing too or, where all ops are ours, what it is made of: the ops, what each has saved and
how they hang together. Whatever makes another program, such as another op or rule, a setting that only a rule reads,
frozen weights, or two tensors that are one array, is in there by its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ...backend import is_floating, is_on_cuda
from ...contexts import enable_grad
from ...inspector import Inspector
from ...ops.op import Op
from ...tape import Node, Tape, Variable, history, inspector, leaf, walk
from ...tensor import Tensor
from ...writes import tick
from ..ir import Graph, Value
from ..protocol import Structure, split_output, tree_leaves, tree_structure, tree_unflatten
from .dependencies import is_library
from .effects import undone
from .traced_array import TracedArray, Untraceable, closed_over, is_array


class Key:
    """A long key: its hash is computed once."""

    __slots__ = ("hash", "parts")

    def __init__(self, parts: Hashable):
        self.parts, self.hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.parts == other.parts


class Operand(NamedTuple):
    """An input of a recorded op.

    value    which value of the listing it was; None for a Python number
    node     its node, through which gradients flow; None for a constant
    literal  the number
    """

    value: Value | None
    node: Node | None
    literal: Any = None


@dataclass
class Call:
    """One op that the step recorded: its inputs, and the node and the value (None: of weights alone) that it made."""

    op: Op
    operands: list[Operand]
    settings: dict[str, Any]
    node: Node
    value: Value | None


@dataclass
class Forward:
    """One step, as a listing and as the ops that were recorded.

    carry, xs  the values that are read
    new, ys    the values that are made
    y_structure  the structure of y
    captured   the nodes of the tensors from outside that want gradients, in the order in which they were made
    records    what the step left on the tape since the moment `start`
    calls      the ops of these records
    reaches    of every output the inputs that gradients reach from it, as bits; the last bit stands for the captured
    size       how many lines the listing has
    """

    graph: Graph
    carry: list[Value]
    xs: list[Value]
    new_carry: list[Value]
    ys: list[Value]
    closed_over: list[Node]
    y_structure: Structure
    start: int
    records: Tape
    calls: list[Call]
    reaches: list[int]
    inputs: list[Tensor]
    outputs: list[Tensor]
    size: int
    found: dict[Any, list[bool]] = field(default_factory=dict)  # what requires_grad gave

    def requires_grad(self, wanted: Sequence[bool], length: int) -> list[bool]:
        """Which outputs, the last carry and the stacked ys, gradients flow through after that many steps."""
        key = (tuple(wanted), length)
        if key in self.found:
            return self.found[key]
        count = len(self.carry)
        bits = 1 << len(self.inputs) | sum(1 << i for i, yes in enumerate(wanted) if yes)
        ys = [False] * len(self.ys)
        for _ in range(length):
            found = [bool(reached & bits) for reached in self.reaches]
            ys = [before or now for before, now in zip(ys, found[count:])]
            after = bits >> count << count | sum(1 << i for i, yes in enumerate(found[:count]) if yes)
            if after == bits:
                break
            bits = after
        if len(self.found) > 100:
            self.found.clear()
        self.found[key] = [*(bool(bits >> i & 1) for i in range(count)), *ys]
        return self.found[key]


@dataclass
class Backward:
    """The backward of one step, in the same listing.

    cotangents           of each part of the carry and of each y
    carry, xs, captured  the gradients, None where there is none
    """

    cotangents: list[Value]
    carry: list[Value | None]
    xs: list[Value | None]
    closed_over: list[Value | None]


class Trace:
    """A step as it was traced.

    xs_wanted  which xs want a gradient; None if nothing does
    fixed      the arrays from outside, in the order of the listing
    key        what equal traces have in common
    """

    def __init__(
        self, forward: Forward, xs_wanted: Sequence[bool] | None, constants: list[Any], key: Key, backward: Any = None
    ):
        self.forward, self.xs_wanted, self.constants, self.key = forward, xs_wanted, constants, key
        self._backward: Backward | None = backward

    def with_constants(self, constants: list[Any]) -> Trace:
        """The same trace with other arrays from outside."""
        return Trace(self.forward, self.xs_wanted, constants, self.key, self._backward)

    @classmethod
    def of(cls, forward: Forward, xs_wanted: Sequence[bool] | None) -> Trace:
        graph, parts, backward = forward.graph, [], None
        if xs_wanted is not None:
            for record in forward.records:
                # The rules must see a weight as a symbol too: what they make of it is then made anew at every call.
                record.saved = tuple([_symbolic(graph, x) for x in record.saved or ()])
            try:
                parts.append(_tape_key(forward, xs_wanted))
            except _OfAUser:  # the backward itself tells what its rules do
                backward = trace_backward(forward, xs_wanted)
                parts.append(_numbers(*backward.cotangents, *backward.carry, *backward.xs, *backward.closed_over))
        graph.closed = True
        values = _numbers(*forward.carry, *forward.xs, *forward.new_carry, *forward.ys)
        parts += [len(forward.carry), len(forward.xs), len(forward.ys), forward.size, values, graph.key()]
        return cls(forward, xs_wanted, list(graph.constants), Key(tuple(parts)), backward)

    def backward(self) -> Backward | None:
        """The backward of the step, in the same listing; None if nothing wants a gradient."""
        if self.xs_wanted is None or self._backward is not None:
            return self._backward
        graph = self.forward.graph
        graph.closed, count = False, len(graph.constants)
        try:
            self._backward = trace_backward(self.forward, self.xs_wanted)
        finally:
            graph.closed = True
        if len(graph.constants) > count:
            raise Untraceable("its backward uses arrays that its forward does not")
        return self._backward


class _OfAUser(Exception):
    """An op of which only its rules themselves tell what they do."""


def _tape_key(forward: Forward, xs_wanted: Sequence[bool]) -> Hashable:
    """What the backward is made of, if all ops are ours: the ops, what they have saved, and how they hang together."""
    names: dict[Any, Any] = {None: None} | {node: ("closed_over", i) for i, node in enumerate(forward.closed_over)}
    names |= {t.node: ("input", i) for i, t in enumerate(forward.inputs) if t.node is not None}
    rows: list[Hashable] = [tuple(xs_wanted)]
    for i, record in enumerate(forward.records):
        if record.op.redefined or not is_library(record.op.formula.__module__):
            raise _OfAUser
        names[record] = i
        rows.append((record.op, tuple([names.get(parent) for parent in record.parents]), _plain(record.saved)))
    return (*rows, tuple([names.get(t.node) for t in forward.outputs]))


def _plain(x: Any) -> Hashable:
    """Something that an op has saved, so that it is equal to what does the same."""
    if isinstance(x, TracedArray):
        return ("value", x.value.number)
    if isinstance(x, (tuple, list)):
        return tuple([_plain(part) for part in x])
    if x is None or isinstance(x, (bool, int, float, str, slice, type(...), np.dtype, np.generic)):
        return (type(x), repr(x))
    raise _OfAUser


def _numbers(*values: Value | None) -> Hashable:
    return tuple([None if v is None else v.number for v in values])


class _Recorder(Inspector):
    """Takes down every op that is recorded. What else watches the program goes on seeing what is not symbolic."""

    recomputes = False

    def __init__(self, outer: Inspector | None):
        super().__init__()
        self.outer = outer
        if outer is not None:
            self.path, self.modules = outer.path, outer.modules
        self.calls: list[tuple[Op, tuple, dict[str, Any], Variable]] = []
        self.settings: dict[str, Any] = {}

    def run(self, op: Op, inputs: tuple, settings: dict[str, Any]) -> Any:
        observer = self.outer
        result = op.formula(*inputs, **settings) if observer is None else observer.run(op, inputs, settings)
        self.settings = settings  # after those of ops inside the formula
        return result

    def forward(self, op: Op, inputs: tuple, result: Variable) -> None:
        if result.node is not None:
            self.calls.append((op, inputs, self.settings, result))

    def backward(self, record: Node, cotangent: Any) -> None:
        pass


def trace_forward(step: Callable, carry: Any, xs: Any) -> Forward:
    """Run `step` on symbols in the place of the carry and of one x. Raises Untraceable with the reason it cannot."""
    if not tree_leaves(carry):
        raise Untraceable("it carries nothing")
    graph = Graph(type(tree_leaves(carry)[0].data))
    start = tick()

    def symbol(kind: str, position: int, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        can_be_run = isinstance(like.data, np.ndarray) or is_on_cuda(like.data)
        if not can_be_run or not isinstance(like.data, graph.arrays):
            raise Untraceable(f"there is no emitter for arrays on {like.device!r}")
        array = TracedArray(graph, graph.add(kind, (), tuple(shape), like.dtype, position=position))
        return Tensor.from_node(array, leaf(array) if is_floating(like.dtype) else None)

    carries = [symbol("carry", i, part, part.shape) for i, part in enumerate(tree_leaves(carry))]
    reads = [symbol("x", i, x, x.shape[1:]) for i, x in enumerate(tree_leaves(xs))]
    arguments = tree_unflatten(tree_structure(carry), carries), tree_unflatten(tree_structure(xs), reads)
    recorder = _Recorder(inspector.get())
    token = inspector.set(recorder)
    try:
        with undone(step) as check, enable_grad():
            with _on_symbols():
                new, y = split_output(step(*arguments), carry)
            check()
    finally:
        inspector.reset(token)
    news = list(tree_leaves(new))
    ys = [part for part in tree_leaves(y) if part is not None]
    if len(news) != len(carries):
        raise Untraceable("the carry changes its parts")
    for before, after in zip(carries, news):
        if not isinstance(after, Tensor) or after.shape != before.shape or after.dtype != before.dtype:
            raise Untraceable("the carry changes its shape or dtype")
    outputs = [*news, *ys]
    values = [_value(graph, t) for t in outputs]
    inputs = [*carries, *reads]
    own = {t.node for t in inputs}
    records, ends = history([t.node for t in outputs], start)
    closed_over = [node for node in ends if node not in own]
    if any(_is_watched(node) for node in (*records, *own, *(node for node in closed_over if node.number >= start))):
        raise Untraceable("it asks for the gradient of a value inside, by a hook or retain_grad, at every step")
    if any(value.op == "matmul" and 0 in value.inputs[1].shape for value in graph.values):
        raise Untraceable("it multiplies with a matrix without elements")
    calls = _calls(graph, recorder, records)
    count = len(news)
    return Forward(
        graph, [_value(graph, t) for t in carries], [_value(graph, t) for t in reads], values[:count],
        values[count:], closed_over, tree_structure(y), start, records, calls,
        _reaches(records, closed_over, inputs, outputs), inputs, outputs, len(graph.values),
    )  # fmt: skip


def trace_backward(forward: Forward, xs_wanted: Sequence[bool]) -> Backward:
    """Pull symbolic cotangents back through the traced step, to the carry, the captured, and those xs that want one."""
    graph = forward.graph
    weights: dict[Node, Any] = {}
    cotangents: list[Value] = []
    for i, output in enumerate(forward.outputs):
        value = graph.add("cotangent", (), output.shape, output.dtype, position=i)
        cotangents.append(value)
        if output.node is not None:
            cotangent = TracedArray(graph, value)
            weights[output.node] = weights[output.node] + cotangent if output.node in weights else cotangent
    inputs_wanted = [True] * len(forward.carry) + list(xs_wanted)  # time runs through the carry, whoever started it
    wanted = [t.node for t, needed in zip(forward.inputs, inputs_wanted) if needed and t.node is not None]
    wanted += forward.closed_over
    found: dict[Node, Any] = {}
    with _on_symbols():
        if weights and wanted:
            found = walk(Tensor, weights, frozenset(wanted), retain_graph=True, since=forward.start)

    def gradient(node: Node | None) -> Value | None:
        array = found.get(node) if node is not None else None
        return None if array is None else _value_of(graph, array)

    gradients = [gradient(t.node) for t in forward.inputs]
    count = len(forward.carry)
    return Backward(cotangents, gradients[:count], gradients[count:], [gradient(node) for node in forward.closed_over])


@contextmanager
def _on_symbols() -> Iterator[None]:
    """A formula or a rule may ask of an array what a symbol cannot give: then it is run plainly, which will tell."""
    try:
        yield
    except Untraceable:
        raise
    except Exception as error:
        raise Untraceable(f"on symbols it fails with {type(error).__name__}: {error}") from error


def _symbolic(graph: Graph, x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(_symbolic(graph, part) for part in x)
    return TracedArray(graph, closed_over(graph, x)) if isinstance(x, graph.arrays) else x


def _value(graph: Graph, tensor: Any) -> Value:
    if not isinstance(tensor, Tensor):
        raise Untraceable(f"it returns a {type(tensor).__name__} where a Tensor is needed")
    return _value_of(graph, tensor.data)


def _value_of(graph: Graph, array: Any) -> Value:
    if isinstance(array, TracedArray):
        return array.value
    if not is_array(graph, array):
        raise Untraceable(f"it returns a {type(array).__name__}")
    return closed_over(graph, array)


def _is_watched(node: Node | None) -> bool:
    """Whether somebody wants to know of the gradient at a node of the trace."""
    return (
        node is not None
        and node.grad_state is not None
        and bool(node.grad_state.hooks or (node.grad_state.keep and node.op))
    )


def _calls(graph: Graph, recorder: _Recorder, records: Tape) -> list[Call]:
    """The ops of the records, in order."""
    on_path, calls = set(records), []
    for op, inputs, settings, result in recorder.calls:
        node: Any = result.node
        if node in on_path:
            operands = [_operand(graph, x, parent) for x, parent in zip(inputs, node.parents)]
            value = result._data.value if isinstance(result._data, TracedArray) else None
            calls.append(Call(op, operands, settings, node, value))
    if len(calls) != len(records):
        raise Untraceable("it records what is no op")
    return calls


def _operand(graph: Graph, x: Any, node: Node | None) -> Operand:
    if isinstance(x, TracedArray):
        return Operand(x.value, node)
    return Operand(closed_over(graph, x), node) if isinstance(x, graph.arrays) else Operand(None, node, x)


def _reaches(records: Tape, closed_over: list[Node], inputs: list[Tensor], outputs: list[Tensor]) -> list[int]:
    bits: dict[Node | None, int] = {None: 0} | dict.fromkeys(closed_over, 1 << len(inputs))
    bits |= {t.node: 1 << i for i, t in enumerate(inputs) if t.node is not None}
    for record in records:
        found = 0
        for parent in record.parents:
            found |= bits.get(parent, 0)
        bits[record] = found
    return [bits[t.node] for t in outputs]
