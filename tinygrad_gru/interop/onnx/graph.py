"""`load`: an ONNX file as a Module."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx

from ... import nn
from ...backend import Backend, as_array, backend_of
from ...io import Budget
from ...ops.op import unwrap
from ...scan import scan
from ...tensor import Tensor
from ..errors import InteropError
from .call import OWN_DOMAINS, Call, dtype_name
from .model import opened
from .recurrent import CURVES, INPUTS, WEIGHTS, RecurrentNode
from .scope import Operator, Scope, run
from .signature import Signature

#: Before this version of the operators broadcasting had rules of its own.
_OLDEST_OPSET = 7


def load(source: str | os.PathLike[str] | onnx.ModelProto) -> Graph:
    """The graph in an ONNX file, or in a model that was read already, as a Module.

    It is called with the graph's inputs in their order, and returns its output, or a tuple of its outputs in their
    order. Gradients flow through it. Its recurrent nodes are layers of ours (`print` shows them), and floating-point
    arrays that the file keeps as initializers are parameters, so that it can be trained on. What cannot be computed
    exactly is refused: InteropError names the node and the reason.
    """
    with opened(source) as (model, budget), np.errstate(all="ignore"):  # numbers of a file may be any numbers
        return Graph(model, budget)


class Step(NamedTuple):
    """One node: what it does, and the names of what it reads and writes.

    function   or the name of the module here that does it
    """

    function: Callable[..., Any] | str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    place: str


class Weights(nn.Module):
    """The arrays that a graph holds, by their names there: floating-point ones with axes are parameters.

    A name that is an attribute of every module gets a "~" at its end, and so does one that has one already: no two
    names become one, and none hides what a module is made of.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        for name, array in arrays.items():
            tensor = Tensor(array, requires_grad=array.dtype.kind == "f" and array.ndim > 0)
            setattr(self, name + "~" * (hasattr(Weights, name) or name.endswith("~")), tensor)

    def by_name(self) -> dict[str, Tensor]:
        return {name.removesuffix("~"): tensor for name, tensor in vars(self).items() if isinstance(tensor, Tensor)}


class Block(nn.Module):
    """The nodes of a graph, or of the body of one of its nodes.

    opset   the version of the operators' definitions that the file was written for
    budget  what may be made of the file
    outer   the names that the graph around a body has
    """

    def __init__(self, graph: onnx.GraphProto, opset: int, budget: Budget, outer: Container[str] = ()):
        scope = Scope(graph, opset, budget, outer)
        self.reads = [value.name for value in graph.input if value.name not in scope.constants]
        self.writes = [value.name for value in graph.output]
        self.steps: list[Step] = []
        self._counts: Counter[str] = Counter()
        for node in graph.node:
            call = Call(node, opset)
            scope.check(node.input, call.place)
            step = self._step(call, scope, budget)
            if step is not None:
                self.steps.append(step)
            scope.add(node)
        scope.check(self.writes, "the output of the graph")
        self._drop_unused()
        needed = {name for step in self.steps for name in step.reads}.union(self.writes)
        self.weights = Weights({name: array for name, array in scope.constants.items() if name in needed})
        self.captured = [name for name in scope.captured if name in needed]  # what is read of the graph around

    def _step(self, call: Call, scope: Scope, budget: Budget) -> Step | None:
        """What a node does; None for a constant, which the scope then has."""
        if call.kind == "Constant":
            scope.constants[call.outputs[0]] = Operator(call)()[0].numpy()
            return None
        if call.kind in CURVES:
            weights = [name for kind, name in zip(INPUTS[call.kind], call.inputs) if kind in WEIGHTS and name]
            fixed = {name: array for name in weights if (array := scope.constant(name)) is not None}
            budget.spend(sum(array.nbytes for array in fixed.values()), call.place)
            recurrent = RecurrentNode(call, fixed)
            return Step(self._named(call.kind, recurrent), recurrent.reads, call.outputs, call.place)
        if call.kind == "Scan":
            scanned = ScanNode(call, budget, scope)
            scope.check(scanned.body.captured, call.place)
            reads = (*call.inputs, *scanned.body.captured)
            return Step(self._named(call.kind, scanned), reads, call.outputs, call.place)
        return Step(Operator(call), call.inputs, call.outputs, call.place)

    def _named(self, kind: str, module: nn.Module) -> str:
        """Make the module an attribute that is called after its kind; returns the name."""
        count = self._counts[kind]
        self._counts[kind] += 1
        name = f"{kind.lower()}_{count}" if count else kind.lower()
        setattr(self, name, module)
        return name

    def _drop_unused(self) -> None:
        """Leave out the steps that nothing comes of."""
        needed, kept = set(self.writes), []
        for step in reversed(self.steps):
            if needed.intersection(step.writes):
                kept.append(step)
                needed.update(step.reads)
        self.steps = kept[::-1]

    def run(self, values: dict[str, Any]) -> tuple[Any, ...]:
        """The outputs, from the inputs by name and what is captured."""
        values |= {"": None, **self.weights.by_name()}
        for step in self.steps:
            function = getattr(self, step.function) if isinstance(step.function, str) else step.function
            values.update(zip(step.writes, run(function, [values[name] for name in step.reads], step.place)))
        return tuple(values[name] for name in self.writes)


class ScanNode(nn.Module):
    """Scan: a body, run over time by our `scan`. Called with states, with what is read step by step, and captured."""

    def __init__(self, call: Call, budget: Budget, scope: Scope):
        Signature(call)
        self.place, self.read, body = call.place, call.setting("num_scan_inputs"), call.setting("body")
        self.body = Block(body, call.opset, budget, scope)
        self.states = len(self.body.reads) - self.read
        made = len(self.body.writes) - self.states
        ways = [*call.setting("scan_input_directions", [0]), *call.setting("scan_output_directions", [0])]
        axes = [*call.setting("scan_input_axes", [0]), *call.setting("scan_output_axes", [0])]
        call.finish()
        self.reverse = bool(ways[0])
        if call.opset < 9 or len(set(ways)) > 1 or ways[0] not in (0, 1) or any(axes):
            raise call.refused("only a Scan of opset 9 or later, along axis 0, all in one direction, is known here")
        if len(self.body.reads) != len(body.input):
            raise call.refused("an input of its body has a value already")
        if self.read < 1 or self.states < 0 or made < 0 or len(call.inputs) != len(body.input):
            raise call.refused(
                f"it has {len(call.inputs)} inputs, {self.read} of them read step by step, and its body has "
                f"{len(body.input)} inputs and {len(body.output)} outputs: they do not go together"
            )
        if len(call.outputs) > len(body.output):
            raise call.refused(f"it has {len(call.outputs)} outputs, and its body {len(body.output)}")

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        count = self.states + self.read
        captured = dict(zip(self.body.captured, inputs[count:]))

        def step(carry: tuple, reads: tuple) -> tuple[tuple, tuple]:
            results = self.body.run({**captured, **dict(zip(self.body.reads, (*carry, *reads)))})
            return results[: self.states], results[self.states :]

        compiled = None if self.states else False  # where nothing is carried, there is no recurrence to compile
        carry, xs = inputs[: self.states], inputs[self.states : count]
        last, ys = scan(step, carry, xs, reverse=self.reverse, compiled=compiled)
        return (*last, *ys)


class Input(NamedTuple):
    """What a graph reads: shape has None for axes of any length; it is None if nothing is said about it."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {_layout(self.shape)}"


class Graph(Block):
    """An ONNX graph that runs on our ops.

    inputs   what it reads, in order
    outputs  the names of what it returns, in order
    """

    def __init__(self, model: onnx.ModelProto, budget: Budget):
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        opset = next((opsets[domain] for domain in OWN_DOMAINS if domain in opsets), 0)
        if opset < _OLDEST_OPSET:
            raise InteropError(f"opset {opset} is too old, {_OLDEST_OPSET} is needed: see onnx.version_converter")
        if opset > onnx.defs.onnx_opset_version():
            raise InteropError(f"opset {opset} is newer than the onnx package that is installed: update it")
        if not model.graph.output:
            raise InteropError("it has no outputs")
        super().__init__(model.graph, opset, budget)
        self.inputs = [_input(value) for value in model.graph.input if value.name in self.reads]
        self.outputs = self.writes

    def forward(self, *inputs: Any) -> Any:
        if len(inputs) != len(self.inputs):
            raise TypeError(f"expected {len(self.inputs)} inputs ({self._signature()}), got {len(inputs)}")
        home = next((backend_of(tensor.data) for _, tensor in self.named_tensors()), None)
        outputs = self.run({i.name: _checked(i, given, home) for i, given in zip(self.inputs, inputs)})
        return outputs if len(outputs) > 1 else outputs[0]

    def _signature(self) -> str:
        return ", ".join(map(str, self.inputs))

    def describe(self) -> str:
        return f"{self._signature()} → {', '.join(self.outputs)}"


def shape_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    """What is said about the shape of a value; None for an axis of any length, or if nothing is said."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)


def _input(value: onnx.ValueInfoProto) -> Input:
    if not value.type.HasField("tensor_type"):
        raise InteropError(f"the input {value.name!r} is not a tensor, but a {value.type.WhichOneof('value')}")
    return Input(value.name, dtype_name(value.type.tensor_type.elem_type), shape_of(value))


def _checked(expected: Input, given: Any, home: Backend | None) -> Tensor:
    """An input as a Tensor; it must be of the type and the shape that the graph says."""
    given = given if hasattr(given, "dtype") else np.asarray(given, expected.dtype)
    if str(unwrap(given).dtype) != expected.dtype:
        raise TypeError(f"{expected.name}: the graph reads {expected.dtype}, got {unwrap(given).dtype}: convert it")
    shape = expected.shape
    if shape is not None and (
        len(given.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, given.shape))
    ):
        raise ValueError(f"{expected.name}: the graph reads {_layout(shape)}, got shape {tuple(given.shape)}")
    return given if isinstance(given, Tensor) else Tensor.from_node(as_array(given, device=home), None)


def _layout(shape: tuple[int | None, ...] | None) -> str:
    return "(…)" if shape is None else f"({', '.join('any' if n is None else str(n) for n in shape)})"
