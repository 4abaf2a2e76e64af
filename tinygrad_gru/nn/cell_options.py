"""Options of the cells: keywords that change their equations. The base classes of the cells in cells.py.

Each family has its equations here once more, in a form that any keyword may change: written with an activation φ, a
gate activation σ and a sum a(x, h). Without keywords φ is tanh, σ is the sigmoid, a(x, h) = x W + h U + b, and both
forms compute the same, bit for bit; `step` in cells.py takes the textbook's. With keywords

    a(x, h) = N(x W) + N((d ⊙ h) U) + b

activation, gate_activation, output_activation  φ of the candidate, σ of the gates, ψ of an LSTM's cell: names of
                   functions in `ops`, or functions
clip               bounds the argument of σ and φ to −clip … clip (as ONNX has it)
layer_norm         N(y) = (y − μ) / √(v + 10⁻⁵) ⊙ gain, the mean and variance of each row of y over the units, with a
                   gain for every W and U that starts at 1; and in an LSTM ψ(N(c') + b_c) instead of ψ(c')
                   (Ba, Kiros & Hinton 2016; they normalize the gates joined together, here each gate is by itself).
                   Otherwise N(y) = y
recurrent_dropout  in training the drop mask d is 0 with this probability, else 1 / (1 − p); sampled once per pass for
                   every sequence and unit, the same at all steps and for all gates (Gal & Ghahramani 2016). It acts
                   where the state meets U, and not where the state is carried on. (Keras does so too, with a mask for
                   every gate.) Otherwise d = 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import numpy as np

from .. import ops
from ..backend import xp_of
from ..hints import did_you_mean
from ..ops.sampling import dropout_mask
from ..scan import pure
from ..tensor import Tensor
from . import init
from .base.recurrent_docs import documented
from .base.recurrent_names import ACTIVATIONS
from .cell import Cell
from .checks import check_probability, check_sizes
from .module import Parameter

#: What `step_with_options` calls; the textbook's `step` does not.
_HOOKS = frozenset("activation gate_activation output_activation affine products gate step_with_options".split())


@documented
class VariedCell(Cell):
    """Recurrent cell with `activation`, `clip`, `layer_norm`, `recurrent_dropout`: a base class for users' cells too.

    `step` calls `self.activation(y)`, φ, and `self.affine("", x, h)`, a(x, h) with W, U and b, or
    `self.affine("_r", x, h)` with W_r, U_r and b_r. The constructor calls `new_gains` after it has created the weights.

    >>> class LeakyCell(nn.VariedCell):
    ...     def __init__(self, input_size, hidden_size, **options):
    ...         super().__init__(input_size, hidden_size, **options)
    ...         self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()
    ...         self.new_gains()
    ...
    ...     def step(self, h, x):
    ...         return 0.9 * h + 0.1 * self.activation(self.affine("", x, h))
    >>> LeakyCell(3, 8, layer_norm=True, activation="relu")(np.ones((4, 3))).shape
    (4, 8)
    """

    equation_keywords: tuple[str, ...] = ("activation", "clip", "layer_norm", "recurrent_dropout")
    clip: float | None = None
    layer_norm = False
    recurrent_dropout = 0.0
    _activation: str | Callable = "tanh"
    _drop_mask: Tensor | None = None
    _overrides_hooks = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        order = cls.__mro__
        textbook = next((base for base in order if "step" in vars(base)), cls)
        # A subclass that overrides a hook of a textbook's cell changes its equations, as keywords do.
        cls._overrides_hooks = any(not _HOOKS.isdisjoint(vars(base)) for base in order[: order.index(textbook)])

    def check_settings(self) -> None:
        super().check_settings()
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip: expected a positive number or None, got {self.clip!r}")
        check_probability(recurrent_dropout=self.recurrent_dropout)
        check_function("activation", self._activation)

    @property
    def has_options(self) -> bool:
        """Whether keywords, or a subclass, change the textbook's equations; recurrent dropout in training only."""
        is_varied = self._activation != "tanh" or self.clip is not None or self.layer_norm
        return is_varied or self._drop_mask is not None or self._overrides_hooks

    @property
    def activation(self) -> Callable:
        """φ, the activation of the candidate, its argument bounded by `clip`."""
        return bounded(self._activation, self.clip)

    def new_gains(self) -> None:
        """With `layer_norm`, create a gain for every existing W and U."""
        for name in [name for name in vars(self) if name[0] in "WU"] if self.layer_norm else ():
            setattr(self, f"gain_{name}", self._vector(1.0))

    def affine(self, gate: str, x: Tensor, h: Tensor) -> Tensor:
        """a(x, h) of a gate: x W + h U + b, with W, U and b of that gate, unless keywords change it"""
        from_x, from_h = self.products(gate, x, h)
        return from_x + from_h + getattr(self, "b" + gate)

    def products(self, gate: str, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """N(x W) and N((d ⊙ h) U)"""
        if self._drop_mask is not None:
            h = h * self._drop_mask
        from_x, from_h = x @ getattr(self, "W" + gate), h @ getattr(self, "U" + gate)
        if self.layer_norm:
            from_x = ops.layer_norm(from_x, getattr(self, "gain_W" + gate))
            from_h = ops.layer_norm(from_h, getattr(self, "gain_U" + gate))
        return from_x, from_h

    def sample_noise(self, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        if not (self.training and self.recurrent_dropout):
            return ()
        size = self.state_sizes[0]
        mask = dropout_mask((shape[-1], size), self.recurrent_dropout, like=self.weight)
        return (Tensor.from_node(xp_of(mask).broadcast_to(mask, (*shape, size)), None),)  # one mask for all steps

    def with_noise(self, noise: Iterator[Tensor]) -> Cell:
        if not (self.training and self.recurrent_dropout):
            return self
        cell = copy(self)  # with the same weights
        cell._drop_mask = next(noise)
        return cell


class GatedCell(VariedCell):
    """Base class of cells with gates: `gate_activation` besides."""

    equation_keywords: tuple[str, ...] = ("gate_activation", *VariedCell.equation_keywords)
    _gate_activation: str | Callable = "sigmoid"

    def check_settings(self) -> None:
        super().check_settings()
        check_function("gate_activation", self._gate_activation)

    @property
    def has_options(self) -> bool:
        return super().has_options or self._gate_activation != "sigmoid"

    @property
    def gate_activation(self) -> Callable:
        """σ, the activation of the gates, its argument bounded by `clip`."""
        return bounded(self._gate_activation, self.clip)


class RNNOptions(VariedCell):
    """h' = φ(a(x, h))"""

    @pure
    def step_with_options(self, h, x):
        return self.activation(self.affine("", x, h))


class GRUOptions(GatedCell):
    """r  = σ(a_r(x, h))
    z  = σ(a_z(x, h))
    h̃  = φ(a_h(x, r ⊙ h))                              the reset gate before the product
    h̃  = φ(N(x W_h) + b_h + r ⊙ (N(h U_h) + c_h))      after it, with `reset_after`
    h' = (1 − z) ⊙ h + z ⊙ h̃

    reset_after  the form of Cho et al. 2014 (version 1), cuDNN, PyTorch and Keras; neither can be turned into the other
    """

    equation_keywords: tuple[str, ...] = ("reset_after", *GatedCell.equation_keywords)
    reset_after = False
    b_h: Any

    @property
    def has_options(self) -> bool:
        return super().has_options or self.reset_after

    def new_option_parameters(self) -> None:
        """Create the parameters that keywords add, or remove, after those of the textbook's cell."""
        self.new_gains()
        if self.reset_after:
            self.c_h = self.new_b()

    @pure
    def step_with_options(self, h, x):
        σ, φ = self.gate_activation, self.activation
        r = σ(self.affine("_r", x, h))
        z = σ(self.affine("_z", x, h))
        if self.reset_after:
            from_x, from_h = self.products("_h", x, h)
            h_tilde = φ(from_x + self.b_h + r * (from_h + self.c_h))
        else:
            h_tilde = φ(self.affine("_h", x, r * h))
        return (1 - z) * h + z * h_tilde


class MGUOptions(GatedCell):
    """f  = σ(a_f(x, h))
    h̃  = φ(a_h(x, f ⊙ h))
    h' = (1 − f) ⊙ h + f ⊙ h̃
    """

    @pure
    def step_with_options(self, h, x):
        σ, φ = self.gate_activation, self.activation
        f = σ(self.affine("_f", x, h))
        h_tilde = φ(self.affine("_h", x, f * h))
        return (1 - f) * h + f * h_tilde


class LSTMOptions(GatedCell):
    """i  = σ(a_i(x, h) + p_i ⊙ c)
    f  = σ(a_f(x, h) + p_f ⊙ c)        or 1 − i, if `coupled`
    g  = φ(a_g(x, h))
    c' = f ⊙ c + i ⊙ g
    o  = σ(a_o(x, h) + p_o ⊙ c')
    h' = (o ⊙ ψ(N(c'))) P

    peephole           the gates see the cell, unit by unit (Gers & Schmidhuber 2000); "full": every unit sees all of
                       it, c V_i instead of p_i ⊙ c, as in Chainer; without, p = 0
    proj_size          P (hidden_size, proj_size) makes h narrower than c (Sak et al. 2014), and every U
                       (proj_size, hidden_size); 0: without P
    coupled            f = 1 − i, the cell forgets just as much as it takes in (Greff et al. 2015). f has no parameters;
                       b_i starts at −forget_bias, which gives the same f in the beginning
    output_activation  ψ, which `clip` leaves alone (as onnxruntime does); None: φ
    """

    equation_keywords: tuple[str, ...] = (
        "peephole",
        "proj_size",
        "coupled",
        "output_activation",
        *GatedCell.equation_keywords,
    )
    peephole: bool | str = False
    proj_size, coupled = 0, False
    _output_activation: str | Callable | None = None
    forget_bias: float

    @property
    def has_options(self) -> bool:
        changed = self.peephole or self.proj_size or self.coupled or self._output_activation not in (None, "tanh")
        return super().has_options or bool(changed)

    def check_settings(self) -> None:
        super().check_settings()
        if self._output_activation is not None:
            check_function("output_activation", self._output_activation)
        if self.proj_size:
            check_sizes(proj_size=self.proj_size)
        if self.peephole not in (False, True, "full"):
            raise ValueError(f"peephole: expected False, True (unit by unit) or 'full', got {self.peephole!r}")

    @property
    def output_activation(self) -> Callable:
        """ψ, the activation of the output."""
        return bounded(self._output_activation or self._activation, None)

    @property
    def state_sizes(self):
        return (self.proj_size or self.hidden_size, self.hidden_size)

    def new_option_parameters(self) -> None:
        """Create the parameters that keywords add, or remove, after those of the textbook's cell."""
        self.new_gains()
        if self.peephole == "full":
            self.V_i, self.V_f, self.V_o = self._new_V(), self._new_V(), self._new_V()
        elif self.peephole:
            self.p_i, self.p_f, self.p_o = self._vector(0.0), self._vector(0.0), self._vector(0.0)
        if self.coupled:
            for name in [name for name in vars(self) if name.endswith("_f")]:
                delattr(self, name)
            self.b_i = self.new_b(-self.forget_bias)
        if self.proj_size:
            self.P = Parameter(init.xavier_uniform(self.hidden_size, self.proj_size), self._dtype, self._device)
        if self.layer_norm:
            self.gain_c, self.b_c = self._vector(1.0), self.new_b()

    def _new_V(self) -> Tensor:  # noqa: N802
        """A weight of the cell, (hidden_size, hidden_size): zeros, like p."""
        return Parameter(np.zeros((self.hidden_size, self.hidden_size)), self._dtype, self._device)

    @pure
    def step_with_options(self, carry, x):
        h, c = carry
        i = self.gate("_i", x, h, c)
        f = 1 - i if self.coupled else self.gate("_f", x, h, c)
        g = self.activation(self.affine("_g", x, h))
        c = f * c + i * g
        o = self.gate("_o", x, h, c)
        normalized = ops.layer_norm(c, self.gain_c) + self.b_c if self.layer_norm else c
        h = o * self.output_activation(normalized)
        return h @ self.P if self.proj_size else h, c

    def gate(self, name: str, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """σ(a(x, h) + p ⊙ c)"""
        a = self.affine(name, x, h)
        if self.peephole:
            a = a + (c @ getattr(self, "V" + name) if self.peephole == "full" else getattr(self, "p" + name) * c)
        return self.gate_activation(a)


def bounded(activation: str | Callable, clip: float | None) -> Callable:
    """f(a), |a| ≤ clip, for a function f or the name of one in `ops`"""
    function = getattr(ops, activation) if isinstance(activation, str) else activation
    return function if clip is None else lambda a: function(ops.clip(a, low=-clip, high=clip))


def check_function(keyword: str, activation: Any) -> None:
    """Raise ValueError unless it is a function, or the name of one in `ops`."""
    function = getattr(ops, activation, None) if isinstance(activation, str) else activation
    if callable(function) and not isinstance(function, type):
        return
    if activation in ACTIVATIONS:
        raise ValueError(f"{keyword}: {activation!r} is here {ACTIVATIONS[activation]}")
    given = f"the class {activation.__name__}" if isinstance(activation, type) else repr(activation)
    close = did_you_mean(activation, ops.__all__) if isinstance(activation, str) else ""
    raise ValueError(
        f"{keyword}: expected a function, or the name of one in ops, such as 'tanh' or 'relu'; got {given}{close}"
    )
