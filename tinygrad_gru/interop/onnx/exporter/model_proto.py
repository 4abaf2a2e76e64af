"""ONNX's ModelProto of an exported module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ....backend import to_host
from ....version import __version__
from ...errors import InteropError
from .builder import Node, Subgraph
from .consistency import Run
from .onnx_array import OnnxArray

OPSET = 17  # the first with LayerNormalization, and known to the runtimes of the last years
IR_VERSION = 8

Axes = Mapping[str, Sequence[str | None]]


def model_proto(
    first: Run, second: Run, nodes: Sequence[Node], axes: Axes, output_names: Sequence[str] | None,
    metadata: Mapping[str, str], name: str,
) -> onnx.ModelProto:  # fmt: skip
    """The model of these nodes, with the inputs, outputs and initializers of the first run, checked by ONNX."""
    count = len(first.outputs)
    names = list(output_names or (["output"] if count == 1 else [f"output_{k}" for k in range(count)]))
    taken = {*first.inputs, *first.builder.initializers}
    if len(set(names)) != count or taken & set(names) or "" in names:
        raise InteropError(
            f"output_names: expected {count} names, all different and none an input's or a parameter's, got {names}"
        )
    node_outputs = {name for node in nodes for name in node.outputs}
    renamed: dict[str, str] = {}
    outputs, copies = [], []
    for output, other, output_name in zip(first.outputs, second.outputs, names):
        source = output.name if isinstance(output, OnnxArray) else first.builder.initializer(output)
        if source in node_outputs and source not in renamed:
            renamed[source] = output_name
        else:  # an input or a constant, or a value that is an output already
            copies.append(helper.make_node("Identity", [renamed.get(source, source)], [output_name]))
        outputs.append(_value_info(output_name, output.dtype, _output_shape(output, other, first, second, axes)))
    used_nodes = _used([*(_node_proto(node, renamed) for node in nodes), *copies], names)
    used = {name for node in used_nodes for name in _inputs(node)}
    graph = helper.make_graph(
        used_nodes, name,
        [
            _value_info(n, x.dtype, [axis or length for axis, length in zip(axes.get(n, [None] * x.ndim), x.shape)])
            for n, x in first.inputs.items()
        ],
        outputs,
        [numpy_helper.from_array(np.ascontiguousarray(to_host(array)).reshape(array.shape), initializer)
         for initializer, array in first.builder.initializers.items() if initializer in used],
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


def _node_proto(node: Node, renamed: Mapping[str, str]) -> onnx.NodeProto:
    attributes = {n: _graph_proto(a, renamed) if isinstance(a, Subgraph) else a for n, a in node.attributes.items()}
    inputs, outputs = ([renamed.get(name, name) for name in names] for names in (node.inputs, node.outputs))
    return helper.make_node(node.op_type, inputs, outputs, **attributes)


def _graph_proto(subgraph: Subgraph, renamed: Mapping[str, str]) -> onnx.GraphProto:
    inputs = [_value_info(x.name, x.dtype, [None] * x.ndim) for x in subgraph.inputs]
    outputs = [_value_info(name, dtype, [None] * ndim) for name, dtype, ndim in subgraph.outputs]
    return helper.make_graph([_node_proto(node, renamed) for node in subgraph.nodes], "step", inputs, outputs)


def _value_info(name: str, dtype: Any, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))


def _output_shape(one: Any, two: Any, first: Run, second: Run, axes: Axes) -> list[int | str | None]:
    """The shape of an output: lengths, and the names of dynamic axes of the inputs that its axes follow."""
    by_lengths = {
        (first.inputs[name].shape[k], second.inputs[name].shape[k]): axis
        for name, names in axes.items()
        for k, axis in enumerate(names)
        if axis is not None
    }
    return [n if n == m else by_lengths.get((n, m)) for n, m in zip(one.shape, two.shape)]


def _inputs(node: onnx.NodeProto) -> set[str]:
    """The names of all inputs of a node and of the nodes of its subgraphs."""
    subgraphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return set(node.input).union(*(_inputs(inner) for subgraph in subgraphs for inner in subgraph.node))


def _used(nodes: list[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed |= _inputs(node)
            kept.append(node)
    return kept[::-1]
