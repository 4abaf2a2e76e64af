"""Indexing: gather from an array, and scatter-add to it.

The cotangent of an indexed array is zero elsewhere. It is accumulated as a `Sparse` sum of pieces and scattered into a
dense array once, so that the backward of T slices of a tensor costs T small pieces; repeated indices add up.
"""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np

from ...arguments import respelling
from ...backend import CheckedIndex, as_dtype, astype, backend_of, check_ids, copy_of, xp_of
from ...backend import scatter_add as add_at
from ...backend.duck_array import DuckArray, DuckNamespace
from ...backend.numpy import HostArray
from ...cotangents import Sparse
from ..comparison import where
from ..op import op, unwrap
from ..precision import accumulate_in_float32
from .shape import normalize_axis


def getitem(x, index):
    """y = x[index]: integers, slices, None, …, boolean and integer arrays        ∂L/∂x = g at those indices, else 0

    >>> ops.getitem(Tensor([[1.0, 2.0], [3.0, 4.0]]), (0, slice(None)))
    Tensor([1., 2.], dtype=float32)
    """
    parts = index if isinstance(index, tuple) else (index,)
    if all(map(_is_basic, parts)):
        # With `...` one element is a 0-d array, not NumPy's scalar; the array API requires it where axes are left over.
        return _slice(x, index=parts if Ellipsis in parts else (*parts, Ellipsis))
    if any(isinstance(part, np.integer) for part in parts):
        return getitem(x, index=tuple(int(part) if isinstance(part, np.integer) else part for part in parts))
    return _advanced_index(x, index=_index_arrays(parts, x))


def _is_basic(part):
    return part is None or part is Ellipsis or isinstance(part, (int, slice))


def _index_arrays(parts, x):
    """The parts of an index, with lists and Tensors as arrays on the backend of x."""
    backend = backend_of(unwrap(x))

    def entry(part):
        part = unwrap(part)
        if _is_basic(part):
            return part
        if hasattr(part, "dtype"):
            return copy_of(part) if len(part.shape) else part  # the user may overwrite the array with the next batch
        array = backend.asarray(part)
        return array if math.prod(array.shape) else astype(array, "int64")  # an empty list has no dtype

    return tuple(map(entry, parts))


@op
def _slice(x, *, index):
    """y = x[index]        ∂L/∂x = g at the index, else 0"""
    return x[index]


@op
def _advanced_index(x, *, index):
    """y = x[index], where arrays index        ∂L/∂x = g added at the indices, else 0"""
    return _backend_of(x, *index).advanced_index(x, index)


def _backend_of(x, *others):
    """The backend of x, or of a duck array beside it: a traced array among arrays decides."""
    return backend_of(next((other for other in others if isinstance(other, DuckArray)), x))


@op
@accumulate_in_float32
def _scatter(*xs, shape, indices):
    """y = zeros of `shape` to which each xᵢ is added at its index        ∂L/∂xᵢ = g[indexᵢ]"""
    return backend_of(xs[0]).scatter(shape, indices, xs)


def _scatter_pieces(shape, pieces, base=None):
    if type(unwrap(base)) is HostArray and len(pieces) == 1 and base.dtype == pieces[0][1].dtype:  # no array of zeros
        return _scatter_add(base, pieces[0][1], index=pieces[0][0])
    total = _scatter(*(value for _, value in pieces), shape=shape, indices=[index for index, _ in pieces])
    return total if base is None else base + total


_scatter.vjp(xs=lambda g, i, indices: getitem(g, index=indices[i]))
_slice.vjp(x=lambda g, x_shape, index: Sparse(x_shape, [(index, g)], _scatter_pieces))
_advanced_index.vjp(x=lambda g, x_shape, index: Sparse(x_shape, [(index, g)], _scatter_pieces))


@respelling
def scatter_add(x, values, index):
    """y = x with `values` added at `index`; repeated indices add up        ∂L/∂x = g,  ∂L/∂values = g[index]

    >>> ops.scatter_add(Tensor([0.0, 0.0]), Tensor([1.0, 2.0, 4.0]), index=[0, 1, 1])
    Tensor([1., 6.], dtype=float32)
    """
    return _scatter_add(x, values, index=_index_arrays(index if isinstance(index, tuple) else (index,), x))


@op
@accumulate_in_float32
def _scatter_add(x, values, *, index):
    backend = _backend_of(x, values, *index)
    if isinstance(backend.xp, DuckNamespace):  # whose arrays nothing writes into
        return x + backend.scatter(x.shape, [index], [values])
    y = copy_of(x)
    add_at(y, index, values)
    return y


_scatter_add.vjp(x=lambda g: g,
                 values=lambda g, index: getitem(g, index=index))  # fmt: skip


@respelling
def take(x, indices, axis=0):
    """y = the slices of x at `indices` along `axis`; negative indices count from the end, others must exist

    >>> ops.take(Tensor([1.0, 2.0, 3.0]), [-1, 0])
    Tensor([3., 1.], dtype=float32)
    """
    axis = normalize_axis(axis, len(x.shape))
    return getitem(x, index=(slice(None),) * axis + (as_integers(indices, x, "indices"),))


@respelling
def gather(x, indices, axis):
    """yᵢⱼ = x at index indicesᵢⱼ along `axis`, at i, j along the others, where the indices may be shorter than x

    As in PyTorch; NumPy's take_along_axis repeats indices of length 1 along the others.

    >>> ops.gather(Tensor([[1.0, 2.0], [3.0, 4.0]]), [[1], [0]], axis=1)
    Tensor([[2.],
            [3.]], dtype=float32)
    """
    indices = as_integers(indices, x, "indices")
    if len(indices.shape) != len(x.shape):
        raise ValueError(f"gather: indices {indices.shape} and x {x.shape} must have the same number of axes")
    axis = normalize_axis(axis, len(x.shape))
    check_ids(indices, x.shape[axis], "indices")
    return gather_checked(x, indices, axis)


def gather_checked(x, indices, axis):
    """`gather` for an array of indices in bounds, along an axis ≥ 0"""
    backend, ndim = backend_of(indices), len(indices.shape)
    # One index array per axis; together they broadcast to the shape of `indices`.
    xp, arange = backend.xp, backend.arange
    grid = [
        copy_of(indices) if k == axis else xp.reshape(arange(n), (1,) * k + (n,) + (1,) * (ndim - k - 1))
        for k, n in enumerate(indices.shape)
    ]
    return _advanced_index(x, index=CheckedIndex(grid))


@respelling
def embedding(weight, ids, *, padding_idx=None):
    """y = the rows of `weight` (num_embeddings, embedding_dim) at `ids` (…), (…, embedding_dim)

    ∂L/∂weight = g scatter-added to those rows, but to row `padding_idx`, which stays as it is. Raises IndexError for an
    id outside 0 … num_embeddings − 1.

    >>> ops.embedding(Tensor([[0.0, 0.0], [1.0, 2.0]]), [1, 0, 1], padding_idx=0)
    Tensor([[1., 2.],
            [0., 0.],
            [1., 2.]], dtype=float32)
    """
    ids = as_integers(ids, weight, "ids")
    check_ids(ids, weight.shape[0], "ids")
    y = _advanced_index(weight, index=CheckedIndex((copy_of(ids),)))
    if padding_idx is None:
        return y
    n = weight.shape[0]
    if not isinstance(padding_idx, Integral) or not -n <= padding_idx < n:
        raise ValueError(f"embedding: padding_idx must be None or the id of one of the {n} rows, got {padding_idx!r}")
    return where((ids == int(padding_idx) % n)[..., None], unwrap(y), y)


@op
def one_hot(ids, *, depth, dtype="float32"):
    """y = 1 at index id of a new last axis of length `depth`, else 0        no gradient

    >>> ops.one_hot([1, 0], depth=3)
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    xp = xp_of(ids)
    ids = xp.asarray(ids)
    check_ids(ids, depth, "ids")
    return xp.astype(ids[..., None] == backend_of(ids).arange(depth), as_dtype(ids, dtype))


one_hot.vjp(ids=None)


def as_integers(ids, x, name):
    """`ids` as an array of integers on the backend of x."""
    ids = unwrap(ids)
    ids = ids if hasattr(ids, "dtype") else backend_of(unwrap(x)).asarray(ids)
    if not xp_of(ids).isdtype(ids.dtype, "integral"):
        raise TypeError(f"{name} must be integers, got {ids.dtype}")
    return ids
