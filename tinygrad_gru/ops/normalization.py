"""Layer normalization."""

from __future__ import annotations

from ..backend import is_half
from .arithmetic import sqrt, square
from .reduction import mean
from .shape import astype


def layer_norm(x, weight=None, bias=None, *, eps=1e-5):
    """y = (x − μ) / √(σ² + eps) ⊙ weight + bias, μ and σ² over the last axis (Ba, Kiros & Hinton 2016)

    x (…, F), weight and bias (F), both optional. Half precision is normalized in float32, where squares have room.
    """
    dtype = x.dtype
    x = astype(x, dtype="float32") if is_half(dtype) else x
    centered = x - mean(x, axis=-1, keepdims=True)
    y = centered / sqrt(mean(square(centered), axis=-1, keepdims=True) + eps)
    y = astype(y, dtype=dtype) if is_half(dtype) else y
    y = y if weight is None else y * weight
    return y if bias is None else y + bias
