"""sLSTM, the LSTM with exponential gates of xLSTM."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ...backend import astype, dtype_name
from ...ops import concatenate, exp, log_sigmoid, maximum, sigmoid, split, tanh
from ...scan import pure
from ...tensor import Tensor
from .. import init
from ..base.recurrent_docs import documented
from ..cell import Cell
from ..checks import check_sizes
from ..module import Parameter


@documented
class SLSTMCell(Cell):
    """LSTM with exponential gates, a normaliser n and a stabiliser m, and heads (sLSTM, Beck et al. 2024):

        z  = tanh(x W_z + h U_z + b_z)              candidate
        o  = σ(x W_o + h U_o + b_o)                 output gate
        log i = x W_i + h U_i + b_i                 input gate
        log f = log σ(x W_f + h U_f + b_f)          forget gate; 'exp': x W_f + h U_f + b_f
        m' = max(log f + m, log i)                  m and m' cancel in c' / n': they only keep exp in range
        c' = exp(log f + m − m') ⊙ c + exp(log i − m') ⊙ z
        n' = exp(log f + m − m') ⊙ n + exp(log i − m')
        h' = o ⊙ c' / n'

    U is block-diagonal: with `heads` the units of a head see the h of that head alone, and U is
    (heads, hidden_size / heads, hidden_size / heads). The paper has c = n = 0 and m = 0 before the first step; here m
    is lower than any log i, so that n' is 1 or more after it, whatever x is, and h' is the same. A learned initial
    state starts at n = 1. From c = n = 0 a factor of all exp(log i), exp(b_i), cancels in c' / n', too: the gradient of
    b_i is 0 but for rounding, and b_i without effect, unless a state goes in that is learned or of an earlier sequence.

    >>> cell = nn.SLSTMCell(3, 8, heads=2)
    >>> state = cell(np.ones((4, 3)))        # one step from the initial state
    >>> cell(np.ones((4, 3)), state)         # and the next
    State(h=(4, 8) float32, c=(4, 8) float32, n=(4, 8) float32, m=(4, 8) float32)
    >>> cell.U_z.shape
    (2, 4, 4)
    """

    states = ("h", "c", "n", "m")
    equation_keywords = ("forget_gate",)
    keywords = ("heads", "forget_bias")  # not zoneout: c and n are in units of exp(m)
    argument_texts: ClassVar[dict[str, str]] = {
        "heads": "blocks of the recurrent weights; hidden_size is a multiple of it",
        "forget_gate": "'sigmoid' or 'exp': the function of the forget gate",
        "forget_bias": "at which b_f starts",
    }
    starts = """Every W starts Xavier uniform, U(−a, a) with a = √(6 / (input_size + hidden_size)), every block of U
orthogonal, b_f at forget_bias and every other b at 0, as of `nn.LSTM`. The authors' library starts U at 0 and spreads
b_f over the units of a head, from 5 down to −7."""
    heads = 1
    forget_gate = "sigmoid"
    forget_bias = 1.0

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        if self.learns_initial_state:
            self.n_0 = self._vector(1.0)
        self.W_z, self.W_i, self.W_f, self.W_o = self.new_W(), self.new_W(), self.new_W(), self.new_W()
        self.U_z, self.U_i, self.U_f, self.U_o = self.new_U(), self.new_U(), self.new_U(), self.new_U()
        self.b_z, self.b_i, self.b_f, self.b_o = self.new_b(), self.new_b(), self.new_b(self.forget_bias), self.new_b()

    def check_settings(self) -> None:
        super().check_settings()
        check_sizes(heads=self.heads)
        if self.hidden_size % self.heads:
            raise ValueError(f"heads: expected a divisor of hidden_size, {self.hidden_size}, got {self.heads}")
        if self.forget_gate not in ("sigmoid", "exp"):
            raise ValueError(f"forget_gate: expected 'sigmoid' or 'exp', got {self.forget_gate!r}")

    def new_U(self) -> Tensor:  # noqa: N802
        """A recurrent weight, (heads, units, units) with hidden_size / heads units: orthogonal in every head."""
        units = self.hidden_size // self.heads
        blocks = np.stack([init.orthogonal(units, units) for _ in range(self.heads)])
        return Parameter(blocks, self._dtype, self._device)

    def _initial(self, state: str, shape: tuple[int, int], weight: Tensor) -> Tensor:
        start = super()._initial(state, shape, weight)
        if state != "m" or self.learns_initial_state:
            return start
        low = start.data - 2.0 ** (15 if dtype_name(weight.dtype) == "float16" else 100)
        return Tensor.from_node(astype(low, weight.dtype), None)  # a number beside bfloat16 makes float32

    @pure
    def step(self, carry, x):
        h, c, n, m = carry
        parts = split(h, self.heads, axis=-1)

        def by_heads(U):  # noqa: N803
            """h U, U block-diagonal"""
            products = [part @ U[k] for k, part in enumerate(parts)]
            return concatenate(products, axis=-1) if self.heads > 1 else products[0]

        z = tanh(x @ self.W_z + by_heads(self.U_z) + self.b_z)
        o = sigmoid(x @ self.W_o + by_heads(self.U_o) + self.b_o)
        log_i = x @ self.W_i + by_heads(self.U_i) + self.b_i
        log_f = x @ self.W_f + by_heads(self.U_f) + self.b_f
        if self.forget_gate == "sigmoid":
            log_f = log_sigmoid(log_f)
        before, m = log_f + m, maximum(log_f + m, log_i)
        f, i = exp(before - m), exp(log_i - m)
        c, n = f * c + i * z, f * n + i
        return o * c / n, c, n, m
