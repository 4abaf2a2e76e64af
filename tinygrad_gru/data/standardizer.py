"""Standardisation of features, fitted on the training part alone."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..hints import missing_attribute
from .arrays import as_array

_HINTS = {"fit_transform": "fit(training).transform(training)", "mean_": "mean", "scale_": "std", "var_": "std ** 2"}


class Standardizer:
    """Features of mean 0 and standard deviation 1: x' = (x − mean) / std, with the statistics of the training part.

    `fit` takes an array (..., F), or (T,) for one feature, and averages over all axes but the last; one that is larger
    than memory is read once, by blocks. NaN is left out of the statistics and stays NaN. A constant feature has std 1,
    so it becomes 0. `mean`, `std`, `constant` and `missing` (how many NaN) have one entry a feature; `std` divides by
    the number of values, as NumPy's.

    >>> training, test = np.array([[0.0, 5], [2, 5]]), np.array([[1.0, 6]])
    >>> standardizer = data.Standardizer().fit(training)
    >>> standardizer.transform(test).tolist()
    [[0.0, 1.0]]
    >>> standardizer
    Standardizer(2 features, constant: [1])
    """

    _columns: list[str] | None = None  # of the table of the fit, which `state_dict` does not have
    mean: np.ndarray
    std: np.ndarray
    constant: np.ndarray
    missing: np.ndarray

    def fit(self, values: Any) -> Standardizer:
        """Compute the statistics of `values`, those of the training part, and return self.

        Raises ValueError if a feature has no value at all, or an infinite one.
        """
        array, self._columns = as_array("values", values), _columns(values)
        rows = array.reshape(-1, _features(array)) if isinstance(array, np.ndarray) else array
        size = max(1, _BLOCK // prod(rows.shape[1:]))
        with np.errstate(over="ignore", invalid="ignore"):
            found = _Moments.of(rows[:size])
            for start in range(size, len(rows), size):
                found = found.with_block(rows[start : start + size])
        for wrong, words in (
            (found.present == 0, "no value but NaN"),
            (found.largest == np.inf, "infinite values"),
            (found.largest > _LARGEST, "values whose squares are infinite"),
        ):
            if wrong.any():
                raise ValueError(f"feature {wrong.argmax()} has {words}: leave it out or repair it before the fit")
        self.constant = found.least == found.greatest
        self.mean = np.where(self.constant, found.least, found.mean)  # without the rounding of the average
        self.std = np.where(self.constant, 1.0, np.sqrt(found.squares / found.present))
        self.missing = found.missing
        return self

    def transform(self, values: Any) -> np.ndarray:
        """(x − mean) / std of an array (..., F), in its dtype if that is floating."""
        array, mean, std = self._with_statistics(values, None)
        return ((array - mean) / std).astype(array.dtype, copy=False)

    def inverse_transform(self, values: Any, features: Any = None) -> np.ndarray:
        """x · std + mean of an array (..., F); or of some features alone.

        features  a list of their indices, for an array (..., their number); or one index, for an array of any shape

        >>> scale = data.Standardizer().fit(np.array([[0.0, 10], [2, 30]]))
        >>> scale.inverse_transform([[0.0, 1.0]], features=1).tolist()  # two steps of a forecast of the second
        [[20.0, 30.0]]
        """
        array, mean, std = self._with_statistics(values, features)
        return (array * std + mean).astype(array.dtype, copy=False)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The statistics, as arrays."""
        self._check_fitted()
        return {name: getattr(self, name).copy() for name in _STATISTICS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        if set(state) != set(_STATISTICS):
            raise ValueError(f"expected the statistics {', '.join(_STATISTICS)}, got {', '.join(map(str, state))}")
        arrays: dict[str, np.ndarray] = {
            name: np.array(state[name], dtype=dtype) for name, dtype in _STATISTICS.items()
        }
        if len({array.shape for array in arrays.values()}) != 1 or arrays["mean"].ndim != 1:
            raise ValueError(f"the statistics must have one entry a feature, got {arrays}")
        for name, array in arrays.items():
            setattr(self, name, array)
        self._columns = None

    def __getattr__(self, name: str) -> Any:
        raise missing_attribute("a Standardizer", name, _HINTS)

    def __repr__(self) -> str:
        if not hasattr(self, "mean"):
            return "Standardizer(not fitted)"
        constant = f", constant: {np.flatnonzero(self.constant).tolist()}" if self.constant.any() else ""
        missing = f", missing values: {self.missing.tolist()}" if self.missing.any() else ""
        return f"Standardizer({len(self.mean)} features{constant}{missing})"

    def _with_statistics(self, values: Any, features: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._check_fitted()
        array, columns = np.asarray(as_array("values", values)), _columns(values)
        if features is None and columns and self._columns and columns != self._columns:
            raise ValueError(f"the columns must be those of the fit, {self._columns}, in this order, got {columns}")
        chosen = np.arange(len(self.mean)) if features is None else np.asarray(features)
        if chosen.ndim and _features(array) != len(chosen):
            some = "; inverse_transform(values, features=0) is of the first feature alone" if features is None else ""
            raise ValueError(
                f"values must have {len(chosen)} features, (..., {len(chosen)}), got the shape {array.shape}{some}"
            )
        return array if array.dtype.kind == "f" else array.astype(float), self.mean[chosen], self.std[chosen]

    def _check_fitted(self) -> None:
        if not hasattr(self, "mean"):
            raise RuntimeError("this Standardizer has no statistics yet: fit it on the training part alone")


_LARGEST = 1e150
_BLOCK = 2**21  # values that are looked at together
_STATISTICS = {"mean": float, "std": float, "constant": bool, "missing": int}


class _Moments(NamedTuple):
    """Of the values of each feature that are not NaN: their number, mean, squared deviations from it, and extremes."""

    present: np.ndarray
    missing: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    least: np.ndarray
    greatest: np.ndarray

    @property
    def largest(self) -> np.ndarray:
        return np.where(self.present > 0, np.maximum(np.abs(self.least), np.abs(self.greatest)), 0.0)

    @classmethod
    def of(cls, block: Any) -> _Moments:
        table = np.asarray(block)
        table = table.reshape(-1, _features(table)).astype(float)
        is_there = ~np.isnan(table)
        count = is_there.sum(axis=0)
        mean = np.where(is_there, table, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = np.square(np.where(is_there, table - mean, 0.0)).sum(axis=0)
        least = table.min(axis=0, initial=np.inf, where=is_there)
        greatest = table.max(axis=0, initial=-np.inf, where=is_there)
        return cls(count, len(table) - count, mean, squares, least, greatest)

    def with_block(self, block: Any) -> _Moments:
        """Those of a block more, after Chan, Golub and LeVeque (1979)."""
        other = self.of(block)
        count = self.present + other.present
        share, apart = other.present / np.maximum(count, 1), other.mean - self.mean
        return _Moments(
            count, self.missing + other.missing, self.mean + apart * share,
            self.squares + other.squares + np.square(apart) * self.present * share,
            np.minimum(self.least, other.least), np.maximum(self.greatest, other.greatest),
        )  # fmt: skip


def _features(array: np.ndarray) -> int:
    """F of an array (..., F), or 1 of (T,)."""
    return 1 if array.ndim < 2 else array.shape[-1]


def _columns(values: Any) -> list[str] | None:
    """The names of the columns of a table or frame."""
    return list(map(str, values.columns)) if hasattr(values, "columns") else None
