"""Metrics by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from ...hints import did_you_mean
from ..hints import METRICS, check_order
from .base import Metric
from .classification import Accuracy, BitsPerCharacter, Perplexity, TopK
from .confusion import ConfusionMatrix
from .loss import MeanLoss
from .regression import MAE, MSE, R2, RMSE

NAMES: dict[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "binary_accuracy": partial(Accuracy, threshold=0.0),
    "bits_per_character": BitsPerCharacter,
    "confusion": ConfusionMatrix,
    "mae": MAE,
    "mse": MSE,
    "perplexity": Perplexity,
    "r2": R2,
    "rmse": RMSE,
    "top5": partial(TopK, 5),
}


def metric(which: str | Metric | type[Metric] | Callable[[Any, Any], Any]) -> Metric:
    """A metric by name: "accuracy", "binary_accuracy", "bits_per_character", "confusion", "mae", "mse", "perplexity",
    "r2", "rmse", "top5" or any other k.

    A Metric stays as it is; a function (outputs, targets) → mean over its batch becomes a `MeanLoss`.

    >>> train.metric("top3").name
    'top3'
    >>> train.metric(ops.huber).name
    'huber'
    >>> train.metric("acuracy")
    Traceback (most recent call last):
    ValueError: metric: there is no 'acuracy' (did you mean 'accuracy'?); there are accuracy, binary_accuracy, ...
    """
    if isinstance(which, Metric):
        return which
    if isinstance(which, type) and issubclass(which, Metric):
        return which()
    if callable(which):
        check_order("metric", which)
        return MeanLoss(which)
    if not isinstance(which, str):
        raise TypeError(f"metric: expected a name, a Metric or a function (outputs, targets), got {which!r}")
    if found := re.fullmatch(r"top(\d+)", which):
        return TopK(int(found[1]))
    if which not in NAMES:
        close = f": write {METRICS[which]}" if which in METRICS else did_you_mean(which.lower(), NAMES)
        raise ValueError(f"metric: there is no {which!r}{close}; there are {', '.join(NAMES)}, or a Metric object")
    return NAMES[which]()
