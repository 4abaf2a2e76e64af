"""The recurrent cells of the textbooks: RNN, GRU, LSTM and MGU, each the equations of its paper.

Keywords that change the equations, such as `reset_after` and `layer_norm`, are in cell_options.py.
"""

from __future__ import annotations

from typing import Any

from ..ops import sigmoid, tanh
from ..scan import pure
from .base.recurrent_docs import documented
from .cell_options import GRUOptions, LSTMOptions, MGUOptions, RNNOptions


@documented
class RNNCell(RNNOptions):
    """Elman's recurrent cell (Elman 1990):

        h' = tanh(x W + h U + b)

    >>> cell = nn.RNNCell(3, 8)
    >>> h = cell(np.ones((4, 3)))            # one step from the initial state
    >>> cell(np.ones((4, 3)), h).shape       # and the next
    (4, 8)
    """

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()
        self.new_gains()

    @pure
    def step(self, h, x):
        if self.has_options:
            return self.step_with_options(h, x)
        return tanh(x @ self.W + h @ self.U + self.b)


@documented
class GRUCell(GRUOptions):
    """Gated recurrent unit, the reset gate before the product (Chung et al. 2014):

        r  = σ(x W_r + h U_r + b_r)                 reset gate
        z  = σ(x W_z + h U_z + b_z)                 update gate
        h̃  = tanh(x W_h + (r ⊙ h) U_h + b_h)        candidate
        h' = (1 − z) ⊙ h + z ⊙ h̃                    z → 1 remembers the new, z → 0 keeps the old

    PyTorch's z is our 1 − z, and its reset gate acts after the product: `reset_after=True`.

    >>> cell = nn.GRUCell(3, 8)
    >>> h = cell(np.ones((4, 3)))            # one step from the initial state
    >>> cell(np.ones((4, 3)), h).shape       # and the next
    (4, 8)
    """

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_r, self.W_z, self.W_h = self.new_W(), self.new_W(), self.new_W()
        self.U_r, self.U_z, self.U_h = self.new_U(), self.new_U(), self.new_U()
        self.b_r, self.b_z, self.b_h = self.new_b(), self.new_b(), self.new_b()
        self.new_option_parameters()

    @pure
    def step(self, h, x):
        if self.has_options:
            return self.step_with_options(h, x)
        r = sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        h_tilde = tanh(x @ self.W_h + (r * h) @ self.U_h + self.b_h)
        return (1 - z) * h + z * h_tilde


@documented
class LSTMCell(LSTMOptions):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000):

        i  = σ(x W_i + h U_i + b_i)        input gate
        f  = σ(x W_f + h U_f + b_f)        forget gate
        g  = tanh(x W_g + h U_g + b_g)     candidate
        o  = σ(x W_o + h U_o + b_o)        output gate
        c' = f ⊙ c + i ⊙ g
        h' = o ⊙ tanh(c')

    b_f starts at `forget_bias`: a cell that remembers until it has learned to forget (Jozefowicz et al. 2015).

    >>> cell = nn.LSTMCell(3, 8)
    >>> state = cell(np.ones((4, 3)))        # one step from the initial state
    >>> h, c = cell(np.ones((4, 3)), state)
    >>> h.shape, c.shape
    ((4, 8), (4, 8))
    """

    states = ("h", "c")
    keywords = ("forget_bias", *LSTMOptions.keywords)
    forget_bias = 1.0

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_i, self.W_f, self.W_g, self.W_o = self.new_W(), self.new_W(), self.new_W(), self.new_W()
        self.U_i, self.U_f, self.U_g, self.U_o = self.new_U(), self.new_U(), self.new_U(), self.new_U()
        self.b_i, self.b_f, self.b_g, self.b_o = self.new_b(), self.new_b(self.forget_bias), self.new_b(), self.new_b()
        self.new_option_parameters()

    @pure
    def step(self, carry, x):
        if self.has_options:
            return self.step_with_options(carry, x)
        h, c = carry
        i = sigmoid(x @ self.W_i + h @ self.U_i + self.b_i)
        f = sigmoid(x @ self.W_f + h @ self.U_f + self.b_f)
        g = tanh(x @ self.W_g + h @ self.U_g + self.b_g)
        o = sigmoid(x @ self.W_o + h @ self.U_o + self.b_o)
        c = f * c + i * g
        return o * tanh(c), c


@documented
class MGUCell(MGUOptions):
    """Minimal gated unit (Zhou et al. 2016):

        f  = σ(x W_f + h U_f + b_f)                 the one gate: forget, and reset
        h̃  = tanh(x W_h + (f ⊙ h) U_h + b_h)        candidate
        h' = (1 − f) ⊙ h + f ⊙ h̃

    >>> nn.MGUCell(3, 8)(np.ones((4, 3))).shape
    (4, 8)
    """

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_f, self.W_h = self.new_W(), self.new_W()
        self.U_f, self.U_h = self.new_U(), self.new_U()
        self.b_f, self.b_h = self.new_b(), self.new_b()
        self.new_gains()

    @pure
    def step(self, h, x):
        if self.has_options:
            return self.step_with_options(h, x)
        f = sigmoid(x @ self.W_f + h @ self.U_f + self.b_f)
        h_tilde = tanh(x @ self.W_h + (f * h) @ self.U_h + self.b_h)
        return (1 - f) * h + f * h_tilde
