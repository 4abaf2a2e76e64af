"""The names of a graph while its nodes are read: what is there already, and which of it are constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import numpy as np
import onnx

from ...io import Budget
from ..errors import InteropError
from .call import Call, constant, host_array
from .operators import OPERATORS
from .signature import Signature

#: By what exporters turn and join weights. Their results are constants where their inputs are.
_FOLDED = {
    "Add", "Cast", "Concat", "Div", "Flatten", "Gather", "Identity", "Mul", "Neg", "Reshape", "Slice", "Split",
    "Squeeze", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip
_BROADCAST = {"Add", "Div", "Mul", "Sub"}

#: What may come of the numbers of a node.
_FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, NotImplementedError, TypeError, ValueError)


class Scope:
    """The names that the nodes read so far have given, each once, and those of the graph around.

    constants  arrays by name: initializers, and what Constant nodes give
    captured   the names that were read of the graph around
    """

    def __init__(self, graph: onnx.GraphProto, opset: int, budget: Budget, outer: Container[str]):
        if graph.sparse_initializer:
            raise InteropError("it has sparse initializers, which there are no arrays for here")
        self.opset, self.budget, self.outer = opset, budget, outer
        self.names: set[str] = set()
        self.captured: dict[str, None] = {}
        self.constants: dict[str, np.ndarray] = {}
        self._makers: dict[str, onnx.NodeProto] = {}
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
        """Raise InteropError unless all that is read is there; the empty name is that of an input that is left out."""
        for name in names:
            if name and name not in self.names:
                if name not in self.outer:
                    raise InteropError(f"{reader} reads {name!r}, which no input, initializer or node before it gives")
                self.captured[name] = None

    def add(self, node: onnx.NodeProto) -> None:
        """A node, and what it gives, is there."""
        for name in node.output:
            if name:
                self._define(name, f"the output of a node {node.op_type}")
                self._makers[name] = node

    def _define(self, name: str, what: str) -> None:
        if not name or not isinstance(name, str) or name in self.names:  # bytes are what is no UTF-8
            raise InteropError(f"{what} has the name {name!r}, which is none, or is that of another value")
        self.names.add(name)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of that name if only constants lead to it, by nodes that move and join numbers; None if not."""
        waiting = [name]
        while waiting:
            name = waiting[-1]
            if name in self.constants:
                self._folded[name] = self.constants[name]
            node = self._makers.get(name)
            if name in self._folded:
                waiting.pop()
            elif node is None or node.op_type not in _FOLDED:
                self._folded[name] = None
            elif missing := [read for read in node.input if read and read not in self._folded]:
                waiting += missing  # nodes read what is before them, so that this ends
            else:
                self._fold(node)
        return self._folded[name]

    def _fold(self, node: onnx.NodeProto) -> None:
        call = Call(node, self.opset)
        arrays = [self._folded[name] if name else None for name in node.input]
        if any(array is None and name for array, name in zip(arrays, node.input)):
            self._folded |= dict.fromkeys(call.outputs)
            return
        self.budget.spend(_most_bytes(call.kind, [array for array in arrays if array is not None]), call.place)
        inputs = [None if array is None else constant(array) for array in arrays]
        results = run(Operator(call), inputs, call.place)
        self._folded |= {name: result.numpy() for name, result in zip(call.outputs, results)}


def _most_bytes(kind: str, arrays: Sequence[np.ndarray]) -> int:
    """How much the result of a node can be at most."""
    width = 8 if kind == "Cast" else max((array.itemsize for array in arrays), default=0)
    if kind in _BROADCAST:
        ndim = max(array.ndim for array in arrays)
        shapes = [(1,) * (ndim - array.ndim) + array.shape for array in arrays]
        return width * math.prod(max(lengths) for lengths in zip(*shapes))
    sizes = [array.size for array in arrays]
    return width * (math.prod(sizes) if kind == "Gather" else sum(sizes))


class Operator:
    """What a node does, of inputs to outputs; refused if it is not known here, or not with these settings."""

    def __init__(self, call: Call):
        if call.kind not in OPERATORS:
            raise call.refused(f"the operator {call.kind} is not known here")
        self._call, self._signature = call, Signature(call)
        self._function = OPERATORS[call.kind](call)
        call.finish()

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        bound = self._signature.check(inputs)
        results = self._function(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        if len(results) < len(self._call.outputs):
            raise self._call.refused(f"it gives {len(results)} outputs, and {len(self._call.outputs)} are named")
        return self._signature.typed(results, bound)

    def __reduce__(self) -> tuple:
        return Operator, (self._call,)  # pickled as the node that it was made of, for its function is a closure


def run(function: Callable[..., tuple[Any, ...]], inputs: Sequence[Any], place: str) -> tuple[Any, ...]:
    """What a node gives. What goes wrong in it is InteropError that names the node: the graph asks for it."""
    try:
        return function(*inputs)
    except InteropError:
        raise
    except _FAULTS as error:
        raise InteropError(f"{place}: {error}") from error
