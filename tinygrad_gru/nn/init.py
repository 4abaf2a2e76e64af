"""Parameter initialisers: functions that return arrays of float64, which the parameter converts to its dtype.

They sample on the host, so that a seed gives the same values on every backend. A weight (fan_in, fan_out) is in our
orientation, (in, out).

    self.W = nn.Parameter(nn.init.orthogonal(4, 4), dtype="float32")
    with no_grad():
        layer.W[:] = nn.init.xavier_uniform(*layer.W.shape)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import random_stream
from ..hints import missing_name
from .base.hints import INIT

__all__ = ["he_normal", "he_uniform", "normal", "orthogonal", "uniform", "xavier_normal", "xavier_uniform", "zeros"]


def zeros(*shape: int) -> np.ndarray:
    """w = 0

    >>> nn.init.zeros(2, 3).shape
    (2, 3)
    """
    return np.zeros(shape)


def uniform(*shape: int, bound: float) -> np.ndarray:
    """w ~ U(−bound, bound)

    >>> w = nn.init.uniform(2, 3, bound=0.1)
    >>> w.shape, bool(abs(w).max() <= 0.1)
    ((2, 3), True)
    """
    return (2 * _sample("uniform", shape) - 1) * bound


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    """w ~ N(0, scale²)

    >>> f"{nn.init.normal(1000, 1000, scale=0.1).std():.2f}"
    '0.10'
    """
    return scale * _sample("normal", shape)


def xavier_uniform(fan_in: int, fan_out: int, gain: float = 1.0) -> np.ndarray:
    """w ~ U(−a, a), a = gain √(6 / (fan_in + fan_out)); preserves the variance of values and gradients (Glorot 2010)

    >>> f"{nn.init.xavier_uniform(300, 300).max():.2f}"
    '0.10'
    """
    return uniform(fan_in, fan_out, bound=gain * math.sqrt(6 / (fan_in + fan_out)))


def xavier_normal(fan_in: int, fan_out: int, gain: float = 1.0) -> np.ndarray:
    """w ~ N(0, s²), s = gain √(2 / (fan_in + fan_out)) (Glorot 2010)

    >>> f"{nn.init.xavier_normal(1000, 1000, gain=2).std():.3f}"
    '0.063'
    """
    return normal(fan_in, fan_out, scale=gain * math.sqrt(2 / (fan_in + fan_out)))


def he_uniform(fan_in: int, fan_out: int) -> np.ndarray:
    """w ~ U(−a, a), a = √(6 / fan_in); for relu (He 2015)

    >>> f"{nn.init.he_uniform(600, 100).max():.2f}"
    '0.10'
    """
    return uniform(fan_in, fan_out, bound=math.sqrt(6 / fan_in))


def he_normal(fan_in: int, fan_out: int) -> np.ndarray:
    """w ~ N(0, 2 / fan_in); for relu (He 2015)

    >>> f"{nn.init.he_normal(200, 1000).std():.2f}"
    '0.10'
    """
    return normal(fan_in, fan_out, scale=math.sqrt(2 / fan_in))


def orthogonal(rows: int, columns: int, gain: float = 1.0) -> np.ndarray:
    """w with orthonormal rows or columns, whichever are fewer: preserves the norm of a state (Saxe 2013)

    The Q of a normal matrix's QR, its signs fixed by R's diagonal so that it is uniform over all such matrices.

    >>> w = nn.init.orthogonal(4, 3)
    >>> np.allclose(w.T @ w, np.eye(3))
    True
    """
    q, r = np.linalg.qr(_sample("normal", (max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diagonal(r))
    return gain * (q if rows >= columns else q.T)


def _sample(distribution: str, shape: tuple[int, ...]) -> Any:
    return getattr(random_stream(), distribution)(shape, "float64", "numpy")


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, INIT, __all__)
