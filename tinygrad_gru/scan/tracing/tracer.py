"""Tracer: runs a step once on traced arrays, and its backward pass once by the ops' own rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ...backend import CheckedIndex, backend_of, is_floating, is_on_cuda
from ...contexts import enable_grad, setting
from ...cotangents import summed_by_node
from ...inspector import Inspector
from ...ops.op import Op
from ...tape import Node, Tape, Variable, history, inspector, leaf, walk
from ...tensor import Tensor
from ...trees import flatten, leaves_like, with_leaves
from ...writes import tick
from ..ir import Graph, Value
from ..names import Place, StepNames, WatchedStep
from ..protocol import split_output
from .draws import Draw, drawing
from .effects import rollback
from .indexing import IndexCheck
from .traced_array import NoTarget, TracedArray, Untraceable, closed_over, is_array


class Operand(NamedTuple):
    """An input of a recorded op.

    value    its value in the graph; None for a Python scalar
    node     its node on the tape; None where no gradient flows
    literal  the scalar
    """

    value: Value | None
    node: Node | None
    literal: Any = None


class Call(NamedTuple):
    """An op that the step recorded, and the node and value of its output (value None: computed from weights alone)."""

    op: Op
    operands: list[Operand]
    settings: dict[str, Any]
    node: Node
    value: Value | None


class Forward(NamedTuple):
    """One step, as a graph and as the ops that were recorded.

    carry, xs      its inputs; the last xs are random numbers, see `draws`
    new_carry, ys  its outputs
    closed_over    the nodes of the closed-over tensors that require a gradient, in the order of their creation
    draws          the random numbers that it draws, each an x
    y              of traced tensors, in the structure that ys have too
    start          the time on the tape at which the trace began
    records        the records of the step
    calls          the ops of these records
    reaches        for each output, the inputs that gradients reach from it, as bits; the last bit is for `closed_over`
    inputs, outputs  the traced tensors
    size           the number of values in the graph
    checks         the indices that must be in bounds
    reads          whether it read values of closed-over tensors, as `float(w)` does, or computed of them alone
    """

    graph: Graph
    carry: list[Value]
    xs: list[Value]
    new_carry: list[Value]
    ys: list[Value]
    closed_over: list[Node]
    draws: list[Draw]
    y: Any
    start: int
    records: Tape
    calls: list[Call]
    reaches: list[int]
    inputs: list[Tensor]
    outputs: list[Tensor]
    size: int
    checks: tuple[IndexCheck, ...]
    reads: bool
    called: list[Any]
    results: dict[Any, list[bool]]  # of requires_grad, by its arguments

    def requires_grad(self, inputs: Sequence[bool], length: int) -> list[bool]:
        """Which outputs of `length` steps (the last carry, the stacked ys) require a gradient if these inputs do."""
        key = (tuple(inputs), length)
        if key in self.results:
            return self.results[key]
        count = len(self.carry)
        bits = 1 << len(self.inputs) | sum(1 << i for i, required in enumerate(inputs) if required)
        ys = [False] * len(self.ys)
        for _ in range(length):
            reached = [bool(reaches & bits) for reaches in self.reaches]
            ys = [before or now for before, now in zip(ys, reached[count:])]
            after = bits >> count << count | sum(1 << i for i, required in enumerate(reached[:count]) if required)
            if after == bits:
                break
            bits = after
        if len(self.results) > 100:
            self.results.clear()
        self.results[key] = [*(bool(bits >> i & 1) for i in range(count)), *ys]
        return self.results[key]


class Backward(NamedTuple):
    """The backward pass of one step, in the graph of its forward pass.

    cotangents              of each part of the new carry and of each y
    carry, xs, closed_over  the gradients, None where there is none
    """

    cotangents: list[Value]
    carry: list[Value | None]
    xs: list[Value | None]
    closed_over: list[Value | None]


class _Recorder(Inspector):
    """The inspector that lists the recorded ops. An outer inspector still observes every formula that runs.

    reads    whether values of tensors were read, or used by an op none of whose inputs is traced
    refused  the arguments of the Untraceable that was raised first, if any was
    """

    recomputes = False

    def __init__(self, outer: Inspector | None, start: int):
        super().__init__()
        self.outer, self.start = outer, start
        self.refused: tuple[str, str] | None = None
        if outer is not None:
            self.path, self.modules = outer.path, outer.modules
        self.calls: list[tuple[Op, tuple, dict[str, Any], Variable]] = []
        self.settings: dict[str, Any] = {}
        self.reads = False
        self.called: list[Any] = []

    @contextmanager
    def scope(self, name: str, module: Any = None) -> Iterator[None]:
        self.called.append(module)
        with super().scope(name, module):
            yield

    def reading(self, array: Any) -> None:
        self.reads = True

    def asking(self, tensor: Variable) -> None:
        if isinstance(tensor._data, TracedArray) or (tensor.node is not None and tensor.node.number >= self.start):
            raise Untraceable(
                "it asks whether a value requires a gradient, which is not known before it runs",
                "compute the same in both cases: where no gradient is required, none is computed",
            )

    def refusing(self, reason: Exception) -> None:
        if self.refused is None and not isinstance(reason, NoTarget):
            self.refused = reason.args

    def run(self, op: Op, inputs: tuple, settings: dict[str, Any]) -> Any:
        observer = self.outer
        if TracedArray not in map(type, inputs):
            self.reads = True
        result = op.formula(*inputs, **settings) if observer is None else observer.run(op, inputs, settings)
        self.settings = settings  # set last, for the formula may have called other ops
        return result

    def forward(self, op: Op, inputs: tuple, result: Variable) -> None:
        if result.node is not None:
            self.calls.append((op, inputs, self.settings, result))

    def backward(self, record: Node, cotangent: Any) -> None:
        pass


def trace_forward(step: Callable, carry: Any, xs: Any, symbolic: Iterable[Tensor] = ()) -> Forward:
    """Trace `step` with traced arrays as the carry and one x. Raises Untraceable.

    symbolic  closed-over tensors that are traced arrays during the trace: what the step computes of them alone is in
              the graph, and is not a constant
    """
    carry_leaves, x_leaves = flatten(carry), flatten(xs)
    if not carry_leaves:
        raise NoTarget("its carry is empty")
    first = carry_leaves[0].data
    graph = Graph(type(first), backend_of(first))
    start = tick()

    def placeholder(source: str, position: int, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        has_target = isinstance(like.data, np.ndarray) or is_on_cuda(like.data)
        if not has_target or not isinstance(like.data, graph.arrays):
            raise NoTarget(f"there is no target for arrays on {like.device!r}")
        array = TracedArray(graph, graph.add(source, (), tuple(shape), like.dtype, position=position))
        node = leaf(array) if is_floating(like.dtype) else None
        if node is not None and node.grad_state is not None:
            node.grad_state.array = None  # a value of the step, which may write `h += …`, not a leaf in memory
        return Tensor.from_node(array, node)

    carry_in = [placeholder("carry", i, part, part.shape) for i, part in enumerate(carry_leaves)]
    x_in = [placeholder("x", i, x, x.shape[1:]) for i, x in enumerate(x_leaves)]
    arguments = tuple(  # of Tensors that the step may change, unlike carry_in and x_in
        with_leaves(tree, [Tensor.from_node(t.data, t.node) for t in inputs])
        for tree, inputs in ((carry, carry_in), (xs, x_in))
    )
    recorder = _Recorder(inspector.get(), start)
    with setting(inspector, recorder), rollback(step) as check, enable_grad():
        with _tracing(), _symbolic(graph, symbolic), drawing(graph, len(x_in)) as stream:
            new, y = split_output(step(*arguments), carry)
        if recorder.refused is not None:  # and the step has caught the error
            raise Untraceable(*recorder.refused)
        check()
    x_in += [Tensor.from_node(TracedArray(graph, value), None) for value in stream.values]
    carry_out, ys = leaves_like(carry, new), flatten(y)
    if carry_out is None:
        raise Untraceable("its carry changes its structure")
    for before, after in zip(carry_in, carry_out):
        if not isinstance(after, Tensor) or after.shape != before.shape or after.dtype != before.dtype:
            raise Untraceable("its carry changes its shape or dtype")
    outputs = [*carry_out, *ys]
    values = [_value(graph, t) for t in outputs]
    inputs = [*carry_in, *x_in]
    input_nodes = {t.node for t in inputs}
    records, ends = history([t.node for t in outputs], start)
    closed_over = [node for node in ends if node not in input_nodes]
    new_leaves = [node for node in closed_over if node.number >= start]
    if any(map(_is_observed, (*records, *input_nodes, *new_leaves))):
        raise Untraceable(
            "it observes the gradient of a value inside, by a hook or retain_grad, at every step",
            "return the value as y, and observe the gradient of all of them at once",
        )
    if [value for value in graph.values if value.op == "matmul" and 0 in value.inputs[1].shape]:
        raise NoTarget("it multiplies with a matrix without elements")
    calls = _calls(graph, recorder, records)
    count = len(carry_out)
    return Forward(
        graph, [_value(graph, t) for t in carry_in], [_value(graph, t) for t in x_in], values[:count],
        values[count:], closed_over, stream.draws, y, start, records, calls,
        _reaches(records, closed_over, inputs, outputs), inputs, outputs, len(graph.values),
        tuple(dict.fromkeys(graph.checks)), recorder.reads, recorder.called, results={},
    )  # fmt: skip


def trace_with_names(step: Callable, carry: Any, xs: Any, symbolic: Iterable[Tensor] = ()) -> tuple[Forward, StepNames]:
    """`trace_forward`, and the names of the values in the graph."""
    watched = WatchedStep(step, places=True)
    forward = trace_forward(watched, carry, xs, symbolic)
    values = {name: t._data.value for name, t in watched.found.items() if isinstance(t._data, TracedArray)}
    places: dict[Value, Place] = {}
    done = 0
    for count, place in watched.marks:
        places |= dict.fromkeys(forward.graph.values[done:count], place)
        done = count
    inputs = {*forward.carry, *forward.xs}
    return forward, StepNames(values, {value: place for value, place in places.items() if value not in inputs})


def trace_backward(forward: Forward, xs_need_grad: Sequence[bool]) -> Backward:
    """Trace the backward pass of a step, to its carry, the closed-over tensors, and the xs that require a gradient."""
    graph = forward.graph
    outputs = forward.outputs
    cotangents = [graph.add("cotangent", (), y.shape, y.dtype, position=i) for i, y in enumerate(outputs)]
    pairs = [(y.node, TracedArray(graph, g)) for y, g in zip(outputs, cotangents) if y.node is not None]
    need_grad = [*[True] * len(forward.carry), *xs_need_grad]  # the cotangent of the state passes through the carry
    wrt = [t.node for t, needs_grad in zip(forward.inputs, need_grad) if needs_grad and t.node is not None]
    wrt += forward.closed_over
    found: dict[Node, Any] = {}
    with _tracing():
        if pairs and wrt:
            found = walk(Tensor, summed_by_node(pairs), frozenset(wrt), retain_graph=True, since=forward.start)

    def gradient(node: Node | None) -> Value | None:
        array = found.get(node) if node is not None else None
        return None if array is None else _value_of(graph, array)

    gradients = [gradient(t.node) for t in forward.inputs]
    count = len(forward.carry)
    return Backward(cotangents, gradients[:count], gradients[count:], [gradient(node) for node in forward.closed_over])


@contextmanager
def _tracing() -> Iterator[None]:
    """Turn any error in this block into Untraceable: a formula or a rule may need what a traced array lacks.

    Eager mode then raises the error itself, if there is one.
    """
    try:
        yield
    except Untraceable:
        raise
    except Exception as error:
        raise Untraceable(f"on traced arrays it fails with {type(error).__name__}: {error}") from error


@contextmanager
def _symbolic(graph: Graph, tensors: Iterable[Tensor]) -> Iterator[None]:
    """Let these tensors have traced arrays in this block."""
    arrays = [(tensor, tensor._data) for tensor in tensors if is_array(graph, tensor._data)]
    try:
        for tensor, array in arrays:
            tensor._data = TracedArray(graph, closed_over(graph, array))
        yield
    finally:
        for tensor, array in arrays:
            tensor._data = array


def as_traced(graph: Graph, x: Any) -> Any:
    """A residual with its arrays replaced by constants of the graph."""
    if isinstance(x, tuple):
        parts = [as_traced(graph, part) for part in x]
        return CheckedIndex(parts) if isinstance(x, CheckedIndex) else tuple(parts)
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


def _is_observed(node: Node | None) -> bool:
    """Whether the gradient at a node of the trace is observed."""
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
        raise Untraceable("it records something that is not an op")
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
