"""`save`: a Module as an ONNX file."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ... import nn
from ...backend import to_host
from ...contexts import no_grad
from ...io import replacing
from ...ops.op import unwrap
from ...tensor import Tensor
from ...version import __version__
from ..errors import InteropError
from .agreement import Run, agreed
from .examples import leaves_of, lengths_of, map_leaves, other_examples
from .layers import Body, exporter_of
from .traced import Node, Trace, Traced

OPSET = 17  # the first with LayerNormalization, and known to the runtimes of the last years
IR_VERSION = 8


def save(
    module: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Any,
    *,
    axes: Mapping[str, Sequence[str | None]] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `module`, as it computes in evaluation, to an ONNX file, whole or not at all.

    example_inputs  what to call it with: an array or a Tensor, or a tuple of them. A tuple inside (an LSTM's state) is
                    as many inputs of the graph; None is passed on and is none. Floating-point arrays arrive in
                    `forward` as Tensors
    axes            by input, the names of its axes, None for one whose length is to be fixed:
                    {"ids": ("time", "batch")}. A named axis may have any length, and has one length wherever the name
                    stands. Axes of inputs that are not mentioned are fixed at their lengths in the example
    input_names     of the graph; those of `forward` if not given
    output_names    of the graph; "output", or "output_0", … if not given
    metadata        strings to be kept in the file

    RNN, GRU and LSTM become nodes of that name wherever ONNX has their equations; all other cells, also a user's own,
    a Scan over their step. Everything else that `forward` does is followed op by op. It is run twice, the second time
    on other values and lengths: if that gives another graph, or if an op has no counterpart, InteropError says why.
    """
    example_inputs = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    path = Path(path)
    elsewhere = {tensor.device for _, tensor in module.named_tensors()} - {"numpy"}
    if elsewhere:
        raise InteropError(f"module: it is on {', '.join(elsewhere)}; move it to the host first: module.to('numpy')")
    leaves = leaves_of(module, example_inputs, input_names)
    lengths = lengths_of(leaves, axes or {})
    with module.evaluating(), no_grad():
        expected = _arrays_in(module(*example_inputs))  # what is wrong with the inputs it says best itself
        other = other_examples(module, example_inputs, leaves, axes or {}, lengths)
        first, second = (_traced(module, example_inputs, example, output_names or ()) for example in (leaves, other))
    _check_same(expected, first.outputs)
    nodes = agreed(first, second)
    model = _model(first, second, nodes, axes or {}, output_names, metadata or {}, type(module).__name__)
    with replacing(path) as file:
        file.write(model.SerializeToString())


# -- the trace -------------------------------------------------------------------------------------------------------


def _traced(
    module: nn.Module, inputs: tuple, leaves: Mapping[str, np.ndarray], output_names: Sequence[str]
) -> Run:  # fmt: skip
    parameters = {name: tensor.data for name, tensor in module.named_tensors()}
    trace = Trace(parameters, reserved=(*leaves, *output_names))
    traced = {name: trace.input(name, np.array(array)) for name, array in leaves.items()}
    remaining = iter(traced.values())

    def stand_in(value: Any) -> Any:
        """What takes the place of an input. Arrays of integers stay arrays, for a program may take them as they are."""
        made = next(remaining)
        return Tensor.from_node(made, None) if isinstance(value, Tensor) or made.dtype.kind == "f" else made.example

    twin = _twin(module, trace, dict(module.named_modules()), {})
    try:
        result = twin(*map_leaves(stand_in, inputs))
    except InteropError:
        raise
    except Exception as error:  # the same has just run on arrays, so that whatever is wrong comes of tracing it
        raise InteropError(f"`forward` cannot be followed: {error}") from error
    return Run(trace, traced, _arrays_in(result))


def _arrays_in(result: Any) -> list[Any]:
    """The arrays, or what stands for them, in what `forward` returns."""
    arrays: list[Any] = []

    def collect(value: Any) -> None:
        if not hasattr(unwrap(value), "dtype"):
            raise InteropError(f"`forward` returns a {type(value).__name__}, and a graph Tensors or tuples of them")
        arrays.append(unwrap(value))

    map_leaves(collect, result)
    return arrays


def _check_same(expected: Sequence[Any], traced: Sequence[Any]) -> None:
    """Raise InteropError unless the outputs in the graph are of the types and the shapes of the module's own."""
    kinds = [[(str(array.dtype), tuple(array.shape)) for array in arrays] for arrays in (expected, traced)]
    if kinds[0] != kinds[1]:
        raise InteropError(f"`forward` gives {kinds[0]}, and in the operators that ONNX has it would give {kinds[1]}")


class _StandIn(nn.Module):
    """Takes the place of a layer that is written down as a whole."""

    def __init__(self, layer: nn.Module, trace: Trace, path: str, exporter: Callable[..., Any]):
        self.layer = layer
        self._written = lambda *inputs, **settings: exporter(trace, layer, path, *inputs, **settings)

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        return self._written(*inputs, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["layer"], name)


def _twin(module: nn.Module, trace: Trace, paths: Mapping[str, nn.Module], made: dict[int, nn.Module]) -> nn.Module:
    """A copy of a module in which layers that are written down as a whole have their stand-ins."""
    if id(module) in made:
        return made[id(module)]
    exporter = exporter_of(module)
    if exporter is not None:
        path = next((name for name, other in paths.items() if other is module), "")
        twin: nn.Module = _StandIn(module, trace, path, exporter)
    else:
        twin = copy.copy(module)
    made[id(module)] = twin
    for name, value in vars(module).items() if exporter is None else ():
        vars(twin)[name] = _replaced(value, lambda part: _twin(part, trace, paths, made))
    return twin


def _replaced(value: Any, twin: Callable[[nn.Module], nn.Module]) -> Any:
    if isinstance(value, nn.Module):
        return twin(value)
    if isinstance(value, (list, tuple)) and any(isinstance(part, nn.Module) for part in value):
        return type(value)(_replaced(part, twin) for part in value)
    return value


# -- the file --------------------------------------------------------------------------------------------------------


def _model(
    first: Run, second: Run, nodes: Sequence[Node], axes: Mapping[str, Sequence[str | None]],
    output_names: Sequence[str] | None, metadata: Mapping[str, str], name: str,
) -> onnx.ModelProto:  # fmt: skip
    count = len(first.outputs)
    names = list(output_names or (["output"] if count == 1 else [f"output_{k}" for k in range(count)]))
    taken = {*first.inputs, *first.trace.constants}
    if len(set(names)) != count or taken & set(names) or "" in names:
        raise InteropError(
            f"output_names: expected {count} names, all different and none an input's or a parameter's, got {names}"
        )
    made = {name for node in nodes for name in node.outputs}
    called: dict[str, str] = {}
    values, copies = [], []
    for output, other, output_name in zip(first.outputs, second.outputs, names):
        source = output.name if isinstance(output, Traced) else first.trace.constant(output)
        if source in made and source not in called:
            called[source] = output_name
        else:  # an input or a constant, or what is an output already
            copies.append(helper.make_node("Identity", [called.get(source, source)], [output_name]))
        values.append(_value(output_name, output.dtype, _free_axes(output, other, first, second, axes)))
    written = _needed([*(_proto(node, called) for node in nodes), *copies], names)
    read = {name for node in written for name in _reads(node)}
    graph = helper.make_graph(
        written, name,
        [
            _value(n, x.dtype, [axis or length for axis, length in zip(axes.get(n, [None] * x.ndim), x.shape)])
            for n, x in first.inputs.items()
        ],
        values,
        [numpy_helper.from_array(np.ascontiguousarray(to_host(array)).reshape(array.shape), constant)
         for constant, array in first.trace.constants.items() if constant in read],
    )  # fmt: skip
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="tinygrad_gru",
        producer_version=__version__,
    )  # fmt: skip
    helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InteropError(f"ONNX has no such graph (an operator of it has no such type there?): {error}") from error
    return model


def _proto(node: Node, called: Mapping[str, str]) -> onnx.NodeProto:
    """A node, in which some values are called otherwise than in the trace."""
    settings = {name: _graph(s, called) if isinstance(s, Body) else s for name, s in node.settings.items()}
    inputs, outputs = ([called.get(name, name) for name in names] for names in (node.inputs, node.outputs))
    return helper.make_node(node.kind, inputs, outputs, **settings)


def _graph(body: Body, called: Mapping[str, str]) -> onnx.GraphProto:
    inputs = [_value(x.name, x.dtype, [None] * x.ndim) for x in body.inputs]
    outputs = [_value(name, dtype, [None] * ndim) for name, dtype, ndim in body.outputs]
    return helper.make_graph([_proto(node, called) for node in body.nodes], "step", inputs, outputs)


def _value(name: str, dtype: Any, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))


def _free_axes(
    one: Any, two: Any, first: Run, second: Run, axes: Mapping[str, Sequence[str | None]]
) -> list[int | str | None]:
    """The axes of an output: their lengths, or the names of those of the inputs that they follow."""
    lengths = {
        (first.inputs[name].shape[k], second.inputs[name].shape[k]): axis
        for name, names in axes.items()
        for k, axis in enumerate(names)
        if axis is not None
    }
    return [n if n == m else lengths.get((n, m)) for n, m in zip(one.shape, two.shape)]


def _reads(node: onnx.NodeProto) -> set[str]:
    """All names that a node reads, also those that the nodes of its body do."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return set(node.input).union(*(_reads(inner) for body in bodies for inner in body.node))


def _needed(nodes: list[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that lead to the outputs."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted |= _reads(node)
            kept.append(node)
    return kept[::-1]
