"""Losses as `fit` takes them: functions (outputs, targets) → the mean over the targets, and what that is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ... import ops
from ...backend import as_array, astype, backend_of, is_floating, move, xp_of
from ...nn import Sequential, Sigmoid, Softmax
from ...nn.small.of_ops import OfOps
from ...ops.op import unwrap
from ...tensor import Tensor
from ..hints import LOSSES, check_order
from .base import Mean, as_arrays


class MeanLoss(Mean):
    """The mean over all targets of a function (outputs, targets) → mean over its batch, such as a loss.

    The batches are weighted by the number of their targets, without those that are `ignore_index` (see `mean_count`).

    >>> error = train.MeanLoss(ops.mae)
    >>> error.update(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0]))  # a mean of 1 over three
    >>> error.update(np.array([1.0]), np.array([6.0]))  # of 5 over one
    >>> error.name, error.compute()
    ('mae', 2.0)
    """

    def __init__(
        self, function: Callable[[Any, Any], Any], name: str | None = None, ignore_index: int | None = None
    ) -> None:
        super().__init__(name or str(getattr(function, "__name__", type(function).__name__)))
        self.function, self.ignore_index = function, ignore_index

    def update(self, outputs: Any, targets: Any) -> None:
        targets = as_arrays(outputs, targets)[1]
        self.add_mean(self.function(outputs, targets), unwrap(mean_count(self.function, targets, self.ignore_index)))


def loss_settings(loss: Any) -> tuple[Any, Mapping[str, Any]]:
    """The function of a loss and its settings, if they can be read: of a module of nn or a functools.partial."""
    if isinstance(loss, OfOps):
        return type(loss).function, vars(loss)
    return (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})


def mean_count(loss: Any, targets: Any, ignore_index: int | None = None) -> Any:
    """What the mean of a loss is divided by: the number of targets.

    Of cross_entropy and nll with `ignore_index` and class weights (see `loss_settings`) it is the sum of the weights of
    the targets that count: a Tensor on their device, without a copy to the host.
    """
    function, settings = loss_settings(loss)
    weight = settings.get("weight") if function in (ops.cross_entropy, ops.nll) else None
    ignore_index = settings.get("ignore_index", ignore_index)
    ids = unwrap(targets)
    if (ignore_index is None and weight is None) or is_floating(ids.dtype):
        return math.prod(ids.shape)
    xp, device = xp_of(ids), backend_of(ids)
    counts = astype(ids == ids if ignore_index is None else ids != ignore_index, "float64")
    if weight is not None:
        weight = astype(move(as_array(unwrap(weight)), device), "float64")
        bounded = xp.clip(xp.reshape(ids, (-1,)), 0, weight.shape[0] - 1)  # the loss itself refuses wrong ids
        counts = counts * xp.reshape(xp.take(weight, bounded), ids.shape)
    return Tensor.from_node(as_array(xp.sum(counts)), None)


def check_loss(loss: Any) -> None:
    """Raise TypeError unless it is a function, ValueError if it is known not to be a mean."""
    expected = "loss: expected a function of (outputs, targets), got"
    if isinstance(loss, type):
        raise TypeError(f"{expected} a class: write {loss.__name__}()")
    if hasattr(loss, "shape"):
        raise TypeError(f"{expected} an array of shape {tuple(loss.shape)}: write (model, ops.mse, (x, y))")
    if not callable(loss):
        known = isinstance(loss, str) and (f"ops.{loss}" if hasattr(ops, loss) else LOSSES.get(loss))
        raise TypeError(f"{expected} {loss!r:.80}: {f'write {known}' if known else 'as ops.mse'}")
    check_order("loss", loss)
    reduction = loss_settings(loss)[1].get("reduction", "mean")
    if reduction != "mean":
        raise ValueError(
            f"loss: it is to be the mean over the targets, by which batches are weighted, got one with "
            f"reduction={reduction!r}: leave it out"
        )


def check_logits(loss: Any, model: Any) -> None:
    """Raise ValueError if a Sequential ends with the function that the loss applies itself: it would act twice."""
    function, last = loss_settings(loss)[0], model
    while isinstance(last, Sequential) and len(last):
        last = last[-1]
    for of_logits, module, op in (
        (ops.cross_entropy, Softmax, ops.softmax),
        (ops.binary_cross_entropy_with_logits, Sigmoid, ops.sigmoid),
    ):
        if function is of_logits and (last is op or isinstance(last, module)):
            raise ValueError(
                f"loss: {of_logits.__name__} takes logits, and the model ends with a {op.__name__}, which would act "
                f"twice: leave it out, and write ops.{op.__name__}(train.predict(model, x)) for probabilities"
            )


def loss_of(loss: Callable[[Any, Any], Any], outputs: Any, targets: Any) -> Tensor:
    """The loss of a batch as a Tensor. Raises TypeError or ValueError if it is not a scalar Tensor."""
    try:
        value = loss(outputs, targets)
    except ValueError as error:
        shape, got = (tuple(getattr(value, "shape", ())) for value in (outputs, targets))
        if shape != got and math.prod(shape) == math.prod(got) and len(error.args) == 1:
            wanted = ", ".join(map(str, (-1, *shape[1:])))
            error.args = (f"{error.args[0]}; to keep the model's output, give the targets y as y.reshape({wanted})",)
        raise
    if getattr(outputs, "shape", ())[-1:] == (1,) and loss_settings(loss)[0] is ops.cross_entropy:
        raise ValueError(
            "loss: cross_entropy of one class is always 0: give the model an output for each class, or for one logit "
            "take ops.binary_cross_entropy_with_logits"
        )
    if not isinstance(value, Tensor):
        raise TypeError(
            f"loss: expected a function of (outputs, targets) that returns a Tensor, as ops.mse, got a "
            f"{type(value).__name__} (an .item() or .numpy() too many, or a class instead of its instance?)"
        )
    if value.shape != ():
        raise ValueError(f"loss: must be a scalar, got shape {tuple(value.shape)}: take its mean, as reduction='mean'")
    return value
