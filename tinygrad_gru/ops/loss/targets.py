"""Targets and weights of losses: dtypes, shapes and class ids."""

from __future__ import annotations

from functools import wraps

from ...arguments import respelling
from ...backend import astype, backend_of, check_ids, dtype_name, is_floating, is_half, is_on_cuda, move, xp_of
from ...backend.numpy import DOUBLE, SINGLE
from ...tape import Variable
from ..comparison import not_equal, where
from ..movement.indexing import as_integers
from ..movement.shape import astype as recorded_astype
from ..op import broadcast_to, unwrap
from ..precision import in_float32, real_valued


def converting_targets(function):
    """Decorator for a loss: targets that are arrays or lists are converted to the dtype of the predictions.

    A Tensor of another floating dtype is refused, since a conversion would hide from where it comes.
    """
    compute = real_valued(function)

    @wraps(function)
    def checked(predictions, targets, **settings):
        dtype, other = getattr(predictions, "dtype", None), getattr(targets, "dtype", None)
        if dtype is other and (dtype is SINGLE or dtype is DOUBLE):  # the common case
            return compute(predictions, targets, **settings)
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

    return respelling(checked)


def _array(value, like):
    """`value` as an array on the backend of `like`, floats in its dtype. Tensors and arrays on a GPU are not moved."""
    like = unwrap(like)
    is_array = isinstance(value, Variable) or hasattr(value, "__array_namespace__") or is_on_cuda(value)
    array = value if is_array else backend_of(like).asarray(value)
    if not isinstance(value, Variable) and backend_of(array).name == "numpy":
        array = move(array, backend_of(like))
    if not is_floating(array.dtype) or not is_floating(getattr(like, "dtype", None)):
        return array
    return astype(array, "float32" if is_half(like.dtype) else like.dtype)  # half precision is computed in float32


def matching_targets(name, predictions, targets):
    """The targets as an array of floats. Raises ValueError if it does not have the shape of the predictions."""
    targets = in_float32(targets) if is_floating(targets.dtype) else recorded_astype(targets, dtype=predictions.dtype)
    if tuple(predictions.shape) != tuple(targets.shape):
        raise ValueError(
            f"{name}: predictions of shape {tuple(predictions.shape)} and targets of shape {tuple(targets.shape)} must "
            "have the same shape; broadcasting is nearly always a mistake here (a missing squeeze or reshape?)"
        )
    return targets


def class_ids(name, scores, targets, ignore_index):
    """The targets as an array of class ids in bounds, and where they count (None: everywhere)."""
    if is_floating(targets.dtype):
        raise TypeError(
            f"targets must be integers, got {targets.dtype}: class ids, such as targets.astype('int64'); probabilities "
            f"have the shape of the scores, {tuple(scores.shape)}"
        )
    if str(targets.dtype).endswith("bool"):
        raise TypeError("targets must be integers, got bool: class ids, such as targets.astype('int64')")
    targets = as_integers(targets, scores, "targets")
    if not scores.shape:
        raise ValueError(f"{name}: scores need an axis of classes, got a scalar")
    if tuple(targets.shape) != tuple(scores.shape[:-1]):
        raise ValueError(
            f"{name}: scores of shape {tuple(scores.shape)} (classes last) need targets of shape "
            f"{tuple(scores.shape[:-1])}, got {tuple(targets.shape)}{_likely_cause(tuple(scores.shape), targets.shape)}"
        )
    counts = None if ignore_index is None else not_equal(targets, ignore_index)
    if counts is not None:
        targets = where(counts, targets, 0)
    check_ids(targets, scores.shape[-1], "targets")
    return targets, counts


def _likely_cause(scores, targets):
    """Why the shape of class ids does not fit the scores, as the end of a message; empty if that cannot be told."""
    if tuple(targets) == scores:
        return ": are they one-hot? Then write targets.argmax(-1), or convert them to floats, which are probabilities"
    if tuple(targets) == (*scores[:-1], 1):
        return ": write targets.squeeze(-1)"
    if len(scores) > 2 and tuple(targets) == (scores[0], *scores[2:]):
        return ": are the classes second, as in PyTorch? Then write ops.moveaxis(scores, 1, -1)"
    return ""


def _constant(name, weight, scores):
    """A weight as an array on the device and in the dtype of the scores. TypeError if it would lose its gradient."""
    if isinstance(weight, Variable) and weight.node is not None:
        raise TypeError(f"{name}: a loss has no gradient for its weights: write {name}.detach() if that is meant")
    weight = unwrap(weight)
    weight = move(weight, backend_of(unwrap(scores))) if hasattr(weight, "dtype") else weight
    return astype(_array(weight, scores), scores.dtype)


def class_weights(weight, scores):
    """The weights of the classes (C,), repeated for every score (…, C)."""
    weight = _constant("weight", weight, scores)
    if tuple(weight.shape) != tuple(scores.shape[-1:]):
        raise ValueError(
            f"weight: expected one number for each of the {scores.shape[-1]} classes (the last axis of the scores), "
            f"got shape {tuple(weight.shape)}"
        )
    return broadcast_to(weight, shape=scores.shape)


def weights_of(name, weight, scores):
    """Weights that broadcast to the shape of the scores, as constants in their dtype."""
    weight = _constant(name, weight, scores)
    shape, target = tuple(weight.shape), tuple(scores.shape)
    if len(shape) > len(target) or any(m not in (1, n) for m, n in zip(shape[::-1], target[::-1])):
        raise ValueError(f"{name}: shape {shape} does not broadcast to that of the scores, {target}")
    return weight


def is_integer(targets):
    array = unwrap(targets)
    return xp_of(array).isdtype(array.dtype, "integral")
