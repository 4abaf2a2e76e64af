"""Shape ops, which move elements without changing them, and `astype`, which changes their dtype."""

from __future__ import annotations

from itertools import accumulate
from numbers import Integral

from ...arguments import arrays_of, respelling
from ...backend import as_dtype, backend_of, is_floating, xp_of
from ...backend.numpy import COMPLEX
from ..op import op, sum_to, unwrap


def normalize_axis(axis, ndim):
    """An axis as a number in 0 … ndim − 1; negative ones count from the end."""
    if not hasattr(axis, "__index__"):
        raise TypeError(f"axis: expected an integer, or a tuple of them where several are possible, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of bounds for an array of {ndim} axes")
    return axis % ndim


@op
def reshape(x, *, shape):
    """y = x in row-major order at another shape; one length may be −1        ∂L/∂x = g at x's shape

    >>> ops.reshape(Tensor([1.0, 2.0, 3.0, 4.0]), shape=(2, -1))
    Tensor([[1., 2.],
            [3., 4.]], dtype=float32)
    """
    return xp_of(x).reshape(x, shape)


reshape.vjp(x=lambda g, x_shape: reshape(g, shape=x_shape))


@op
def transpose(x, *, axes=None):
    """y = x with its axes in the order `axes` (reversed if None)        ∂L/∂x = g, permuted back

    >>> ops.transpose(Tensor(np.zeros((5, 2, 3))), axes=(1, 0, 2)).shape
    (2, 5, 3)
    """
    return xp_of(x).permute_dims(x, tuple(range(len(x.shape)))[::-1] if axes is None else axes)


def _transpose_rule(g, axes):
    if axes is None:
        return transpose(g)
    n = len(axes)
    return transpose(g, axes=tuple(sorted(range(n), key=lambda i: axes[i] % n)))


transpose.vjp(x=_transpose_rule)


@op
def matrix_transpose(x):
    """y = x with its last two axes exchanged        ∂L/∂x = gᵀ

    >>> ops.matrix_transpose(Tensor(np.zeros((5, 2, 3)))).shape
    (5, 3, 2)
    """
    return x.mT


matrix_transpose.vjp(x=lambda g: g.mT)


@op
def moveaxis(x, *, source, destination):
    """y = x with the axes `source` moved to the positions `destination`        ∂L/∂x = g, moved back

    >>> ops.moveaxis(Tensor(np.zeros((5, 2, 3))), source=0, destination=-1).shape
    (2, 3, 5)
    """
    return xp_of(x).moveaxis(x, source, destination)


moveaxis.vjp(x=lambda g, source, destination: moveaxis(g, source=destination, destination=source))


@op
def expand_dims(x, *, axis):
    """y = x with a new axis of length 1 at position `axis` (an integer or a tuple)        ∂L/∂x = g at x's shape

    >>> ops.expand_dims(Tensor([1.0, 2.0]), axis=1).shape
    (2, 1)
    """
    axes = axis if isinstance(axis, tuple) else (axis,)
    n = len(x.shape) + len(axes)
    positions = sorted(a % n if -n <= a < n else a for a in axes)
    if len({*positions}) < len(axes):
        raise ValueError(f"axis: {axis} names an axis twice")
    for position in positions:
        x = xp_of(x).expand_dims(x, axis=position)
    return x


expand_dims.vjp(x=lambda g, x_shape: reshape(g, shape=x_shape))


@op
def squeeze(x, *, axis=None):
    """y = x without the axes `axis` of length 1 (all of them if None)        ∂L/∂x = g at x's shape

    >>> ops.squeeze(Tensor([[1.0, 2.0]])).shape
    (2,)
    """
    if axis is None:
        axis = tuple(i for i, n in enumerate(x.shape) if n == 1)
    return xp_of(x).squeeze(x, axis=axis)


squeeze.vjp(x=lambda g, x_shape: reshape(g, shape=x_shape))


@op
def _concatenate(*xs, axis, ends):
    return xp_of(*xs).concat(xs, axis=axis)


def _index_along(axis, ndim, index):
    """The index tuple that applies `index` to one axis."""
    return (slice(None),) * normalize_axis(axis, ndim) + (index, ...)


_concatenate.vjp(xs=lambda g, i, axis, ends: g[_index_along(axis, len(g.shape), slice(ends[i], ends[i + 1]))])


@respelling
def concatenate(arrays, axis=0):
    """y = the arrays one after the other along `axis`        ∂L/∂xᵢ = the slice of g at xᵢ

    >>> ops.concatenate([Tensor([1.0, 2.0]), Tensor([3.0])])
    Tensor([1., 2., 3.], dtype=float32)
    """
    arrays = _at_least_one("concatenate", arrays)
    lengths = [x.shape[normalize_axis(axis, len(x.shape))] for x in arrays]
    return _concatenate(*arrays, axis=axis, ends=list(accumulate(lengths, initial=0)))


@op
def _stack(*xs, axis):
    return xp_of(*xs).stack(xs, axis=axis)


_stack.vjp(xs=lambda g, i, axis: g[_index_along(axis, len(g.shape), i)])


@respelling
def stack(arrays, axis=0):
    """y = the arrays, all of one shape, along a new axis        ∂L/∂xᵢ = g at index i of that axis

    >>> ops.stack([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])], axis=1)
    Tensor([[1., 3.],
            [2., 4.]], dtype=float32)
    """
    return _stack(*_at_least_one("stack", arrays), axis=axis)


def _at_least_one(name, arrays):
    if isinstance(arrays, (int, float)) or not hasattr(arrays, "__iter__"):
        raise TypeError(f"{name}: expected a list of arrays, got {arrays!r:.50}: write {name}([a, b])")
    arrays = arrays_of(arrays)
    if not arrays:
        raise ValueError(f"{name}: expected at least one array, got none")
    return arrays


@respelling
def split(x, sections, axis=0):
    """The parts of x along `axis`, a list: `sections` equal ones, or, given a list, those that end at its indices.

    >>> [part.shape for part in ops.split(Tensor(np.zeros((6, 2))), 3)]
    [(2, 2), (2, 2), (2, 2)]
    """
    n = x.shape[normalize_axis(axis, len(x.shape))]
    if isinstance(sections, Integral):
        if sections < 1 or n % sections:
            raise ValueError(f"split: axis {axis} of length {n} cannot be cut into {sections} equal parts")
        ends = [n // sections * (k + 1) for k in range(sections)]
    else:
        ends = [*sections, n]
    starts = [0, *ends[:-1]]
    return [x[_index_along(axis, len(x.shape), slice(start, end))] for start, end in zip(starts, ends)]


@respelling
def chunk(x, chunks, axis=0):
    """At most `chunks` parts of x along `axis`, a list, all of ⌈n / chunks⌉ elements but the last, as in PyTorch.

    >>> [part.shape for part in ops.chunk(Tensor(np.zeros((5, 2))), 2)]
    [(3, 2), (2, 2)]
    """
    n = x.shape[normalize_axis(axis, len(x.shape))]
    if not isinstance(chunks, Integral) or chunks < 1:
        raise ValueError(f"chunk: chunks must be an integer of at least 1, got {chunks!r}")
    size = -(-n // chunks)
    return split(x, list(range(size, n, size)) if n else chunks, axis=axis)


@op
def flip(x, *, axis=None):
    """y = x in reverse order along `axis` (all axes if None)        ∂L/∂x = g in reverse order

    >>> ops.flip(Tensor([1.0, 2.0, 3.0]))
    Tensor([3., 2., 1.], dtype=float32)
    """
    return xp_of(x).flip(x, axis=axis)


flip.vjp(x=lambda g, axis: flip(g, axis=axis))


@op
def pad(x, *, width, value=0.0):
    """y = x with `value` around it; `width` gives (before, after) for each axis        ∂L/∂x = g without the padding

    >>> ops.pad(Tensor([1.0, 2.0]), width=((1, 0),))
    Tensor([0., 1., 2.], dtype=float32)
    """
    fits = isinstance(width, (tuple, list)) and len(width) == len(x.shape)
    if not fits or any(not isinstance(pair, (tuple, list)) or len(pair) != 2 or min(pair) < 0 for pair in width):
        raise ValueError(
            f"width: expected (before, after), both ≥ 0, for each of the {len(x.shape)} axes, got {width!r}"
        )
    y = backend_of(x).zeros(tuple(before + n + after for (before, after), n in zip(width, x.shape)), x.dtype)
    y[...] = value
    y[_inner(width, x.shape)] = x
    return y


def _inner(width, shape):
    """The index of x within the padded array."""
    return (*(slice(before, before + n) for (before, _), n in zip(width, shape)), ...)


pad.vjp(x=lambda g, x_shape, width: g[_inner(width, x_shape)])


@op
def repeat(x, *, repeats, axis):
    """y = x with every element repeated `repeats` times along `axis`        ∂L/∂x = g summed over the repetitions

    >>> ops.repeat(Tensor([1.0, 2.0]), repeats=2, axis=0)
    Tensor([1., 1., 2., 2.], dtype=float32)
    """
    if not isinstance(repeats, Integral) or repeats < 0:
        raise ValueError(f"repeats: expected one integer ≥ 0 for all elements, got {repeats!r}")
    return xp_of(x).repeat(x, repeats, axis=axis)


def _repeat_rule(g, x_shape, repeats, axis):
    axis %= len(x_shape)
    by_repetition = reshape(g, shape=(*x_shape[: axis + 1], repeats, *x_shape[axis + 1 :]))
    return reshape(sum_to(by_repetition, shape=(*x_shape[: axis + 1], 1, *x_shape[axis + 1 :])), shape=x_shape)


repeat.vjp(x=_repeat_rule)


def astype(x, dtype):
    """y = x in another dtype        ∂L/∂x = g in x's dtype; integers and booleans are constants

    >>> ops.astype(Tensor([1.5, -1.5]), "int64")
    Tensor([ 1, -1], dtype=int64)
    """
    dtype = as_dtype(unwrap(x), dtype)
    if dtype in COMPLEX or getattr(unwrap(x), "dtype", None) in COMPLEX:
        raise TypeError("astype: expected real numbers, got complex ones")
    return (_cast if is_floating(dtype) else _truncate)(x, dtype=dtype)


@op
def _cast(x, *, dtype):
    return xp_of(x).astype(x, dtype)


@op
def _truncate(x, *, dtype):
    return xp_of(x).astype(x, dtype)


_cast.vjp(x=lambda g, x_dtype: astype(g, dtype=x_dtype))
_truncate.vjp(x=None)
