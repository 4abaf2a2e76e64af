"""Metrics of classification: accuracy, top-k, perplexity, bits per character."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import astype, backend_of, xp_of
from ...ops import cross_entropy
from .base import Metric, class_ids, same_shape


class Accuracy(Metric):
    """The part of the targets that is predicted right.

    threshold     None: outputs (…, C) are scores of C classes, the prediction is the largest (argmax over the last
                  axis), targets are class ids (…) or probabilities (…, C). A number: outputs are one score per target,
                  of the targets' shape, and the prediction is whether it is larger: 0 for logits, 0.5 for
                  probabilities; targets are 0 or 1, of several labels at once too
    ignore_index  targets of this value do not count

    Where a score is NaN the prediction is wrong. By name: "accuracy" and "binary_accuracy", whose threshold is 0.

    >>> accuracy = train.Accuracy()
    >>> accuracy.update(np.array([[0.1, 2.0], [3.0, 1.0]]), np.array([1, 1]))
    >>> accuracy.compute()
    0.5
    >>> accuracy = train.Accuracy(threshold=0)
    >>> accuracy.update(np.array([[-1.5], [0.5]]), np.array([0, 1]))
    >>> accuracy.compute()
    1.0
    """

    name, higher_is_better = "accuracy", True

    def __init__(self, threshold: float | None = None, ignore_index: int | None = None) -> None:
        self.threshold, self.ignore_index = threshold, ignore_index
        super().__init__()

    def update(self, outputs: Any, targets: Any) -> None:
        predictions, targets, counts = predicted_classes(self, outputs, targets)
        self.add(correct=(predictions == targets) & counts, count=counts)

    def compute(self) -> float:
        return self.ratio("correct", "count")


class TopK(Metric):
    """The part of the targets that is among the k classes of the largest scores; with k = 1 the accuracy.

    Outputs (…, C) are scores, targets (…) class ids. Of equal scores the lower class comes first, and
    where one is NaN the target is not among them. By name "top5".

    >>> top2 = train.TopK(2)
    >>> top2.update(np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]]), np.array([2, 1]))
    >>> top2.name, top2.compute()
    ('top2', 0.5)
    """

    higher_is_better = True

    def __init__(self, k: int, ignore_index: int | None = None) -> None:
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k: expected a number of classes, 1 or more, got {k!r}")
        self.k, self.ignore_index, self.name = k, ignore_index, f"top{k}"
        super().__init__()

    def update(self, outputs: Any, targets: Any) -> None:
        scores, targets, counts = class_ids(self, outputs, targets, self.ignore_index)
        xp, classes = xp_of(scores), scores.shape[-1]
        if self.k >= classes:
            raise ValueError(f"{self.name}: of {classes} classes the target is always among {self.k}; give a smaller k")
        numbers = backend_of(scores).asarray(np.arange(classes))
        targets = xp.expand_dims(targets, axis=-1)
        own = xp.sum(xp.where(numbers == targets, scores, xp.zeros_like(scores)), axis=-1, keepdims=True)
        before = (scores > own) | ((scores == own) & (numbers < targets))
        hit = (xp.sum(astype(before, "int64"), axis=-1) < self.k) & ~has_nan(scores)
        self.add(hits=hit & counts, count=counts)

    def compute(self) -> float:
        return self.ratio("hits", "count")


class Perplexity(Metric):
    """Perplexity: exp of the mean cross-entropy, in nats per target. As good as a choice among so many classes.

    Outputs (…, C) are logits, targets (…) class ids; those that are `ignore_index` do not count.

    >>> perplexity = train.Perplexity()
    >>> perplexity.update(np.zeros((2, 10)), np.array([3, 7]))  # all ten are equally likely
    >>> round(perplexity.compute(), 9)
    10.0
    """

    name = "perplexity"

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index
        super().__init__()

    def update(self, outputs: Any, targets: Any) -> None:
        logits, targets, counts = class_ids(self, outputs, targets, self.ignore_index)
        self.add(nats=cross_entropy(logits, targets, reduction="none") * astype(counts, "float32"), count=counts)

    def compute(self) -> float:
        nats = self.ratio("nats", "count")
        return math.exp(nats) if nats < 709 else nats if math.isnan(nats) else math.inf


class BitsPerCharacter(Perplexity):
    """Mean cross-entropy in bits per target, as it is told of models of characters: nats / ln 2.

    >>> bits = train.BitsPerCharacter()
    >>> bits.update(np.zeros((2, 8)), np.array([3, 7]))
    >>> round(bits.compute(), 9)
    3.0
    """

    name = "bits_per_character"

    def compute(self) -> float:
        return self.ratio("nats", "count") / math.log(2)


def predicted_classes(metric: Any, outputs: Any, targets: Any) -> tuple[Any, Any, Any]:
    """The predictions and the targets as class ids, and which of them count, of a metric with a threshold or None.

    Scores with a NaN among them predict no class: −1.
    """
    if metric.threshold is None:
        scores, targets, counts = class_ids(metric, outputs, targets, metric.ignore_index)
        xp = xp_of(scores)
        return xp.where(has_nan(scores), -1, xp.argmax(scores, axis=-1)), targets, counts
    scores, targets = same_shape(metric, outputs, targets)
    xp = xp_of(scores)
    counts = targets == targets if metric.ignore_index is None else targets != metric.ignore_index
    targets = xp.where(counts, targets, xp.zeros_like(targets))
    if bool(xp.any((targets != 0) & (targets != 1))):
        raise ValueError(f"{metric.name}: with a threshold the targets must be 0 or 1")
    predictions = xp.where(scores != scores, -1, astype(scores > metric.threshold, "int64"))
    return predictions, astype(targets, "int64"), counts


def has_nan(scores: Any) -> Any:
    """Where one of the scores of the classes (…, C) is NaN: which is the largest is not known then."""
    return xp_of(scores).any(scores != scores, axis=-1)
