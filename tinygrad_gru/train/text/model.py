"""A character-level language model: embedding, recurrent layers, linear output."""

from __future__ import annotations

from typing import Any

from ...backend import as_array
from ...nn import GRU, LSTM, RNN, Dropout, Embedding, Linear, Module
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
    cell          "gru", "lstm" or "rnn"

    >>> model = train.CharacterModel(50, embedding=8, hidden=16)
    >>> logits, state = model(np.zeros((10, 4), int))
    >>> logits.shape, state.shape
    ((10, 4, 50), (1, 4, 16))
    """

    def __init__(
        self,
        num_symbols: int,
        embedding: int = 64,
        hidden: int = 192,
        layers: int = 1,
        dropout: float = 0.0,
        cell: str = "gru",
    ) -> None:
        if cell not in CELLS:
            raise ValueError(f"unknown cell {cell!r}: expected one of {', '.join(CELLS)}")
        self.embedding = Embedding(num_symbols, embedding)
        self.recurrence = CELLS[cell](embedding, hidden, num_layers=layers, dropout=dropout if layers > 1 else 0.0)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden, num_symbols)

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


def prediction_loss(
    model: Module, ids: Any, targets: Any, state: Any = None, reduction: str = "mean"
) -> tuple[Tensor, Any]:
    """The cross-entropy (nats/char) of predicting `targets` (T, B) from `ids`, and the state that `model` returns.

    model  a CharacterModel, possibly in mixed precision
    """
    logits, state = model(ids, state)
    return cross_entropy(logits, as_array(targets, device=logits.device), reduction=reduction), state
