"""Metric: base class of metrics. Their sums run over all batches, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...backend import as_array, astype, backend_of, check_ids, is_floating, move, to_host, xp_of
from ...ops.op import unwrap


class Metric:
    """Base class of metrics: a number that is computed from the outputs and targets of all batches together.

    name              in records: "accuracy", of validation data "validation_accuracy"
    average           what it is an average over: "targets", "elements", …
    higher_is_better  whether a larger value is a better one

    It never is a mean of means: `update` adds to sums over all batches, in float64, and `compute` divides at the end.
    So the value does not depend on how the data are cut into batches. A new metric defines those two; outputs and
    targets are Tensors or arrays.

    >>> class Bias(train.Metric):
    ...     name, average = "bias", "elements"
    ...
    ...     def update(self, outputs, targets):
    ...         self.add(error=outputs - targets, count=targets.size)
    ...
    ...     def compute(self):
    ...         return self.ratio("error", "count")  # NaN before the first update
    >>> bias = Bias()
    >>> bias.update(np.array([3.0, 5.0]), np.array([1.0, 6.0]))
    >>> bias.compute()
    0.5
    """

    name = "metric"
    average = "targets"
    higher_is_better = False

    def __init__(self) -> None:
        self.reset()

    def update(self, outputs: Any, targets: Any) -> None:
        """Count a batch."""
        raise NotImplementedError(f"{type(self).__name__} has no update(outputs, targets)")

    def compute(self) -> float:
        """The value over all batches since the last `reset`."""
        raise NotImplementedError(f"{type(self).__name__} has no compute()")

    def reset(self) -> None:
        """Forget all batches."""
        self.sums: dict[str, Any] = {}

    def add(self, **values: Any) -> None:
        """Add to each of these sums the sum of all elements of an array, in float64; on its device, without a copy."""
        for name, value in values.items():
            value = unwrap(value)
            if hasattr(value, "shape"):
                value = xp_of(value).sum(astype(value, "float64"))
            self.sums[name] = self.sums.get(name, 0.0) + value

    def sum(self, name: str) -> float:
        """A sum as a Python float; 0 before the first update."""
        return float(to_host(self.sums.get(name, 0.0)))

    def ratio(self, numerator: str, denominator: str) -> float:
        """A sum divided by another one; NaN if that is 0."""
        count = self.sum(denominator)
        return self.sum(numerator) / count if count else math.nan

    def state_dict(self) -> dict[str, np.ndarray]:
        """The sums, as host arrays."""
        return {name: np.array(to_host(value)) for name, value in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.sums = {name: value.item() if value.ndim == 0 else value for name, value in state.items()}

    def __repr__(self) -> str:
        return f"{self.name} {self.compute():.6g} over {self.average}"


class Mean(Metric):
    """The mean of values that are known already, such as the losses of batches, weighted by how many each stands for.

    >>> loss = train.Mean("loss")
    >>> loss.add_mean(1.0, count=30)
    >>> loss.add_mean(3.0, count=10)
    >>> loss.compute()
    1.5
    """

    def __init__(self, name: str = "mean") -> None:
        self.name = name
        super().__init__()

    def add_mean(self, value: Any, count: int = 1) -> None:
        """Count a mean over `count` targets."""
        value = unwrap(value)
        self.add(total=(astype(value, "float64") if hasattr(value, "dtype") else float(value)) * count, count=count)

    def compute(self) -> float:
        return self.ratio("total", "count")


def as_arrays(outputs: Any, targets: Any) -> tuple[Any, Any]:
    """Outputs and targets as arrays on the device of the outputs."""
    outputs, targets = as_array(unwrap(outputs)), unwrap(targets)
    device = backend_of(outputs)
    return outputs, move(targets, device) if hasattr(targets, "dtype") else device.asarray(targets)


def same_shape(metric: Metric, outputs: Any, targets: Any) -> tuple[Any, Any]:
    """Both as arrays of one shape; a last axis of size 1 may be missing in one of them."""
    outputs, targets = as_arrays(outputs, targets)
    a, b = tuple(outputs.shape), tuple(targets.shape)
    if b not in (a, (*a, 1)) and a != (*b, 1):
        raise ValueError(
            f"{metric.name}: expected outputs and targets of the same shape, got {a} and {b} (a missing reshape?)"
        )
    return xp_of(outputs).reshape(outputs, b), targets


def class_ids(metric: Metric, outputs: Any, targets: Any, ignore_index: int | None) -> tuple[Any, Any, Any]:
    """The scores (…, C) as an array, the targets (…) as class ids in bounds, and which of them count (booleans).

    Targets (…, C) are probabilities, as `cross_entropy` takes them: the most probable class is the target.
    """
    scores, targets = as_arrays(outputs, targets)
    shape, xp = tuple(scores.shape), xp_of(scores)
    for_binary = "Accuracy(threshold=0), by name 'binary_accuracy'"
    if not shape or shape[-1] < 2:
        raise ValueError(
            f"{metric.name}: expected outputs (…, C) with a score for each of C classes, got {shape}; for one logit "
            f"per target there is {for_binary}"
        )
    if tuple(targets.shape) == shape and is_floating(targets.dtype):
        if bool(xp.any(xp.abs(xp.sum(astype(targets, "float64"), axis=-1) - 1) > 1e-3)):
            raise ValueError(
                f"{metric.name}: targets of the outputs' shape {shape} are probabilities, whose sum over the last axis "
                f"is 1; for several labels at once there is {for_binary}"
            )
        targets = xp.argmax(targets, axis=-1)
    if tuple(targets.shape) != shape[:-1]:
        raise ValueError(
            f"{metric.name}: outputs {shape}, classes last, need targets {shape[:-1]}, got {tuple(targets.shape)}"
        )
    if not xp.isdtype(targets.dtype, "integral"):
        raise TypeError(f"{metric.name}: targets must be class ids, integers, got {targets.dtype}")
    counts = targets == targets if ignore_index is None else targets != ignore_index
    targets = xp.where(counts, targets, xp.zeros_like(targets))
    check_ids(targets, shape[-1], f"{metric.name}: targets")
    return scores, targets, counts
