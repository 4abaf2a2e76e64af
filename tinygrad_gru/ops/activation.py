"""Activations: elementwise curves, and softmax."""

from __future__ import annotations

import math

from ..backend import xp_of
from .arithmetic import clip, exp, where
from .op import op, widened
from .reduction import sum as sum_of


@op
def sigmoid(x):
    """y = σ(x) = 1 / (1 + e⁻ˣ), computed as ½ tanh(½x) + ½: right at ±800 in float16 too        ∂L/∂x = g ⊙ y(1 − y)"""
    return 0.5 * xp_of(x).tanh(0.5 * x) + 0.5


sigmoid.vjp(x=lambda g, y: g * (y * (1 - y)))


@op
def tanh(x):
    """y = tanh x        ∂L/∂x = g ⊙ (1 − y²)"""
    return xp_of(x).tanh(x)


tanh.vjp(x=lambda g, y: g * (1 - y * y))


@op
def relu(x):
    """y = max(x, 0)        ∂L/∂x = g where x > 0, else 0"""
    return xp_of(x).maximum(x, 0)


relu.vjp(x=lambda g, y: where(y > 0, g, 0.0))


@op
def leaky_relu(x, *, slope=0.01):
    """y = x where x > 0, else slope·x        ∂L/∂x = g where x > 0, else slope·g"""
    return xp_of(x).where(x > 0, x, slope * x)


leaky_relu.vjp(x=lambda g, x, slope: where(x > 0, g, slope * g))


@op
def elu(x, *, alpha=1.0):
    """y = x where x > 0, else α(eˣ − 1)        ∂L/∂x = g where x > 0, else α eˣ ⊙ g"""
    xp = xp_of(x)
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


elu.vjp(x=lambda g, x, alpha: where(x > 0, g, g * alpha * exp(where(x > 0, 0.0, x))))


@op
def softplus(x):
    """y = log(1 + eˣ), computed as max(x, 0) + log(1 + e^−|x|)        ∂L/∂x = g ⊙ σ(x)"""
    xp = xp_of(x)
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


softplus.vjp(x=lambda g, x: g * sigmoid(x))


@op
def silu(x):
    """y = x σ(x), also called swish        ∂L/∂x = g ⊙ (s + y(1 − s)), s = σ(x)"""
    return x * sigmoid(x)


def _silu_rule(g, x):
    s = sigmoid(x)
    return g * (s + x * s * (1 - s))


silu.vjp(x=_silu_rule)


def gelu(x):
    """y = ½x (1 + tanh(√(2/π)(x + 0.044715 x³))), the tanh form of the paper (Hendrycks & Gimpel 2016, section 2)."""
    near = clip(x, low=-10.0, high=10.0)  # tanh is ±1 beyond, to the last bit, and x³ would overflow in float16
    return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (near + 0.044715 * near * near * near)))


@op
@widened
def softmax(x, *, axis=-1):
    """yᵢ = e^xᵢ / Σⱼ e^xⱼ along `axis`        ∂L/∂x = y ⊙ (g − Σ g ⊙ y)"""
    xp = xp_of(x)
    exponentials = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=axis, keepdims=True)


softmax.vjp(x=lambda g, y, axis: y * (g - sum_of(g * y, axis=axis, keepdims=True)))


@op
@widened
def log_softmax(x, *, axis=-1):
    """yᵢ = xᵢ − log Σⱼ e^xⱼ along `axis`        ∂L/∂x = g − e^y ⊙ Σ g"""
    xp = xp_of(x)
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


log_softmax.vjp(x=lambda g, y, axis: g - exp(y) * sum_of(g, axis=axis, keepdims=True))
