"""Recurrent layers: a cell and a scan, in several layers and directions."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..ops.sampling import dropout_mask
from ..scan import scan
from ..tensor import Tensor
from .cell import Cell
from .cells import GRUCell, LSTMCell, MGUCell, RNNCell
from .checks import check_input, check_probability, check_sizes
from .lengths import fill_value_of, replace_padding, valid_steps
from .module import Module
from .states import State, check_state_part, joined, state_parts

#: How the outputs of two directions are combined.
MERGES = {
    "concat": lambda forward, backward: ops.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "mean": lambda forward, backward: 0.5 * (forward + backward),
}


class Recurrent(Module):
    """Recurrent layer: `scan` over a cell, stacked `num_layers` times, in one direction or both.

    input_size, hidden_size  features of x, and of the state
    num_layers               the output of each layer is the input of the next
    bias                     whether the cells have b
    batch_first              x and output are (B, T, features); states stay (layers·directions, B, hidden_size)
    dropout                  probability with which an output is dropped between layers (not after the last)
    bidirectional            a second cell per layer runs backwards in time
    learn_initial_state      the state before the first step is a parameter instead of zeros
    merge                    how the outputs of both directions are combined: "concat" (forward first), "sum", "mul" or
                             "mean"
    residual                 y = layer(dropout(x)) + x from the second layer on
    reverse                  run from each sequence's end to its beginning; an output keeps its time step
    input_dropout            probability with which a feature of an input is dropped, in the first layer too: sampled
                             once per pass for every sequence, the same at all steps (Gal & Ghahramani 2016)
    compiled                 for `scan`: False is eager mode, None what `compiling` says
    checkpoint_every         for `scan`: keep the state of every k-th step for backward, which recomputes the others
    options                  keywords of the cell: `dtype`, `device`, and those that change its equations

    Called with x (T, B, input_size) and a state, the initial state if None; returns (output, state):
    output (T, B, output_size) is that of the last layer at every step, state is that after the last step,
    (layers·directions, B, hidden_size) at index layer·directions + direction. An LSTM's state is the tuple (h, c).

    Variable-length sequences, in any order, are given by
    lengths   (B,) integers in 0 … T: the first lengths[b] steps of sequence b are valid, the others padding
    mask      or (T, B) booleans, False at padding, which may be left, right or between
    past_end  the output at padding: "zero", "nan" or any number; or "hold", the state there, which is that after the
              last valid step before it
    Padding leaves the state as it is: the state returned is that after each sequence's last step, the reverse direction
    begins at each sequence's end, and a sequence without steps returns its initial state. Whatever x holds at padding,
    NaN too, reaches no output and no gradient, and the gradient there is 0.

    Raises ValueError or TypeError, which name the argument, the expected layout and the likely cause.
    """

    cell_type: type[Cell]
    returns_state = True  # forward returns (output, state), of which a Sequential passes the output on
    sequence_keywords = ("lengths", "mask")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, learn_initial_state: bool = False, *,
        merge: str = "concat", residual: bool = False, reverse: bool = False, input_dropout: float = 0.0,
        compiled: bool | None = None, checkpoint_every: int | None = None, **options: Any,
    ):  # fmt: skip
        check_sizes(num_layers=num_layers)
        check_probability(dropout=dropout)
        check_probability(input_dropout=input_dropout)
        if dropout and num_layers == 1:
            raise ValueError("dropout acts between layers, so it needs num_layers of 2 or more (put a Dropout after)")
        if residual and num_layers == 1:
            raise ValueError("residual acts from the second layer on, so it needs num_layers of 2 or more")
        if reverse and bidirectional:
            raise ValueError("reverse is for a layer of one direction, and bidirectional=True has both")
        if merge not in MERGES or (merge != "concat" and not bidirectional):
            raise ValueError(f"merge: expected one of {', '.join(MERGES)}, with bidirectional=True, got {merge!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.directions = batch_first, dropout, 2 if bidirectional else 1
        self.merge, self.residual, self.reverse, self.input_dropout = merge, residual, reverse, input_dropout
        self.compiled, self.checkpoint_every = compiled, checkpoint_every
        self.cells: list[Cell] = []
        for _ in range(num_layers):
            width = self.output_size if self.cells else input_size
            self.cells += [
                self.cell_type(width, hidden_size, bias=bias, learn_initial_state=learn_initial_state, **options)
                for _ in range(self.directions)
            ]

    @staticmethod
    def of(cell_type: type[Cell]) -> type[Recurrent]:
        """The layer class of a cell class: `Recurrent.of(MyCell)(3, 4, num_layers=2, bidirectional=True)`."""
        if "layer_type" not in vars(cell_type):
            name = cell_type.__name__.removesuffix("Cell") or cell_type.__name__
            members = {"cell_type": cell_type, "__doc__": f"A layer of `{cell_type.__name__}`."}
            cell_type.layer_type = type(name, (Recurrent,), members)
        return vars(cell_type)["layer_type"]

    def __reduce_ex__(self, protocol: Any) -> Any:
        if vars(self.cell_type).get("layer_type") is type(self):  # pickle finds the cell class by name
            return _new_layer, (self.cell_type,), vars(self)
        return super().__reduce_ex__(protocol)

    @property
    def bidirectional(self) -> bool:
        return self.directions == 2

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.cells[0].output_size * (self.directions if self.merge == "concat" else 1)

    def forward(
        self, x: Tensor, state: Any = None, lengths: Any = None, mask: Any = None, past_end: str | float = "zero"
    ) -> tuple[Tensor, Any]:
        layout = ("batch", "time", "input_size") if self.batch_first else ("time", "batch", "input_size")
        x = check_input(type(self).__name__, x, layout, self.input_size, self.cells[0].weight)
        fill_value = fill_value_of(past_end)
        if self.batch_first:
            x = ops.moveaxis(x, source=1, destination=0)
        carries = self._split_state(state, *x.shape[:2])
        valid = valid_steps(lengths, mask, x, self.batch_first)
        if valid is not None and fill_value is None and not self.cells[0].output_is_state:
            raise ValueError(
                f"past_end='hold' holds the state, which is not the output of {type(self.cells[0]).__name__}: "
                "'zero' or 'nan'"
            )
        for layer in range(self.num_layers):
            below = ops.dropout(x, p=self.dropout, training=self.training) if layer else x
            below = below if valid is None else replace_padding(below, valid)
            outputs: list[Any] = [None] * self.directions
            for direction in range(self.directions):
                k, reverse = layer * self.directions + direction, self.reverse or direction == 1
                carries[k], outputs[direction] = self._run(self.cells[k], carries[k], below, valid, reverse)
            y = outputs[0] if self.directions == 1 else MERGES[self.merge](*outputs)
            x = y + x if self.residual and layer else y
        if valid is not None and fill_value is not None:
            x = ops.where(valid, x, fill_value)  # its vjp stops any cotangent, NaN too
        return ops.moveaxis(x, source=0, destination=1) if self.batch_first else x, self._join_state(carries)

    def _run(self, cell: Cell, carry: Any, x: Tensor, valid: Tensor | None, reverse: bool) -> tuple[Any, Tensor]:
        """`scan` of one cell: its last carry, and its outputs."""
        if self.training and self.input_dropout:
            x = x * dropout_mask((1, *x.shape[1:]), self.input_dropout, like=x)  # the same at all steps
        step, xs = cell.scan_arguments(x, valid)
        every = self.checkpoint_every
        with cell.anomaly_scope():
            return scan(step, carry, xs, reverse=reverse, compiled=self.compiled, checkpoint_every=every)

    # -- states --------------------------------------------------------------------------------------------------

    def initial_state(self, batch: int) -> Any:
        """The initial state for a batch of that size, in the layout of `forward`."""
        return self._join_state([cell.initial_state(batch) for cell in self.cells])

    def _split_state(self, state: Any, steps: int, batch: int) -> list[Any]:
        """The carry of every cell."""
        if state is None:
            return [cell.initial_state(batch) for cell in self.cells]
        first = self.cells[0]
        parts = state_parts(type(self).__name__, first.states, state, first.weight)
        layout = "(layers·directions, batch, hidden)"
        for name, part, size in zip(first.states, parts, first.state_sizes):
            cause = self._cause(tuple(part.shape), steps, batch, size)
            check_state_part(name, part, (len(self.cells), batch, size), layout, cause)
        return [joined([part[k] for part in parts], first.states) for k in range(len(self.cells))]

    def _cause(self, shape: tuple[int, ...], steps: int, batch: int, size: int) -> str:
        """The likely cause of a state's wrong shape."""
        if len(shape) != 3:
            missing = "the axis of layers and directions is missing"
            if shape != (batch, size):
                return f"{missing}?"
            return f"{missing}: {'state[None]' if len(self.cells) == 1 else f'ops.stack of {len(self.cells)} such'}"
        count, rows = shape[:2]
        if shape == (batch, len(self.cells), size):
            return "its first two axes are exchanged: state.moveaxis(0, 1); batch_first is for x and the output alone"
        if shape == (len(self.cells), steps, size):
            return f"the first two axes of x are exchanged: batch_first={not self.batch_first}?"
        if rows == batch and shape[2] == size:
            if self.bidirectional and 2 * count == len(self.cells):
                return "of a layer with one direction, or of fewer layers?"
            if not self.bidirectional and count == 2 * len(self.cells):
                return "of a layer with two directions, or of more layers?"
            directions = "2 directions" if self.bidirectional else "1 direction"
            return f"{self.num_layers} layers times {directions} are {len(self.cells)} states"
        if count == len(self.cells) and shape[2] == size:
            return "the state of another batch, such as the one before a last, shorter one?"
        return "the state of another batch, or of another layer?"

    def _join_state(self, carries: list[Any]) -> Any:
        if len(self.cell_type.states) == 1:
            return ops.stack(carries)
        return State([ops.stack(list(part)) for part in zip(*carries)], self.cell_type.states)

    # -- repr ----------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        settings = {"num_layers": (self.num_layers, 1), "bidirectional": (self.bidirectional, False),
                    "merge": (self.merge, "concat"), "residual": (self.residual, False),
                    "reverse": (self.reverse, False), "dropout": (self.dropout, 0.0),
                    "input_dropout": (self.input_dropout, 0.0), "batch_first": (self.batch_first, False),
                    "compiled": (self.compiled, None), "checkpoint_every": (self.checkpoint_every, None)}  # fmt: skip
        changed = [f"{name}={value!r}" for name, (value, default) in settings.items() if value != default]
        cell = self.cells[0].changed_settings()
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed, *cell])


def _new_layer(cell_type: type[Cell]) -> Recurrent:
    """An uninitialised layer of that cell, for pickle."""
    return object.__new__(Recurrent.of(cell_type))


class RNN(Recurrent):
    """Recurrent layer of `RNNCell`: h' = tanh(x W + h U + b); by keyword `activation` and others (cell_options.py)"""

    cell_type = RNNCell


class GRU(Recurrent):
    """Recurrent layer of `GRUCell`: h' = (1 − z) ⊙ h + z ⊙ h̃, the reset gate before the product (Chung et al. 2014)

    With `reset_after=True` after it, as in PyTorch and cuDNN. By keyword also `activation`, … (see cell_options.py).
    """

    cell_type = GRUCell


class LSTM(Recurrent):
    """Recurrent layer of `LSTMCell`: c' = f ⊙ c + i ⊙ g, h' = o ⊙ tanh c'; its state is the tuple (h, c)

    By keyword `forget_bias`, `peephole`, `proj_size`, `coupled` and others (see cell_options.py).
    """

    cell_type = LSTMCell


class MGU(Recurrent):
    """Recurrent layer of `MGUCell`: h' = (1 − f) ⊙ h + f ⊙ h̃, with one gate for two uses (Zhou et al. 2016)"""

    cell_type = MGUCell
