"""ONNX's operators RNN, GRU and LSTM as our layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from .... import nn, ops
from ....nn.module import Parameter
from ....ops.op import unwrap
from ....tensor import Tensor
from ....trees import flatten, with_leaves
from ...cells import LAYERS
from ...errors import InteropError
from ...gates import ONNX, StackedWeights, to_ours
from ..activations import Activation, activations
from ..recurrent_spec import DEFAULT_ACTIVATIONS, INPUTS, PEEPHOLE_ORDER, WEIGHTS
from .node import Node, one_of
from .schema import NodeSchema

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


class RecurrentNode(nn.Module):
    """A recurrent node: a layer of ours, and the conversion of its inputs and outputs to ONNX's layout.

    constants  arrays by name. If all weights are among them they become the layer's parameters; otherwise they are
               inputs of every call

    Called with the inputs of `input_names` in order, None for an omitted optional one; returns Y, Y_h and an LSTM's
    Y_c.
    """

    def __init__(self, node: Node, constants: Mapping[str, np.ndarray]):
        NodeSchema(node)
        self.op_type, self.label = node.op_type, node.label
        named = {name: value for name, value in zip(INPUTS[node.op_type], node.inputs) if value}
        direction = one_of(node, "direction", node.attribute("direction", "forward"), tuple(_DIRECTIONS))
        self.direction, self.directions = direction, _DIRECTIONS[direction]
        self.batch_first = node.flag("layout")
        self.hidden_size = node.attribute("hidden_size")
        options = {"bias": "B" in named, **self._cell_options(node, "P" in named)}
        cell_options = [{**options, **row} for row in self._activations(node)]
        node.check_all_read()
        weights = {name: constants[named[name]] for name in WEIGHTS if named.get(name) in constants}
        self.has_constant_weights = all(name in weights for name in WEIGHTS if name in named)
        layer = LAYERS[node.op_type](  # of the smallest size: `_with_weights` sets the size
            1, 1, bidirectional=self.directions == 2, reverse=direction == "reverse", batch_first=self.batch_first
        )
        layer.cells = [layer.cell_type(1, 1, **row) for row in cell_options]
        self.layer = self._with_weights(layer, weights) if self.has_constant_weights else layer
        self.formal_inputs = tuple(n for n in named if not (self.has_constant_weights and n in WEIGHTS))
        self.input_names = tuple(named[name] for name in self.formal_inputs)

    def _sizes(self, weights: Mapping[str, Any]) -> tuple[int, int]:
        """input_size and hidden_size, by weights whose shapes and dtypes must match."""
        W, R = weights["W"].shape, weights["R"].shape
        gates, inputs, hidden = len(ONNX.gates[self.op_type]), W[-1] if len(W) == 3 else 0, self.hidden_size
        if hidden is None:
            hidden = R[-1] if len(R) == 3 else 0
        expected = {
            "W": (self.directions, gates * hidden, inputs), "R": (self.directions, gates * hidden, hidden),
            "B": (self.directions, 2 * gates * hidden), "P": (self.directions, len(PEEPHOLE_ORDER) * hidden),
        }  # fmt: skip
        for name, array in weights.items():
            if tuple(array.shape) != expected[name] or inputs < 1 or hidden < 1:
                raise InteropError(
                    f"{self.label}: expected {name} of shape {expected[name]} (directions, gates · hidden_size, …), "
                    f"got {tuple(array.shape)}"
                )
        dtypes = {str(array.dtype) for array in weights.values()}
        if len(dtypes) > 1 or not dtypes <= {"float16", "float32", "float64"}:
            raise InteropError(f"{self.label}: expected weights of one floating-point type, got {', '.join(dtypes)}")
        return inputs, hidden

    @staticmethod
    def _cell_options(node: Node, peephole: bool) -> dict[str, Any]:
        """The attributes of the node as keywords of our cells, but for defaults."""
        options: dict[str, Any] = {"clip": node.attribute("clip")}
        if node.op_type == "GRU":
            options["reset_after"] = node.flag("linear_before_reset")
        if node.op_type == "LSTM":
            options |= {"coupled": node.flag("input_forget"), "peephole": peephole}
        return {name: value for name, value in options.items() if value}

    def _activations(self, node: Node) -> list[dict[str, Any]]:
        """The activations of the cell of each direction, by keyword; none where all are the defaults."""
        defaults = DEFAULT_ACTIVATIONS[node.op_type]
        names = node.attribute("activations", list(defaults.values()) * self.directions)
        if len(names) != len(defaults) * self.directions:
            raise node.error(f"expected {len(defaults)} activations per direction, got {', '.join(names)}")
        parsed = activations(names, node.attribute("activation_alpha", ()), node.attribute("activation_beta", ()))
        rows = [dict(zip(defaults, parsed[k * len(defaults) :])) for k in range(self.directions)]
        for row in rows:
            if node.op_type == "GRU" and not row["gate_activation"].is_complementary:
                raise node.error(
                    "the update gates of ONNX and of ours are complements, and one with activation "
                    f"{row['gate_activation'].name} cannot be inverted: that needs f(−a) = 1 − f(a)"
                )
        default = {key: Activation(name) for key, name in defaults.items()}
        return [{} if row == default else row for row in rows]

    def _tensors(self, cell: nn.Cell, direction: int, weights: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors of one of the cells, by our names, from ONNX's weights (arrays or Tensors)."""
        W, R = weights["W"][direction], weights["R"][direction]
        half = W.shape[0]
        B = weights["B"][direction] if "B" in weights else None
        biases = (None, None) if B is None else (B[:half], B[half:])
        reset_after = getattr(cell, "reset_after", False)
        tensors = to_ours(ONNX, self.op_type, StackedWeights(W, R, *biases), reset_after)
        if "P" in weights:
            P, hidden = weights["P"][direction], cell.hidden_size
            tensors |= {f"p_{gate}": P[k * hidden : (k + 1) * hidden] for k, gate in enumerate(PEEPHOLE_ORDER)}
        if getattr(cell, "coupled", False):  # no forget gate: ONNX's weights of one are not used
            tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("_f")}
        return tensors

    # -- forward -------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.formal_inputs, inputs))
        x, lengths = given["X"], given.get("sequence_lens")
        layer = self.layer if self.has_constant_weights else self._with_weights(self.layer, given)
        states = [given.get(f"initial_{name}") for name in layer.cells[0].states]
        output, last = layer(
            x, self._initial_state(layer, x, states), lengths=None if lengths is None else unwrap(lengths)
        )
        output = output.reshape(*output.shape[:2], self.directions, -1)
        output = output if self.batch_first else ops.moveaxis(output, source=2, destination=1)
        last = flatten(last)
        if lengths is not None:  # an empty sequence ends in zeros there, whatever its initial state
            nonempty = ops.expand_dims(ops.greater(lengths, 0), axis=(0, 2))
            last = tuple(ops.where(nonempty, part, 0.0) for part in last)
        return (output, *map(self._exchanged, last))

    def _exchanged(self, state: Tensor) -> Tensor:
        """A state in the other's layout: in ONNX (batch, directions, hidden) where x is batch-first."""
        return ops.moveaxis(state, source=0, destination=1) if self.batch_first else state

    def _with_weights(self, layer: nn.Recurrent, given: Mapping[str, Any]) -> nn.Recurrent:
        """A copy of the layer with these weights; arrays become parameters."""
        layer = copy(layer)
        weights = {name: given[name] for name in WEIGHTS if name in given}
        layer.input_size, layer.hidden_size = self._sizes(weights)
        layer.cells = [copy(cell) for cell in layer.cells]
        for direction, cell in enumerate(layer.cells):
            cell.input_size, cell.hidden_size = layer.input_size, layer.hidden_size
            for name, values in self._tensors(cell, direction, weights).items():
                if isinstance(values, Tensor):
                    vars(cell)[name] = values  # computed: assigning it over a parameter is refused
                else:
                    setattr(cell, name, Parameter(np.ascontiguousarray(values)))
        return layer

    def _initial_state(self, layer: nn.Recurrent, x: Tensor, states: Sequence[Tensor | None]) -> Any:
        """The initial state: the given parts, and zeros for the others."""
        if all(state is None for state in states):
            return None
        zeros = layer.initial_state(x.shape[0] if self.batch_first else x.shape[1])
        filled = [zero if state is None else self._exchanged(state) for state, zero in zip(states, flatten(zeros))]
        return with_leaves(zeros, filled)

    def describe(self) -> str:
        return f"{self.label}{', reverse' if self.direction == 'reverse' else ''}"
