"""Losses."""

from __future__ import annotations

from .losses import binary_cross_entropy_with_logits, cross_entropy, huber, kl_divergence, mae, mse, nll
from .output_layer import linear_cross_entropy

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber",
    "kl_divergence",
    "linear_cross_entropy",
    "mae",
    "mse",
    "nll",
]
