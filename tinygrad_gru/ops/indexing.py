"""Indexing: reading places of an array, and adding to them.

The cotangent of an index is zero outside the places that were read. It travels as a `Sparse` sum of pieces and is
made dense once, so that reading T slices of a tensor costs backward T small pieces, right with repeated indices.
"""

from __future__ import annotations

import math

import numpy as np

from ..backend import CheckedIndex, as_dtype, astype, backend_of, check_ids, copy_of, xp_of
from ..backend import scatter_add as add_at
from ..cotangents import Sparse
from .op import op, unwrap
from .precision import accumulate_in_float32
from .shape import axis_number


def getitem(x, *, index):
    """y = x[index]: integers, slices, None, …, boolean and integer arrays        ∂L/∂x = g at those places, else 0"""
    parts = index if isinstance(index, tuple) else (index,)
    if all(map(_is_basic, parts)):
        # With `...` one element is an array too, not NumPy's scalar, and the standard asks for one where axes are left.
        return _slice(x, index=parts if Ellipsis in parts else (*parts, Ellipsis))
    if any(isinstance(part, np.integer) for part in parts):
        return getitem(x, index=tuple(int(part) if isinstance(part, np.integer) else part for part in parts))
    return _pick(x, index=_entries(parts, x))


def _is_basic(part):
    return part is None or part is Ellipsis or isinstance(part, (int, slice))


def _entries(parts, x):
    """The parts of an index, with arrays on the backend of x for lists and Tensors."""
    home = backend_of(unwrap(x))

    def entry(part):
        part = unwrap(part)
        if _is_basic(part):
            return part
        if hasattr(part, "dtype"):
            return copy_of(part) if len(part.shape) else part  # the array may be filled with the next batch
        array = home.asarray(part)
        return array if math.prod(array.shape) else astype(array, "int64")  # an empty list says nothing of its dtype

    return tuple(map(entry, parts))


@op
def _slice(x, *, index):
    return x[index]


@op
def _pick(x, *, index):
    return backend_of(x).advanced_index(x, index)


@op
@accumulate_in_float32
def _place(*xs, shape, indices):
    """y = zeros of `shape` to which each xᵢ is added at its index        ∂L/∂xᵢ = g[indexᵢ]"""
    return backend_of(xs[0]).scatter(shape, indices, xs)


def _assemble(shape, pieces):
    return _place(*(value for _, value in pieces), shape=shape, indices=[index for index, _ in pieces])


_place.vjp(xs=lambda g, i, indices: getitem(g, index=indices[i]))
_slice.vjp(x=lambda g, x_shape, index: Sparse(x_shape, [(index, g)], _assemble))
_pick.vjp(x=lambda g, x_shape, index: Sparse(x_shape, [(index, g)], _assemble))


def scatter_add(x, values, *, index):
    """y = x with `values` added at `index`, as often as a place is named        ∂L/∂x = g,  ∂L/∂values = g[index]"""
    return _scatter_add(x, values, index=_entries(index if isinstance(index, tuple) else (index,), x))


@op
@accumulate_in_float32
def _scatter_add(x, values, *, index):
    y = copy_of(x)
    add_at(y, index, values)
    return y


_scatter_add.vjp(x=lambda g: g,
                 values=lambda g, index: getitem(g, index=index))  # fmt: skip


def take(x, indices, *, axis=0):
    """y = the slices of x at `indices` along `axis`; negative indices count from the end, others must exist"""
    axis = axis_number(axis, len(x.shape))
    return getitem(x, index=(slice(None),) * axis + (_integers(indices, x, "indices"),))


def gather(x, indices, *, axis):
    """yᵢⱼ = x at place indicesᵢⱼ along `axis` and i, j along the others (NumPy's take_along_axis)"""
    indices = _integers(indices, x, "indices")
    if len(indices.shape) != len(x.shape):
        raise ValueError(f"gather: indices of shape {indices.shape} for x of shape {x.shape}: one axis each is needed")
    axis = axis_number(axis, len(x.shape))
    check_ids(indices, x.shape[axis], "indices")
    return gather_checked(x, indices, axis)


def gather_checked(x, indices, axis):
    """`gather` for an array of indices that are known to exist, along the axis of that number"""
    home, ndim = backend_of(indices), len(indices.shape)
    # The full index: for every element of `indices` its place on all axes.
    grid = [
        copy_of(indices) if k == axis else home.xp.reshape(home.arange(n), (1,) * k + (n,) + (1,) * (ndim - k - 1))
        for k, n in enumerate(indices.shape)
    ]
    return _pick(x, index=CheckedIndex(grid))


def embedding(weight, ids):
    """y = the rows of `weight` (num_embeddings, embedding_dim) at `ids` (…), (…, embedding_dim)

    ∂L/∂weight = g added to the rows that were read. Raises IndexError for an id outside 0 … num_embeddings − 1.
    """
    ids = _integers(ids, weight, "ids")
    check_ids(ids, weight.shape[0], "ids")
    return _pick(weight, index=CheckedIndex((copy_of(ids),)))


@op
def one_hot(ids, *, depth, dtype="float32"):
    """y = 1 at place id of a new last axis of length `depth`, else 0        no gradient"""
    xp = xp_of(ids)
    ids = xp.asarray(ids)
    check_ids(ids, depth, "ids")
    return xp.astype(ids[..., None] == backend_of(ids).arange(depth), as_dtype(ids, dtype))


one_hot.vjp(ids=None)


def _integers(ids, x, name):
    """`ids` as an array of integers on the backend of x."""
    ids = unwrap(ids)
    ids = ids if hasattr(ids, "dtype") else backend_of(unwrap(x)).asarray(ids)
    if not xp_of(ids).isdtype(ids.dtype, "integral"):
        raise TypeError(f"{name} must be integers, got {ids.dtype}")
    return ids
