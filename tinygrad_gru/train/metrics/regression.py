"""Metrics of regression: MSE, RMSE, MAE, R²."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import astype, backend_of, move, to_host, xp_of
from .base import Metric, same_shape


class MSE(Metric):
    """Mean squared error over all elements: Σ (p − t)² / n. Outputs and targets have one shape.

    >>> metric = train.MSE()
    >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    >>> metric.compute()
    2.0
    """

    name, average = "mse", "elements"

    def update(self, outputs: Any, targets: Any) -> None:
        error = _errors(self, outputs, targets)
        self.add(squares=error * error, count=error.size)

    def compute(self) -> float:
        return self.ratio("squares", "count")


class RMSE(MSE):
    """Root mean squared error, in the unit of the targets: √(Σ (p − t)² / n) over all elements of all batches.

    >>> metric = train.RMSE()
    >>> metric.update(np.array([0.0, 0.0]), np.array([3.0, 4.0]))
    >>> round(metric.compute(), 6)
    3.535534
    """

    name = "rmse"

    def compute(self) -> float:
        return math.sqrt(super().compute())


class MAE(Metric):
    """Mean absolute error, in the unit of the targets: Σ |p − t| / n over all elements of all batches.

    >>> metric = train.MAE()
    >>> metric.update(np.array([0.0, 0.0]), np.array([3.0, -4.0]))
    >>> metric.compute()
    3.5
    """

    name, average = "mae", "elements"

    def update(self, outputs: Any, targets: Any) -> None:
        error = _errors(self, outputs, targets)
        self.add(total=xp_of(error).abs(error), count=error.size)

    def compute(self) -> float:
        return self.ratio("total", "count")


class R2(Metric):
    """Coefficient of determination: 1 − Σ (t − p)² / Σ (t − t̄)² of each output, averaged over the outputs.

    1 is perfect, 0 is as good as the mean t̄ of the targets. Outputs and targets (N,), or (…, K) for K outputs. As in
    scikit-learn's `r2_score` an output whose targets are all equal counts 1 if it is perfect, else 0.

    >>> metric = train.R2()
    >>> metric.update(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    >>> metric.compute()
    0.5
    """

    name, average, higher_is_better = "r2", "outputs", True

    def update(self, outputs: Any, targets: Any) -> None:
        # The moments of two sets are merged about their common mean (Chan et al. 1979): t² would cancel.
        outputs, targets = same_shape(self, outputs, targets)
        columns = targets.shape[-1] if targets.ndim > 1 else 1
        p, t = (astype(xp_of(x).reshape(x, (-1, columns)), "float64") for x in (outputs, targets))
        if not t.shape[0]:
            return
        xp, n, sums = xp_of(t), t.shape[0], self.sums
        mean = xp.sum(t, axis=0) / n
        about_mean = xp.sum((t - mean) ** 2, axis=0)
        squares = xp.sum((t - p) ** 2, axis=0)
        if not sums:
            self.sums = {"count": n, "mean": mean, "about_mean": about_mean, "squares": squares}
            return
        if sums["mean"].shape != mean.shape:
            raise ValueError(f"r2: expected {sums['mean'].shape[0]} outputs, as in earlier batches, got {columns}")
        old = {name: move(sums[name], backend_of(t)) for name in ("mean", "about_mean", "squares")}  # if it was loaded
        count, shift = sums["count"] + n, mean - old["mean"]
        self.sums = {
            "count": count,
            "mean": old["mean"] + shift * (n / count),
            "about_mean": old["about_mean"] + about_mean + shift**2 * (sums["count"] * n / count),
            "squares": old["squares"] + squares,
        }

    def compute(self) -> float:
        if self.sums.get("count", 0) < 2:
            return math.nan
        squares, about_mean = (to_host(self.sums[name]) for name in ("squares", "about_mean"))
        ratio = np.divide(squares, about_mean, out=np.where(squares == 0, 0.0, 1.0), where=about_mean != 0)
        return float(np.mean(1 - ratio))


def _errors(metric: Metric, outputs: Any, targets: Any) -> Any:
    """p − t in float64."""
    outputs, targets = same_shape(metric, outputs, targets)
    return astype(outputs, "float64") - astype(targets, "float64")
