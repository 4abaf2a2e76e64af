"""Records of a traced step: one per op, in order, each traced by itself, forward and backward.

A scan is compiled from the step as a whole. Here every record is a little program of its own, whose operands and result
are arrays that one may look at and change: then what follows, and the gradients, are those of the changed values.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ...backend import CheckedIndex
from ...contexts import enable_grad
from ...scan.ir import Graph, Value
from ...scan.names import StepNames
from ...scan.protocol import owner_and_function
from ...scan.tracing.traced_array import TracedArray, Untraceable
from ...scan.tracing.tracer import Call, Forward, Operand, trace_with_names
from ...tape import Node, leaf, walk
from ...tensor import Tensor
from ...writes import tick
from ..errors import InteropError

_INFIX = {"add": "+", "subtract": "-", "hadamard": "*", "multiply": "*", "divide": "/", "matmul": "@", "greater": ">",
          "less": "<", "greater_equal": ">=", "less_equal": "<=", "equal": "==", "not_equal": "!="}  # fmt: skip


class Ref(NamedTuple):
    """What an operand is: a record or a part of the carry by its index, the x, a parameter by its name, an array that
    the step closes over by its index, or a scalar."""

    kind: Literal["record", "carry", "x", "parameter", "constant", "scalar"]
    key: Any = 0


@dataclass(frozen=True, eq=False)
class Record:
    """One op of a step.

    inputs          its operands; those that are arrays have a placeholder in `graph`
    graph           the graph of the op alone: of its formula and of its rules
    operands        the placeholders, and what they stand for
    result          the value that the formula gives
    cotangent       the placeholder for the cotangent of the result; None where no gradient passes
    gradients       of each operand the cotangent, None where there is none
    invariant       whether it depends on parameters and constants alone
    """

    index: int
    op: str
    name: str | None
    line: int | None
    inputs: list[Ref]
    graph: Graph
    operands: list[tuple[Value, Ref]]
    result: Value
    cotangent: Value | None
    gradients: list[Value | None]
    invariant: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.result.shape

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


class Step(NamedTuple):
    """A step as records.

    path        of its module, with which the names of its parameters begin
    carry       its parts: the name, and a value of that shape and dtype
    x           the name of the input, and a value of that shape and dtype
    next, output  what the parts of the carry become, and what the step returns
    parameters  the names of those that it uses
    constants   the arrays that it closes over which are no parameters
    source      the lines of the step
    """

    path: str
    carry: list[tuple[str, Value]]
    x: tuple[str, Value]
    next: list[Ref]
    output: Ref
    records: list[Record]
    parameters: dict[str, Value]
    constants: list[np.ndarray]
    source: list[str]

    @property
    def size_of_output(self) -> int:
        """The features of the output."""
        return self.like(self.output).shape[-1]

    def like(self, ref: Ref) -> Value:
        """A value of the shape and dtype of a record, of a part of the carry, of x or of a parameter."""
        if ref.kind == "record":
            return self.records[ref.key].result
        if ref.kind == "carry":
            return self.carry[ref.key][1]
        return self.x[1] if ref.kind == "x" else self.parameters[ref.key]

    def text_of(self, ref: Ref) -> str:
        """An operand as it is called in the text of a record."""
        if ref.kind == "record":
            return self.records[ref.key].name or f"v{ref.key}"
        if ref.kind == "carry":
            return self.carry[ref.key][0]
        if ref.kind == "constant":
            return f"constant {ref.key}"
        if ref.kind == "parameter":
            return ref.key.removeprefix(f"{self.path}.")
        return "x" if ref.kind == "x" else ref.key

    def text(self, record: Record) -> str:
        """The record as an expression of its operands."""
        texts = [self.text_of(ref) for ref in record.inputs]
        if record.op in _INFIX and len(texts) == 2:
            return f"{texts[0]} {_INFIX[record.op]} {texts[1]}"
        if record.result.op == "getitem":
            return f"{texts[0]}[{_index_text(record.result)}]"
        return f"-{texts[0]}" if record.op == "negative" else f"{record.op}({', '.join(texts)})"


def _index_text(value: Value) -> str:
    """The text between the brackets of a selection."""
    texts = []
    for entry, size in zip(value["index"], value.inputs[0].shape):
        if isinstance(entry, int):
            texts.append(f"{entry}")
            continue
        _, start, stop, step = entry
        by = f":{step}" if step != 1 else ""
        texts.append(f"{start or ''}:{'' if stop in (size, -1) else stop}{by}")
    return ", ".join(texts)


def no_program(what: str, reason: Untraceable) -> InteropError:
    """The error for what has no program, and what to write instead."""
    advice = f" ({reason.advice})" if reason.advice else ""
    return InteropError(f"{what} has no program in JavaScript: {reason}{advice}")


def trace_step(
    step: Callable, carry: Any, xs: Any, states: tuple[str, ...], parameters: Mapping[str, Tensor], path: str
) -> Step:
    """The records of a step, traced with this carry and these xs (one input at every step). Raises Untraceable.

    states      the names of the parts of the carry
    parameters  by name; what the step closes over besides is a constant
    path        of the step's module
    """
    forward, names = trace_with_names(step, carry, xs, parameters.values())
    if len(forward.xs) != 1 or len(forward.ys) != 1:
        raise Untraceable(f"it has {len(forward.xs)} inputs and {len(forward.ys)} outputs at every step, and not one")
    return _Tracer(forward, names, step, states, parameters).step(path)


class _Tracer:
    """Traces the records of a step one by one."""

    def __init__(
        self, forward: Forward, names: StepNames, step: Callable, states: tuple[str, ...],
        parameters: Mapping[str, Tensor],
    ):  # fmt: skip
        self.forward, self.places, self.states = forward, names.places, states
        self.x_name = names.of().get(forward.xs[0], "x")
        # A variable that has the name of a state or of the input, and now another value, would be taken for that.
        taken = {*states, self.x_name}
        self.names = {value: name for name, value in reversed(names.values.items()) if name not in taken}
        self.source, self.first_line = _source(step, {place.line for place in names.places.values()})
        self.records: list[Record] = []
        self.constants: list[np.ndarray] = []
        self.parameters: dict[str, Value] = {}
        self.names_of_arrays = {id(tensor.data): name for name, tensor in parameters.items()}
        self.names_of_nodes = {tensor.node: name for name, tensor in parameters.items() if tensor.node is not None}
        self.by_value: dict[Value, Ref] = {v: Ref("carry", i) for i, v in enumerate(forward.carry)}
        self.by_value[forward.xs[0]] = Ref("x")
        inputs = zip(forward.inputs, (*forward.carry, *forward.xs))
        self.by_node: dict[Node, Ref] = {t.node: self.by_value[v] for t, v in inputs if t.node is not None}

    def step(self, path: str) -> Step:
        forward = self.forward
        for call in forward.calls:
            self._of_call(call)
        *next_carry, output = [
            self._ref(Operand(value, tensor.node))
            for value, tensor in zip((*forward.new_carry, *forward.ys), forward.outputs)
        ]
        if output.kind == "constant":
            raise Untraceable("its output is a constant")
        return Step(
            path, list(zip(self.states, forward.carry)), (self.x_name, forward.xs[0]), next_carry, output,
            self.records, self.parameters, self.constants, self.source,
        )  # fmt: skip

    # -- operands ------------------------------------------------------------------------------------------------------

    def _ref(self, operand: Operand) -> Ref:
        """What an operand is. One that no op has recorded, such as a comparison, becomes a record here."""
        if operand.node in self.by_node:
            return self.by_node[operand.node]
        if operand.value is None:
            return Ref("scalar", repr(operand.literal))
        if operand.node is not None and operand.node.op is not None:
            raise Untraceable("it closes over a tensor that is computed from parameters", "compute it in the step")
        if operand.node in self.names_of_nodes:
            return self._parameter(self.names_of_nodes[operand.node], operand.value)
        return self._of_value(operand.value)

    def _parameter(self, name: str, value: Value) -> Ref:
        self.parameters[name] = value
        return Ref("parameter", name)

    def _of_value(self, value: Value) -> Ref:
        if value not in self.by_value:
            if value.op == "scalar":
                return Ref("scalar", repr(value["value"]))
            if value.op == "constant":
                array = self.forward.graph.constants[value["position"]]
                if id(array) in self.names_of_arrays:
                    return self._parameter(self.names_of_arrays[id(array)], value)
                self.constants.append(array)
                self.by_value[value] = Ref("constant", len(self.constants) - 1)
            else:
                self.by_value[value] = self._of_operation(value)
        return self.by_value[value]

    # -- records -------------------------------------------------------------------------------------------------------

    def _of_call(self, call: Call) -> None:
        """A record of an op that was recorded."""
        graph, start = Graph(self.forward.graph.arrays), tick()
        found = _Placeholders(graph)

        def setting(x: Any) -> Any:
            if type(x) in (tuple, list, CheckedIndex):
                return type(x)(map(setting, x))
            return TracedArray(graph, found.add(x.value, self._of_value(x.value))) if isinstance(x, TracedArray) else x

        inputs = [self._ref(operand) for operand in call.operands]
        tensors = [
            operand.literal if operand.value is None else found.tensor(operand, ref)
            for operand, ref in zip(call.operands, inputs)
        ]
        with enable_grad():
            result = call.op(*tensors, **{name: setting(x) for name, x in call.settings.items()})
        value = result._data.value
        cotangent = graph.add("cotangent", (), value.shape, value.dtype, position=0)
        gradients = walk(
            Tensor, {result.node: TracedArray(graph, cotangent)}, frozenset(found.leaves.values()), retain_graph=True,
            since=start,
        )  # fmt: skip
        leaves = [found.leaves.get(placeholder) for placeholder, _ in found.operands]
        of_operands = [None if node is None else gradients.get(node) for node in leaves]
        ref = self._add(
            call.op.__name__, call.value, inputs, found, value, cotangent,
            [None if g is None else g.value for g in of_operands],
        )  # fmt: skip
        self.by_node[call.node] = ref
        if call.value is not None:
            self.by_value.setdefault(call.value, ref)

    def _of_operation(self, value: Value) -> Ref:
        """A record of an array operation without a gradient."""
        found = _Placeholders(Graph(self.forward.graph.arrays))
        inputs = [self._of_value(i) for i in value.inputs]
        operands = [
            found.graph.scalar(i["value"]) if i.op == "scalar" else found.add(i, ref)
            for i, ref in zip(value.inputs, inputs)
        ]
        result = value.with_inputs(found.graph, operands)
        return self._add(value.op, value, inputs, found, result, None, [None] * len(found.operands))

    def _add(
        self, op: str, value: Value | None, inputs: list[Ref], found: _Placeholders, result: Value,
        cotangent: Value | None, gradients: list[Value | None],
    ) -> Ref:  # fmt: skip
        """Add a record. What its formula captured besides its operands becomes a constant."""
        for constant in [v for v in found.graph.values if v.op == "constant" and v not in dict(found.operands)]:
            self.constants.append(found.graph.constants[constant["position"]])
            found.operands.append((constant, Ref("constant", len(self.constants) - 1)))
            gradients = [*gradients, None]
        invariant = all(self._is_invariant(ref) for _, ref in found.operands)
        place = None if value is None else self.places.get(value)
        line = None if place is None else place.line - self.first_line
        self.records.append(Record(
            len(self.records), op, None if value is None else self.names.get(value),
            line if line is not None and 0 <= line < len(self.source) else None,
            inputs, found.graph, found.operands, result, cotangent, gradients, invariant,
        ))  # fmt: skip
        return Ref("record", len(self.records) - 1)

    def _is_invariant(self, ref: Ref) -> bool:
        return self.records[ref.key].invariant if ref.kind == "record" else ref.kind not in ("carry", "x")


class _Placeholders:
    """The placeholders of a record's operands in its graph, and the leaves of those that require a gradient."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.operands: list[tuple[Value, Ref]] = []
        self.leaves: dict[Value, Node] = {}

    def add(self, like: Value, ref: Ref) -> Value:
        position = len(self.graph.constants)
        self.graph.constants.append(None)
        value = self.graph.add("constant", (), like.shape, like.dtype, position=position)
        self.operands.append((value, ref))
        return value

    def tensor(self, operand: Operand, ref: Ref) -> Tensor:
        assert operand.value is not None
        placeholder = self.add(operand.value, ref)
        array = TracedArray(self.graph, placeholder)
        if operand.node is None:
            return Tensor.from_node(array, None)
        node = self.leaves[placeholder] = leaf(array)
        assert node.grad_state is not None
        node.grad_state.array = None
        return Tensor.from_node(array, node)


def _source(step: Callable, lines: set[int]) -> tuple[list[str], int]:
    """The lines of the step, dedented, and the number of the first; of a cell with options those of its equations."""
    owner, function = owner_and_function(step)
    candidates: list[Any] = [function, getattr(type(owner), "step_with_options", None)]
    for candidate in candidates:
        try:
            source, first = inspect.getsourcelines(inspect.unwrap(candidate))
        except (OSError, TypeError):
            continue
        if not lines or lines & set(range(first, first + len(source))):
            return textwrap.dedent("".join(source)).splitlines(), first
    return [], 0
