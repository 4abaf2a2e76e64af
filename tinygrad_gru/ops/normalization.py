"""Layer normalization."""

from __future__ import annotations

from .arithmetic import sqrt, square
from .reduction import mean
from .shape import astype


def layer_norm(x, weight=None, bias=None, *, eps=1e-5):
    """y = (x − μ) / √(σ² + eps) ⊙ weight + bias, μ and σ² over the last axis (Ba, Kiros & Hinton 2016)

    x (…, F), weight and bias (F), both optional. Half precision is normalized in float32, where squares have room.
    """
    narrow = str(x.dtype) if str(x.dtype) in ("float16", "bfloat16") else None
    x = x if narrow is None else astype(x, dtype="float32")
    centered = x - mean(x, axis=-1, keepdims=True)
    y = centered / sqrt(mean(square(centered), axis=-1, keepdims=True) + eps)
    y = y if narrow is None else astype(y, dtype=narrow)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias
