"""Losses. Those of probabilities take logits.

`reduction` is "mean" (the default: over all elements that count), "sum", or "none" (one loss per element). In half
precision they are computed in float32.
"""

from __future__ import annotations

import math

from ..backend import astype, backend_of, check_ids, is_floating, xp_of
from .activation import log_softmax, softplus
from .elementwise import absolute, log, maximum, minimum, not_equal, square, where
from .indexing import as_integers, gather_checked
from .op import unwrap
from .precision import in_float32, real_valued
from .reduction import mean, sum
from .shape import astype as recorded_astype
from .shape import expand_dims, squeeze


def _reduce(loss, reduction, counts=None):
    """The loss over all elements, or over those where `counts` is true."""
    if counts is not None:
        loss = where(counts, loss, 0.0)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return sum(loss)
    if reduction != "mean":
        raise ValueError(f"reduction: expected 'mean', 'sum' or 'none', got {reduction!r}")
    if counts is None:
        return mean(loss)
    return sum(loss / maximum(sum(astype(counts, loss.dtype)), 1.0))  # without a copy of the count to the host


def _array(targets, scores):
    """Targets, lists and scalars too, as an array on the backend of `scores`, floats in their dtype."""
    if hasattr(targets, "shape"):
        return targets
    scores = unwrap(scores)
    array = backend_of(scores).asarray(targets)
    return astype(array, scores.dtype) if is_floating(array.dtype) else array


def _matching_targets(name, predictions, targets):
    """The targets as an array of floats. Raises ValueError if it does not have the shape of the predictions."""
    targets = _array(targets, predictions)
    targets = in_float32(targets) if is_floating(targets.dtype) else recorded_astype(targets, dtype=predictions.dtype)
    if tuple(predictions.shape) != tuple(targets.shape):
        raise ValueError(
            f"{name}: predictions of shape {tuple(predictions.shape)} and targets of shape {tuple(targets.shape)} must "
            "have the same shape; broadcasting is nearly always a mistake here (a missing squeeze or reshape?)"
        )
    return targets


@real_valued
def mse(predictions, targets, *, reduction="mean"):
    """L = (p − t)², averaged over all elements"""
    return _reduce(square(predictions - _matching_targets("mse", predictions, targets)), reduction)


@real_valued
def mae(predictions, targets, *, reduction="mean"):
    """L = |p − t|, averaged over all elements"""
    return _reduce(absolute(predictions - _matching_targets("mae", predictions, targets)), reduction)


@real_valued
def huber(predictions, targets, *, delta=1.0, reduction="mean"):
    """L = ½e² where |e| ≤ δ, else δ(|e| − ½δ), e = p − t, averaged over all elements (Huber 1964)"""
    error = absolute(predictions - _matching_targets("huber", predictions, targets))
    near = minimum(error, delta)  # one formula for both branches, without the square of a large error
    return _reduce(near * (error - 0.5 * near), reduction)


@real_valued
def nll(log_probabilities, targets, *, ignore_index=None, reduction="mean"):
    """L = −log p[target], averaged over the targets that count

    log_probabilities (…, C), targets (…) class ids in 0 … C − 1. A target equal to `ignore_index` contributes
    nothing and is not counted; where none counts the mean is 0.
    """
    targets, counts = _class_ids("nll", log_probabilities, targets, ignore_index)
    return _reduce(-_score_of_target(log_probabilities, targets), reduction, counts)


@real_valued
def cross_entropy(logits, targets, *, ignore_index=None, label_smoothing=0.0, reduction="mean"):
    """L = −Σ_c q_c log softmax(logits)_c in nats, averaged over the targets that count

    logits (…, C); targets (…) are class ids, for which q is 1 at the target, or (…, C) are the probabilities q.
    Label smoothing ε takes (1 − ε) q + ε / C for q. A class id equal to `ignore_index` contributes nothing and is
    not counted; where none counts the mean is 0.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number in [0, 1], got {label_smoothing!r}")
    log_p, targets = log_softmax(logits, axis=-1), in_float32(_array(targets, logits))
    if tuple(targets.shape) == tuple(logits.shape) and not _is_integer(targets):
        if ignore_index is not None:
            raise ValueError("ignore_index requires class ids; with probabilities as targets set them to 0 instead")
        loss, counts = -sum(_weighted(targets, log_p), axis=-1), None
    else:
        targets, counts = _class_ids("cross_entropy", logits, targets, ignore_index)
        loss = -_score_of_target(log_p, targets)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * mean(log_p, axis=-1)
    return _reduce(loss, reduction, counts)


@real_valued
def binary_cross_entropy_with_logits(logits, targets, *, reduction="mean"):
    """L = log(1 + eˣ) − t x = −t log σ(x) − (1 − t) log(1 − σ(x)), averaged over all elements"""
    targets = _matching_targets("binary_cross_entropy_with_logits", logits, targets)
    # No difference of large numbers, so that small losses at large logits are exact.
    return _reduce((1 - targets) * softplus(logits) + targets * softplus(-logits), reduction)


@real_valued
def kl_divergence(log_q, p, *, reduction="mean"):
    """D(p‖q) = Σ_c p_c (log p_c − log q_c) over the last axis (0 log 0 = 0), averaged over the distributions

    log_q (…, C) the model's log-probabilities, p (…, C) the target's probabilities.
    """
    p = _matching_targets("kl_divergence", log_q, p)
    return _reduce(sum(p * log(where(p == 0, 1.0, p)) - _weighted(p, log_q), axis=-1), reduction)


def _weighted(p, log_q):
    """p log q, where 0 log 0 = 0"""
    impossible = (unwrap(p) == 0) & (unwrap(log_q) == -math.inf)
    return p * where(impossible, 0.0, log_q)


def _is_integer(targets):
    array = unwrap(targets)
    return xp_of(array).isdtype(array.dtype, "integral")


def _class_ids(name, scores, targets, ignore_index):
    """The targets as an array of class ids in bounds, and where they count (None: everywhere)."""
    targets = as_integers(targets, scores, "targets")
    if not scores.shape:
        raise ValueError(f"{name}: scores need an axis of classes, got a scalar")
    if tuple(targets.shape) != tuple(scores.shape[:-1]):
        raise ValueError(
            f"{name}: scores of shape {tuple(scores.shape)} (classes last) need targets of shape "
            f"{tuple(scores.shape[:-1])}, got {tuple(targets.shape)}"
        )
    counts = None if ignore_index is None else not_equal(targets, ignore_index)
    if counts is not None:
        targets = where(counts, targets, 0)
    check_ids(targets, scores.shape[-1], "targets")
    return targets, counts


def _score_of_target(scores, targets):
    """The score of each target, a class id in bounds."""
    return squeeze(gather_checked(scores, expand_dims(targets, axis=-1), len(targets.shape)), axis=-1)
