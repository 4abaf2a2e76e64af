"""Recurrent cells: RNN, GRU, LSTM and MGU, each the equations of its paper.

Without keywords σ (`gate_activation`) is the sigmoid, φ (`activation`) and ψ (`output_activation`) are tanh, and
`affine("_r", x, h)` is x W_r + h U_r + b_r. What keywords change in them is in cell_options.py.
"""

from __future__ import annotations

from typing import Any

from ..scan import pure
from ..tensor import Tensor
from .cell_options import GatedCell, LSTMOptions, VariedCell


class RNNCell(VariedCell):
    """h' = φ(x W + h U + b)        (Elman 1990)

    By keyword also activation, clip, layer_norm, recurrent_dropout (see cell_options.py).
    """

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()
        self.new_gains()

    @pure
    def step(self, h, x):
        return self.activation(self.affine("", x, h))


class GRUCell(GatedCell):
    """r  = σ(x W_r + h U_r + b_r)                 reset gate
    z  = σ(x W_z + h U_z + b_z)                 update gate
    h̃  = φ(x W_h + (r ⊙ h) U_h + b_h)           candidate
    h' = (1 − z) ⊙ h + z ⊙ h̃                    z → 1 remembers the new, z → 0 keeps the old

    (Chung et al. 2014; the reset gate acts before the product.) By keyword also gate_activation, activation, clip,
    layer_norm, recurrent_dropout (see cell_options.py), and

    reset_after  the reset gate acts after the product: h̃ = φ(x W_h + b_h + r ⊙ (h U_h + c_h)), the form of Cho et al.
                 2014 (version 1), cuDNN, PyTorch and Keras; neither can be turned into the other
    """

    equation_keywords: tuple[str, ...] = ("reset_after", *GatedCell.equation_keywords)
    reset_after = False

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_r, self.W_z, self.W_h = self.new_W(), self.new_W(), self.new_W()
        self.U_r, self.U_z, self.U_h = self.new_U(), self.new_U(), self.new_U()
        self.b_r, self.b_z, self.b_h = self.new_b(), self.new_b(), self.new_b()
        self.new_gains()
        if self.reset_after:
            self.c_h = self.new_b()

    @pure
    def step(self, h, x):
        σ, φ = self.gate_activation, self.activation
        r = σ(self.affine("_r", x, h))
        z = σ(self.affine("_z", x, h))
        h_tilde = φ(self.affine_reset_after(x, h, r) if self.reset_after else self.affine("_h", x, r * h))
        return (1 - z) * h + z * h_tilde

    def affine_reset_after(self, x: Tensor, h: Tensor, r: Tensor) -> Tensor:
        """x W_h + b_h + r ⊙ (h U_h + c_h)"""
        from_x, from_h = self.products("_h", x, h)
        return from_x + self.b_h + r * (from_h + self.c_h)


class LSTMCell(LSTMOptions):
    """i  = σ(x W_i + h U_i + b_i)        input gate
    f  = σ(x W_f + h U_f + b_f)        forget gate
    g  = φ(x W_g + h U_g + b_g)        candidate
    o  = σ(x W_o + h U_o + b_o)        output gate
    c' = f ⊙ c + i ⊙ g
    h' = o ⊙ ψ(c')

    (Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000). b_f starts at `forget_bias`: a cell that
    remembers until it has learned to forget (Jozefowicz et al. 2015). By keyword also peephole, proj_size, coupled,
    gate_activation, activation, output_activation, clip, layer_norm, recurrent_dropout (see cell_options.py).
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
        h, c = carry
        σ, φ, ψ = self.gate_activation, self.activation, self.output_activation
        i = σ(self.affine("_i", x, h, c))
        f = 1 - i if self.coupled else σ(self.affine("_f", x, h, c))
        g = φ(self.affine("_g", x, h))
        c = f * c + i * g
        o = σ(self.affine("_o", x, h, c))
        return self.project(o * ψ(self.normalize(c))), c


class MGUCell(GatedCell):
    """f  = σ(x W_f + h U_f + b_f)                 the one gate: forget, and reset
    h̃  = φ(x W_h + (f ⊙ h) U_h + b_h)           candidate
    h' = (1 − f) ⊙ h + f ⊙ h̃

    (the minimal gated unit of Zhou et al. 2016). By keyword also gate_activation, activation, clip, layer_norm,
    recurrent_dropout (see cell_options.py).
    """

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_f, self.W_h = self.new_W(), self.new_W()
        self.U_f, self.U_h = self.new_U(), self.new_U()
        self.b_f, self.b_h = self.new_b(), self.new_b()
        self.new_gains()

    @pure
    def step(self, h, x):
        σ, φ = self.gate_activation, self.activation
        f = σ(self.affine("_f", x, h))
        h_tilde = φ(self.affine("_h", x, f * h))
        return (1 - f) * h + f * h_tilde
