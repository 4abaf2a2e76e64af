"""What a picture of a tape shows: its leaves and records, with names, values, rules, places and cotangents."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from ...contexts import enable_grad, setting
from ...cotangents import summed_by_node
from ...inspector import Inspector
from ...ops.multi_output import _OutputOp
from ...ops.rule_texts import RuleTexts, interface_of, names_of_inputs
from ...scan.names import Place, StepNames, place_of
from ...scan.replay import replay
from ...scan.run import _CompiledScan
from ...scan.tracing.traced_array import Untraceable
from ...scan.tracing.tracer import Forward, trace_with_names
from ...tape import Node, Variable, history, inspector, walk
from ...tensor import Tensor
from ...writes import tick

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
#: Functions of ours whose variables have names that mean something.
_STEPS = ("step", "step_with_options")


@dataclass(eq=False, repr=False)  # a repr of all fields would go through the whole graph, more than once
class Item:
    """A leaf or a record in the picture.

    name       in the source, of a parameter; empty if it has none
    op         of a record its op, "leaf" of a leaf
    arguments  what the op was applied to: items and constants
    inputs     the names of the arguments in the formula of the op
    rules      by the position of an argument, the text of the rule that gives its share of the cotangent
    note       what is said of a record whose op has no rules
    value, cotangent  None if unknown; of what a picture shows NumPy arrays
    place      in the source, if it was observed
    shape      None of an op with several outputs
    steps      in a block: the item at every step, in order
    """

    node: Node | None
    op: str
    shape: tuple[int, ...] | None
    name: str = ""
    arguments: list[Any] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    rules: dict[int, str] = field(default_factory=dict)
    note: str = ""
    value: Any = None
    cotangent: Any = None
    place: Place | None = None
    steps: list[Item] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{self.name or '(no name)'} = {self.op} {self.shape}"

    @property
    def is_leaf(self) -> bool:
        return self.op == "leaf"


class Constant(str):
    """The text of an argument that requires no gradient: a number, or its shape. Constants that are alike are equal.

    name  in the source; empty if it has none
    """

    name: str = ""

    @classmethod
    def of(cls, value: Any, name: str = "") -> Constant:
        if value is None:
            constant = cls("constant")
        elif hasattr(value, "shape") and value.shape:
            constant = cls(f"constant {tuple(value.shape)}")
        else:
            number = value if (array := to_numpy(value)) is None else array.item()
            constant = cls(f"{number:.7g}" if isinstance(number, float) else number)
        constant.name = name
        return constant

    @property
    def is_short(self) -> bool:
        """Whether it can stand in a formula."""
        return bool(self.name) or not self.startswith("constant")


class Observed(Inspector):
    """The inspector of a function that is run for its picture: it sees every op, also of every time step.

    values     of each record
    arguments  the inputs of each record, as arrays and numbers
    places     of each record in the user's source, or in a cell's step
    found      names, by node and by the id of an array among the arguments
    """

    def __init__(self, boundary: FrameType | None):
        super().__init__()
        self.boundary = boundary
        self.values: dict[Node, Any] = {}
        self.arguments: dict[Node, tuple] = {}
        self.places: dict[Node, Place] = {}
        self.found: dict[Any, str] = {}
        self._frames: dict[int, FrameType] = {}

    def forward(self, op: Any, inputs: tuple, result: Variable) -> None:
        if result.node is None:
            return
        self.values[result.node], self.arguments[result.node] = result._data, inputs
        frame, place = sys._getframe(1), None
        while frame is not None and frame is not self.boundary:
            code = frame.f_code
            is_ours = code.co_filename.startswith((_PACKAGE, "<op "))
            if not is_ours or code.co_name in _STEPS:
                self._frames[id(frame)] = frame
                place = place or place_of(frame)
            frame = frame.f_back  # type: ignore[assignment]
        if place is not None:
            self.places[result.node] = place

    def read_names(self) -> None:
        """Find the names that local variables gave. The frames, which keep the variables alive, are dropped."""
        alive = {id(array) for arrays in self.arguments.values() for array in arrays}
        for frame in self._frames.values():
            found = names_in(frame.f_locals)
            self.found = {key: name for key, name in found.items() if type(key) is Node or key in alive} | self.found
        self._frames.clear()
        self.boundary = None


class Replayed(Observed):
    """The inspector of the replay of a compiled scan: the records have the names and places of the traced step, if the
    step is still there to be traced once more."""

    def __init__(self, op: _CompiledScan, inputs: list[Tensor], length: int):
        super().__init__(None)
        self.every_step, self.count = False, 0
        again, names = _traced_again(op.trace, op.step or op.trace.step(), inputs)
        slices: list[tuple] = [
            (None, value, []) for value in again.xs
        ]  # which the replay takes of the xs, before a step
        self.calls = [*slices, *((call.op, call.value, call.operands) for call in again.calls)]
        self.end = length * len(self.calls)  # what comes then are the stacks of the ys
        self.of, self.place_of = names.of(), names.places

    def forward(self, op: Any, inputs: tuple, result: Variable) -> None:
        expected, value, operands = self.calls[self.count % len(self.calls)]
        self.count += 1
        if result.node is None:
            return
        self.values[result.node], self.arguments[result.node] = result._data, inputs
        if self.count <= self.end and expected in (None, op):
            values = [(result.node, value), *zip(map(id, inputs), [operand.value for operand in operands])]
            self.found |= {key: self.of[one] for key, one in values if one in self.of}
            if value in self.place_of:
                self.places[result.node] = self.place_of[value]


def _traced_again(trace: Any, step: Any, inputs: list[Tensor]) -> tuple[Forward, StepNames]:
    """The traced step with its names; without any if the step is gone, or does something else now."""
    forward, nothing = trace.forward, StepNames({}, {})
    count = len(forward.carry)
    carry, xs = tuple(inputs[:count]), tuple(inputs[count:])
    for packed in (xs[0] if len(xs) == 1 else xs or None, xs) if step is not None else ():
        with suppress(Untraceable):
            again, names = trace_with_names(step, carry if count > 1 else carry[0], packed)
            if [call.op for call in again.calls] == [call.op for call in forward.calls]:
                return again, names
    return forward, nothing


def names_in(variables: Mapping[str, Any]) -> dict[Any, str]:
    """By node, of a constant by the id of its array, the name of the first variable that holds it; without those that
    begin with an underscore, and those that pytest makes."""
    found: dict[Any, str] = {}
    for name, value in dict(variables).items():
        if isinstance(value, Tensor) and not name.startswith(("_", "@")):
            found.setdefault(id(value._data) if value.node is None else value.node, name)
    return found


class _Cotangents(Inspector):
    """The inspector of a backward walk that keeps every cotangent."""

    every_step = False

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Node, Any] = {}

    def backward(self, record: Node, cotangent: Any) -> None:
        self.found[record] = cotangent

    def leaf_gradient(self, node: Node, gradient: Any) -> None:
        self.found[node] = gradient


def cotangents_of(start: Mapping[Node, Any], since: int = 0) -> dict[Node, Any]:
    """The cotangent of every node that a backward walk reaches. Nothing is accumulated in `grad`, and nothing freed."""
    observer = _Cotangents()
    with setting(inspector, observer):
        walk(Tensor, start, retain_graph=True, since=since)
    return observer.found


class Collector:
    """Makes the items of the records that led to a Tensor.

    cotangents  by node; empty without a backward walk
    names       by node, and by the id of a constant's array
    observed    of a function that was run for its picture
    """

    def __init__(self, names: Mapping[Any, str], cotangents: Mapping[Node, Any], observed: Observed | None):
        self.names, self.cotangents, self.observed = names, dict(cotangents), observed
        self.rules = RuleTexts()
        self.items: dict[Node, Item] = {}
        self.kept: set[Item] = set()  # shown although nothing leads from there to the root

    def items_of(self, root: Tensor, unfold: bool) -> list[Item]:
        """The items, in the order of execution."""
        assert root.node is not None
        self._add([root.node], 0, unfold)
        item = self.items[root.node]
        item.value = root._data
        found = list(dict.fromkeys(self.items.values()))
        reachable = {item, *self.kept}
        stack = list(reachable)
        while stack:
            new = [one for one in stack.pop().arguments if isinstance(one, Item) and one not in reachable]
            reachable.update(new)
            stack += new
        return [one for one in found if one in reachable]

    def _add(self, nodes: Iterable[Node | None], since: int, unfold: bool) -> None:
        records, ends = history(nodes, since)
        found = sorted({*records, *ends} - set(self.items), key=lambda node: node.number)
        for node in found:
            if node.op is None:
                array = None if node.grad_state is None else node.grad_state.array
                self.items[node] = self._described(Item(node, "leaf", node.shape, value=array))
            elif isinstance(node.op, _CompiledScan) and unfold and node.saved is not None:
                outputs = {one.op.position: one for one in found if one.parents[:1] == (node,)}
                self._unfold(node, outputs)
            elif node not in self.items:
                self.items[node] = self._record(node)

    def _described(self, item: Item) -> Item:
        """With its name, and its cotangent or the gradient that it keeps."""
        node = item.node
        assert node is not None
        state = node.grad_state
        item.name = (state.name if state is not None else None) or self.names.get(node, "")
        kept = None if state is None or state.grad is None else state.grad._data
        item.cotangent = self.cotangents.get(node, kept)
        return item

    def _record(self, node: Node) -> Item:
        op, observed = node.op, self.observed
        item = self._described(Item(node, getattr(op, "__name__", "op"), node.shape))
        item.inputs, known = names_of_inputs(op, len(node.parents)), _saved(node)
        if isinstance(op, _CompiledScan):
            item.op, item.note = "compiled scan", "freed by backward" if node.saved is None else "see unfold=True"
        elif item.op == "remat":
            item.note = "recomputed in backward"
        elif isinstance(op, _OutputOp) and node.parents[0] is not None:
            item.op = _output_name(node.parents[0].op, op.position)
            self.items[node.parents[0]].shape = None
        if observed is not None:
            known |= dict(enumerate(observed.arguments.get(node, ())))
            item.place = observed.places.get(node)
            known[None] = observed.values.get(node)
        item.value = known.get(None)
        texts = self.rules.of(op)
        for position, parent in enumerate(node.parents):
            if parent is not None:
                argument: Any = self.items[parent]
                if argument.value is None and position in known:
                    argument.value = known[position]
                item.rules[position] = texts.get(item.inputs[position], "")
            else:
                constant = known.get(position)
                argument = Constant.of(constant, self.names.get(id(constant), ""))
            item.arguments.append(argument)
        return item

    def _unfold(self, node: Node, outputs: Mapping[int, Node]) -> None:
        """Add the records of a compiled scan, for which the traced step is replayed, instead of its one record."""
        op, (_, constants, arrays, length) = node.op, node.saved or ()
        inputs = [Tensor.from_node(array, parent) for array, parent in zip(arrays, node.parents)]
        start, count, seen = tick(), op.compiled.carry_count, Replayed(op, inputs, length)
        with enable_grad(), setting(inspector, seen):
            results = replay(op.trace, constants, inputs[:count], inputs[count:], length, op.reverse)
        outer = self.names, self.observed
        pairs = [(results[i], output) for i, output in outputs.items() if results[i].node is not None]
        cotangents = [(t.node, self.cotangents[output]) for t, output in pairs if output in self.cotangents]
        if cotangents:
            found = cotangents_of(summed_by_node(cotangents), start)
            self.cotangents |= {inner: g for inner, g in found.items() if inner.number >= start}
        self.names, self.observed = {**seen.found, **self.names}, seen
        self._add([t.node for t in results], start, True)  # the last carry too, so that all steps are alike
        self.kept.update(self.items[t.node] for t in results if t.node is not None)
        self.names, self.observed = outer
        for tensor, output in pairs:
            item = self.items[output] = self.items[tensor.node]
            item.value, item.name = tensor._data, item.name or self.names.get(output, "")


def _saved(node: Node) -> dict[int | None, Any]:
    """The values that a record keeps for its rules: by the position of an input, its own by None."""
    interface, found = interface_of(node.op), dict[int | None, Any]()
    if interface is None or node.saved is None:
        return found
    for (_, residual), value in zip(interface.saved(), node.saved):
        if residual == "y":
            found[None] = value
        elif residual in interface.inputs:
            of_inputs = enumerate(value) if interface.variadic else [(interface.inputs.index(residual), value)]
            found |= dict(of_inputs)
    return found


def _output_name(op: Any, position: int) -> str:
    """What an output of an op with several is: of a compiled scan its last carry, or its ys."""
    count = op.compiled.carry_count if isinstance(op, _CompiledScan) else 0
    return f"output {position}" if count == 0 else "last carry" if position < count else "ys"


def to_numpy(array: Any) -> Any:
    """An array of any backend on the host, numbers too; None for what is none."""
    if array is None or isinstance(array, (bool, int, float)):
        return None if array is None else np.asarray(array)
    return Tensor.from_node(array, None).numpy() if hasattr(array, "dtype") and hasattr(array, "shape") else None


def describe(values: np.ndarray) -> str:
    """A small array whole, without leading axes of length 1; of a larger one the range."""
    if not values.ndim:
        return f"{values.item():.4g}" if np.issubdtype(values.dtype, np.floating) else str(values.item())
    row = values.reshape(-1) if values.size == values.shape[-1] else values
    if values.size <= 6 and len(text := _nested(row)) <= 20:
        return text
    low, high = float(values.min()), float(values.max())
    return f"all {low:.3g}" if low == high else f"{low:.3g} … {high:.3g}"


def _nested(values: np.ndarray) -> str:
    return f"[{', '.join(map(_nested, values))}]" if values.ndim else f"{float(values):.2g}"
