"""Table: named columns of equal length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...hints import did_you_mean, missing_attribute
from .columns import as_column, as_floats, categories_of, description, in_coarsest_unit, kind_of, missing_in, values_of

_LISTED = 40

#: What frames of pandas and polars have, and what to write instead.
HINTS = {
    **dict.fromkeys(["to_numpy", "values"], "table.array(columns)"),
    **dict.fromkeys(["describe", "info"], "table.report()"),
    **dict.fromkeys(["loc", "iloc", "head", "filter"], "table[column], or table[rows]: a slice, a mask or indices"),
    **dict.fromkeys(["isna", "isnull", "is_null"], "table.missing(column)"),
    **dict.fromkeys(["dropna", "drop_nulls"], "table[~table.missing(column)]"),
    **dict.fromkeys(
        ["fillna", "fill_null", "interpolate", "ffill"], "table.fill_missing(columns, value=… or method=…)"
    ),
    **dict.fromkeys(["assign", "with_columns"], "Table({**table, name: values})"),
    **dict.fromkeys(["to_pandas", "to_frame"], "pandas.DataFrame({**table})"),
    "tail": "table[-5:]",
    "get_dummies": "table.one_hot(column)",
    "to_dummies": "table.one_hot(column)",
    "unique": "table.categories(column)",
    "shape": "(len(table), len(table.columns))",
    "drop": "table[[name for name in table.columns if name not in dropped]]",
}


class Table:
    """Named columns of equal length: numbers, booleans, dates or categories; what is missing is counted and shown.

        table["load"]                   the column, an array (N,); strings where it holds categories
        table[["load", "price"]]        a table of some columns
        table[100:200], table[mask]     a table of some rows
        table.array(["load", "price"])  their values, float64 (N, 2)
        Table({**table, "hour": hour})  a table with one more column

    `columns` has the names. Missing values are NaN in numbers, NaT in dates and None in categories; nothing fills them
    unless `fill_missing` is called. Whatever takes an array takes a table of numbers.

    >>> table = data.Table({"load": [3.5, np.nan, 2.5], "city": ["Rome", "Paris", "Rome"]})
    >>> table
    3 rows, 2 columns
    column  type      missing  values
    load    number          1  2.5 to 3.5, mean 3
    city    category        0  2: Rome (2), Paris (1)
    >>> table[table["city"] == "Rome"].array("load").tolist()
    [[3.5], [2.5]]
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        names = list(columns.keys())
        self._columns = {str(name): as_column(str(name), columns[name]) for name in names}
        lengths = {name: len(column) for name, column in self._columns.items()}
        if len(self._columns) != len(names):
            raise ValueError(f"the names of columns must differ, got {names}")
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns must have the same length, got {lengths}")

    @classmethod
    def from_frame(cls, frame: Any) -> Table:
        """A table of the columns of a frame, of pandas or polars: whatever has `columns` and gives them by name."""
        if not hasattr(frame, "columns"):
            raise TypeError(f"expected a frame, with columns, got a {type(frame).__name__}")
        names = [str(name) for name in frame.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"the names of columns must differ, got {names}")
        return cls({str(name): frame[name] for name in frame.columns})

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._columns)

    def keys(self) -> list[str]:
        """The names of the columns, as a mapping has them."""
        return self.columns

    def __len__(self) -> int:
        """The number of rows."""
        return len(next(iter(self._columns.values()), ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._column(key)
        if isinstance(key, list) and key and all(isinstance(name, str) for name in key):
            return Table({name: self._column(name) for name in key})
        rows = key if isinstance(key, slice) else np.asarray(key)
        if not isinstance(rows, slice) and (rows.ndim != 1 or rows.dtype.kind not in "iub"):
            raise TypeError(
                f"expected the name of a column, a list of names, or a slice or array of rows, got {key!r:.80}"
            )
        return Table({name: column[rows] for name, column in self._columns.items()})

    def __getattr__(self, name: str) -> Any:
        columns = {column: f"table[{column!r}]" for column in self.__dict__.get("_columns", ())}
        raise missing_attribute("a Table", name, {**columns, **HINTS})

    def __repr__(self) -> str:
        return self.report()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array().astype(dtype or float, copy=False)

    def report(self) -> str:
        """The columns as text: type, missing values, and range and mean, or how many categories and which."""
        rows = [("column", "type", "missing", "values")]
        for name, column in list(self._columns.items())[:_LISTED]:
            rows.append((name, kind_of(column), str(missing_in(column).sum()), description(column)))
        width, kinds = (max(len(row[k]) for row in rows) for k in (0, 1))
        lines = [f"{name:{width}}  {kind:{kinds}}  {missing:>7}  {values}" for name, kind, missing, values in rows]
        more = [f"… {len(self.columns) - _LISTED} more columns"] if len(self.columns) > _LISTED else []
        return "\n".join([f"{len(self)} rows, {len(self.columns)} columns", *lines, *more])

    def array(self, columns: str | Sequence[str] | None = None) -> np.ndarray:
        """The values of some columns, or of all: float64 (N, F), NaN where one is missing.

        Booleans are 0 and 1, dates seconds since 1970 in UTC. Raises TypeError for categories (see `one_hot`).
        """
        names = self._names(columns)
        if not names:
            raise ValueError("there are no columns to make an array of")
        return np.stack([as_floats(name, self._column(name)) for name in names], axis=1)

    def missing(self, column: str) -> np.ndarray:
        """Where the value of a column is missing: `table[~table.missing("load")]` leaves these rows out."""
        return missing_in(self._column(column))

    def categories(self, column: str) -> list[Any]:
        """The values that occur in a column, sorted."""
        return categories_of(self._column(column))

    def codes(self, column: str, categories: Sequence[Any] | None = None) -> np.ndarray:
        """The ids of a column's categories: int64 (N,), the index in `categories` (default: those that occur, sorted).

        Raises ValueError if a value is missing or not among the categories.

        >>> data.Table({"city": ["Rome", "Paris", "Rome"]}).codes("city").tolist()
        [1, 0, 1]
        """
        codes = self._codes(column, self.categories(column) if categories is None else categories)
        if (codes < 0).any():
            raise ValueError(
                f"column {column!r} has {(codes < 0).sum()} missing values, which have no id: fill them, or leave "
                f"these rows out with table[~table.missing({column!r})]"
            )
        return codes

    def one_hot(self, column: str, categories: Sequence[Any] | None = None) -> Table:
        """A table with a column of 0 and 1 for each category in place of `column`; NaN where it is missing.

        Give `categories` where the table is a part that may lack some. Raises ValueError if a value is not among them.

        >>> data.Table({"city": ["Rome", "Paris"], "load": [1, 2]}).one_hot("city").columns
        ['city=Paris', 'city=Rome', 'load']
        """
        categories = self.categories(column) if categories is None else categories
        codes = self._codes(column, categories)
        columns: dict[str, np.ndarray] = {}
        for name, values in self._columns.items():
            if name != column:
                columns[name] = values
                continue
            for code, category in enumerate(categories):
                if (new := f"{column}={category}") in self._columns:
                    raise ValueError(f"there is a column {new!r} already")
                columns[new] = np.where(codes < 0, np.nan, codes == code)
        return Table(columns)

    def fill_missing(self, columns: str | Sequence[str], *, value: Any = None, method: str | None = None) -> Table:
        """A table whose missing values in `columns` are filled: with `value`, or by `method`:

            "forward"      the last value before it, which uses no future; what has none before stays missing
            "interpolate"  between the values before and after, by rows, which uses the future; the ends stay missing

        >>> table = data.Table({"load": [1, np.nan, 3]})
        >>> table.fill_missing("load", method="forward")["load"].tolist()
        [1.0, 1.0, 3.0]
        """
        if (value is None) == (method is None) or method not in (None, "forward", "interpolate"):
            raise ValueError(f"give a value, or method='forward' or 'interpolate', got {value!r} and {method!r}")
        filled = dict(self._columns)
        for name in self._names(columns):
            column, gone = self._column(name), self.missing(name)
            if not gone.any():
                continue
            rows = np.arange(len(column))
            if method == "forward":
                column = column[np.maximum.accumulate(np.where(gone, 0, rows))]
            elif method == "interpolate":
                if kind_of(column) != "number":
                    raise TypeError(f"column {name!r} holds a {kind_of(column)}: there is nothing between two of them")
                if not gone.all():
                    column = np.interp(rows, rows[~gone], column[~gone], left=np.nan, right=np.nan)
            elif kind_of(column) == "date":
                column = in_coarsest_unit(np.where(gone, np.datetime64(value, "us"), column))
            else:
                column = column.copy()
                column[gone] = value
            filled[name] = column
        return Table(filled)

    def _names(self, columns: str | Sequence[str] | None) -> list[str]:
        return self.columns if columns is None else [columns] if isinstance(columns, str) else list(columns)

    def _column(self, name: str) -> np.ndarray:
        if name not in self._columns:
            known = f", there are {', '.join(self.columns)[:400]}"
            raise KeyError(f"no column {name!r}{did_you_mean(str(name), self.columns) or known}")
        return self._columns[name]

    def _codes(self, name: str, categories: Sequence[Any]) -> np.ndarray:
        """The index of each value in `categories`, or -1 where it is missing."""
        column, gone = self._column(name), self.missing(name)
        index = {category: code for code, category in enumerate(categories)}
        if isinstance(categories, (str, set, frozenset)):
            raise TypeError(f"categories must be a list, whose order is that of the ids, got {categories!r:.80}")
        if len(index) < len(categories):
            raise ValueError(f"the categories must differ, got {list(categories)!r:.400}")
        unknown = sorted(set(values_of(column[~gone])) - set(index))
        if unknown:
            raise ValueError(
                f"column {name!r} has {unknown[0]!r}, which is not among the categories {list(index)!r:.400}"
            )
        return np.array(
            [-1 if is_gone else index[value] for value, is_gone in zip(values_of(column), gone)], dtype=np.int64
        )
