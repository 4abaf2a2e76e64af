"""What a model of series reads of a table: numbers, booleans as 0 and 1, a column of 0 and 1 for each category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...data import Table
from ...data.tables.columns import kind_of

_MOST_CATEGORIES = 50


class Features:
    """Columns of a table as an array (T, F): `columns` has the categories of each, None of a number."""

    def __init__(self, columns: Mapping[str, Sequence[Any] | None]) -> None:
        self.columns = dict(columns)

    @classmethod
    def of(cls, table: Table, names: Sequence[str]) -> Features:
        """These columns, with the categories that occur in `table`."""
        return cls({name: table.categories(name) if kind_of(table[name]) == "category" else None for name in names})

    @property
    def size(self) -> int:
        """F, the number of features."""
        return sum(1 if categories is None else len(categories) for categories in self.columns.values())

    def array(self, table: Table) -> np.ndarray:
        """The features of all rows: float64 (T, F). ValueError, which counts them, if values are missing."""
        selected = table[list(self.columns)]
        missing = {name: int(table.missing(name).sum()) for name in self.columns}
        if any(missing.values()):
            counts = ", ".join(f"{name} ({count})" for name, count in missing.items() if count)
            raise ValueError(
                f"values are missing in {counts}: fill them (fill='forward', the value before, or 'interpolate'; "
                "--fill), or leave these columns out (features=, --features)"
            )
        for name, categories in self.columns.items():
            if categories is not None:
                selected = selected.one_hot(name, categories)
        return selected.array()


def filled(table: Table, names: Sequence[str], method: str | None) -> Table:
    """The table with missing values of these columns filled by `method`, if there is one."""
    if method == "interpolate":
        others = [name for name in names if kind_of(table[name]) != "number" and table.missing(name).any()]
        if others:
            raise ValueError(
                f"fill: between two values of {', '.join(others)} ({kind_of(table[others[0]])}) there is nothing: "
                "fill='forward' (--fill forward) takes the one before, or leave the column out (features=, --features)"
            )
    return table if method is None else table.fill_missing(list(names), method=method)


def usable(table: Table, name: str) -> str | None:
    """None if a column can be read without being asked for, otherwise why not."""
    if kind_of(table[name]) == "date":
        return "a date"
    if table.missing(name).all():
        return "no values"
    count = len(table.categories(name)) if kind_of(table[name]) == "category" else 0
    return f"{count} categories" if count > _MOST_CATEGORIES else None
