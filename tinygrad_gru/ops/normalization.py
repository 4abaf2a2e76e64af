"""Layer normalization."""

from __future__ import annotations

from .arithmetic import sqrt, square
from .precision import real_valued
from .reduction import mean


@real_valued
def layer_norm(x, weight=None, bias=None, *, eps=1e-5):
    """y = (x − μ) / √(σ² + eps) ⊙ weight + bias, μ and σ² over the last axis (Ba, Kiros & Hinton 2016)

    x (…, F), weight and bias (F), both optional.
    """
    centered = x - mean(x, axis=-1, keepdims=True)
    y = centered / sqrt(mean(square(centered), axis=-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias
