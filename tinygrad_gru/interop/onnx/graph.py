"""`load`: an ONNX file as a Module."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.inliner

from ... import nn
from ...backend import Backend, as_array, backend_of
from ...ops.op import raw
from ...scan import scan
from ...tensor import Tensor
from ..errors import InteropError
from .call import Call, constant, dtype_name, host_array
from .operators import OPERATORS
from .recurrent import CURVES, RecurrentNode

#: Before this version of the operators broadcasting had rules of its own.
_OLDEST_OPSET = 7
_OWN_DOMAINS = ("", "ai.onnx")


def load(source: str | os.PathLike[str] | onnx.ModelProto) -> Graph:
    """The graph in an ONNX file, or in a model that was read already, as a Module.

    It is called with the graph's inputs in their order, and returns its output, or a tuple of its outputs in their
    order. Gradients flow through it. Its recurrent nodes are layers of ours (`print` shows them), and floating-point
    arrays that the file keeps as initializers are parameters, so that it can be trained on. What cannot be computed
    exactly is refused: InteropError names the node and the reason.
    """
    name = "the model" if isinstance(source, onnx.ModelProto) else str(source)
    try:
        model = source if isinstance(source, onnx.ModelProto) else onnx.load(str(Path(source)))
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf and onnx raise errors of several kinds, with no base of their own
        raise InteropError(f"{name} is not a valid ONNX file: {error}") from error
    with suppress(Exception):  # shapes help, but who cannot tell them need not be wrong
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    try:
        return Graph(model)
    except InteropError as error:
        raise InteropError(f"{name}: {error}") from error


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
    outer   the names that the graph around a body has
    """

    def __init__(self, graph: onnx.GraphProto, opset: int, outer: Container[str] = ()):
        if graph.sparse_initializer:
            raise InteropError("it has sparse initializers, which there are no arrays for here")
        constants = {array.name: host_array(array) for array in graph.initializer}
        self.opset = opset
        self.reads = [value.name for value in graph.input if value.name not in constants]
        self.writes = [value.name for value in graph.output]
        self.captured: list[str] = []  # what is read of the graph around
        self.steps: list[Step] = []
        shapes = {name: array.shape for name, array in constants.items()}
        for value in (*graph.input, *graph.value_info):
            shapes.setdefault(value.name, shape_of(value) or ())
        makers = {name: node for node in graph.node for name in node.output if name}
        known = {"", *constants, *self.reads}
        for node in graph.node:
            step = self._step(node, makers, constants, shapes, _Union(known, outer))
            if step is not None:
                self._check_known(step.reads, known, outer, step.place)
                self.steps.append(step)
            known.update(node.output)
        self._check_known(self.writes, known, outer, "the output of the graph")
        self._drop_unused()
        needed = {name for step in self.steps for name in step.reads}.union(self.writes)
        self.weights = Weights({name: array for name, array in constants.items() if name in needed})

    def _check_known(self, names: Iterable[str], known: Container[str], outer: Container[str], reader: str) -> None:
        for name in names:
            if name in known:
                continue
            if name not in outer:
                raise InteropError(f"{reader} reads {name!r}, which no input, initializer or node before it gives")
            if name not in self.captured:
                self.captured.append(name)

    def _step(
        self, node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], constants: dict[str, np.ndarray],
        shapes: Mapping[str, Sequence[int]], known: Container[str],
    ) -> Step | None:  # fmt: skip
        """What a node does; None for a constant, which goes to the `constants`."""
        call = Call(node, self.opset)
        if node.domain not in _OWN_DOMAINS:
            raise call.refused(f"operators of {node.domain!r} are not known here, only those of ONNX itself")
        if call.kind == "Constant":
            constants[call.outputs[0]] = prepared(call)().numpy()
            return None
        if call.kind in CURVES:
            folded = {name: _folded(name, makers, constants, self.opset) for name in call.inputs[1:] if name}
            fixed = {name: array for name, array in folded.items() if array is not None}
            shapes = {**shapes, **{name: array.shape for name, array in fixed.items()}}
            recurrent = RecurrentNode(call, fixed, shapes)
            return Step(self._named(call.kind, recurrent), recurrent.reads, call.outputs, call.place)
        if call.kind == "Scan":
            scanned = ScanNode(call, self.opset, known)
            reads = (*call.inputs, *scanned.body.captured)
            return Step(self._named(call.kind, scanned), reads, call.outputs, call.place)
        return Step(prepared(call), call.inputs, call.outputs, call.place)

    def _named(self, kind: str, module: nn.Module) -> str:
        """Make the module an attribute that is called after its kind; returns the name."""
        count = sum(name.partition("_")[0] == kind.lower() for name, _ in self.children())
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
            results = _run(function, [values[name] for name in step.reads], step.place)
            values.update(zip(step.writes, results if isinstance(results, tuple) else (results,)))
        return tuple(values[name] for name in self.writes)


class ScanNode(nn.Module):
    """Scan: a body, run over time by our `scan`. Called with states, with what is read step by step, and captured."""

    def __init__(self, call: Call, opset: int, known: Container[str]):
        self.read = call.setting("num_scan_inputs")
        self.body = Block(call.setting("body"), opset, known)
        self.states = len(self.body.reads) - self.read
        ways = [*call.setting("scan_input_directions", [0]), *call.setting("scan_output_directions", [0])]
        axes = [*call.setting("scan_input_axes", [0]), *call.setting("scan_output_axes", [0])]
        call.finish()
        self.reverse = bool(ways[0])
        if opset < 9 or len(set(ways)) > 1 or any(axes):
            raise call.refused("only a Scan of opset 9 or later, along axis 0, all in one direction, is known here")

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        count = self.states + self.read
        captured = dict(zip(self.body.captured, inputs[count:]))

        def step(carry: tuple, reads: tuple) -> tuple[tuple, tuple]:
            results = self.body.run({**captured, **dict(zip(self.body.reads, (*carry, *reads)))})
            return results[: self.states], results[self.states :]

        last, ys = scan(step, inputs[: self.states], inputs[self.states : count], reverse=self.reverse)
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

    def __init__(self, model: onnx.ModelProto):
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        opset = next((opsets[domain] for domain in _OWN_DOMAINS if domain in opsets), 0)
        if opset < _OLDEST_OPSET:
            raise InteropError(f"opset {opset} is too old, {_OLDEST_OPSET} is needed: see onnx.version_converter")
        super().__init__(model.graph, opset)
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


class _Union:
    """What is in one of several sets, some of which still grow."""

    def __init__(self, *sets: Container[str]):
        self._sets = sets

    def __contains__(self, name: object) -> bool:
        return any(name in one for one in self._sets)


def prepared(call: Call) -> Callable[..., Any]:
    """What the node does; refused if it is not known here, or not with these settings."""
    if call.kind not in OPERATORS:
        raise call.refused(f"the operator {call.kind} is not known here")
    function = OPERATORS[call.kind](call)
    call.finish()
    return function


def _run(function: Callable[..., Any], inputs: Iterable[Any], place: str) -> Any:
    try:
        return function(*inputs)
    except (IndexError, TypeError, ValueError) as error:
        if len(error.args) == 1 and isinstance(error.args[0], str) and not isinstance(error, InteropError):
            error.args = (f"{place}: {error.args[0]}",)
        raise


def _folded(
    name: str, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, np.ndarray], opset: int
) -> np.ndarray | None:
    """The value of that name if only constants lead to it: exporters turn and join weights by nodes."""
    if name in constants or name not in makers:
        return constants.get(name)
    node = makers[name]
    if node.op_type not in OPERATORS or node.domain not in _OWN_DOMAINS:
        return None
    read = {i: _folded(i, makers, constants, opset) for i in node.input if i}
    if any(array is None for array in read.values()):
        return None
    results = prepared(Call(node, opset))(*(constant(read[i]) if i else None for i in node.input))
    values = dict(zip(node.output, results if isinstance(results, tuple) else (results,)))
    return values[name].numpy()


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
    if str(raw(given).dtype) != expected.dtype:
        raise TypeError(f"{expected.name}: the graph reads {expected.dtype}, got {raw(given).dtype}: convert it")
    shape = expected.shape
    if shape is not None and (
        len(given.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, given.shape))
    ):
        raise ValueError(f"{expected.name}: the graph reads {_layout(shape)}, got shape {tuple(given.shape)}")
    return given if isinstance(given, Tensor) else Tensor.at(as_array(given, device=home), None)


def _layout(shape: tuple[int | None, ...] | None) -> str:
    return "(…)" if shape is None else f"({', '.join('any' if n is None else str(n) for n in shape)})"
