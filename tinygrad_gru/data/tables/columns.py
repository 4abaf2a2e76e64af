"""Columns: arrays (N,) of numbers, booleans, dates (datetime64) or categories (strings; None where one is missing)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

_KINDS = {"b": "boolean", "i": "number", "u": "number", "f": "number", "M": "date", "U": "category", "O": "category"}
#: Larger integers are not exact in float64.
EXACT = 2**53
_EPOCH, _SECOND = np.datetime64(0, "s"), np.timedelta64(1, "s")


def as_column(name: str, values: Any) -> np.ndarray:
    """`values` (N,), an array, a list, or a column of a frame, as a column."""
    array = unmasked(name, values.to_numpy() if hasattr(values, "to_numpy") else values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r} must have one value a row, (N,), got the shape {array.shape}")
    if array.dtype.kind not in _KINDS:
        raise TypeError(f"column {name!r} must hold numbers, booleans, dates or strings, got {array.dtype}")
    return _from_objects(name, array.tolist()) if array.dtype.kind == "O" else array


def unmasked(name: str, values: Any) -> np.ndarray:
    """`values` as an array. TypeError for a masked array, of which NumPy would give the values behind the mask."""
    if np.ma.is_masked(values):
        raise TypeError(f"{name} is a masked array: write {name}.astype(float).filled(np.nan)")
    return np.asarray(values)


def kind_of(column: np.ndarray) -> str:
    """What a column holds: "number", "boolean", "date" or "category"."""
    return _KINDS[column.dtype.kind]


def missing_in(column: np.ndarray) -> np.ndarray:
    """Where a value is missing."""
    if column.dtype.kind == "O":
        return np.array([value is None for value in column], dtype=bool)
    if column.dtype.kind == "M":
        return np.isnat(column)
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=bool)


def as_floats(name: str, column: np.ndarray) -> np.ndarray:
    """Numbers, booleans as 0 and 1, and dates as seconds since 1970 (in UTC); NaN where one is missing."""
    if kind_of(column) == "category":
        raise TypeError(
            f"column {name!r} holds categories, not numbers: table.one_hot({name!r}) makes columns of 0 and 1, "
            f"table.codes({name!r}) ids of them"
        )
    return ((column - _EPOCH) / _SECOND if column.dtype.kind == "M" else column).astype(float)


def categories_of(column: np.ndarray) -> list[Any]:
    """The values that occur, sorted."""
    return sorted(set(values_of(column[~missing_in(column)])))


def values_of(column: np.ndarray) -> list[Any]:
    """The values as Python objects; dates stay what they are, for Python has fewer of them."""
    return list(column) if column.dtype.kind == "M" else column.tolist()


def description(column: np.ndarray) -> str:
    """The range of a column, or its most frequent categories."""
    present = column[~missing_in(column)]
    if not len(present):
        return "no values"
    kind = kind_of(column)
    if kind == "date":
        return f"{present.min()} to {present.max()}"
    if kind == "category":
        values, counts = np.unique(present.astype(str), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        listed = [f"{_shortened(values[k])} ({counts[k]})" for k in order[:_LISTED]]
        return f"{len(values)}: {', '.join(listed + ['…'] * (len(values) > _LISTED))}"
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        mean = present.mean(dtype=float)
    return f"{present.min():.6g} to {present.max():.6g}, mean {mean:.6g}"


_LISTED, _LONGEST = 4, 24


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _from_objects(name: str, values: Sequence[Any]) -> np.ndarray:
    """A column of Python objects of one kind, of which some may be missing."""
    missing = [_is_missing(value) for value in values]
    present = [value for value, is_missing in zip(values, missing) if not is_missing]
    if all(isinstance(value, str) for value in present):
        if not any(missing):
            return np.array(present, dtype=str)
        return np.array([None if gone else value for value, gone in zip(values, missing)], dtype=object)
    if all(isinstance(value, datetime.date) for value in present):
        dates = ["NaT" if gone else _without_zone(value) for value, gone in zip(values, missing)]
        return in_coarsest_unit(np.array(dates, dtype="datetime64[us]"))
    if not all(isinstance(value, (Real, Decimal)) for value in present):
        types = sorted({type(value).__name__ for value in present})
        raise TypeError(
            f"column {name!r} must hold numbers, dates or strings alone, got values of type {', '.join(types)}"
        )
    integral = all(isinstance(value, Integral) for value in present)
    if any(missing) or not integral:
        if integral and any(abs(value) > EXACT for value in present):
            raise ValueError(
                f"column {name!r} has missing values, for which it becomes float64, and integers beyond {EXACT}, which "
                "that rounds: give ids as strings"
            )
        return np.array([np.nan if gone else float(value) for value, gone in zip(values, missing)])
    column = np.array(present)
    if column.dtype.kind == "O":
        raise ValueError(f"column {name!r} has integers beyond int64")
    return column


def in_coarsest_unit(dates: np.ndarray) -> np.ndarray:
    """Dates in days if none has a time, else in seconds if that is exact, else in microseconds."""
    dates = dates.astype("datetime64[us]")
    for unit in ("D", "s"):
        coarse = dates.astype(f"datetime64[{unit}]")
        if ((coarse == dates) | np.isnat(dates)).all():
            return coarse
    return dates


def _is_missing(value: Any) -> bool:
    """None, NaN, and what pandas has for them."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _without_zone(value: datetime.date) -> datetime.date:
    """A time in UTC, without its time zone."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return value
