"""Losses. Those of probabilities take logits.

`reduction` is "mean" (the default: over all elements that count), "sum", or "none" (one loss per element). A loss has
the dtype of the predictions; in half precision it is computed in float32.
"""

from __future__ import annotations

import math
from functools import wraps

from ..backend import astype, backend_of, check_ids, dtype_name, is_floating, is_half, xp_of
from ..tape import Variable
from .activation import log_softmax, softplus
from .comparison import not_equal, where
from .elementwise import absolute, log, minimum, square
from .movement.indexing import as_integers, gather_checked
from .movement.shape import astype as recorded_astype
from .movement.shape import expand_dims, squeeze
from .op import broadcast_to, unwrap
from .precision import in_float32, real_valued
from .reduction import mean, sum


def _reduce(loss, reduction, counts=None, weights=None):
    """The loss over all elements, or over those where `counts` is true; its mean is over their weights."""
    if counts is not None:
        loss = where(counts, loss, 0.0)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return sum(loss)
    if reduction != "mean":
        raise ValueError(f"reduction: expected 'mean', 'sum' or 'none', got {reduction!r}")
    if counts is None and weights is None:
        return mean(loss)
    if weights is None:
        weights = astype(counts, loss.dtype)
    elif counts is not None:
        weights = where(counts, weights, 0.0)
    total = sum(weights)  # without a copy of the count to the host
    return sum(loss / where(total == 0, 1.0, total))


def _loss(function):
    """Decorator for a loss: targets that are arrays or lists are converted to the dtype of the predictions.

    A Tensor of another floating dtype is refused, since a conversion would hide from where it comes.
    """
    compute = real_valued(function)

    @wraps(function)
    def loss(predictions, targets, **settings):
        dtype, other = (getattr(x, "dtype", None) for x in (predictions, targets))
        if not isinstance(targets, Variable):
            targets = _array(targets, predictions)
        elif not isinstance(predictions, Variable):
            dtype, predictions = other, _array(predictions, targets)
        elif is_floating(dtype) and is_floating(other) and dtype != other:
            raise TypeError(
                f"{function.__name__}: predictions are {dtype_name(dtype)} and targets a Tensor of "
                f"{dtype_name(other)}: write targets.astype({dtype_name(dtype)!r})"
            )
        y = compute(predictions, targets, **settings)
        return recorded_astype(y, dtype=dtype) if is_half(dtype) else y

    return loss


def _array(value, like):
    """`value`, an array, a list or a scalar, floats in the dtype of `like`; lists and scalars on its backend."""
    like = unwrap(like)
    array = value if hasattr(value, "shape") else backend_of(like).asarray(value)
    if not is_floating(array.dtype) or not is_floating(getattr(like, "dtype", None)):
        return array
    return astype(array, "float32" if is_half(like.dtype) else like.dtype)  # half precision is computed in float32


def _matching_targets(name, predictions, targets):
    """The targets as an array of floats. Raises ValueError if it does not have the shape of the predictions."""
    targets = in_float32(targets) if is_floating(targets.dtype) else recorded_astype(targets, dtype=predictions.dtype)
    if tuple(predictions.shape) != tuple(targets.shape):
        raise ValueError(
            f"{name}: predictions of shape {tuple(predictions.shape)} and targets of shape {tuple(targets.shape)} must "
            "have the same shape; broadcasting is nearly always a mistake here (a missing squeeze or reshape?)"
        )
    return targets


@_loss
def mse(predictions, targets, *, reduction="mean"):
    """L = (p − t)², averaged over all elements"""
    return _reduce(square(predictions - _matching_targets("mse", predictions, targets)), reduction)


@_loss
def mae(predictions, targets, *, reduction="mean"):
    """L = |p − t|, averaged over all elements"""
    return _reduce(absolute(predictions - _matching_targets("mae", predictions, targets)), reduction)


@_loss
def huber(predictions, targets, *, delta=1.0, reduction="mean"):
    """L = ½e² where |e| ≤ δ, else δ(|e| − ½δ), e = p − t, averaged over all elements (Huber 1964)"""
    error = absolute(predictions - _matching_targets("huber", predictions, targets))
    near = minimum(error, delta)  # one formula for both branches, without the square of a large error
    return _reduce(near * (error - 0.5 * near), reduction)


@_loss
def nll(log_probabilities, targets, *, weight=None, ignore_index=None, reduction="mean"):
    """L = −w_target log p[target], averaged over the targets that count: Σ L / Σ w_target

    log_probabilities (…, C), targets (…) class ids in 0 … C − 1, weight (C,) of the classes, 1 if None. A target equal
    to `ignore_index` contributes nothing and is not counted; where none counts the mean is 0.
    """
    targets, counts = _class_ids("nll", log_probabilities, targets, ignore_index)
    loss, weights = -_score_of_target(log_probabilities, targets), None
    if weight is not None:
        weights = _score_of_target(_class_weights(weight, log_probabilities), targets)
        loss = loss * weights
    return _reduce(loss, reduction, counts, weights)


@_loss
def cross_entropy(logits, targets, *, weight=None, ignore_index=None, label_smoothing=0.0, reduction="mean"):
    """L = −Σ_c w_c q_c log softmax(logits)_c in nats, averaged over the targets that count

    logits (…, C); targets (…) are class ids, for which q is 1 at the target, or (…, C) are the probabilities q.
    Label smoothing ε takes (1 − ε) q + ε / C for q. A class id equal to `ignore_index` contributes nothing and is
    not counted; where none counts the mean is 0. With class weights w (C,) the mean for class ids is
    Σ L / Σ w_target, and for probabilities Σ L / the number of distributions, both as in PyTorch.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number in [0, 1], got {label_smoothing!r}")
    log_p, targets = log_softmax(logits, axis=-1), in_float32(targets)
    w = None if weight is None else _class_weights(weight, logits)
    weights = counts = None
    if tuple(targets.shape) == tuple(logits.shape) and not _is_integer(targets):
        if ignore_index is not None:
            raise ValueError("ignore_index requires class ids; with probabilities as targets set them to 0 instead")
        terms = _weighted(targets, log_p)
        loss = -sum(terms if w is None else terms * w, axis=-1)
    else:
        targets, counts = _class_ids("cross_entropy", logits, targets, ignore_index)
        loss = -_score_of_target(log_p, targets)
        if w is not None:
            weights = _score_of_target(w, targets)
            loss = loss * weights
    if label_smoothing:
        smooth = log_p if w is None else log_p * w
        loss = (1 - label_smoothing) * loss - label_smoothing * mean(smooth, axis=-1)
    return _reduce(loss, reduction, counts, weights)


@_loss
def binary_cross_entropy_with_logits(logits, targets, *, weight=None, pos_weight=None, reduction="mean"):
    """L = w (−p t log σ(x) − (1 − t) log(1 − σ(x))), averaged over all elements

    targets t, of the shape of the logits x, are probabilities. `pos_weight` p and `weight` w are scalars or arrays that
    broadcast to that shape, 1 if None; the mean is over the number of elements, not over the weights.
    """
    targets = _matching_targets("binary_cross_entropy_with_logits", logits, targets)
    # No difference of large numbers, so that small losses at large logits are exact.
    positive = targets * softplus(-logits)
    if pos_weight is not None:
        positive = positive * _weights("pos_weight", pos_weight, logits)
    loss = (1 - targets) * softplus(logits) + positive
    return _reduce(loss if weight is None else loss * _weights("weight", weight, logits), reduction)


@_loss
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


def _weights(name, weight, scores):
    """Weights that broadcast to the shape of the scores, as constants in their dtype."""
    weight = astype(_array(unwrap(weight), scores), scores.dtype)
    shape, target = tuple(weight.shape), tuple(scores.shape)
    if len(shape) > len(target) or any(m not in (1, n) for m, n in zip(shape[::-1], target[::-1])):
        raise ValueError(f"{name}: shape {shape} does not broadcast to that of the scores, {target}")
    return weight


def _class_weights(weight, scores):
    """The weights of the classes (C,), repeated for every score (…, C)."""
    weight = astype(_array(unwrap(weight), scores), scores.dtype)
    if tuple(weight.shape) != tuple(scores.shape[-1:]):
        raise ValueError(
            f"weight: expected one number for each of the {scores.shape[-1]} classes (the last axis of the scores), "
            f"got shape {tuple(weight.shape)}"
        )
    return broadcast_to(weight, shape=scores.shape)


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
