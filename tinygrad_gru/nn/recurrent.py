"""Recurrent layers: a cell and a scan, in several layers and directions."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..scan import scan
from ..tensor import Tensor
from .cells import Cell, GRUCell, LSTMCell, RNNCell, check_input, check_part, state_parts
from .layers import check_sizes
from .module import Module


class Recurrent(Module):
    """A cell run over time, `num_layers` of them on top of each other, in one direction or both.

    input_size, hidden_size  features of x, and of the state
    num_layers               the output of each layer is the input of the next
    bias                     whether the cells have b
    batch_first              x and output are (B, T, features), and states (B, layers·directions, hidden_size)
    dropout                  probability with which an output is dropped between layers (not after the last)
    bidirectional            a second cell reads backwards; outputs are joined, forward first
    learn_initial_state      the state before the first step is learned instead of zeros
    options                  go to the cell: `dtype`, `device`, an LSTM's `forget_bias`

    Called with x (T, B, input_size) and a state, zeros if None; returns (output, state):
    output (T, B, directions·hidden_size) is h of the last layer at every step, state is that after the last step,
    (layers·directions, B, hidden_size) at index layer·directions + direction. An LSTM's state is the tuple (h, c).
    """

    cell_type: type[Cell]

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, learn_initial_state: bool = False, **options: Any,
    ):  # fmt: skip
        check_sizes(num_layers=num_layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a probability in [0, 1), got {dropout!r}")
        if dropout and num_layers == 1:
            raise ValueError("dropout acts between layers, so it needs num_layers of 2 or more (put a Dropout after)")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.directions = batch_first, dropout, 2 if bidirectional else 1
        self.cells = [
            self.cell_type(
                input_size if layer == 0 else self.directions * hidden_size, hidden_size, bias=bias,
                learn_initial_state=learn_initial_state, **options,
            )
            for layer in range(num_layers)
            for _ in range(self.directions)
        ]  # fmt: skip

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        layout = ("batch", "time", "input_size") if self.batch_first else ("time", "batch", "input_size")
        check_input(type(self).__name__, x, layout, self.input_size, self.cells[0].weight.dtype)
        if self.batch_first:
            x = ops.moveaxis(x, source=1, destination=0)
        carries = self._split_state(state, *x.shape[:2])
        for layer in range(self.num_layers):
            if layer:
                x = ops.dropout(x, p=self.dropout, training=self.training)
            first, outputs = layer * self.directions, []
            for direction in range(self.directions):
                cell = self.cells[first + direction]
                with cell.in_reports():
                    carries[first + direction], ys = scan(
                        cell.step, carries[first + direction], x, reverse=direction == 1
                    )
                outputs.append(ys)
            x = outputs[0] if self.directions == 1 else ops.concatenate(outputs, axis=-1)
        return ops.moveaxis(x, source=0, destination=1) if self.batch_first else x, self._join_state(carries)

    def initial_state(self, batch: int) -> Any:
        """The state before the first step, as `forward` takes it."""
        return self._join_state([cell.initial_state(batch) for cell in self.cells])

    def _split_state(self, state: Any, steps: int, batch: int) -> list[Any]:
        """The carry of every cell."""
        if state is None:
            return [cell.initial_state(batch) for cell in self.cells]
        names, dtype = self.cell_type.states, self.cells[0].weight.dtype
        parts = state_parts(type(self).__name__, names, state)
        layout = "(batch, layers·directions, hidden)" if self.batch_first else "(layers·directions, batch, hidden)"
        for name, part in zip(names, parts):
            cause = self._cause(tuple(part.shape), steps, batch)
            check_part(name, part, self._state_shape(batch), layout, dtype, cause)
        rows = [[part[:, k] if self.batch_first else part[k] for part in parts] for k in range(len(self.cells))]
        return [tuple(row) if len(row) > 1 else row[0] for row in rows]

    def _state_shape(self, batch: int) -> tuple[int, ...]:
        count = len(self.cells)
        return (batch, count, self.hidden_size) if self.batch_first else (count, batch, self.hidden_size)

    def _cause(self, shape: tuple[int, ...], steps: int, batch: int) -> str:
        """Why a state may have come with a shape that is not right."""
        if len(shape) != 3:
            return "the axis of layers and directions is missing?"
        if (shape[1], shape[0], shape[2]) == self._state_shape(batch):
            return "its first two axes are exchanged: batch_first?"
        if shape == self._state_shape(steps):
            return f"the first two axes of x are exchanged: batch_first={not self.batch_first}?"
        return "the state of another batch, or of another layer?"

    def _join_state(self, carries: list[Any]) -> Any:
        axis = 1 if self.batch_first else 0
        if len(self.cell_type.states) == 1:
            return ops.stack(carries, axis=axis)
        return tuple(ops.stack(list(part), axis=axis) for part in zip(*carries))

    def describe(self) -> str:
        settings = {"num_layers": (self.num_layers, 1), "bidirectional": (self.directions == 2, False),
                    "dropout": (self.dropout, 0.0), "batch_first": (self.batch_first, False)}  # fmt: skip
        changed = [f"{name}={value}" for name, (value, default) in settings.items() if value != default]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])


class RNN(Recurrent):
    """A layer of `RNNCell`: h' = tanh(x W + h U + b)"""

    cell_type = RNNCell


class GRU(Recurrent):
    """A layer of `GRUCell`: h' = (1 − z) ⊙ h + z ⊙ h̃, the reset gate before the product (Chung et al. 2014)"""

    cell_type = GRUCell


class LSTM(Recurrent):
    """A layer of `LSTMCell`: c' = f ⊙ c + i ⊙ g, h' = o ⊙ tanh c'; its state is the tuple (h, c)"""

    cell_type = LSTMCell
