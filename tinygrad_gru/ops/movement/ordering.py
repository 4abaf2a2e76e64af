"""Ordering: argmax, argmin, sorting and the k largest. Of equal elements the first comes first, on every backend.

Indices have no gradient. Sorted values have: it goes to the elements that they were.
"""

from __future__ import annotations

from numbers import Integral

from ...arguments import respelling
from ...backend import xp_of
from ...backend.numpy import HostArray
from ..op import op
from ..precision import in_float32
from .indexing import gather, getitem
from .shape import expand_dims, normalize_axis, reshape, squeeze


@op
def argmax(x, *, axis=None):
    """y = the index of the first largest element along `axis` (of the flattened array if None)        no gradient

    >>> ops.argmax(Tensor([[1.0, 5.0], [7.0, 2.0]]), axis=1)
    Tensor([1, 0], dtype=int64)
    """
    return xp_of(x).argmax(x, axis=axis)


@op
def argmin(x, *, axis=None):
    """y = the index of the first smallest element along `axis` (of the flattened array if None)        no gradient

    >>> ops.argmin(Tensor([[1.0, 5.0], [7.0, 2.0]]), axis=1)
    Tensor([0, 1], dtype=int64)
    """
    return xp_of(x).argmin(x, axis=axis)


@op
def argsort(x, *, axis=-1, descending=False):
    """y = the indices that sort x along `axis`; NaN counts as larger than any number        no gradient

    >>> ops.argsort(Tensor([2.0, 3.0, 1.0]))
    Tensor([2, 0, 1], dtype=int64)
    """
    axis, xp = normalize_axis(axis, len(x.shape)), xp_of(x)
    stable = {"stable": True} if type(x) is HostArray else {}  # which is every other library's default
    x = in_float32(x)  # CuPy cannot sort bfloat16
    if not descending:
        return xp.argsort(x, axis=axis, **stable)
    # Reversed twice, so that of equal elements the first comes first here, too.
    return x.shape[axis] - 1 - xp.flip(xp.argsort(xp.flip(x, axis=axis), axis=axis, **stable), axis=axis)


for _indices in (argmax, argmin, argsort):
    _indices.vjp(x=None)


@respelling
def sort(x, axis=-1, descending=False):
    """y = x sorted along `axis`; NaN counts as larger than any number        ∂L/∂x = g at the elements they were

    >>> ops.sort(Tensor([2.0, 3.0, 1.0]), descending=True)
    Tensor([3., 2., 1.], dtype=float32)
    """
    return gather(x, argsort(x, axis=axis, descending=descending), axis=axis)


@respelling
def topk(x, k, axis=-1, largest=True):
    """(values, indices): the k largest (or smallest) elements along `axis`, the largest (smallest) first

    Both have the shape of x, but k along `axis`. ∂L/∂x = the cotangent of the values at the indices.

    >>> ops.topk(Tensor([2.0, 3.0, 1.0]), 2)
    (Tensor([3., 2.], dtype=float32), Tensor([1, 0], dtype=int64))
    """
    axis = normalize_axis(axis, len(x.shape))
    n = x.shape[axis]
    if not isinstance(k, Integral) or not 0 <= int(k) <= n:
        raise ValueError(f"topk: k must be an integer in 0 … {n}, the length of axis {axis} of x, got {k!r}")
    order = argsort(x, axis=axis, descending=largest)
    indices = getitem(order, index=(slice(None),) * axis + (slice(k), ...))
    return gather(x, indices, axis=axis), indices


def first_extremum(x, find, axis, keepdims):
    """(values, indices) of the extremes along one axis, where `find` is argmax or argmin."""
    if axis is None:
        x, axis, ndim = reshape(x, shape=(-1,)), 0, len(x.shape)
    else:
        axis, ndim = normalize_axis(axis, len(x.shape)), None
    indices = expand_dims(find(x, axis=axis), axis=axis)
    found = gather(x, indices, axis=axis), indices
    if keepdims:
        return found if ndim is None else tuple(reshape(y, shape=(1,) * ndim) for y in found)
    return tuple(squeeze(y, axis=axis) for y in found)
