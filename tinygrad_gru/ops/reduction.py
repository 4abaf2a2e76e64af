"""Reductions along axes. `axis` is an integer, a tuple, or None for all axes; `keepdims` keeps them with length 1."""

from __future__ import annotations

import math

import numpy as np

from ..arguments import respelling
from ..backend import dtype_name, is_floating, xp_of
from ..backend.numpy import DOUBLE, SINGLE, HostArray
from .comparison import where
from .elementwise import exp, sqrt, square
from .movement.ordering import argmax, argmin, first_extremum
from .movement.shape import astype, concatenate, flip, moveaxis, normalize_axis, reshape
from .op import broadcast_to, op
from .precision import accumulate_in_float32, pairwise_sum, real_valued


def _broadcast_back(g, shape, axis, keepdims):
    """A reduced array broadcast back to `shape` along the reduced axes."""
    if not keepdims:
        g = reshape(g, shape=_keepdims_shape(shape, axis))
    return broadcast_to(g, shape=shape)


def _axes(axis, ndim):
    axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    normalized = {normalize_axis(a, ndim) for a in axes}
    if len(normalized) < len(axes):
        raise ValueError(f"axis: {axis} names an axis twice")
    return normalized


def _keepdims_shape(shape, axis):
    axes = _axes(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _count(shape, axis):
    return math.prod(shape[i] for i in _axes(axis, len(shape)))


@op
@accumulate_in_float32
def sum(x, *, axis=None, keepdims=False):
    """y = Σ x        ∂L/∂x = g, repeated

    >>> ops.sum(Tensor([[1.0, 5.0], [7.0, 2.0]]), axis=1)
    Tensor([6., 9.], dtype=float32)
    """
    return pairwise_sum(x, axis=axis, keepdims=keepdims)


sum.vjp(x=lambda g, x_shape, axis, keepdims: _broadcast_back(g, x_shape, axis, keepdims))


@op
@real_valued
def mean(x, *, axis=None, keepdims=False):
    """y = Σ x / n        ∂L/∂x = g / n, repeated

    >>> ops.mean(Tensor([[1.0, 5.0], [7.0, 2.0]]), axis=0)
    Tensor([4. , 3.5], dtype=float32)
    """
    n = _count(x.shape, axis)
    if n == 0:
        raise ValueError(f"no elements to average over axis {axis} of shape {tuple(x.shape)}")
    return pairwise_sum(x, axis=axis, keepdims=keepdims) / n


_divide = accumulate_in_float32(lambda g, n: g / n)  # n may be beyond 65504, where float16 ends


def _mean_rule(g, x_shape, axis, keepdims):
    return _broadcast_back(_divide(g, _count(x_shape, axis)), x_shape, axis, keepdims)


mean.vjp(x=_mean_rule)


@respelling
@real_valued
def var(x, axis=None, keepdims=False, correction=0):
    """y = Σ (x − mean x)² / (n − correction); correction 0, NumPy's, is the population's; 1, PyTorch's, a sample's

    >>> ops.var(Tensor([1.0, 3.0]))
    Tensor(1., dtype=float32)
    """
    n = _count(x.shape, axis)
    if n <= correction:
        raise ValueError(f"var: too few elements over axis {axis} of {tuple(x.shape)} for correction {correction}")
    biased = mean(square(x - mean(x, axis=axis, keepdims=True)), axis=axis, keepdims=keepdims)
    return biased * (n / (n - correction)) if correction else biased


@respelling
@real_valued
def std(x, axis=None, keepdims=False, correction=0):
    """y = √var(x), with correction 0, NumPy's, or 1, PyTorch's; its gradient is not finite where the variance is 0

    >>> round(ops.std(Tensor([1.0, 3.0]), correction=1).item(), 3)
    1.414
    """
    return sqrt(var(x, axis=axis, keepdims=keepdims, correction=correction))


@respelling
def max(x, axis=None, keepdims=False, return_indices=False):
    """y = the largest element        ∂L/∂x = g at the largest element, shared evenly where several are equal

    With `return_indices` (values, indices of the first largest), for one axis or all; g then goes to those alone.

    >>> ops.max(Tensor([[1.0, 5.0], [7.0, 2.0]]), axis=1)
    Tensor([5., 7.], dtype=float32)
    """
    return first_extremum(x, argmax, axis, keepdims) if return_indices else _max(x, axis=axis, keepdims=keepdims)


@respelling
def min(x, axis=None, keepdims=False, return_indices=False):
    """y = the smallest element, as `max` has the largest        ∂L/∂x = g at the smallest element, shared likewise

    >>> ops.min(Tensor([[1.0, 5.0], [7.0, 2.0]]), axis=1, return_indices=True)
    (Tensor([1., 2.], dtype=float32), Tensor([0, 1], dtype=int64))
    """
    return first_extremum(x, argmin, axis, keepdims) if return_indices else _min(x, axis=axis, keepdims=keepdims)


@op
def _max(x, *, axis, keepdims):
    return xp_of(x).max(x, axis=axis, keepdims=keepdims)


@op
def _min(x, *, axis, keepdims):
    return xp_of(x).min(x, axis=axis, keepdims=keepdims)


@accumulate_in_float32
def _extremum_rule(g, y, x, axis, keepdims):
    is_extremum = x == _broadcast_back(y, x.shape, axis, keepdims)
    count = sum(astype(is_extremum, dtype=x.dtype), axis=axis, keepdims=True)
    return where(is_extremum, _broadcast_back(g, x.shape, axis, keepdims), 0.0) / count


_max.vjp(x=_extremum_rule)
_min.vjp(x=_extremum_rule)


@respelling
@accumulate_in_float32
def prod(x, axis=None, keepdims=False):
    """y = Π x by pairwise products, whose gradients are right where elements are 0; integers in 64 bits

    >>> ops.prod(Tensor([2.0, 3.0, 4.0]))
    Tensor(24., dtype=float32)
    """
    if not is_floating(x.dtype):
        x = astype(x, dtype="uint64" if dtype_name(x.dtype).startswith("uint") else "int64")
    axes = tuple(sorted(_axes(axis, len(x.shape))))
    rest = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    result_shape = _keepdims_shape(x.shape, axis) if keepdims else rest
    moved = moveaxis(x, source=axes, destination=tuple(range(len(axes))))
    factors = reshape(moved, shape=(_count(x.shape, axis), *rest))
    if not factors.shape[0]:
        factors = 1 + sum(factors, axis=0, keepdims=True)  # one factor: an empty sum is 0
    while (n := factors.shape[0]) > 1:
        products = factors[: n // 2, ...] * factors[n // 2 : n // 2 * 2, ...]
        factors = concatenate([products, factors[-1:, ...]]) if n % 2 else products
    return reshape(factors, shape=result_shape)


@op
@real_valued
def logsumexp(x, *, axis=None, keepdims=False):
    """y = log Σ eˣ, computed from x − max x; −inf where all x are, or there are none        ∂L/∂x = g ⊙ e^(x − y)

    >>> round(ops.logsumexp(Tensor([100.0, 100.0])).item(), 3)
    100.693
    """
    xp = xp_of(x)
    if 0 in x.shape:
        return xp.sum(x, axis=axis, keepdims=keepdims) - math.inf
    top = xp.max(x, axis=axis, keepdims=True)
    total = pairwise_sum(xp.exp(x - xp.where(xp.isfinite(top), top, 0.0)), axis=axis, keepdims=True)
    y = top + xp.log(xp.where(total == 0, 1.0, total))
    return y if keepdims else xp.squeeze(y, axis=tuple(_axes(axis, len(x.shape))))


@accumulate_in_float32
def _logsumexp_rule(g, y, x, axis, keepdims):
    p = exp(x - _broadcast_back(where(y == -math.inf, 0.0, y), x.shape, axis, keepdims))
    total = sum(p, axis=axis, keepdims=True)  # 1, but for the rounding of y
    return _broadcast_back(g, x.shape, axis, keepdims) * (p / where(total == 0, 1.0, total))


logsumexp.vjp(x=_logsumexp_rule)


@op
@accumulate_in_float32
def cumsum(x, *, axis):
    """yₜ = Σ_{s ≤ t} xₛ along `axis`        ∂L/∂xₜ = Σ_{s ≥ t} gₛ

    >>> ops.cumsum(Tensor([1.0, 2.0, 3.0]), axis=0)
    Tensor([1., 3., 6.], dtype=float32)
    """
    if type(x) is HostArray and x.dtype is SINGLE:  # NumPy adds one after the other, which in float32 loses digits
        return np.cumulative_sum(x, axis=axis, dtype=DOUBLE).astype(SINGLE)
    return xp_of(x).cumulative_sum(x, axis=axis)


cumsum.vjp(x=lambda g, axis: flip(cumsum(flip(g, axis=axis), axis=axis), axis=axis))


@respelling
def norm(x, p=2, axis=None, keepdims=False):
    """y = √Σ x², the Euclidean norm, which is that of p = 2        ∂L/∂x = g ⊙ x / y (0 where y = 0)

    >>> ops.norm(Tensor([3.0, 4.0]))
    Tensor(5., dtype=float32)
    """
    if p != 2:
        raise TypeError(f"norm: p must be 2, got {p!r}: write the formula of another norm; along an axis: axis=…")
    return _norm(x, axis=axis, keepdims=keepdims)


@op
@real_valued
def _norm(x, *, axis, keepdims):
    return xp_of(x).sqrt(pairwise_sum(x * x, axis=axis, keepdims=keepdims))


@accumulate_in_float32
def _norm_rule(g, y, x, axis, keepdims):
    y = _broadcast_back(y, x.shape, axis, keepdims)
    return _broadcast_back(g, x.shape, axis, keepdims) * x / where(y == 0, 1.0, y)


_norm.vjp(x=_norm_rule)
