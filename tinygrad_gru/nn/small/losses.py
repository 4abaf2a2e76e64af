"""Losses as modules, by PyTorch's names; the functions of `ops` are the same: `ops.mse(outputs, targets)`.

`reduction` is "mean" (the default), "sum" or "none" (a loss per element), as for the functions.
"""

from __future__ import annotations

from typing import Any

from ... import ops
from ...tensor import Tensor
from .of_ops import OfOps


class _Loss(OfOps):
    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, outputs: Tensor, targets: Any) -> Tensor:
        """The loss of outputs and targets: a scalar, or one per element with reduction="none"."""
        return self.call(outputs, targets)


class MSELoss(_Loss):
    """L = (p − t)², averaged over all elements, as `ops.mse`; predictions and targets have the same shape

    >>> nn.MSELoss()(Tensor([1.0, 2.0]), [1.0, 4.0]).item()
    2.0
    """

    function = ops.mse


class L1Loss(_Loss):
    """L = |p − t|, averaged over all elements, as `ops.mae`; predictions and targets have the same shape

    >>> nn.L1Loss()(Tensor([1.0, 2.0]), [1.0, 4.0]).item()
    1.0
    """

    function = ops.mae


class HuberLoss(_Loss):
    """L = ½e² where |e| ≤ delta, else delta (|e| − ½ delta), e = p − t, averaged over all elements, as `ops.huber`

    >>> nn.HuberLoss()(Tensor([1.0, 2.0]), [1.0, 5.0]).item()
    1.25
    """

    function = ops.huber

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta


class _Weighted(_Loss):
    """A loss with class weights: a buffer, so that they move along."""

    def __init__(self, weight: Any = None, *, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = None if weight is None else Tensor(weight)


class CrossEntropyLoss(_Weighted):
    """L = −log softmax(logits)[target] in nats, averaged over the targets that count, as `ops.cross_entropy`

    weight           (C,) weights of the classes
    ignore_index     a target that does not count, such as −100, PyTorch's default; by default all count
    label_smoothing  ε: the target's probability is 1 − ε + ε / C, that of the others ε / C
    reduction        "mean", "sum" or "none"

    Called with logits (…, C), classes last (PyTorch has them second), and targets (…), class ids, or (…, C),
    probabilities.

    >>> logits = Tensor([[100.0, 0.0], [0.0, 0.0]])
    >>> nn.CrossEntropyLoss(ignore_index=-100)(logits, [0, -100]).item()
    0.0
    """

    function = ops.cross_entropy

    def __init__(
        self, weight: Any = None, *, ignore_index: int | None = None, label_smoothing: float = 0.0,
        reduction: str = "mean",
    ):  # fmt: skip
        super().__init__(weight, reduction=reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing


class NLLLoss(_Weighted):
    """L = −log p[target], averaged over the targets that count, as `ops.nll`; takes the outputs of `LogSoftmax`

    weight        (C,) weights of the classes
    ignore_index  a target that does not count; by default all count

    Called with log-probabilities (…, C) and targets (…), class ids.

    >>> nn.NLLLoss()(Tensor([[-1.0, -2.0], [-3.0, -4.0]]), [0, 1]).item()
    2.5
    """

    function = ops.nll

    def __init__(self, weight: Any = None, *, ignore_index: int | None = None, reduction: str = "mean"):
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index


class BCEWithLogitsLoss(_Weighted):
    """L = −t log σ(x) − (1 − t) log(1 − σ(x)), averaged over all elements, as `ops.binary_cross_entropy_with_logits`

    weight      factors of the elements, which broadcast to the shape of the logits
    pos_weight  factor of the first term, that of the positive examples

    Called with logits and with targets, probabilities, of the same shape.

    >>> round(nn.BCEWithLogitsLoss()(Tensor([0.0, 100.0]), [1.0, 1.0]).item(), 4)
    0.3466
    """

    function = ops.binary_cross_entropy_with_logits

    def __init__(self, weight: Any = None, *, pos_weight: Any = None, reduction: str = "mean"):
        super().__init__(weight, reduction=reduction)
        self.pos_weight = None if pos_weight is None else Tensor(pos_weight)
