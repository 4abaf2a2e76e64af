"""Exporters of layers that are more in ONNX than the nodes of their formulas.

An exporter is given the graph builder, the layer, the layer's name in its model, and the layer's inputs. It adds the
nodes and returns what the layer would, with ONNX arrays in the Tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .... import nn
from ....ops.op import unwrap
from ....tensor import Tensor
from .builder import GraphBuilder
from .recurrent import export_recurrent, is_exact


def exporter_of(module: nn.Module) -> Callable[..., Any] | None:
    """The exporter of a layer of ours, or of a derived one with the same `forward`; None for other modules."""
    return _EXPORTERS.get(type(module).forward)


def _linear(builder: GraphBuilder, layer: nn.Linear, path: str, x: Tensor) -> Tensor:
    y = unwrap(x) @ layer.W.data  # MatMul takes any number of axes, where the op flattens them to rows
    return Tensor.from_node(y if layer.b is None else y + layer.b.data, None)


def _embedding(builder: GraphBuilder, layer: nn.Embedding, path: str, ids: Any) -> Tensor:
    ids = builder.find(unwrap(ids), f"the ids of {path or 'Embedding'}")
    (rows,) = builder.add_node("Gather", (layer.W.data, ids), [layer.W.data[ids.example]], axis=0)
    return Tensor.from_node(rows, None)


def _layer_norm(builder: GraphBuilder, layer: nn.LayerNorm, path: str, x: Tensor) -> Tensor:
    if not is_exact(layer.eps, unwrap(x).dtype):
        return nn.LayerNorm.forward(layer, x)  # the nodes of its formula
    example = layer(Tensor(unwrap(x).example)).data
    inputs = (unwrap(x), layer.weight.data, layer.bias.data)
    (y,) = builder.add_node("LayerNormalization", inputs, [example], axis=-1, epsilon=layer.eps)
    return Tensor.from_node(y, None)


_EXPORTERS: dict[Any, Callable[..., Any]] = {
    nn.Linear.forward: _linear, nn.Embedding.forward: _embedding, nn.LayerNorm.forward: _layer_norm,
    nn.Recurrent.forward: export_recurrent,
}  # fmt: skip
