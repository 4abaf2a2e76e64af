"""The operators GRU, LSTM and RNN of ONNX as our layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from ... import nn, ops
from ...nn.module import Parameter
from ...ops.op import unwrap
from ...tensor import Tensor
from ..cells import LAYERS
from ..errors import InteropError
from ..gates import ONNX, Stacked, to_ours
from .activations import Activation, activations
from .call import Call, one_of
from .signature import Signature

#: The curves of each kind in ONNX's order, by our keywords, and what they are if a file does not say.
CURVES = {
    "RNN": {"activation": "Tanh"},
    "GRU": {"gate_activation": "Sigmoid", "activation": "Tanh"},
    "LSTM": {"gate_activation": "Sigmoid", "activation": "Tanh", "output_activation": "Tanh"},
}
INPUTS = {
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
}
PEEPHOLES = "iof"  # their order in P
WEIGHTS = ("W", "R", "B", "P")
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


class RecurrentNode(nn.Module):
    """A recurrent operator in a graph: a layer of ours, and how ONNX arranges what goes in and out.

    call       the node
    constants  arrays by name. Weights that are all among them become the layer's; others are read at every call

    Called with the inputs of `reads` in that order, None for one that is left out; returns Y, Y_h and an LSTM's Y_c.
    """

    def __init__(self, call: Call, constants: Mapping[str, np.ndarray]):
        Signature(call)
        self.kind, self.place = call.kind, call.place
        named = {name: value for name, value in zip(INPUTS[call.kind], call.inputs) if value}
        direction = one_of(call, "direction", call.setting("direction", "forward"), tuple(_DIRECTIONS))
        self.direction, self.directions = direction, _DIRECTIONS[direction]
        self.batch_first = call.flag("layout")
        self.hidden_size = call.setting("hidden_size")
        equations = {"bias": "B" in named, **self._equations(call, "P" in named)}
        options = [{**equations, **row} for row in self._curves(call)]
        call.finish()
        weights = {name: constants[named[name]] for name in WEIGHTS if named.get(name) in constants}
        self.is_fixed = all(name in weights for name in WEIGHTS if name in named)
        layer = LAYERS[call.kind](  # of the least size: the weights that take their places say what it is
            1, 1, bidirectional=self.directions == 2, reverse=direction == "reverse", batch_first=self.batch_first
        )
        layer.cells = [layer.cell_type(1, 1, **row) for row in options]
        self.layer = self._with_weights(layer, weights) if self.is_fixed else layer
        self.takes = tuple(name for name in named if not (self.is_fixed and name in WEIGHTS))
        self.reads = tuple(named[name] for name in self.takes)

    def _sizes(self, weights: Mapping[str, Any]) -> tuple[int, int]:
        """input_size and hidden_size; the weights must fit together, in their types too."""
        W, R = weights["W"].shape, weights["R"].shape
        gates, inputs, hidden = len(ONNX.gates[self.kind]), W[-1] if len(W) == 3 else 0, self.hidden_size
        if hidden is None:
            hidden = R[-1] if len(R) == 3 else 0
        expected = {
            "W": (self.directions, gates * hidden, inputs), "R": (self.directions, gates * hidden, hidden),
            "B": (self.directions, 2 * gates * hidden), "P": (self.directions, len(PEEPHOLES) * hidden),
        }  # fmt: skip
        for name, array in weights.items():
            if tuple(array.shape) != expected[name] or inputs < 1 or hidden < 1:
                raise InteropError(
                    f"{self.place}: expected {name} of shape {expected[name]} (directions, gates · hidden_size, …), "
                    f"got {tuple(array.shape)}"
                )
        dtypes = {str(array.dtype) for array in weights.values()}
        if len(dtypes) > 1 or not dtypes <= {"float16", "float32", "float64"}:
            raise InteropError(f"{self.place}: expected weights of one floating-point type, got {', '.join(dtypes)}")
        return inputs, hidden

    @staticmethod
    def _equations(call: Call, peephole: bool) -> dict[str, Any]:
        """The settings of the node that are keywords of our cells; those that are not the textbook's."""
        settings: dict[str, Any] = {"clip": call.setting("clip")}
        if call.kind == "GRU":
            settings["reset_after"] = call.flag("linear_before_reset")
        if call.kind == "LSTM":
            settings |= {"coupled": call.flag("input_forget"), "peephole": peephole}
        return {name: value for name, value in settings.items() if value}

    def _curves(self, call: Call) -> list[dict[str, Any]]:
        """The activations of the cell of each direction, by keyword; those that are not the textbook's."""
        usual = CURVES[call.kind]
        names = call.setting("activations", list(usual.values()) * self.directions)
        if len(names) != len(usual) * self.directions:
            raise call.refused(f"expected {len(usual)} activations a direction, got {', '.join(names)}")
        made = activations(names, call.setting("activation_alpha", ()), call.setting("activation_beta", ()))
        rows = [dict(zip(usual, made[k * len(usual) :])) for k in range(self.directions)]
        for row in rows:
            if call.kind == "GRU" and not row["gate_activation"].is_complementary:
                raise call.refused(
                    "the update gates of ONNX and of ours have opposite senses, and one of "
                    f"{row['gate_activation'].name} cannot be turned: for that f(−a) = 1 − f(a) is needed"
                )
        textbook = {key: Activation(name) for key, name in usual.items()}
        return [{} if row == textbook else row for row in rows]

    def _tensors(self, cell: nn.Cell, direction: int, weights: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors of one of the cells, by our names, from ONNX's weights: arrays, or Tensors."""
        W, R = weights["W"][direction], weights["R"][direction]
        half = W.shape[0]
        B = weights["B"][direction] if "B" in weights else None
        biases = (None, None) if B is None else (B[:half], B[half:])
        reset_after = getattr(cell, "reset_after", False)
        tensors = to_ours(ONNX, self.kind, Stacked(W, R, *biases), reset_after)
        if "P" in weights:
            P, hidden = weights["P"][direction], cell.hidden_size
            tensors |= {f"p_{gate}": P[k * hidden : (k + 1) * hidden] for k, gate in enumerate(PEEPHOLES)}
        if getattr(cell, "coupled", False):  # there is no forget gate: what the file has for one is not used
            tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("_f")}
        return tensors

    # -- a call --------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.takes, inputs))
        x, lengths = given["X"], given.get("sequence_lens")
        layer = self.layer if self.is_fixed else self._with_weights(self.layer, given)
        states = [given.get(f"initial_{name}") for name in layer.cells[0].states]
        output, last = layer(x, self._state(layer, x, states), lengths=None if lengths is None else unwrap(lengths))
        output = output.reshape(*output.shape[:2], self.directions, -1)
        output = output if self.batch_first else ops.moveaxis(output, source=2, destination=1)
        last = last if isinstance(last, tuple) else (last,)
        if lengths is not None:  # a sequence without steps ends in zeros there, whatever its initial state is
            some = ops.expand_dims(ops.greater(lengths, 0), axis=(1, 2) if self.batch_first else (0, 2))
            last = tuple(ops.where(some, part, 0.0) for part in last)
        return (output, *last)

    def _with_weights(self, layer: nn.Recurrent, given: Mapping[str, Any]) -> nn.Recurrent:
        """A layer like this one with these weights in the place of its own; of arrays they are parameters."""
        layer = copy(layer)
        weights = {name: given[name] for name in WEIGHTS if name in given}
        layer.input_size, layer.hidden_size = self._sizes(weights)
        layer.cells = [copy(cell) for cell in layer.cells]
        for direction, cell in enumerate(layer.cells):
            cell.input_size, cell.hidden_size = layer.input_size, layer.hidden_size
            for name, values in self._tensors(cell, direction, weights).items():
                setattr(cell, name, values if isinstance(values, Tensor) else Parameter(np.ascontiguousarray(values)))
        return layer

    def _state(self, layer: nn.Recurrent, x: Tensor, states: Sequence[Tensor | None]) -> Any:
        """The state before the first step: what is given, zeros for the rest."""
        if all(state is None for state in states):
            return None
        zeros = layer.initial_state(x.shape[0] if self.batch_first else x.shape[1])
        parts = zeros if isinstance(zeros, tuple) else (zeros,)
        filled = tuple(zero if state is None else state for state, zero in zip(states, parts))
        return filled if len(filled) > 1 else filled[0]

    def describe(self) -> str:
        return f"{self.place}{', reverse' if self.direction == 'reverse' else ''}"
