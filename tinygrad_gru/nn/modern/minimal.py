"""minGRU and minLSTM: a GRU and an LSTM whose gates see the input alone."""

from __future__ import annotations

from typing import Any, ClassVar

from ...ops import log_sigmoid, sigmoid, where
from ...scan import pure
from ...tensor import Tensor
from ..base.recurrent_docs import documented
from ..cell import Cell

_POSITIVE = (
    "True: the candidate is g(x W_h + b_h), g(a) = a + ½ where a ≥ 0 and σ(a) elsewhere, so that the state stays "
    "positive (the paper's form for a scan of logarithms); False: the candidate is linear in x"
)
STARTS = """Every W starts Xavier uniform, U(−a, a) with a = √(6 / (input_size + hidden_size)), and every b at 0 (b_f at
forget_bias). The paper names no start."""


def positive(a: Tensor) -> Tensor:
    """g(a) = a + ½ where a ≥ 0, and σ(a) elsewhere: the positive candidate of Feng et al. 2024"""
    return where(a >= 0, a + 0.5, sigmoid(a))


@documented
class MinGRUCell(Cell):
    """Minimal GRU, whose gate and candidate see the input alone (Feng et al. 2024, "Were RNNs all we needed?"):

        z  = σ(x W_z + b_z)                         update gate
        h̃  = x W_h + b_h                            candidate; with `positive` g(x W_h + b_h)
        h' = (1 − z) ⊙ h + z ⊙ h̃                    z → 1 remembers the new, z → 0 keeps the old

    h' is linear in h, unit by unit. A GRU of the same sizes has three times W, U and b, this cell twice W and b.

    >>> cell = nn.MinGRUCell(3, 8)
    >>> h = cell(np.ones((4, 3)))            # one step from the initial state
    >>> cell(np.ones((4, 3)), h).shape       # and the next
    (4, 8)
    """

    equation_keywords = ("positive",)
    argument_texts: ClassVar[dict[str, str]] = {"positive": _POSITIVE}
    starts = STARTS
    positive = False

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_z, self.W_h = self.new_W(), self.new_W()
        self.b_z, self.b_h = self.new_b(), self.new_b()

    @pure
    def step(self, h, x):
        z = sigmoid(x @ self.W_z + self.b_z)
        h_tilde = x @ self.W_h + self.b_h
        if self.positive:
            h_tilde = positive(h_tilde)
        return (1 - z) * h + z * h_tilde


@documented
class MinLSTMCell(Cell):
    """Minimal LSTM, whose gates and candidate see the input alone (Feng et al. 2024, "Were RNNs all we needed?"):

        f  = σ(x W_f + b_f)                         forget gate
        i  = σ(x W_i + b_i)                         input gate
        h̃  = x W_h + b_h                            candidate; with `positive` g(x W_h + b_h)
        h' = (f ⊙ h + i ⊙ h̃) / (f + i)              without `normalized` f ⊙ h + i ⊙ h̃

    h' is linear in h, unit by unit. The gates' share f / (f + i) is computed as σ(log f − log i), which is right where
    both are nearly 0.

    >>> cell = nn.MinLSTMCell(3, 8, normalized=False)
    >>> h = cell(np.ones((4, 3)))            # one step from the initial state
    >>> cell(np.ones((4, 3)), h).shape       # and the next
    (4, 8)
    """

    equation_keywords = ("positive", "normalized")
    keywords = ("forget_bias", *Cell.keywords)
    argument_texts: ClassVar[dict[str, str]] = {
        "positive": _POSITIVE,
        "normalized": "whether the gates are divided by their sum, so that the size of h does not depend on time",
        "forget_bias": "at which b_f starts: the paper finds that more than 0 helps",
    }
    starts = STARTS
    positive = False
    normalized = True
    forget_bias = 0.0

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_f, self.W_i, self.W_h = self.new_W(), self.new_W(), self.new_W()
        self.b_f, self.b_i, self.b_h = self.new_b(self.forget_bias), self.new_b(), self.new_b()

    @pure
    def step(self, h, x):
        f, i = x @ self.W_f + self.b_f, x @ self.W_i + self.b_i
        h_tilde = x @ self.W_h + self.b_h
        if self.positive:
            h_tilde = positive(h_tilde)
        if self.normalized:
            f = sigmoid(log_sigmoid(f) - log_sigmoid(i))
            return f * h + (1 - f) * h_tilde
        return sigmoid(f) * h + sigmoid(i) * h_tilde
