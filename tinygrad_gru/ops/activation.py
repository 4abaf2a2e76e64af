"""Activations, softmax and layer normalization."""

from __future__ import annotations

import math

from ..arguments import respelling
from ..backend import xp_of
from .comparison import where
from .elementwise import clip, exp, minimum, sqrt, square
from .op import op
from .precision import accumulate_in_float32, pairwise_sum, promote_integers, real_valued
from .reduction import mean
from .reduction import sum as sum_of

#: From here on σ(x) is 1 in every dtype.
_SATURATED = 40.0


@op
@real_valued
def sigmoid(x):
    """y = σ(x) = 1 / (1 + e⁻ˣ), computed as eˣ / (1 + eˣ), which cannot overflow        ∂L/∂x = g ⊙ y(1 − y)

    >>> ops.sigmoid(Tensor([0.0, 1.0])).numpy().round(3)
    array([0.5  , 0.731], dtype=float32)
    """
    xp = xp_of(x)
    e = xp.exp(xp.minimum(x, _SATURATED))
    return e / (1 + e)


sigmoid.vjp(x=accumulate_in_float32(lambda g, y: g * (y * (1 - y))))


@respelling
def log_sigmoid(x):
    """y = log σ(x) = −log(1 + e⁻ˣ), exact in both tails, where σ itself is 0 or 1

    >>> ops.log_sigmoid(Tensor([0.0, -100.0])).numpy().round(3)
    array([  -0.693, -100.   ], dtype=float32)
    """
    return -softplus(-x)


@op
def tanh(x):
    """y = tanh x        ∂L/∂x = g ⊙ (1 − y²)

    >>> ops.tanh(Tensor([0.0, 1.0])).numpy().round(3)
    array([0.   , 0.762], dtype=float32)
    """
    xp, x = promote_integers(x)
    return xp.tanh(x)


tanh.vjp(x=accumulate_in_float32(lambda g, y: g * (1 - y * y)))


@op
def relu(x):
    """y = max(x, 0)        ∂L/∂x = g where x > 0, else 0

    >>> ops.relu(Tensor([-1.0, 2.0]))
    Tensor([0., 2.], dtype=float32)
    """
    return xp_of(x).maximum(x, 0)


relu.vjp(x=lambda g, y: where(y > 0, g, 0.0))


@op
@real_valued
def leaky_relu(x, *, slope=0.01):
    """y = x where x > 0, else slope·x        ∂L/∂x = g where x > 0, else slope·g

    >>> ops.leaky_relu(Tensor([-1.0, 2.0]), slope=0.1)
    Tensor([-0.1,  2. ], dtype=float32)
    """
    return xp_of(x).where(x > 0, x, slope * x)


leaky_relu.vjp(x=accumulate_in_float32(lambda g, x, slope: where(x > 0, g, slope * g)))


@op
@real_valued
def elu(x, *, alpha=1.0):
    """y = x where x > 0, else α(eˣ − 1)        ∂L/∂x = g where x > 0, else α eˣ ⊙ g

    >>> ops.elu(Tensor([-1.0, 2.0])).numpy().round(3)
    array([-0.632,  2.   ], dtype=float32)
    """
    xp = xp_of(x)
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


elu.vjp(x=accumulate_in_float32(lambda g, x, alpha: where(x > 0, g, g * alpha * exp(minimum(x, 0.0)))))


@op
@real_valued
def softplus(x):
    """y = log(1 + eˣ), computed as max(x, 0) + log(1 + e^−|x|)        ∂L/∂x = g ⊙ σ(x)

    >>> ops.softplus(Tensor([0.0, 100.0])).numpy().round(3)
    array([  0.693, 100.   ], dtype=float32)
    """
    xp = xp_of(x)
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


softplus.vjp(x=accumulate_in_float32(lambda g, x: g * sigmoid(x)))


@op
@real_valued
def silu(x):
    """y = x σ(x), also called swish        ∂L/∂x = g ⊙ σ(x) (1 + x σ(−x))

    >>> ops.silu(Tensor([0.0, 1.0])).numpy().round(3)
    array([0.   , 0.731], dtype=float32)
    """
    return x * sigmoid(x)


@accumulate_in_float32
def _silu_rule(g, x):
    return g * (sigmoid(x) * (1 + x * sigmoid(-x)))


silu.vjp(x=_silu_rule)


@respelling
@real_valued
def gelu(x):
    """y = ½x (1 + tanh u) = x σ(2u), u = √(2/π)(x + 0.044715 x³): the tanh form of Hendrycks & Gimpel 2016

    >>> ops.gelu(Tensor([0.0, 1.0])).numpy().round(3)
    array([0.   , 0.841], dtype=float32)
    """
    near = clip(x, low=-20.0, high=20.0)  # σ is 0 or 1 beyond
    return x * sigmoid(math.sqrt(8 / math.pi) * (near + 0.044715 * near * near * near))


@op
@real_valued
def softmax(x, *, axis=-1):
    """yᵢ = e^xᵢ / Σⱼ e^xⱼ along `axis`        ∂L/∂x = y ⊙ (g − Σ g ⊙ y)

    >>> ops.softmax(Tensor([[0.0, 0.0], [0.0, 100.0]])).numpy().round(3)
    array([[0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """
    xp = xp_of(x)
    if 0 in x.shape:
        return xp.exp(x)  # empty
    exponentials = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return exponentials / pairwise_sum(exponentials, axis=axis, keepdims=True)


softmax.vjp(x=accumulate_in_float32(lambda g, y, axis: y * (g - sum_of(g * y, axis=axis, keepdims=True))))


@op
@real_valued
def log_softmax(x, *, axis=-1):
    """yᵢ = xᵢ − log Σⱼ e^xⱼ along `axis`        ∂L/∂x = g − e^y ⊙ Σ g

    >>> ops.log_softmax(Tensor([0.0, 100.0])).numpy().round(3)
    array([-100.,    0.], dtype=float32)
    """
    xp = xp_of(x)
    if 0 in x.shape:
        return xp.exp(x)  # empty
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(pairwise_sum(xp.exp(shifted), axis=axis, keepdims=True))


log_softmax.vjp(x=accumulate_in_float32(lambda g, y, axis: g - exp(y) * sum_of(g, axis=axis, keepdims=True)))


@respelling
@real_valued
def layer_norm(x, weight=None, bias=None, *, eps=1e-5):
    """y = (x − μ) / √(σ² + eps) ⊙ weight + bias, μ and σ² over the last axis (Ba, Kiros & Hinton 2016)

    x (…, F), weight and bias (F), both optional.

    >>> ops.layer_norm(Tensor([[1.0, 3.0], [10.0, 30.0]])).numpy().round(3)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    if isinstance(weight, (tuple, list)) and all(isinstance(n, int) for n in weight):  # PyTorch's normalized_shape
        raise TypeError(f"layer_norm: it is always over the last axis: leave {weight} out (weight is an array)")
    centered = x - mean(x, axis=-1, keepdims=True)
    y = centered / sqrt(mean(square(centered), axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias
