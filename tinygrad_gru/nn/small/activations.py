"""Elementwise functions as modules, by PyTorch's names; a function of `ops` in a Sequential does the same."""

from __future__ import annotations

import math
from typing import Any

from ... import ops
from ...tensor import Tensor
from ..module import Module
from .of_ops import OfOps


class _Elementwise(OfOps):
    """A function of each element, without settings."""

    def __init__(self) -> None:
        """Without settings."""

    def forward(self, x: Tensor) -> Tensor:
        """y, of the shape of x."""
        return self.call(x)


class Identity(Module):
    """y = x, to take the place of a layer

    >>> nn.Identity()(Tensor([-1.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def forward(self, x: Any) -> Any:
        """x, of any kind."""
        return x


class ReLU(_Elementwise):
    """y = max(x, 0), as `ops.relu`

    >>> nn.ReLU()(Tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    function = ops.relu


class LeakyReLU(_Elementwise):
    """y = x where x > 0, else slope · x, as `ops.leaky_relu`

    >>> nn.LeakyReLU(0.5)(Tensor([-1.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    function = ops.leaky_relu

    def __init__(self, slope: float = 0.01):
        self.slope = slope


class ELU(_Elementwise):
    """y = x where x > 0, else alpha · (eˣ − 1), as `ops.elu`

    >>> nn.ELU(2.0)(Tensor([-100.0, 2.0])).tolist()
    [-2.0, 2.0]
    """

    function = ops.elu

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha


class Tanh(_Elementwise):
    """y = tanh x, as `ops.tanh`

    >>> nn.Tanh()(Tensor([0.0, 100.0])).tolist()
    [0.0, 1.0]
    """

    function = ops.tanh


class Sigmoid(_Elementwise):
    """y = 1 / (1 + e⁻ˣ), as `ops.sigmoid`; a loss takes logits instead, see `BCEWithLogitsLoss`

    >>> nn.Sigmoid()(Tensor([0.0, 100.0])).tolist()
    [0.5, 1.0]
    """

    function = ops.sigmoid


class SiLU(_Elementwise):
    """y = x σ(x), also called swish, as `ops.silu`

    >>> nn.SiLU()(Tensor([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """

    function = ops.silu


class GELU(_Elementwise):
    """y ≈ x Φ(x) in its tanh form, as `ops.gelu`; PyTorch's default, with the error function, differs by up to 5e-4

    approximate  "tanh", the only form here

    >>> nn.GELU()(Tensor([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """

    function = ops.gelu

    def __init__(self, approximate: str = "tanh"):
        if approximate != "tanh":
            raise ValueError(f"approximate: expected 'tanh', the only form here, got {approximate!r}")


class Softplus(_Elementwise):
    """y = log(1 + eˣ), as `ops.softplus`

    >>> nn.Softplus()(Tensor([-200.0, 100.0])).tolist()
    [0.0, 100.0]
    """

    function = ops.softplus


class _AlongAxis(_Elementwise):
    """A function along an axis: `axis`, or by PyTorch's name `dim`."""

    def __init__(self, axis: int = -1, *, dim: int | None = None):
        self.axis = axis if dim is None else dim


class Softmax(_AlongAxis):
    """yᵢ = e^xᵢ / Σⱼ e^xⱼ along an axis, the last by default, as `ops.softmax`; losses take logits instead

    >>> nn.Softmax()(Tensor([[1.0, 1.0], [0.0, 200.0]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """

    function = ops.softmax


class LogSoftmax(_AlongAxis):
    """yᵢ = xᵢ − log Σⱼ e^xⱼ along an axis, the last by default, as `ops.log_softmax`

    >>> nn.LogSoftmax()(Tensor([[0.0, 100.0]])).tolist()
    [[-100.0, 0.0]]
    """

    function = ops.log_softmax


class Flatten(Module):
    """y = x with the axes from `start_dim` on as one, by default all but the first

    >>> nn.Flatten()(Tensor(np.zeros((2, 3, 4)))).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1):
        self.start_dim = start_dim

    def forward(self, x: Tensor) -> Tensor:
        """y (x₀, …, x_(start_dim − 1), product of the others)."""
        if not 0 <= self.start_dim < len(x.shape):
            raise ValueError(f"Flatten: start_dim {self.start_dim} is no axis of x {tuple(x.shape)}")
        return ops.reshape(x, shape=(*x.shape[: self.start_dim], math.prod(x.shape[self.start_dim :])))

    def describe(self) -> str:
        return "" if self.start_dim == 1 else f"start_dim={self.start_dim}"
