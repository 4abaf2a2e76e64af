"""The log-probability of a target, the part of the cross-entropy that is computed without an array of probabilities."""

from __future__ import annotations

import numpy as np

from ...backend import backend_of, copy_of
from ...backend.numpy import HostArray
from ..activation import log_softmax, softmax
from ..comparison import where
from ..movement.indexing import gather_checked
from ..movement.shape import expand_dims, squeeze
from ..op import op, unwrap
from ..reduction import sum as sum_of

#: Elements per tile: few enough for a tile to stay in the cache from its maximum to its sum.
_TILE = 65536


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
    flat = y.reshape(-1)
    for rows, part, ids in _tiles(x, targets):
        buffer = buffer[: len(part)] if buffer.size else np.empty_like(part)
        e = np.subtract(part, part.max(axis=-1, keepdims=True), out=buffer)
        score = e[np.arange(len(ids)), ids]
        flat[rows] = score - np.log(np.exp(e, out=e).sum(axis=-1))
    return y


@op
def _log_likelihood_gradient(g, x, targets):
    """y = g (1 at the target, else 0, − softmax(x))"""
    if type(x) is not HostArray:
        at_target = targets[..., None] == backend_of(x).arange(x.shape[-1])
        return where(at_target, g[..., None], 0.0) - g[..., None] * softmax(x)
    y, flat = np.empty(x.shape, x.dtype), g.reshape(-1)
    filled = y.reshape(-1, x.shape[-1])
    for rows, part, ids in _tiles(x, targets):
        e = np.subtract(part, part.max(axis=-1, keepdims=True), out=filled[rows])
        np.exp(e, out=e)
        e *= (-flat[rows] / e.sum(axis=-1))[:, None]
        e[np.arange(len(ids)), ids] += flat[rows]
    return y


_log_likelihood.vjp(x=lambda g, x, targets: _log_likelihood_gradient(g, x, targets),
                    targets=None)  # fmt: skip
_log_likelihood_gradient.vjp(
    g=lambda u, x, targets: score_of_target(u, unwrap(targets)) - sum_of(u * softmax(x), axis=-1),
    x=lambda u, g, x: -g[..., None] * softmax.rules["x"](u, softmax(x), axis=-1),
    targets=None,
)


def _tiles(x, targets):
    """Tiles of x, matrices of some of its rows, with the numbers of these rows and their targets."""
    if not x.size:
        return
    matrix, ids = x.reshape(-1, x.shape[-1]), targets.reshape(-1)
    tile = max(1, _TILE // x.shape[-1])
    for start in range(0, len(ids), tile):
        rows = slice(start, start + tile)
        yield rows, matrix[rows], ids[rows]
