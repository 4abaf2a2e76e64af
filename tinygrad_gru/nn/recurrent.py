"""Recurrent layers: a cell and a scan, in several layers and directions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from inspect import Parameter
from typing import Any

from .. import ops
from ..ops.sampling import dropout_mask
from ..scan import scan
from ..tape import inspector
from ..tensor import Tensor
from .base.recurrent_docs import documented
from .base.recurrent_names import RecurrentNames, Signature, keywords_of
from .cell import Cell
from .cells import GRUCell, LSTMCell, MGUCell, RNNCell
from .checks import check_input, check_probability, check_sizes
from .lengths import fill_value_of, recorded_like_output, replace_padding, valid_steps
from .module import Module
from .states import check_state_part, joined, state_parts

#: How the outputs of two directions are combined.
MERGES = {
    "concat": lambda forward, backward: ops.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "mean": lambda forward, backward: 0.5 * (forward + backward),
}


@documented
class Recurrent(RecurrentNames, Module):
    """Recurrent layer: `scan` over a cell, stacked `num_layers` times, in one direction or both.

    A subclass says which cell in `cell_type`; `Recurrent.of(MyCell)` makes one. Arguments that no layer has are those
    of the cell. Errors name the argument, the expected layout and the likely cause.

    >>> class LeakyCell(nn.Cell):
    ...     def __init__(self, input_size, hidden_size, **options):
    ...         super().__init__(input_size, hidden_size, **options)
    ...         self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()
    ...
    ...     def step(self, h, x):
    ...         return 0.9 * h + 0.1 * ops.tanh(x @ self.W + h @ self.U + self.b)
    >>> layer = nn.Recurrent.of(LeakyCell)(3, 8, num_layers=2, bidirectional=True)
    >>> output, h = layer(np.ones((5, 4, 3)))
    >>> output.shape, h.shape
    ((5, 4, 16), (4, 4, 8))
    """

    __signature__: Any = Signature()
    cell_type: type[Cell]
    returns_state = True  # forward returns (output, state), of which a Sequential passes the output on
    sequence_keywords = ("lengths", "mask")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, learn_initial_state: bool = False, *,
        merge: str = "concat", residual: bool = False, reverse: bool = False, input_dropout: float = 0.0,
        compiled: bool | None = None, checkpoint_every: int | None = None, **options: Any,
    ):  # fmt: skip
        if not hasattr(self, "cell_type"):
            raise TypeError("Recurrent has no cell of its own: write Recurrent.of(YourCell)(input_size, hidden_size)")
        check_sizes(num_layers=num_layers)
        check_probability(dropout=dropout)
        check_probability(input_dropout=input_dropout)
        if dropout and num_layers == 1:
            raise ValueError(
                "dropout acts between layers, so it needs num_layers of 2 or more (put a Dropout after; Keras's "
                "dropout is input_dropout)"
            )
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

    @classmethod
    def option_parameters(cls) -> list[Parameter]:
        """The keywords that are passed on to the cell."""
        if not hasattr(cls, "cell_type"):
            return [Parameter("options", Parameter.VAR_KEYWORD)]
        return keywords_of(cls.cell_type)

    @staticmethod
    def of(cell_type: type[Cell]) -> type[Recurrent]:
        """The layer class of a cell class.

        >>> nn.Recurrent.of(nn.GRUCell)(3, 4, num_layers=2, bidirectional=True).output_size
        8
        """
        if "layer_type" not in vars(cell_type):
            name = cell_type.__name__.removesuffix("Cell") or cell_type.__name__
            members = {"cell_type": cell_type, "__doc__": f"Recurrent layer: a layer of `{cell_type.__name__}`."}
            cell_type.layer_type = documented(type(name, (Recurrent,), members))
        return vars(cell_type)["layer_type"]

    def __reduce_ex__(self, protocol: Any) -> Any:
        if vars(self.cell_type).get("layer_type") is type(self):  # pickle finds the cell class by name
            return _new_layer, (self.cell_type,), vars(self)
        return super().__reduce_ex__(protocol)

    @property
    def bidirectional(self) -> bool:
        """Whether every layer has a second cell that runs backwards in time."""
        return self.directions == 2

    @property
    def output_size(self) -> int:
        """Features of the output."""
        return self.cells[0].output_size * (self.directions if self.merge == "concat" else 1)

    def forward(
        self, x: Any, state: Any = None, lengths: Any = None, mask: Any = None, past_end: str | float = "zero",
        record: str | Sequence[str] | None = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """The output at every step, and the state after the last: (output, state).

        x         (time, batch, input_size), or with `batch_first` (batch, time, input_size): a Tensor of the dtype of
                  the weights; arrays and lists are converted to it
        state     (layers·directions, batch, hidden_size), whatever `batch_first`: that before the first step, a Tensor
                  or an array; for an LSTM the tuple (h, c). None: the initial state
        lengths   (batch,) integers in 0 … time, in any order: the first lengths[b] steps of sequence b are valid, the
                  others padding
        mask      or (time, batch) booleans, with `batch_first` (batch, time), False at padding, which may be left,
                  right or between
        past_end  the output at padding: "zero", "nan" or any number; or "hold", the state there, which is that after
                  the last valid step before it
        record    names of local variables of the cell's step, such as ("r", "z") of a GRU; `h'` is the state after the
                  step. Their values at every step are returned too

        Returns output (time, batch, output_size), or with `batch_first` (batch, time, output_size), which is that of
        the last layer, and the state, laid out like `state`, at index layer·directions + direction; with `record` a
        third, a list with a dictionary for each of `cells`, of Tensors laid out like the output, through which
        gradients flow. They are filled at padding like the output, with "hold" by 0 (but h', which is held).

        Padding leaves the state as it is: the state returned is that after each sequence's last step, the reverse
        direction begins at each sequence's end, and a sequence without steps returns its initial state. Whatever x
        holds at padding, NaN too, reaches no output and no gradient, and the gradient there is 0.

        Raises ValueError or TypeError, which name the argument, the expected layout and the likely cause.
        """
        layout = ("batch", "time", "input_size") if self.batch_first else ("time", "batch", "input_size")
        x = check_input(type(self).__name__, x, layout, self.input_size, self.cells[0].weight)
        fill_value = 0.0 if past_end == "zero" else fill_value_of(past_end)
        if self.batch_first:
            x = ops.moveaxis(x, source=1, destination=0)
        steps, batch = x.shape[:2]
        if state is None:
            carries = [cell.initial_state(batch) for cell in self.cells]
        else:
            carries = self._split_state(state, steps, batch)
        valid = valid_steps(lengths, mask, x, self.batch_first)
        if valid is not None and fill_value is None and not self.cells[0].output_is_state:
            raise ValueError(
                f"past_end='hold' holds the state, which is not the output of {type(self.cells[0]).__name__}: "
                "'zero' or 'nan'"
            )
        records: list[dict[str, Tensor]] = []
        for layer in range(self.num_layers):
            below = ops.dropout(x, p=self.dropout, training=self.training) if layer else x
            below = below if valid is None else replace_padding(below, valid)
            outputs: list[Any] = [None] * self.directions
            for direction in range(self.directions):
                k, reverse = layer * self.directions + direction, self.reverse or direction == 1
                carries[k], outputs[direction], *recorded = self._run(
                    self.cells[k], carries[k], below, valid, reverse, record
                )
                records += recorded
            y = outputs[0] if self.directions == 1 else MERGES[self.merge](*outputs)
            x = y + x if self.residual and layer else y
        if valid is not None and fill_value is not None:
            x = ops.where(valid, x, fill_value)  # its vjp stops any cotangent, NaN too
        if self.batch_first:
            x = ops.moveaxis(x, source=0, destination=1)
        if record is None:
            return x, self._join_state(carries)
        laid_out = partial(recorded_like_output, valid=valid, fill_value=fill_value, batch_first=self.batch_first)
        return x, self._join_state(carries), [{n: laid_out(n, t, batch) for n, t in one.items()} for one in records]

    def _run(
        self, cell: Cell, carry: Any, x: Tensor, valid: Tensor | None, reverse: bool, record: Any
    ) -> tuple[Any, ...]:
        """`scan` of one cell: its last carry, its outputs, and its records, if there are any."""
        if self.training and self.input_dropout:
            x = x * dropout_mask((1, *x.shape[1:]), self.input_dropout, like=x)  # the same at all steps
        step, xs = cell.scan_arguments(x, valid)
        options: dict[str, Any] = {"compiled": self.compiled, "checkpoint_every": self.checkpoint_every}
        if record is not None:
            options["record"] = record
        if inspector.get() is None:
            return scan(step, carry, xs, reverse=reverse, **options)
        with cell.anomaly_scope():
            return scan(step, carry, xs, reverse=reverse, **options)

    # -- states --------------------------------------------------------------------------------------------------

    def initial_state(self, batch: int) -> Any:
        """The initial state for a batch of that size, in the layout of `forward`: zeros, or the learned states.

        >>> nn.LSTM(3, 8, num_layers=2).initial_state(batch=4)
        State(h=(2, 4, 8) float32, c=(2, 4, 8) float32)
        """
        return self._join_state([cell.initial_state(batch) for cell in self.cells])

    def _split_state(self, state: Any, steps: int, batch: int) -> list[Any]:
        """The carry of every cell."""
        first = self.cells[0]
        parts = state_parts(type(self).__name__, first.states, state, first.weight)
        layout = "(layers·directions, batch, hidden)"
        for name, part, size in zip(first.states, parts, first.state_sizes):
            cause = self._cause(tuple(part.shape), steps, batch, size)
            check_state_part(name, part, (len(self.cells), batch, size), layout, cause)
        if len(self.cells) == 1:  # whose gradient is that of the part, not a slice of one
            return [joined([ops.squeeze(part, axis=0) for part in parts], first.states)]
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
        names = self.cells[0].states
        parts = list(zip(*carries)) if len(names) > 1 else [carries]
        if len(carries) == 1:
            return joined([ops.reshape(part, (1, *part.shape)) for (part,) in parts], names)
        return joined([ops.stack(list(part)) for part in parts], names)

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


@documented
class RNN(Recurrent):
    """Elman's recurrent network: a layer of `RNNCell`.

    >>> layer = nn.RNN(3, 8, activation="relu")
    >>> output, h = layer(np.ones((5, 4, 3)))
    >>> output.shape, h.shape
    ((5, 4, 8), (1, 4, 8))
    """

    cell_type = RNNCell


@documented
class GRU(Recurrent):
    """Gated recurrent units: a layer of `GRUCell`, whose reset gate acts before the product (Chung et al. 2014).

    PyTorch's, Keras's and cuDNN's default is the other form, `reset_after=True`, and in both PyTorch's z is our 1 − z.

    >>> layer = nn.GRU(3, 8, num_layers=2, batch_first=True)
    >>> output, h = layer(np.ones((4, 5, 3)), lengths=[5, 2, 3, 1])
    >>> output.shape, h.shape
    ((4, 5, 8), (2, 4, 8))
    >>> np.array_equal(h[-1].numpy()[1], output.numpy()[1, 1])     # the last layer after sequence 1, of 2 steps
    True
    >>> output, h = layer(np.ones((4, 5, 3)), h.detach())     # goes on from there
    """

    cell_type = GRUCell


@documented
class LSTM(Recurrent):
    """Long short-term memory: a layer of `LSTMCell` (Hochreiter & Schmidhuber 1997).

    Its state is the tuple (h, c), a `State`.

    >>> layer = nn.LSTM(3, 8, bidirectional=True)
    >>> output, (h, c) = layer(np.ones((5, 4, 3)))
    >>> output.shape, h.shape, c.shape
    ((5, 4, 16), (2, 4, 8), (2, 4, 8))
    """

    cell_type = LSTMCell


@documented
class MGU(Recurrent):
    """Minimal gated units: a layer of `MGUCell`, with one gate for two uses (Zhou et al. 2016).

    >>> output, h = nn.MGU(3, 8)(np.ones((5, 4, 3)))
    >>> output.shape, h.shape
    ((5, 4, 8), (1, 4, 8))
    """

    cell_type = MGUCell
