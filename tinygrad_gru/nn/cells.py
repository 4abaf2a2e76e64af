"""Recurrent cells: one step of time, as pure functions of the state and the input.

    carry = cell.step(carry, x)

A cell keeps no state. Its parameters are named as in the equations: W multiplies the input, U the state, b is added.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import backend_of
from ..ops import broadcast_to, sigmoid, tanh
from ..tensor import Tensor
from . import init
from .layers import check_sizes
from .module import Module, Parameter


class Cell(Module):
    """A recurrent cell: a subclass makes its parameters and gives `step`, and names its states if it has several.

    input_size, hidden_size  features of x, and of each state
    bias                     whether there are b; without, they are 0
    learn_initial_state      the state before the first step is learned, from zeros on
    """

    states: tuple[str, ...] = ("h",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        learn_initial_state: bool = False,
        dtype: Any = "float32",
        device: Any = None,
    ):
        check_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.has_bias = input_size, hidden_size, bias
        self._dtype, self._device = dtype, device
        for state in self.states if learn_initial_state else ():
            setattr(self, f"{state}_0", self._vector(0.0))

    def new_W(self) -> Tensor:  # noqa: N802
        """A weight of the input, (input_size, hidden_size): Xavier uniform."""
        return Parameter(init.xavier_uniform(self.input_size, self.hidden_size), self._dtype, self._device)

    def new_U(self) -> Tensor:  # noqa: N802
        """A weight of the state, (hidden_size, hidden_size): orthogonal."""
        return Parameter(init.orthogonal(self.hidden_size, self.hidden_size), self._dtype, self._device)

    def new_b(self, start: float = 0.0) -> Any:
        """A bias, (hidden_size); the number 0 in a cell without them."""
        return self._vector(start) if self.has_bias else 0.0

    def _vector(self, start: float) -> Tensor:
        return Parameter(np.full(self.hidden_size, start), self._dtype, self._device)

    def step(self, carry: Any, x: Tensor) -> Any:
        """The next carry: from the last one (batch, hidden_size) and the input x (batch, input_size)."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    @property
    def weight(self) -> Tensor:
        """One of the weights: the cell computes where it lives and in its dtype."""
        return next(tensor for _, tensor in self.named_tensors())

    def initial_state(self, batch: int) -> Any:
        """The carry before the first step, for a batch of that size: zeros, or what was learned."""
        parts = tuple(self._initial(state, batch) for state in self.states)
        return parts if len(parts) > 1 else parts[0]

    def _initial(self, state: str, batch: int) -> Tensor:
        learned = getattr(self, f"{state}_0", None)
        shape = (batch, self.hidden_size)
        if learned is not None:
            return broadcast_to(learned, shape=shape)
        weight = self.weight
        return Tensor.at(backend_of(weight.data).zeros(shape, weight.dtype), None)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """One step by itself: x (batch, input_size) and a state, zeros if None, to the next state."""
        name, dtype = type(self).__name__, self.weight.dtype
        check_input(name, x, ("batch", "input_size"), self.input_size, dtype)
        batch = x.shape[0]
        if state is None:
            return self.step(self.initial_state(batch), x)
        for state_name, part in zip(self.states, state_parts(name, self.states, state)):
            check_part(
                state_name, part, (batch, self.hidden_size), "(batch, hidden_size)", dtype,
                "the state of another batch, such as a last, shorter one?",
            )  # fmt: skip
        return self.step(state, x)

    def describe(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class RNNCell(Cell):
    """h' = tanh(x W + h U + b)        (Elman 1990)"""

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()

    def step(self, h, x):
        return tanh(x @ self.W + h @ self.U + self.b)


class GRUCell(Cell):
    """r  = σ(x W_r + h U_r + b_r)                 reset gate
    z  = σ(x W_z + h U_z + b_z)                 update gate
    h̃  = tanh(x W_h + (r ⊙ h) U_h + b_h)        candidate
    h' = (1 − z) ⊙ h + z ⊙ h̃                    z → 1 remembers the new, z → 0 keeps the old

    (Chung et al. 2014; the reset gate acts before the product)
    """

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_r, self.W_z, self.W_h = self.new_W(), self.new_W(), self.new_W()
        self.U_r, self.U_z, self.U_h = self.new_U(), self.new_U(), self.new_U()
        self.b_r, self.b_z, self.b_h = self.new_b(), self.new_b(), self.new_b()

    def step(self, h, x):
        r = sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        h_tilde = tanh(x @ self.W_h + (r * h) @ self.U_h + self.b_h)
        return (1 - z) * h + z * h_tilde


class LSTMCell(Cell):
    """i  = σ(x W_i + h U_i + b_i)        input gate
    f  = σ(x W_f + h U_f + b_f)        forget gate
    g  = tanh(x W_g + h U_g + b_g)     candidate
    o  = σ(x W_o + h U_o + b_o)        output gate
    c' = f ⊙ c + i ⊙ g
    h' = o ⊙ tanh(c')

    (Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000). b_f starts at `forget_bias`: a cell that
    remembers until it has learned to forget (Jozefowicz et al. 2015).
    """

    states = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W_i, self.W_f, self.W_g, self.W_o = self.new_W(), self.new_W(), self.new_W(), self.new_W()
        self.U_i, self.U_f, self.U_g, self.U_o = self.new_U(), self.new_U(), self.new_U(), self.new_U()
        self.b_i, self.b_f, self.b_g, self.b_o = self.new_b(), self.new_b(forget_bias), self.new_b(), self.new_b()

    def step(self, carry, x):
        h, c = carry
        i = sigmoid(x @ self.W_i + h @ self.U_i + self.b_i)
        f = sigmoid(x @ self.W_f + h @ self.U_f + self.b_f)
        g = tanh(x @ self.W_g + h @ self.U_g + self.b_g)
        o = sigmoid(x @ self.W_o + h @ self.U_o + self.b_o)
        c = f * c + i * g
        return o * tanh(c), c


def check_input(layer: str, x: Tensor, layout: tuple[str, ...], size: int, dtype: Any) -> None:
    """Raise unless x has the axes of `layout`, the last of that size, and the dtype of the weights."""
    if x.ndim != len(layout) or x.shape[-1] != size:
        raise ValueError(
            f"{layer}: expected x ({', '.join(layout)}) with input_size {size}, got shape {tuple(x.shape)}"
        )
    if x.dtype != dtype:
        raise TypeError(
            f"{layer}: x is {x.dtype}, the weights are {dtype}: convert x (token ids need an Embedding first), or "
            "make the layer with that dtype"
        )


def state_parts(layer: str, names: tuple[str, ...], state: Any) -> tuple[Tensor, ...]:
    """The parts of a state, which is a Tensor if it has one name, else a tuple of a Tensor for each name."""
    parts = state if len(names) > 1 else (state,)
    if isinstance(parts, tuple) and len(parts) == len(names) and all(hasattr(part, "shape") for part in parts):
        return parts
    expected = f"the tuple ({', '.join(names)})" if len(names) > 1 else "a tensor"
    inside = f" of {', '.join(type(part).__name__ for part in state)}" if isinstance(state, (tuple, list)) else ""
    raise TypeError(f"state: {layer} needs {expected}, got {type(state).__name__}{inside}")


def check_part(name: str, part: Tensor, shape: tuple[int, ...], layout: str, dtype: Any, cause: str) -> None:
    """Raise unless a part of a state has that shape (it is never broadcast) and the dtype of the weights."""
    if tuple(part.shape) != shape:
        raise ValueError(f"state {name}: expected {layout} = {shape}, got {tuple(part.shape)} ({cause})")
    if part.dtype != dtype:
        raise TypeError(f"state {name}: expected {dtype}, as the weights are, got {part.dtype}: convert it")
