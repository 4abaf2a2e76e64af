"""Consistency of two exports: what differs between two runs of a module depends on values and is not in the graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...errors import InteropError
from .builder import GraphBuilder, Node, Subgraph, same_array
from .onnx_array import OnnxArray


class Run(NamedTuple):
    """One run of a module: its graph, the inputs by name, and the outputs, ONNX arrays or others."""

    builder: GraphBuilder
    inputs: dict[str, OnnxArray]
    outputs: list[Any]


def consistent_nodes(first: Run, second: Run) -> list[Node]:
    """The nodes of both runs. Raises InteropError where they differ."""
    op_types = [[node.op_type for node in run.builder.nodes] for run in (first, second)]
    if op_types[0] != op_types[1] or len(first.outputs) != len(second.outputs):
        raise InteropError(
            "`forward` runs other ops for other values, or for other lengths of the named axes, which a graph cannot "
            "express"
        )
    for one, two in zip(first.outputs, second.outputs):
        if not isinstance(one, OnnxArray) and not _same(one, two):
            raise InteropError("`forward` returns an array that was not computed from its inputs by Tensors")
    return [_consistent_node(one, two, first, second) for one, two in zip(first.builder.nodes, second.builder.nodes)]


def _consistent_node(one: Node, two: Node, first: Run, second: Run) -> Node:
    initializers = first.builder.initializers, second.builder.initializers
    for name, other in zip(one.inputs, two.inputs):
        if name in initializers[0] and not _same(initializers[0][name], initializers[1].get(other)):
            if one.op_type == "Reshape" and (shape := _shape_for_both(one, two, initializers)) is not None:
                initializers[0][name] = shape
                continue
            raise InteropError(
                f"`forward` computes a number from the values of its inputs, or from the length of a named axis: a "
                f"{one.op_type} has {_short(initializers[0][name])} in one run and "
                f"{_short(initializers[1].get(other))} in another (x[:-1] needs no length, x[:len(x) - 1] does)"
            )
    if one.inputs != two.inputs or not _same(one.attributes, two.attributes):
        raise InteropError(
            f"`forward` depends on values, or on lengths of named axes: a {one.op_type} differs in two runs"
        )
    return one


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return same_array(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, Subgraph):
        return a.outputs == b.outputs and all(
            x.op_type == y.op_type and x.inputs == y.inputs and _same(x.attributes, y.attributes)
            for x, y in zip(a.nodes, b.nodes)
        )
    return a == b


def _shape_for_both(one: Node, two: Node, initializers: tuple[dict, dict]) -> np.ndarray | None:
    """A Reshape's shape for both runs: 0 for a length that the input has there, −1 for one that follows."""
    shapes = [known[node.inputs[1]].tolist() for node, known in zip((one, two), initializers)]
    if len(shapes[0]) != len(shapes[1]):
        return None
    input_shapes = [node.input_shapes[0] for node in (one, two)]
    lengths = []
    for axis, pair in enumerate(zip(*shapes)):
        kept = all(axis < len(shape) and shape[axis] == n for shape, n in zip(input_shapes, pair))
        lengths.append(pair[0] if pair[0] == pair[1] else 0 if kept else -1)
    return np.array(lengths, np.int64) if lengths.count(-1) <= 1 else None


def _short(array: Any) -> str:
    return "nothing" if array is None else str(array) if array.size <= 8 else f"an array of shape {array.shape}"
