"""Two runs of a module, one graph: what differs between them is not the module's alone, and cannot be written down."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import InteropError
from .layers import Body
from .traced import Node, Trace, Traced


class Run(NamedTuple):
    """What one run of a module gave: the trace, its inputs by name, and its outputs, Traced or arrays."""

    trace: Trace
    inputs: dict[str, Traced]
    outputs: list[Any]


def agreed(first: Run, second: Run) -> list[Node]:
    """The nodes of both runs; InteropError where they are not the same."""
    kinds = [[node.kind for node in run.trace.nodes] for run in (first, second)]
    if kinds[0] != kinds[1] or len(first.outputs) != len(second.outputs):
        raise InteropError(
            "`forward` does other things for other values, or for other lengths of the named axes, and a graph has "
            "no choice"
        )
    for one, two in zip(first.outputs, second.outputs):
        if not isinstance(one, Traced) and not _same(one, two):
            raise InteropError("`forward` returns an array that was not computed from its inputs by Tensors")
    return [_agreed_node(one, two, first, second) for one, two in zip(first.trace.nodes, second.trace.nodes)]


def _agreed_node(one: Node, two: Node, first: Run, second: Run) -> Node:
    constants = first.trace.constants, second.trace.constants
    for name, other in zip(one.inputs, two.inputs):
        if name in constants[0] and not _same(constants[0][name], constants[1].get(other)):
            if one.kind == "Reshape" and (shape := _free_shape(one, two, constants)) is not None:
                constants[0][name] = shape
                continue
            raise InteropError(
                f"`forward` makes a number of the values of its inputs, or of the length of a named axis: a {one.kind} "
                f"has {_short(constants[0][name])} in one run and {_short(constants[1].get(other))} in another "
                "(x[:-1] knows no length, x[:len(x) - 1] does)"
            )
    if one.inputs != two.inputs or not _same(one.settings, two.settings):
        raise InteropError(
            f"`forward` depends on values, or on lengths of named axes: a {one.kind} differs in two runs"
        )
    return one


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, Body):
        return a.outputs == b.outputs and all(
            x.kind == y.kind and x.inputs == y.inputs and _same(x.settings, y.settings)
            for x, y in zip(a.nodes, b.nodes)
        )
    return a == b


def _free_shape(one: Node, two: Node, constants: tuple[dict, dict]) -> np.ndarray | None:
    """A shape for both runs, in which 0 stands for the length that the input has there, and −1 for what remains."""
    shapes = [known[node.inputs[1]].tolist() for node, known in zip((one, two), constants)]
    if len(shapes[0]) != len(shapes[1]):
        return None
    before = [node.shapes[0] for node in (one, two)]
    free = []
    for axis, pair in enumerate(zip(*shapes)):
        kept = all(axis < len(shape) and shape[axis] == n for shape, n in zip(before, pair))
        free.append(pair[0] if pair[0] == pair[1] else 0 if kept else -1)
    return np.array(free, np.int64) if free.count(-1) <= 1 else None


def _short(array: Any) -> str:
    return "nothing" if array is None else str(array) if array.size <= 8 else f"an array of shape {array.shape}"
