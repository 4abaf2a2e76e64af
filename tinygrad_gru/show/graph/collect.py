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
from ...scan.names import Place, StepNames, place_of
from ...scan.replay import replay
from ...scan.run import _CompiledScan
from ...scan.tracing.traced_array import Untraceable
from ...scan.tracing.tracer import Forward, trace_with_names
from ...tape import Node, Variable, history, inspector, walk
from ...tensor import Tensor
from ...writes import tick
from .rules import RuleTexts

_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
#: Functions of ours whose variables have names that mean something.
_STEPS = ("step", "step_with_options")


@dataclass(eq=False, repr=False)  # a repr of all fields would go through the whole graph, more than once
class Item:
    """A leaf or a record in the picture.

    name       in the source, of a parameter; empty if it has none
    op         of a record its op, "leaf" of a leaf
    arguments  what the op was applied to: items; texts for constants
    rules      by the position of an argument, the text of the rule that gives its share of the cotangent
    value, cotangent  as NumPy arrays, None if unknown
    place      in the source, if it was observed
    steps      in a block: the item at every step, in order
    """

    node: Node | None
    op: str
    shape: tuple[int, ...]
    name: str = ""
    arguments: list[Any] = field(default_factory=list)
    rules: dict[int, str] = field(default_factory=dict)
    value: Any = None
    cotangent: Any = None
    place: Place | None = None
    steps: list[Item] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{self.name or '(no name)'} = {self.op} {self.shape}"

    @property
    def is_leaf(self) -> bool:
        return self.op == "leaf"


class Observed(Inspector):
    """The inspector of a function that is run for its picture: it sees every op, also of every time step.

    values     of each record
    arguments  the inputs of each record, as arrays and numbers
    places     of each record in the user's source, or in a cell's step
    """

    def __init__(self, boundary: FrameType | None):
        super().__init__()
        self.boundary = boundary
        self.values: dict[Node, Any] = {}
        self.arguments: dict[Node, tuple] = {}
        self.places: dict[Node, Place] = {}
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

    def names(self) -> dict[Node, str]:
        """The names that local variables gave to nodes. The frames, which keep the variables alive, are dropped."""
        found: dict[Node, str] = {}
        for frame in self._frames.values():
            found = {**names_in(frame.f_locals), **found}
        self._frames.clear()
        self.boundary = None
        return found


class Replayed(Observed):
    """The inspector of the replay of a compiled scan: the records have the names and places of the traced step, if the
    step is still there to be traced once more."""

    def __init__(self, trace: Any, inputs: list[Tensor]):
        super().__init__(None)
        forward = trace.forward
        self.every_step, self.count, self.step_names = False, 0, dict[Node, str]()
        self.calls: list[tuple[Any, str, Place | None]] = [(None, "", None)] * len(forward.xs)  # the slices of the xs
        again, names = _traced_again(trace, inputs)
        of, places = names.of(), names.places
        for call in again.calls:
            value = call.value
            known = ("", None) if value is None else (of.get(value, ""), places.get(value))
            self.calls.append((call.op, *known))

    def forward(self, op: Any, inputs: tuple, result: Variable) -> None:
        expected, name, place = self.calls[self.count % len(self.calls)]
        self.count += 1
        if result.node is not None:
            self.values[result.node], self.arguments[result.node] = result._data, inputs
            if op is expected and name:
                self.step_names[result.node] = name
            if op is expected and place is not None:
                self.places[result.node] = place


def _traced_again(trace: Any, inputs: list[Tensor]) -> tuple[Forward, StepNames]:
    """The traced step with its names; without any if the step is gone, or does something else now."""
    forward, step, nothing = trace.forward, trace.step(), StepNames({}, {})
    count = len(forward.carry)
    carry, xs = tuple(inputs[:count]), tuple(inputs[count:])
    for packed in (xs[0] if len(xs) == 1 else xs or None, xs) if step is not None else ():
        with suppress(Untraceable):
            again, names = trace_with_names(step, carry if count > 1 else carry[0], packed)
            if [call.op for call in again.calls] == [call.op for call in forward.calls]:
                return again, names
    return forward, nothing


def names_in(variables: Mapping[str, Any]) -> dict[Node, str]:
    """By node, the name of the first variable that holds it; without those that begin with an underscore."""
    found: dict[Node, str] = {}
    for name, value in dict(variables).items():
        if isinstance(value, Tensor) and value.node is not None and not name.startswith("_"):
            found.setdefault(value.node, name)
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
    names       by node
    observed    of a function that was run for its picture
    """

    def __init__(self, names: Mapping[Node, str], cotangents: Mapping[Node, Any], observed: Observed | None):
        self.names, self.cotangents, self.observed = names, dict(cotangents), observed
        self.rules = RuleTexts()
        self.items: dict[Node, Item] = {}
        self.kept: set[Item] = set()  # shown although nothing leads from there to the root

    def items_of(self, root: Tensor, unfold: bool) -> list[Item]:
        """The items, in the order of execution."""
        assert root.node is not None
        self._add([root.node], 0, unfold)
        item = self.items[root.node]
        item.value = to_numpy(root._data)
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
                self.items[node] = self._described(Item(node, "leaf", node.shape, value=to_numpy(array)))
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
        item.cotangent = to_numpy(self.cotangents.get(node, kept))
        return item

    def _record(self, node: Node) -> Item:
        op, observed = node.op, self.observed
        item = self._described(Item(node, getattr(op, "__name__", "op"), node.shape))
        inputs, known = _names_of_inputs(op, len(node.parents)), _saved(node)
        if isinstance(op, _CompiledScan):
            item.op = "scan, compiled"
        elif isinstance(op, _OutputOp) and node.parents[0] is not None:
            item.op = _output_name(node.parents[0].op, op.position)
        if observed is not None:
            known |= dict(enumerate(observed.arguments.get(node, ())))
            item.place = observed.places.get(node)
            known[None] = observed.values.get(node)
        item.value = to_numpy(known.get(None))
        texts = self.rules.of(op)
        for position, parent in enumerate(node.parents):
            if parent is not None:
                argument: Any = self.items[parent]
                if argument.value is None and position in known:
                    argument.value = to_numpy(known[position])
                item.rules[position] = texts.get(inputs[position], "")
            else:
                constant = to_numpy(known.get(position))
                argument = "constant" if constant is None else describe(constant)
                if constant is not None and constant.ndim:
                    argument = f"constant {constant.shape}"
            item.arguments.append(argument)
        return item

    def _unfold(self, node: Node, outputs: Mapping[int, Node]) -> None:
        """Add the records of a compiled scan, for which the traced step is replayed, instead of its one record."""
        op, (_, constants, arrays, length) = node.op, node.saved or ()
        inputs = [Tensor.from_node(array, parent) for array, parent in zip(arrays, node.parents)]
        start, count, seen = tick(), op.compiled.carry_count, Replayed(op.trace, inputs)
        with enable_grad(), setting(inspector, seen):
            results = replay(op.trace, constants, inputs[:count], inputs[count:], length, op.reverse)
        self.names, outer = {**seen.step_names, **self.names}, self.observed
        pairs = [(results[i], output) for i, output in outputs.items() if results[i].node is not None]
        cotangents = [(t.node, self.cotangents[output]) for t, output in pairs if output in self.cotangents]
        if cotangents:
            found = cotangents_of(summed_by_node(cotangents), start)
            self.cotangents |= {inner: g for inner, g in found.items() if inner.number >= start}
        self.observed = seen
        self._add([t.node for t in results], start, True)  # the last carry too, so that all steps are alike
        self.kept.update(self.items[t.node] for t in results if t.node is not None)
        self.observed = outer
        for tensor, output in pairs:
            item = self.items[output] = self.items[tensor.node]
            item.value, item.name = to_numpy(tensor._data), item.name or self.names.get(output, "")


def _names_of_inputs(op: Any, count: int) -> list[str]:
    """The names by which the rules of an op know its inputs."""
    interface = _interface(op)
    if interface is None:
        return [""] * count
    return interface.inputs * count if interface.variadic else interface.inputs


def _interface(op: Any) -> Any:
    return getattr(getattr(getattr(op, "vjp", None), "__self__", None), "interface", None)


def _saved(node: Node) -> dict[int | None, Any]:
    """The values that a record keeps for its rules: by the position of an input, its own by None."""
    interface, found = _interface(node.op), dict[int | None, Any]()
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
    """A small array whole, of a larger one the range."""
    if values.size > 6:
        if values.dtype == bool or not np.issubdtype(values.dtype, np.number):
            return f"{values.size} values"
        return f"{values.min():.3g} … {values.max():.3g}"
    return _nested(values)


def _nested(values: np.ndarray) -> str:
    if values.ndim:
        return f"[{', '.join(map(_nested, values))}]"
    return f"{values.item():.4g}" if np.issubdtype(values.dtype, np.floating) else str(values.item())
