"""The textbook cells with what was added to them since, by keyword.

`GRUCell(3, 4)` is the textbook's, in cells.py; `GRUCell(3, 4, reset_after=True)` is one of the cells here, which are
the same equations written for any activation σ, φ and ψ, and for a sum a(x, h) that can be more than x W + h U + b:

    a(x, h) = N(x W) + N((d ⊙ h) U) + b

activation, gate_activation, output_activation  φ of the candidate, σ of the gates, ψ of an LSTM's cell: names of
                   functions in `ops`, or functions
clip               bounds what σ and φ are given to −clip … clip (as ONNX has it)
layer_norm         N(y) = (y − μ) / √(v + 10⁻⁵) ⊙ gain, the mean and variance of each row of y over the units, with a
                   gain for every W and U that starts at 1; and in an LSTM ψ(N(c') + b_c) in place of ψ(c')
                   (Ba, Kiros & Hinton 2016; they normalize the gates joined together, here each gate is by itself).
                   Otherwise N(y) = y
recurrent_dropout  in training d is 0 with this probability, else 1 / (1 − p); drawn once a pass for every sequence and
                   unit, and the same at all steps and for all gates (Gal & Ghahramani 2016). It acts where the state
                   meets U, and not where the state is carried on. (Keras does so too, with a mask for every gate.)
                   Otherwise d = 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp_of
from ..ops.activation import dropout_mask
from ..scan import pure
from ..tensor import Tensor
from . import init
from .cell import Cell, variant_of
from .cells import GRUCell, LSTMCell, MGUCell, RNNCell
from .checks import check_probability, check_sizes
from .module import Parameter


def function_of(activation: str | Callable, keyword: str) -> Callable:
    """The function in ops of that name, or the function that was given."""
    function = getattr(ops, activation, None) if isinstance(activation, str) else activation
    if callable(function):
        return function
    raise ValueError(
        f"{keyword}: expected a function, or the name of one in ops, such as 'tanh' or 'relu'; got {activation!r}"
    )


def bounded(function: Callable, clip: float | None) -> Callable:
    """function(a), |a| ≤ clip"""
    return function if clip is None else lambda a: function(ops.clip(a, low=-clip, high=clip))


class VariedCell(Cell):
    """What the variants share, and a cell of one's own may: φ, which is `self.φ(y)`, and a(x, h).

    That is `self.affine("", x, h)` with W, U and b, and `self.affine("_r", x, h)` with W_r, U_r and b_r.
    """

    keywords = ("activation", "clip", "layer_norm", "recurrent_dropout", *Cell.keywords)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str | Callable = "tanh",
        clip: float | None = None,
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        **options: Any,
    ):
        if clip is not None and not clip > 0:
            raise ValueError(f"clip: expected a positive number or None, got {clip!r}")
        check_probability(recurrent_dropout=recurrent_dropout)
        super().__init__(input_size, hidden_size, **options)
        self.activation, self.clip, self.layer_norm = activation, clip, layer_norm
        self.recurrent_dropout = recurrent_dropout
        function_of(activation, "activation")  # what is none is an error here, not at the first step
        self._mask: Tensor | None = None
        self.new_gains()

    @property
    def φ(self) -> Callable:
        """The activation of the candidate, bounded."""
        return bounded(function_of(self.activation, "activation"), self.clip)

    def new_gains(self) -> None:
        """A gain for every W and U that was made so far, with `layer_norm`: a cell of one's own calls it after them."""
        for name in [name for name in vars(self) if name[0] in "WU"] if self.layer_norm else ():
            setattr(self, f"gain_{name}", self._vector(1.0))

    def affine(self, gate: str, x: Tensor, h: Tensor) -> Tensor:
        """a(x, h) of that gate, with its W, U and b."""
        return self.product(x, f"W{gate}") + self.product(self.thinned(h), f"U{gate}") + getattr(self, f"b{gate}")

    def product(self, y: Tensor, weight: str) -> Tensor:
        """N(y weight)"""
        y = y @ getattr(self, weight)
        return ops.layer_norm(y, getattr(self, f"gain_{weight}")) if self.layer_norm else y

    def thinned(self, h: Tensor) -> Tensor:
        """d ⊙ h"""
        return h if self._mask is None else h * self._mask

    @property
    def _thins(self) -> bool:
        """Whether d is other than 1."""
        return bool(self.training and self.recurrent_dropout)

    def drawn(self, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        if not self._thins:
            return ()
        size = self.state_sizes[0]
        mask = dropout_mask((shape[-1], size), self.recurrent_dropout, like=self.weight)
        return (
            Tensor.from_node(xp_of(mask).broadcast_to(mask, (*shape, size)), None),
        )  # every step sees the same numbers

    def with_drawn(self, reads: Iterator[Tensor]) -> Cell:
        if not self._thins:
            return self
        cell = copy(self)  # with the same weights
        cell._mask = next(reads)
        return cell


class VariedGatedCell(VariedCell):
    """σ besides."""

    keywords = ("gate_activation", *VariedCell.keywords)

    def __init__(
        self, input_size: int, hidden_size: int, *, gate_activation: str | Callable = "sigmoid", **options: Any
    ):
        super().__init__(input_size, hidden_size, **options)
        self.gate_activation = gate_activation
        function_of(gate_activation, "gate_activation")

    @property
    def σ(self) -> Callable:
        """The activation of the gates, bounded."""
        return bounded(function_of(self.gate_activation, "gate_activation"), self.clip)


@variant_of(RNNCell)
class VariedRNNCell(VariedCell, RNNCell):
    """h' = φ(a(x, h))"""

    @pure
    def step(self, h, x):
        return self.φ(self.affine("", x, h))


@variant_of(GRUCell)
class VariedGRUCell(VariedGatedCell, GRUCell):
    """r  = σ(a_r(x, h))
    z  = σ(a_z(x, h))
    h̃  = φ(a_h(x, r ⊙ h))                              the reset gate before the product
    h̃  = φ(N(x W_h) + b_h + r ⊙ (N(h U_h) + c_h))      after it, with `reset_after`
    h' = (1 − z) ⊙ h + z ⊙ h̃

    reset_after  the form of Cho et al. 2014 (version 1), cuDNN, PyTorch and Keras; neither can be turned into the other
    """

    keywords = ("reset_after", *VariedGatedCell.keywords)

    def __init__(self, input_size: int, hidden_size: int, *, reset_after: bool = False, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.reset_after = reset_after
        if reset_after:
            self.c_h = self.new_b()

    @pure
    def step(self, h, x):
        σ, φ = self.σ, self.φ
        r = σ(self.affine("_r", x, h))
        z = σ(self.affine("_z", x, h))
        if self.reset_after:
            inner = self.product(self.thinned(h), "U_h") + self.c_h
            h_tilde = φ(self.product(x, "W_h") + self.b_h + r * inner)
        else:
            h_tilde = φ(self.affine("_h", x, r * h))
        return (1 - z) * h + z * h_tilde


@variant_of(LSTMCell)
class VariedLSTMCell(VariedGatedCell, LSTMCell):
    """i  = σ(a_i(x, h) + p_i ⊙ c)
    f  = σ(a_f(x, h) + p_f ⊙ c)        or 1 − i, if `coupled`
    g  = φ(a_g(x, h))
    c' = f ⊙ c + i ⊙ g
    o  = σ(a_o(x, h) + p_o ⊙ c')
    h' = (o ⊙ ψ(c')) P

    peephole           the gates see the cell, unit by unit (Gers & Schmidhuber 2000); "full": every unit sees all of
                       it, c V_i in place of p_i ⊙ c, as in Chainer; without, p = 0
    proj_size          P (hidden_size, proj_size) makes h narrower than c (Sak et al. 2014), and every U
                       (proj_size, hidden_size); 0: without P
    coupled            the cell forgets just as much as it takes in (Greff et al. 2015). f has nothing to learn; b_i
                       starts at −forget_bias, which makes the same f in the beginning
    output_activation  ψ, which `clip` leaves alone (as onnxruntime does); None: φ
    """

    keywords = (
        "peephole", "proj_size", "coupled", "output_activation", *VariedGatedCell.keywords[:-1], *LSTMCell.keywords
    )  # fmt: skip

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        peephole: bool | str = False,
        proj_size: int = 0,
        coupled: bool = False,
        output_activation: str | Callable | None = None,
        **options: Any,
    ):
        if proj_size:
            check_sizes(proj_size=proj_size)
        if peephole not in (False, True, "full"):
            raise ValueError(f"peephole: expected False, True (unit by unit) or 'full', got {peephole!r}")
        self.peephole, self.proj_size, self.coupled = peephole, proj_size, coupled
        super().__init__(input_size, hidden_size, **options)
        self.output_activation = self.activation if output_activation is None else output_activation
        function_of(self.output_activation, "output_activation")
        if peephole == "full":
            self.V_i, self.V_f, self.V_o = self._new_V(), self._new_V(), self._new_V()
        elif peephole:
            self.p_i, self.p_f, self.p_o = self._vector(0.0), self._vector(0.0), self._vector(0.0)
        if coupled:
            for name in [name for name in vars(self) if name.endswith("_f")]:
                delattr(self, name)
            self.b_i = self.new_b(-self.forget_bias)
        if proj_size:
            self.P = Parameter(init.xavier_uniform(hidden_size, proj_size), self._dtype, self._device)
        if self.layer_norm:
            self.gain_c, self.b_c = self._vector(1.0), self.new_b()

    @property
    def ψ(self) -> Callable:
        """The activation of the output."""
        return function_of(self.output_activation, "output_activation")

    def _new_V(self) -> Tensor:  # noqa: N802
        """A weight of the cell, (hidden_size, hidden_size): zeros, like p."""
        return Parameter(np.zeros((self.hidden_size, self.hidden_size)), self._dtype, self._device)

    @property
    def state_sizes(self):
        return (self.proj_size or self.hidden_size, self.hidden_size)

    def gate(self, name: str, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """σ(a(x, h) + p ⊙ c)"""
        a = self.affine(name, x, h)
        if self.peephole:
            a = a + (c @ getattr(self, f"V{name}") if self.peephole == "full" else getattr(self, f"p{name}") * c)
        return self.σ(a)

    @pure
    def step(self, carry, x):
        h, c = carry
        i = self.gate("_i", x, h, c)
        f = 1 - i if self.coupled else self.gate("_f", x, h, c)
        g = self.φ(self.affine("_g", x, h))
        c = f * c + i * g
        o = self.gate("_o", x, h, c)
        seen = ops.layer_norm(c, self.gain_c) + self.b_c if self.layer_norm else c
        h = o * self.ψ(seen)
        return h @ self.P if self.proj_size else h, c


@variant_of(MGUCell)
class VariedMGUCell(VariedGatedCell, MGUCell):
    """f  = σ(a_f(x, h))
    h̃  = φ(a_h(x, f ⊙ h))
    h' = (1 − f) ⊙ h + f ⊙ h̃
    """

    @pure
    def step(self, h, x):
        f = self.σ(self.affine("_f", x, h))
        h_tilde = self.φ(self.affine("_h", x, f * h))
        return (1 - f) * h + f * h_tilde
