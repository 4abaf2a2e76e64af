"""Scope of a graph during import: the names that are defined so far, and the constants among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import numpy as np
import onnx

from ....io import Budget
from ...errors import InteropError
from ..tensors import host_array
from .node import Node, constant
from .operators import OPERATORS
from .schema import NodeSchema

#: Operators that are folded where all inputs are constants: exporters rearrange and join weights by them.
_FOLDED = {
    "Add", "Cast", "Concat", "Div", "Flatten", "Gather", "Identity", "Mul", "Neg", "Reshape", "Slice", "Split",
    "Squeeze", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip
_BROADCAST = {"Add", "Div", "Mul", "Sub"}

#: Errors that a node's values may cause.
_FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, NotImplementedError, TypeError, ValueError)


class Scope:
    """The names that a graph has defined so far, each once, and those of the outer graph.

    constants    arrays by name: initializers, and outputs of Constant nodes
    outer_names  the names of the outer graph that were read
    """

    def __init__(self, graph: onnx.GraphProto, opset: int, budget: Budget, outer: Container[str]):
        if graph.sparse_initializer:
            raise InteropError("it has sparse initializers, which are not supported")
        self.opset, self.budget, self.outer = opset, budget, outer
        self.names: set[str] = set()
        self.outer_names: dict[str, None] = {}
        self.constants: dict[str, np.ndarray] = {}
        self._producers: dict[str, onnx.NodeProto] = {}
        self._folded: dict[str, np.ndarray | None] = {}
        for array in graph.initializer:
            self._define(array.name, "an initializer")
            self.constants[array.name] = host_array(array)
        for value in graph.input:
            if value.name not in self.constants:
                self._define(value.name, "an input")

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self.outer

    def check(self, names: Iterable[str], reader: str) -> None:
        """Raise InteropError unless all names are defined; the empty name is that of an omitted optional input."""
        for name in names:
            if name and name not in self.names:
                if name not in self.outer:
                    raise InteropError(f"{reader} reads {name!r}, which no input, initializer or earlier node defines")
                self.outer_names[name] = None

    def add(self, node: onnx.NodeProto) -> None:
        """Define the outputs of a node."""
        for name in node.output:
            if name:
                self._define(name, f"the output of a node {node.op_type}")
                self._producers[name] = node

    def _define(self, name: str, what: str) -> None:
        if not name or not isinstance(name, str) or name in self.names:  # bytes are what is not UTF-8
            raise InteropError(f"{what} has the name {name!r}, which is empty, not text, or that of another value")
        self.names.add(name)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of that name if it can be folded to a constant; None if not."""
        pending = [name]
        while pending:
            name = pending[-1]
            if name in self.constants:
                self._folded[name] = self.constants[name]
            node = self._producers.get(name)
            if name in self._folded:
                pending.pop()
            elif node is None or node.op_type not in _FOLDED:
                self._folded[name] = None
            elif missing := [name for name in node.input if name and name not in self._folded]:
                pending += missing  # nodes are in topological order, so this ends
            else:
                self._fold(node)
        return self._folded[name]

    def _fold(self, node: onnx.NodeProto) -> None:
        parsed = Node(node, self.opset)
        arrays = [self._folded[name] if name else None for name in node.input]
        if any(array is None and name for array, name in zip(arrays, node.input)):
            self._folded |= dict.fromkeys(parsed.outputs)
            return
        self.budget.spend(_max_bytes(parsed.op_type, [array for array in arrays if array is not None]), parsed.label)
        inputs = [None if array is None else constant(array) for array in arrays]
        results = run(Operator(parsed), inputs, parsed.label)
        self._folded |= {name: result.numpy() for name, result in zip(parsed.outputs, results)}


def _max_bytes(op_type: str, arrays: Sequence[np.ndarray]) -> int:
    """An upper bound of the size of a node's result."""
    width = 8 if op_type == "Cast" else max((array.itemsize for array in arrays), default=0)
    if op_type in _BROADCAST:
        ndim = max(array.ndim for array in arrays)
        shapes = [(1,) * (ndim - array.ndim) + array.shape for array in arrays]
        return width * math.prod(max(lengths) for lengths in zip(*shapes))
    sizes = [array.size for array in arrays]
    return width * (math.prod(sizes) if op_type == "Gather" else sum(sizes))


class Operator:
    """A node as a function of its inputs. Raises InteropError if its operator or an attribute is not supported."""

    def __init__(self, node: Node):
        if node.op_type not in OPERATORS:
            raise node.error(f"the operator {node.op_type} is not supported")
        self._node, self._schema = node, NodeSchema(node)
        self._function = OPERATORS[node.op_type](node)
        node.check_all_read()

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        bound = self._schema.check_inputs(inputs)
        results = self._function(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        if len(results) < len(self._node.outputs):
            raise self._node.error(f"it has {len(results)} outputs, and {len(self._node.outputs)} are named")
        return self._schema.cast_outputs(results, bound)

    def __reduce__(self) -> tuple:
        return Operator, (self._node,)  # its function is a closure


def run(function: Callable[..., tuple[Any, ...]], inputs: Sequence[Any], label: str) -> tuple[Any, ...]:
    """The outputs of a node. Its errors become InteropErrors that name the node, for the graph is their cause."""
    try:
        return function(*inputs)
    except InteropError:
        raise
    except _FAULTS as error:
        raise InteropError(f"{label}: {error}") from error
