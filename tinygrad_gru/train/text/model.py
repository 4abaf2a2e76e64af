"""A character-level language model: embedding, recurrent layers, linear output."""

from __future__ import annotations

from typing import Any

from ...backend import as_array
from ...nn import GRU, LSTM, RNN, Cell, Dropout, Embedding, Linear, Module, Recurrent
from ...ops import cross_entropy
from ...ops.op import unwrap
from ...tensor import Tensor

CELLS = {"gru": GRU, "lstm": LSTM, "rnn": RNN}


class CharacterModel(Module):
    """A character-level language model: logits of the next character from those so far.

        x = E[ids],   h = recurrence(x),   logits = dropout(h) W + b

    num_symbols   V, the size of the vocabulary
    embedding     width of the character embedding
    hidden        width of the recurrent state
    layers        recurrent layers, stacked
    dropout       probability of dropping a hidden unit between layers and before the output, while training
    cell          "gru", "lstm" or "rnn"; or a class: of a recurrent layer, or of a cell of your own

    >>> model = train.CharacterModel(50, embedding=8, hidden=16)
    >>> logits, state = model(np.zeros((10, 4), int))
    >>> logits.shape, state.shape
    ((10, 4, 50), (1, 4, 16))
    >>> train.CharacterModel(50, 8, 16, cell=nn.MGUCell).recurrence.cells
    [MGUCell(8, 16)  800 parameters]
    """

    def __init__(
        self,
        num_symbols: int,
        embedding: int = 64,
        hidden: int = 192,
        layers: int = 1,
        dropout: float = 0.0,
        cell: str | type[Cell] | type[Recurrent] = "gru",
    ) -> None:
        layer = _layer_class(cell)
        self.embedding = Embedding(num_symbols, embedding)
        self.recurrence = layer(embedding, hidden, num_layers=layers, dropout=dropout if layers > 1 else 0.0)
        self.dropout = Dropout(dropout)
        self.output = Linear(self.recurrence.output_size, num_symbols)

    @property
    def device(self) -> str:
        """The backend on which the model computes."""
        return self.output.W.device

    def forward(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (T, B, V) and the state after the last step, from integer `ids` (T, B) and the initial state.

        The ids may be on any backend; they are moved to the model's.
        """
        hidden, state = self.recurrence(self.embedding(as_array(unwrap(ids), device=self.device)), state)
        return self.output(self.dropout(hidden)), state


def _layer_class(cell: Any) -> type[Recurrent]:
    """The class of the recurrent layer that `cell` names, or whose cell it is."""
    if isinstance(cell, type) and issubclass(cell, Recurrent):
        return cell
    if isinstance(cell, type) and issubclass(cell, Cell):
        return Recurrent.of(cell)
    if not isinstance(cell, str) or cell not in CELLS:
        raise ValueError(
            f"unknown cell {cell!r}: expected one of {', '.join(CELLS)}, or a class that derives from nn.Cell or "
            "nn.Recurrent"
        )
    return CELLS[cell]


def prediction_loss(
    model: Module, ids: Any, targets: Any, state: Any = None, reduction: str = "mean"
) -> tuple[Tensor, Any]:
    """The cross-entropy (nats/char) of predicting `targets` (T, B) from `ids`, and the state that `model` returns.

    model  a CharacterModel, possibly in mixed precision
    """
    logits, state = model(ids, state)
    return cross_entropy(logits, as_array(targets, device=logits.device), reduction=reduction), state
