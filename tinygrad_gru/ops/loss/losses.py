"""Losses. Those of probabilities take logits.

`reduction` is "mean" (the default: over all elements that count), "sum", or "none" (one loss per element). A loss has
the dtype of the predictions; in half precision it is computed in float32.
"""

from __future__ import annotations

import math

from ...backend import astype
from ..activation import log_softmax, softplus
from ..comparison import where
from ..elementwise import absolute, clip, log, square
from ..op import unwrap
from ..precision import in_float32
from ..reduction import mean, sum
from .likelihood import log_likelihood, score_of_target
from .targets import class_ids, class_weights, converting_targets, is_integer, matching_targets, weights_of


def reduce_loss(loss, reduction, counts=None, weights=None):
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
    return sum(loss / where(total == 0, math.inf, total))


@converting_targets
def mse(predictions, targets, *, reduction="mean"):
    """L = (p − t)², averaged over all elements

    >>> ops.mse(Tensor([1.0, 3.0]), [1.0, 1.0])
    Tensor(2., dtype=float32)
    """
    return reduce_loss(square(predictions - matching_targets("mse", predictions, targets)), reduction)


@converting_targets
def mae(predictions, targets, *, reduction="mean"):
    """L = |p − t|, averaged over all elements

    >>> ops.mae(Tensor([1.0, 3.0]), [1.0, 1.0])
    Tensor(1., dtype=float32)
    """
    return reduce_loss(absolute(predictions - matching_targets("mae", predictions, targets)), reduction)


@converting_targets
def huber(predictions, targets, *, delta=1.0, reduction="mean"):
    """L = ½e² where |e| ≤ δ, else δ(|e| − ½δ), e = p − t, averaged over all elements (Huber 1964)

    >>> ops.huber(Tensor([1.5, 3.0]), [1.0, 1.0], reduction="none")
    Tensor([0.125, 1.5  ], dtype=float32)
    """
    if not delta > 0:
        raise ValueError(f"huber: delta must be above 0, got {delta!r}")
    error = predictions - matching_targets("huber", predictions, targets)
    near = clip(error, low=-delta, high=delta)  # one formula for all branches, without the square of a large error
    return reduce_loss(near * (error - 0.5 * near), reduction)


@converting_targets
def nll(log_probabilities, targets, *, weight=None, ignore_index=None, reduction="mean"):
    """L = −w_target log p[target], averaged over the targets that count: Σ L / Σ w_target

    log_probabilities (…, C), targets (…) class ids in 0 … C − 1, weight (C,) of the classes, 1 if None. A target equal
    to `ignore_index` contributes nothing and is not counted; where Σ w_target is 0 the mean is 0.

    >>> ops.nll(ops.log_softmax(Tensor([[0.0, 0.0], [0.0, 9.0]])), [0, 1], reduction="none").numpy().round(3)
    array([0.693, 0.   ], dtype=float32)
    """
    targets, counts = class_ids("nll", log_probabilities, targets, ignore_index)
    loss, weights = -score_of_target(log_probabilities, targets), None
    if weight is not None:
        weights = score_of_target(class_weights(weight, log_probabilities), targets)
        loss = loss * weights
    return reduce_loss(loss, reduction, counts, weights)


@converting_targets
def cross_entropy(logits, targets, *, weight=None, ignore_index=None, label_smoothing=0.0, reduction="mean"):
    """L = −Σ_c w_c q_c log softmax(logits)_c in nats, averaged over the targets that count

    logits (…, C); targets (…) are class ids, for which q is 1 at the target, or (…, C) are the probabilities q.
    Label smoothing ε takes (1 − ε) q + ε / C for q. A class id equal to `ignore_index` contributes nothing and is
    not counted. With class weights w (C,) the mean for class ids is Σ L / Σ w_target (0 where that sum is 0), and for
    probabilities Σ L / the number of distributions, both as in PyTorch.

    >>> round(ops.cross_entropy(Tensor([[0.0, 0.0], [0.0, 9.0]]), [0, 1], weight=[1.0, 3.0]).item(), 3)
    0.173
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number in [0, 1], got {label_smoothing!r}")
    targets, are_probabilities = in_float32(targets), not is_integer(targets) and targets.shape == logits.shape
    log_p = log_softmax(logits, axis=-1) if are_probabilities or label_smoothing else None
    w = None if weight is None else class_weights(weight, logits)
    weights = counts = None
    if are_probabilities:
        if ignore_index is not None:
            raise ValueError("ignore_index requires class ids; with probabilities as targets set them to 0 instead")
        terms = _weighted(targets, log_p)
        loss = -sum(terms if w is None else terms * w, axis=-1)
    else:
        targets, counts = class_ids("cross_entropy", logits, targets, ignore_index)
        loss = -(log_likelihood(logits, targets) if log_p is None else score_of_target(log_p, targets))
        if w is not None:
            weights = score_of_target(w, targets)
            loss = loss * weights
    if label_smoothing:
        smooth = log_p if w is None else log_p * w
        loss = (1 - label_smoothing) * loss - label_smoothing * mean(smooth, axis=-1)
    return reduce_loss(loss, reduction, counts, weights)


@converting_targets
def binary_cross_entropy_with_logits(logits, targets, *, weight=None, pos_weight=None, reduction="mean"):
    """L = w (−p t log σ(x) − (1 − t) log(1 − σ(x))), averaged over all elements

    targets t, of the shape of the logits x, are probabilities. `pos_weight` p and `weight` w are scalars or arrays that
    broadcast to that shape, 1 if None; the mean is over the number of elements, not over the weights.

    >>> round(ops.binary_cross_entropy_with_logits(Tensor([0.0, 9.0]), [1.0, 1.0], pos_weight=2.0).item(), 3)
    0.693
    """
    targets = matching_targets("binary_cross_entropy_with_logits", logits, targets)
    # No difference of large numbers, so that small losses at large logits are exact.
    positive = targets * softplus(-logits)
    if pos_weight is not None:
        positive = positive * weights_of("pos_weight", pos_weight, logits)
    loss = (1 - targets) * softplus(logits) + positive
    return reduce_loss(loss if weight is None else loss * weights_of("weight", weight, logits), reduction)


@converting_targets
def kl_divergence(log_q, p, *, reduction="mean"):
    """D(p‖q) = Σ_c p_c (log p_c − log q_c) over the last axis (0 log 0 = 0), averaged over the distributions

    log_q (…, C) the model's log-probabilities, p (…, C) the target's probabilities.

    >>> round(ops.kl_divergence(ops.log_softmax(Tensor([[0.0, 0.0]])), [[1.0, 0.0]]).item(), 3)
    0.693
    """
    p = matching_targets("kl_divergence", log_q, p)
    return reduce_loss(sum(p * log(where(p == 0, 1.0, p)) - _weighted(p, log_q), axis=-1), reduction)


def _weighted(p, log_q):
    """p log q, where 0 log 0 = 0"""
    impossible = (unwrap(p) == 0) & (unwrap(log_q) == -math.inf)
    return p * where(impossible, 0.0, log_q)
