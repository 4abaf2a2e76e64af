"""ONNX graphs under construction: nodes, initializers, and the names of values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import InteropError
from .onnx_array import OnnxArray


class Node(NamedTuple):
    """A node to be written; `input_shapes` are those of its inputs in the example."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    input_shapes: tuple[tuple[int, ...], ...]


class Subgraph(NamedTuple):
    """The body of a Scan; an output is its name, its dtype and its number of axes."""

    nodes: list[Node]
    inputs: list[OnnxArray]
    outputs: list[tuple[str, np.dtype, int]]


class GraphBuilder:
    """A graph under construction, which grows while `forward` runs.

    nodes         in the order in which they ran
    initializers  arrays by name: parameters by theirs, others numbered
    depth         0 for a graph, 1 for a subgraph in it, and so on
    """

    def __init__(
        self, parameters: dict[str, np.ndarray], outer: GraphBuilder | None = None, reserved: Iterable[str] = ()
    ):
        self.nodes: list[Node] = []
        self.root: GraphBuilder = outer.root if outer else self
        self.depth: int = outer.depth + 1 if outer else 0
        self._taken = set(reserved)  # names that values have, or will have
        self.initializers: dict[str, np.ndarray] = {}
        self._inputs: dict[int, OnnxArray] = {}  # by the id of the example
        self._count = 0
        self.parameters = {id(array): self._reserve(name) for name, array in parameters.items()}

    def subgraph(self) -> GraphBuilder:
        """The builder of a subgraph, which can use the values of this graph."""
        return GraphBuilder({}, self)

    def input(self, name: str, example: np.ndarray) -> OnnxArray:
        """An input of the graph. `forward` may be given its example instead, as for ids, which are arrays."""
        value = OnnxArray(self, name, example)
        self.root._inputs[id(example)] = value
        return value

    def find(self, array: Any, argument: str) -> OnnxArray:
        """The value of the graph that is meant by `array`: itself, or the input of which it is the example."""
        if isinstance(array, OnnxArray):
            return array
        found = self.root._inputs.get(id(array))
        if found is None:
            raise InteropError(
                f"{argument}: expected one of the inputs, or what was computed from them by Tensors, got an array that "
                "the graph cannot know (computed by NumPy in `forward`?)"
            )
        return found

    def initializer(self, array: Any, name: str | None = None) -> str:
        """The name of an initializer with these values."""
        known = self.root._inputs.get(id(array))
        if known is not None:
            return known.name
        root, array = self.root, np.asarray(array) if not hasattr(array, "dtype") else array
        if id(array) in root.parameters:
            name = root.parameters[id(array)]
        elif name is None:
            name = self.unique_name("constant")
        elif name not in root.initializers or not same_array(root.initializers[name], array):
            name = root._reserve(name)
        root.initializers[name] = np.asarray(array)
        return name

    def add_node(
        self, op_type: str, inputs: Sequence[Any], examples: Iterable[Any], **attributes: Any
    ) -> list[OnnxArray]:
        """Add a node; returns its outputs, of which `examples` are the values in the example.

        inputs  OnnxArrays, other arrays and scalars, names of initializers, None for an omitted optional input
        """
        outputs = [OnnxArray(self, self.unique_name(op_type.lower()), np.asarray(example)) for example in examples]
        names = tuple(self._name(x) for x in inputs)
        shapes = tuple(tuple(getattr(x, "shape", ())) for x in inputs)
        self.nodes.append(Node(op_type, names, tuple(y.name for y in outputs), attributes, shapes))
        return outputs

    def identity(self, x: Any) -> OnnxArray:
        """The same value as the output of a node of this graph, which outputs of a graph must be."""
        return self.add_node("Identity", (x,), [x.example if isinstance(x, OnnxArray) else x])[0]

    def _name(self, x: Any) -> str:
        if x is None or isinstance(x, str):
            return x or ""
        return x.name if isinstance(x, OnnxArray) else self.initializer(x)

    def unique_name(self, word: str) -> str:
        """A name that no other value has."""
        self.root._count += 1
        return self.root._reserve(f"{word}_{self.root._count}")

    def _reserve(self, name: str) -> str:
        """This name, or one like it if it is taken; no other value gets it from now on."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def same_array(a: np.ndarray, b: Any) -> bool:
    """Whether b is an array of the same dtype, shape and values."""
    return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
