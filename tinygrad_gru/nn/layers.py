"""Feed-forward layers: Linear, Embedding, Dropout, LayerNorm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..tensor import Tensor
from . import init
from .checks import check_probability, check_sizes
from .module import Module, Parameter


class Linear(Module):
    """y = x W + b        x (…, in_features), W (in_features, out_features), b (out_features)

    W and b are initialised with U(−a, a), a = 1/√in_features. x whose last axis is not in_features is a ValueError.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "float32", device: Any = None
    ):
        check_sizes(in_features=in_features, out_features=out_features)
        bound = 1 / math.sqrt(in_features)
        self.W = Parameter(init.uniform(in_features, out_features, bound=bound), dtype, device)
        self.b = Parameter(init.uniform(out_features, bound=bound), dtype, device) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        _check_last_axis("Linear", x, in_features=self.W.shape[0])
        return ops.linear(x, self.W, self.b)

    def describe(self) -> str:
        return f"{self.W.shape[0]}, {self.W.shape[1]}" + ("" if self.b is not None else ", bias=False")


class Embedding(Module):
    """y = W[ids]        ids (…) integers, W (num_embeddings, embedding_dim), y (…, embedding_dim)

    W is initialised with N(0, 1). An id out of range is an IndexError, ids of another dtype a TypeError.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: Any = "float32", device: Any = None):
        check_sizes(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.W = Parameter(init.normal(num_embeddings, embedding_dim), dtype, device)

    def forward(self, ids: Any) -> Tensor:
        return ops.embedding(self.W, ids)

    def describe(self) -> str:
        return f"{self.W.shape[0]}, {self.W.shape[1]}"


class Dropout(Module):
    """y = x ⊙ m / (1 − p) in training, m = 0 with probability p, else 1; y = x in evaluation. x of any shape"""

    def __init__(self, p: float = 0.5):
        check_probability(p=p)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, p=self.p, training=self.training)

    def describe(self) -> str:
        return f"p={self.p}"


class LayerNorm(Module):
    """y = (x − μ) / √(σ² + eps) ⊙ weight + bias        x (…, features), μ and σ² over the last axis

    weight (features) is initialised with 1, bias (features) with 0. x of another last axis is a ValueError.
    """

    def __init__(self, features: int, eps: float = 1e-5, dtype: Any = "float32", device: Any = None):
        check_sizes(features=features)
        self.weight = Parameter(np.ones(features), dtype, device)
        self.bias = Parameter(np.zeros(features), dtype, device)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        _check_last_axis("LayerNorm", x, features=self.weight.shape[0])
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)

    def describe(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


def _check_last_axis(layer: str, x: Tensor, **expected: int) -> None:
    ((name, size),) = expected.items()
    if not x.shape or x.shape[-1] != size:
        raise ValueError(f"{layer}: x has shape {tuple(x.shape)}, its last axis must have the {size} {name}")
