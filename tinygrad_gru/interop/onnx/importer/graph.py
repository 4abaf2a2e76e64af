"""`load`: an ONNX file as a Module."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx

from .... import nn
from ....backend import Backend, as_array, backend_of
from ....io import Budget
from ....ops.op import unwrap
from ....scan import scan
from ....tensor import Tensor
from ...errors import InteropError
from ..model_file import opened
from ..recurrent_spec import INPUTS, WEIGHTS
from ..tensors import ONNX_DOMAINS, dtype_name
from .node import Node
from .recurrent import RecurrentNode
from .schema import NodeSchema
from .scope import Operator, Scope, run

#: Earlier opsets have other rules of broadcasting.
_OLDEST_OPSET = 7


def load(source: str | os.PathLike[str] | onnx.ModelProto) -> Graph:
    """The graph of an ONNX file, or of a ModelProto, as a Module.

    It is called with the graph's inputs in order, and returns its output, or a tuple of its outputs in order. Gradients
    flow through it. Its recurrent nodes are layers of ours (`print` shows them), and floating-point initializers are
    parameters, so that it can be fine-tuned. What cannot be computed exactly is refused: InteropError names the node
    and the reason.
    """
    with opened(source) as (model, budget), np.errstate(all="ignore"):  # a file may hold any values
        return Graph(model, budget)


class Step(NamedTuple):
    """A node that runs: a function (or the name of a submodule), and the names of its inputs and outputs."""

    function: Callable[..., Any] | str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    label: str


class Weights(nn.Module):
    """The constants of a graph, by their ONNX names: floating-point ones that are not scalars are parameters.

    A name that every module has as an attribute gets a "~" at its end, and so does one that ends in "~" already: no two
    names collide, and none hides an attribute.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        for name, array in arrays.items():
            tensor = Tensor(array, requires_grad=array.dtype.kind == "f" and array.ndim > 0)
            setattr(self, name + "~" * (hasattr(Weights, name) or name.endswith("~")), tensor)

    def by_name(self) -> dict[str, Tensor]:
        return {name.removesuffix("~"): tensor for name, tensor in vars(self).items() if isinstance(tensor, Tensor)}


class Subgraph(nn.Module):
    """The nodes of a graph, or of a subgraph that is the body of a node.

    opset   the version of the operators' definitions that the file was written for
    budget  limits the memory that the file may use
    outer   the names of the outer graph
    """

    def __init__(self, graph: onnx.GraphProto, opset: int, budget: Budget, outer: Container[str] = ()):
        scope = Scope(graph, opset, budget, outer)
        self.input_names = [value.name for value in graph.input if value.name not in scope.constants]
        self.output_names = [value.name for value in graph.output]
        self.steps: list[Step] = []
        self._counts: Counter[str] = Counter()
        for proto in graph.node:
            node = Node(proto, opset)
            scope.check(node.inputs, node.label)
            step = self._step(node, scope, budget)
            if step is not None:
                self.steps.append(step)
            scope.add(proto)
        scope.check(self.output_names, "the output of the graph")
        self._drop_unused()
        needed = {name for step in self.steps for name in step.inputs}.union(self.output_names)
        self.weights = Weights({name: array for name, array in scope.constants.items() if name in needed})
        self.outer_names = [name for name in scope.outer_names if name in needed]

    def _step(self, node: Node, scope: Scope, budget: Budget) -> Step | None:
        """The step of a node; None for a constant, which is added to the scope."""
        if node.op_type == "Constant":
            scope.constants[node.outputs[0]] = Operator(node)()[0].numpy()
            return None
        if node.op_type in INPUTS:
            weights = [name for formal, name in zip(INPUTS[node.op_type], node.inputs) if formal in WEIGHTS and name]
            constants = {name: array for name in weights if (array := scope.constant(name)) is not None}
            budget.spend(sum(array.nbytes for array in constants.values()), node.label)
            recurrent = RecurrentNode(node, constants)
            return Step(self._add_module(node.op_type, recurrent), recurrent.input_names, node.outputs, node.label)
        if node.op_type == "Scan":
            scan_node = ScanNode(node, budget, scope)
            scope.check(scan_node.body.outer_names, node.label)
            inputs = (*node.inputs, *scan_node.body.outer_names)
            return Step(self._add_module(node.op_type, scan_node), inputs, node.outputs, node.label)
        return Step(Operator(node), node.inputs, node.outputs, node.label)

    def _add_module(self, op_type: str, module: nn.Module) -> str:
        """Make the module an attribute that is named after its operator; returns the name."""
        count = self._counts[op_type]
        self._counts[op_type] += 1
        name = f"{op_type.lower()}_{count}" if count else op_type.lower()
        setattr(self, name, module)
        return name

    def _drop_unused(self) -> None:
        """Dead code elimination."""
        needed, kept = set(self.output_names), []
        for step in reversed(self.steps):
            if needed.intersection(step.outputs):
                kept.append(step)
                needed.update(step.inputs)
        self.steps = kept[::-1]

    def run(self, values: dict[str, Any]) -> tuple[Any, ...]:
        """The outputs, given the inputs and the outer values by name."""
        values |= {"": None, **self.weights.by_name()}
        for step in self.steps:
            function = getattr(self, step.function) if isinstance(step.function, str) else step.function
            values.update(zip(step.outputs, run(function, [values[name] for name in step.inputs], step.label)))
        return tuple(values[name] for name in self.output_names)


class ScanNode(nn.Module):
    """Scan, run by our `scan`. Called with states, scan inputs, and the outer values that the body uses."""

    def __init__(self, node: Node, budget: Budget, scope: Scope):
        NodeSchema(node)
        self.label, self.num_scan_inputs, body = node.label, node.attribute("num_scan_inputs"), node.attribute("body")
        self.body = Subgraph(body, node.opset, budget, scope)
        self.states = len(self.body.input_names) - self.num_scan_inputs
        scan_outputs = len(self.body.output_names) - self.states
        directions = [*node.attribute("scan_input_directions", [0]), *node.attribute("scan_output_directions", [0])]
        axes = [*node.attribute("scan_input_axes", [0]), *node.attribute("scan_output_axes", [0])]
        node.check_all_read()
        self.reverse = bool(directions[0])
        if node.opset < 9 or len(set(directions)) > 1 or directions[0] not in (0, 1) or any(axes):
            raise node.error("only a Scan of opset 9 or later, along axis 0, all in one direction, is supported")
        if len(self.body.input_names) != len(body.input):
            raise node.error("an input of its body has a value already")
        if self.num_scan_inputs < 1 or self.states < 0 or scan_outputs < 0 or len(node.inputs) != len(body.input):
            raise node.error(
                f"it has {len(node.inputs)} inputs, {self.num_scan_inputs} of them scan inputs, and its body has "
                f"{len(body.input)} inputs and {len(body.output)} outputs: they do not match"
            )
        if len(node.outputs) > len(body.output):
            raise node.error(f"it has {len(node.outputs)} outputs, and its body {len(body.output)}")

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        count = self.states + self.num_scan_inputs
        outer = dict(zip(self.body.outer_names, inputs[count:]))

        def step(carry: tuple, xs: tuple) -> tuple[tuple, tuple]:
            results = self.body.run({**outer, **dict(zip(self.body.input_names, (*carry, *xs)))})
            return results[: self.states], results[self.states :]

        compiled = None if self.states else False  # without a carry there is no recurrence to compile
        carry, xs = inputs[: self.states], inputs[self.states : count]
        last, ys = scan(step, carry, xs, reverse=self.reverse, compiled=compiled)
        return (*last, *ys)


class Input(NamedTuple):
    """An input of a graph: its shape has None for dynamic axes, and is None if the file has no shape."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {_layout(self.shape)}"


class Graph(Subgraph):
    """An ONNX graph that runs on our ops.

    inputs   in order
    outputs  the names, in order
    """

    def __init__(self, model: onnx.ModelProto, budget: Budget):
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        opset = next((opsets[domain] for domain in ONNX_DOMAINS if domain in opsets), 0)
        if opset < _OLDEST_OPSET:
            raise InteropError(f"opset {opset} is too old, {_OLDEST_OPSET} is needed: see onnx.version_converter")
        if opset > onnx.defs.onnx_opset_version():
            raise InteropError(f"opset {opset} is newer than the onnx package that is installed: update it")
        if not model.graph.output:
            raise InteropError("it has no outputs")
        super().__init__(model.graph, opset, budget)
        self.inputs = [_input(value) for value in model.graph.input if value.name in self.input_names]
        self.outputs = self.output_names

    def forward(self, *inputs: Any) -> Any:
        if len(inputs) != len(self.inputs):
            raise TypeError(f"expected {len(self.inputs)} inputs ({self._signature()}), got {len(inputs)}")
        backend = next((backend_of(tensor.data) for _, tensor in self.named_tensors()), None)
        outputs = self.run({i.name: _checked(i, given, backend) for i, given in zip(self.inputs, inputs)})
        return outputs if len(outputs) > 1 else outputs[0]

    def _signature(self) -> str:
        return ", ".join(map(str, self.inputs))

    def describe(self) -> str:
        return f"{self._signature()} → {', '.join(self.outputs)}"


def shape_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    """The shape of a value in the file: None for a dynamic axis; None if the file has no shape."""
    tensor_type = value.type.tensor_type
    if not tensor_type.HasField("shape"):
        return None
    return tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor_type.shape.dim)


def _input(value: onnx.ValueInfoProto) -> Input:
    if not value.type.HasField("tensor_type"):
        raise InteropError(f"the input {value.name!r} is not a tensor, but a {value.type.WhichOneof('value')}")
    return Input(value.name, dtype_name(value.type.tensor_type.elem_type), shape_of(value))


def _checked(expected: Input, given: Any, backend: Backend | None) -> Tensor:
    """An input as a Tensor, of the dtype and shape that the graph declares."""
    given = given if hasattr(given, "dtype") else np.asarray(given, expected.dtype)
    if str(unwrap(given).dtype) != expected.dtype:
        raise TypeError(f"{expected.name}: the graph reads {expected.dtype}, got {unwrap(given).dtype}: convert it")
    shape = expected.shape
    if shape is not None and (
        len(given.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, given.shape))
    ):
        raise ValueError(f"{expected.name}: the graph reads {_layout(shape)}, got shape {tuple(given.shape)}")
    return given if isinstance(given, Tensor) else Tensor.from_node(as_array(given, device=backend), None)


def _layout(shape: tuple[int | None, ...] | None) -> str:
    return "(…)" if shape is None else f"({', '.join('any' if n is None else str(n) for n in shape)})"
