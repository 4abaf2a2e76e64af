"""`save`: a Module as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .... import nn
from ....contexts import no_grad
from ....io import replacing
from ....nn.module import substitute
from ....ops.op import unwrap
from ....tensor import Tensor
from ...errors import InteropError
from .builder import GraphBuilder
from .consistency import Run, consistent_nodes
from .examples import axis_lengths, map_arrays, named_leaves, second_example
from .layers import exporter_of
from .model_proto import model_proto


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
    """Write `module`, as it computes in evaluation mode, to an ONNX file, atomically.

    example_inputs  an array or a Tensor, or a tuple of them. A nested tuple (an LSTM's state) is several inputs of the
                    graph; None is passed on and is no input. `forward` gets floating-point arrays as Tensors
    axes            by input, the names of its axes, None for a fixed length: {"ids": ("time", "batch")}. A named axis
                    is dynamic, and has the same length wherever its name occurs. Axes of inputs that are not mentioned
                    are fixed at their lengths in the example
    input_names     of the graph; those of `forward` by default
    output_names    of the graph; "output", or "output_0", … by default
    metadata        strings to be kept in the file

    RNN, GRU and LSTM become nodes of that name wherever ONNX has their equations; all other cells, also a user's own,
    a Scan over their step. Everything else that `forward` does is traced op by op. It is run twice, the second time
    on other values and lengths: if that gives another graph, or if an op has no ONNX operator, InteropError says why.
    """
    example_inputs = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    path = Path(path)
    elsewhere = {tensor.device for _, tensor in module.named_tensors()} - {"numpy"}
    if elsewhere:
        raise InteropError(f"module: it is on {', '.join(elsewhere)}; move it to the host first: module.to('numpy')")
    leaves = named_leaves(module, example_inputs, input_names)
    lengths = axis_lengths(leaves, axes or {})
    with module.evaluating(), no_grad():
        expected = _arrays_in(module(*example_inputs))  # the module itself says best what is wrong with its inputs
        other = second_example(module, example_inputs, leaves, axes or {}, lengths)
        first, second = (_run(module, example_inputs, example, output_names or ()) for example in (leaves, other))
    _check_same(expected, first.outputs)
    nodes = consistent_nodes(first, second)
    model = model_proto(first, second, nodes, axes or {}, output_names, metadata or {}, type(module).__name__)
    with replacing(path) as file:
        file.write(model.SerializeToString())


# -- a run of the module on ONNX arrays --------------------------------------------------------------------------------


def _run(module: nn.Module, inputs: tuple, leaves: Mapping[str, np.ndarray], output_names: Sequence[str]) -> Run:
    parameters = {name: tensor.data for name, tensor in module.named_tensors()}
    builder = GraphBuilder(parameters, reserved=(*leaves, *output_names))
    graph_inputs = {name: builder.input(name, np.array(array)) for name, array in leaves.items()}
    remaining = iter(graph_inputs.values())

    def input_of(value: Any) -> Any:
        """The argument for an input. Arrays of integers stay arrays, for `forward` may use their values."""
        array = next(remaining)
        return Tensor.from_node(array, None) if isinstance(value, Tensor) or array.dtype.kind == "f" else array.example

    stand_ins: dict[int, Any] = {}
    for path, layer in module.named_modules():
        exporter = exporter_of(layer)
        if exporter is not None:
            stand_ins.setdefault(id(layer), _StandIn(layer, builder, path, exporter))
    try:
        result = substitute(module, stand_ins)(*map_arrays(input_of, inputs))
    except InteropError:
        raise
    except Exception as error:  # it has just run on the arrays themselves, so ONNX arrays are the cause
        raise InteropError(f"`forward` cannot be traced: {error}") from error
    return Run(builder, graph_inputs, _arrays_in(result))


def _arrays_in(result: Any) -> list[Any]:
    arrays: list[Any] = []

    def collect(value: Any) -> None:
        if not hasattr(unwrap(value), "dtype"):
            raise InteropError(f"`forward` returns a {type(value).__name__}, and a graph Tensors or tuples of them")
        arrays.append(unwrap(value))

    map_arrays(collect, result)
    return arrays


def _check_same(expected: Sequence[Any], exported: Sequence[Any]) -> None:
    """Raise InteropError unless the outputs of the graph have the dtypes and shapes of the module's own."""
    types = [[(str(array.dtype), tuple(array.shape)) for array in arrays] for arrays in (expected, exported)]
    if types[0] != types[1]:
        raise InteropError(f"`forward` gives {types[0]}, and in the operators that ONNX has it would give {types[1]}")


class _StandIn(nn.Module):
    """A layer that has an exporter, replaced by a call of it."""

    def __init__(self, layer: nn.Module, builder: GraphBuilder, path: str, exporter: Callable[..., Any]):
        self.layer, self.returns_state, self.sequence_keywords = layer, layer.returns_state, layer.sequence_keywords
        self._export = lambda *inputs, **settings: exporter(builder, layer, path, *inputs, **settings)

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        return self._export(*inputs, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["layer"], name)
