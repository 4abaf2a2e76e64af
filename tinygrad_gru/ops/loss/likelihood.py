"""The log-probability of a target, the part of the cross-entropy that is computed without an array of probabilities."""

from __future__ import annotations

import numpy as np

from ... import native
from ...backend import backend_of, copy_of
from ...backend.numpy import DOUBLE, SINGLE, HostArray
from ..activation import log_softmax, softmax
from ..comparison import where
from ..movement.indexing import gather_checked
from ..movement.shape import expand_dims, squeeze
from ..op import op, unwrap
from ..reduction import sum as sum_of

#: Elements per tile of NumPy, few enough for it to stay in the cache from its maximum to its sum; and of native code.
_TILE, _BLOCK = 65536, 4096
#: Elements from which on native code is worth it: NumPy has done with fewer before a library is loaded.
_LEAST_NATIVE = 32768
#: Both passes as loops over blocks of rows that fit the L1 cache. The exponentials of a block are one loop, for what
#: does not fill a vector at its end is slow. Sixteen partial maxima, which NaN does not reach, are one vector; NaN
#: reaches the sum.
_LOOPS = """
def forward(steps):
    rows, classes, block = steps[0], steps[1], steps[2]
    for b in range(steps[3]):
        first, count = b * block, min(block, rows - b * block)
        exponentials(count, classes, steps[4] + first * classes * {size}, steps[5], steps[6])
        for i in range(count):
            row = i * classes * {size}
            likelihood(
                classes, pointer_{real}(steps[4] + first * classes * {size} + row), pointer_{real}(steps[5]), i,
                pointer_{real}(steps[6] + row), pointer_int64(steps[7]), pointer_{real}(steps[8]), first + i,
            )

def likelihood(classes, x, tops, i, e, ids, y, n):
    total = {real}(0)
    for j in range(classes):
        total = plus(total, e[j])
    y[n] = x[ids[n]] - tops[16 + i] - log(total)

def backward(steps):
    rows, classes, block = steps[0], steps[1], steps[2]
    for b in range(steps[3]):
        first, count = b * block, min(block, rows - b * block)
        start = first * classes * {size}
        exponentials(count, classes, steps[4] + start, steps[5], steps[8] + start)
        for i in range(count):
            gradient(
                classes, pointer_int64(steps[6]), pointer_{real}(steps[7]), first + i,
                pointer_{real}(steps[8] + start + i * classes * {size}),
            )

def gradient(classes, ids, g, i, y):
    total = {real}(0)
    for j in range(classes):
        total = plus(total, y[j])
    factor = -g[i] / total
    for j in range(classes):
        y[j] = y[j] * factor
    y[ids[i]] = y[ids[i]] + g[i]

def exponentials(rows, classes, x, tops, y):
    for i in range(rows):
        row = i * classes * {size}
        shifted(classes, pointer_{real}(x + row), pointer_{real}(tops), i, pointer_{real}(y + row))
    exponential(rows * classes, pointer_{real}(y))

def exponential(n, y):
    for j in range(n):
        y[j] = exp_{real}(y[j])

def shifted(classes, x, tops, i, y):
    largest(classes, x, tops)
    tops[16 + i] = tops[0]
    top = tops[0]
    for j in range(classes):
        y[j] = x[j] - top

def largest(classes, x, tops):
    for k in range(16):
        tops[k] = {real}(-inf)
    for j in range(0, classes - 15, 16):
        for k in range(16):
            tops[k] = x[j + k] if x[j + k] > tops[k] else tops[k]
    if classes > 16:
        for k in range(16):
            tops[k] = x[classes - 16 + k] if x[classes - 16 + k] > tops[k] else tops[k]
    else:
        for j in range(classes):
            tops[0] = x[j] if x[j] > tops[0] else tops[0]
    for k in range(8):
        tops[k] = tops[k + 8] if tops[k + 8] > tops[k] else tops[k]
    for k in range(4):
        tops[k] = tops[k + 4] if tops[k + 4] > tops[k] else tops[k]
    for k in range(1, 4):
        tops[0] = tops[k] if tops[k] > tops[0] else tops[0]

def in_place(steps):
    rows, classes, block = steps[0], steps[1], steps[2]
    for b in range(steps[3]):
        first, count = b * block, min(block, rows - b * block)
        start = steps[4] + first * classes * {size}
        for i in range(count):
            row = pointer_{real}(start + i * classes * {size})
            score(classes, row, pointer_{real}(steps[6]), pointer_int64(steps[7]), pointer_{real}(steps[8]), first + i)
            largest(classes, row, pointer_{real}(steps[5]))
            subtracted(classes, row, pointer_{real}(steps[5]), pointer_{real}(steps[8]), first + i)
        exponential(count * classes, pointer_{real}(start))
        for i in range(count):
            row = pointer_{real}(start + i * classes * {size})
            normalized(
                classes, row, pointer_int64(steps[7]), pointer_{real}(steps[8]), pointer_{real}(steps[9]),
                pointer_{real}(steps[10]), first + i, steps[9] != 0,
            )

def score(classes, z, bias, ids, y, n):
    for j in range(classes):
        z[j] = z[j] + bias[j]
    y[n] = z[ids[n]]

def subtracted(classes, z, tops, y, n):
    top = tops[0]
    for j in range(classes):
        z[j] = z[j] - top
    y[n] = y[n] - top

def normalized(classes, z, ids, y, factors, sums, n, has_factors):
    total = {real}(0)
    for j in range(classes):
        total = plus(total, z[j])
    y[n] = y[n] - log(total)
    if has_factors:
        factor = -factors[n] / total
        for j in range(classes):
            z[j] = z[j] * factor
        z[ids[n]] = z[ids[n]] + factors[n]
        for j in range(classes):
            sums[j] = sums[j] + z[j]
"""


def score_of_target(scores, targets):
    """The score of each target, a class id in bounds."""
    return squeeze(gather_checked(scores, expand_dims(targets, axis=-1), len(targets.shape)), axis=-1)


def log_likelihood(logits, targets):
    """y = log softmax(logits)[target] (…), of float32 or float64 logits (…, C) and class ids (…) in bounds

    On the host neither forward nor backward has an array of the logits' shape besides them and their gradient.
    """
    return _log_likelihood(logits, copy_of(targets))  # the user may overwrite the ids with the next batch


@op
def _log_likelihood(x, targets):
    """y = log softmax(x)[target]        ∂L/∂x = g (1 at the target, else 0, − softmax(x))"""
    if type(x) is not HostArray:
        return score_of_target(log_softmax(x), targets)
    y, buffer = np.empty(x.shape[:-1], x.dtype), np.empty(0)
    block = np.empty(max(_BLOCK, x.shape[-1]), x.dtype)
    if _ran_natively("forward", x, block, targets.astype(np.int64), y):
        return y
    flat = y.reshape(-1)
    for rows, part, ids in _tiles(x, targets):
        buffer = buffer[: len(part)] if buffer.size else np.empty_like(part)
        e = np.subtract(part, part.max(axis=-1, keepdims=True), out=buffer)
        score = e[np.arange(len(ids)), ids]
        flat[rows] = score - np.log(np.exp(e, out=e).sum(axis=-1))
    return y


@op
def log_likelihood_gradient(g, x, targets):
    """y = g (1 at the target, else 0, − softmax(x))"""
    if type(x) is not HostArray:
        at_target = targets[..., None] == backend_of(x).arange(x.shape[-1])
        return where(at_target, g[..., None], 0.0) - g[..., None] * softmax(x)
    y, flat = np.empty(x.shape, x.dtype), g.reshape(-1)
    if _ran_natively("backward", x, targets.astype(np.int64), flat, y):
        return y
    filled = y.reshape(-1, x.shape[-1])
    for rows, part, ids in _tiles(x, targets):
        e = np.subtract(part, part.max(axis=-1, keepdims=True), out=filled[rows])
        np.exp(e, out=e)
        e *= (-flat[rows] / e.sum(axis=-1))[:, None]
        e[np.arange(len(ids)), ids] += flat[rows]
    return y


_log_likelihood.vjp(x=lambda g, x, targets: log_likelihood_gradient(g, x, targets),
                    targets=None)  # fmt: skip
log_likelihood_gradient.vjp(
    g=lambda u, x, targets: score_of_target(u, unwrap(targets)) - sum_of(u * softmax(x), axis=-1),
    x=lambda u, g, x: -g[..., None] * softmax.rules["x"](u, softmax(x), axis=-1),
    targets=None,
)


def likelihoods_in_place(z, bias, targets, factors, y):
    """y = log softmax(z + bias)[target], and factors · ∂y/∂z in the place of z; returns that summed over the rows.

    z (rows, C), targets int64 (rows,); factors (rows,), or None where what is left in z does not matter
    """
    rows, classes = z.shape
    sums = np.zeros(classes, z.dtype)
    if z.size >= _LEAST_NATIVE and not native.problem():
        block = max(1, _BLOCK // classes)
        loop = _native("in_place", z.dtype)
        given = 0 if factors is None else factors
        loop.on(rows, classes, block, -(-rows // block), z, np.empty(16, z.dtype), bias, targets, y, given, sums)
        return sums
    z += bias
    z -= z.max(axis=-1, keepdims=True)
    each = np.arange(rows)
    score = z[each, targets]
    total = np.exp(z, out=z).sum(axis=-1)
    np.subtract(score, np.log(total), out=y)
    if factors is not None:
        z *= (-factors / total)[:, None]
        z[each, targets] += factors
        sums += z.sum(axis=0)
    return sums


def _tiles(x, targets):
    """Tiles of x, matrices of some of its rows, with the numbers of these rows and their targets."""
    if not x.size:
        return
    matrix, ids = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    tile = max(1, _TILE // x.shape[-1])
    for start in range(0, len(ids), tile):
        rows = slice(start, start + tile)
        yield rows, matrix[rows], ids[rows]


def _ran_natively(name, x, *arrays):
    """Whether a native loop has made the pass: it is large enough, and llvmlite is installed.

    `arrays` are class ids, and of the dtype of x, which is compared with its byte order.
    """
    if x.size < _LEAST_NATIVE or (x.dtype != SINGLE and x.dtype != DOUBLE) or native.problem():
        return False
    if any(array.dtype != x.dtype and array.dtype != np.int64 for array in arrays):
        return False
    rows, classes = x.size // x.shape[-1], x.shape[-1]
    block = max(1, _BLOCK // classes)
    memory = map(np.ascontiguousarray, (x, np.empty(16 + block, x.dtype), *arrays))
    _native(name, x.dtype).on(rows, classes, block, -(-rows // block), *memory)
    return True


def _native(name, dtype):
    return native.function(_LOOPS.format(real=dtype.name, size=dtype.itemsize), name)
