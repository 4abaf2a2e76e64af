"""CSV files as tables: types found by stated rules, and errors that name the line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...keywords import answered
from .parsing import FieldError, NumberFormat, is_value, parse_column
from .table import Table

MISSING = frozenset(("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "NULL", "null", "None"))
_DELIMITERS = "\t;|,"
_SNIFFED_ROWS = 100
_TYPES = ("number", "boolean", "date", "category")


#: Keywords of pandas's function, and what to write instead.
KEYWORDS = {
    "sep": "delimiter",
    "index_col": "not needed: each column is there by its name",
    "usecols": "a choice afterwards: table[['load', 'price']]",
    "na_values": "missing=['?', …]",
    "parse_dates": "not needed: dates in ISO 8601 are found; dates={'day': '%d.%m.%Y'} reads others",
    "dtype": "types={'id': 'category'}",
    "nrows": "a choice afterwards: table[:n]",
}


@answered(KEYWORDS)
def read_csv(
    path: Any,
    *,
    delimiter: str | None = None,
    decimal: str = ".",
    thousands: str = "",
    header: bool | None = None,
    names: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    dates: Mapping[str, str] | None = None,
    missing: str | Iterable[str] = (),
    encoding: str = "utf-8",
) -> Table:
    """The `Table` in a CSV file (a path, or an open text file); print it to see what was found.

    delimiter  default: the first of tab, ; | and , (not the decimal sign) that cuts each of the first 100 rows into the
               same number of fields, more than one; if none does, the one that cuts the first row into most
    decimal, thousands   the signs in numbers: 1.234,5 is decimal="," and thousands="."
    header     whether the first row has the names. Default: yes if none of its fields is a number or a date, no if all
               are (the columns are "column 0", ...); if some are, it is for you to say
    names      the names of the columns, instead of those in the header
    types      by column, "number", "boolean", "date" or "category". Default: what all its values are: numbers (int64 if
               they are whole and none is missing, else float64), true and false, dates in ISO 8601 (2024-03-01 12:30,
               also 2024/03/01; with a time zone they are turned into UTC), or else categories, as too long integers are
    dates      by column, the format of other dates, as of `datetime.strptime`: {"day": "%d.%m.%Y"}
    missing    a text that stands for a missing value, or several, besides the empty one, NA, N/A, NaN, NULL and None

    Blank lines are skipped, and space around a field is no part of it. Raises ValueError, which names the line, for a
    row of another length, text in another encoding, and where a few values of a column of numbers are none.

    >>> import io
    >>> data.read_csv(io.StringIO("day;load\\n2024-01-01;1,5\\n2024-01-02;\\n"), decimal=",")
    2 rows, 2 columns
    column  type    missing  values
    day     date          0  2024-01-01 to 2024-01-02
    load    number        1  1.5 to 1.5, mean 1.5
    """
    texts = [missing] if isinstance(missing, str) else list(missing)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"missing must be texts as they stand in the file, such as '-999', got {missing!r:.80}")
    form, absent = NumberFormat(decimal, thousands), MISSING.union(texts)
    types, dates = dict(types or {}), dict(dates or {})
    source, text = _text_of(path, encoding)
    rows, lines = _rows_of(source, text, _delimiter_of(text, decimal) if delimiter is None else delimiter)
    if header is None:
        header = _has_header(source, lines[0], [is_value(field, form) for field in rows[0] if field not in absent])
    names = _names_of(source, rows[0], header, names)
    _check_settings(source, names, types, dates)
    rows, lines = rows[header:], lines[header:]
    if not rows:
        raise ValueError(f"{source} has the names of {len(names)} columns, but no rows")
    columns = {}
    for name, fields in zip(names, zip(*rows)):
        try:
            columns[name] = parse_column(fields, absent, form, types.get(name), dates.get(name))
        except FieldError as error:
            raise ValueError(f"{source}, line {lines[error.row]}, column {name!r}: {error}") from None
    return Table(columns)


def _text_of(path: Any, encoding: str) -> tuple[str, str]:
    """What the source is called, and its text."""
    if hasattr(path, "read"):
        source, content = str(getattr(path, "name", "the CSV text")), path.read()
    else:
        source = str(path)
        if Path(path).is_char_device():  # some never end
            raise ValueError(f"{source} is a device, no file")
        content = Path(path).read_bytes()
    if isinstance(content, str):
        return source, content.removeprefix("\ufeff")
    if codecs.lookup(encoding).name == "utf-8":
        encoding = "utf-8-sig"
    try:
        return source, content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{source}, line {line}: byte 0x{content[error.start]:02x} is not {encoding.removesuffix('-sig')}: give "
            "the file's encoding, often encoding='cp1252' or 'utf-16' on Windows (--encoding; or is it no text file?)"
        ) from error


def _delimiter_of(text: str, decimal: str) -> str:
    most = {}
    for delimiter in _DELIMITERS:
        if delimiter != decimal:
            try:
                rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
                counts = [len(row) for row in islice(rows, _SNIFFED_ROWS) if row]
            except csv.Error:  # is reported when the file is read
                continue
            if len(set(counts)) == 1 and counts[0] > 1:
                return delimiter
            most[delimiter] = counts[0] if counts else 0
    return max(most, key=most.__getitem__, default=",")


def _rows_of(source: str, text: str, delimiter: str) -> tuple[list[list[str]], list[int]]:
    """The fields of every row that is not blank, and the line where it begins."""
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if fields and (len(fields) > 1 or fields[0]):
                if rows and len(fields) != len(rows[0]):
                    raise ValueError(
                        f"{source}, line {line}: {len(fields)} fields, but {len(rows[0])} in line {lines[0]}, with the "
                        f"delimiter {delimiter!r} (is it another one, or also a sign in texts or numbers?)"
                    )
                rows.append(fields)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{source}, line {line}: {error} (a quotation mark that is not closed?)") from error
    if not rows:
        raise ValueError(f"{source} is empty")
    return rows, lines


def _has_header(source: str, line: int, are_values: list[bool]) -> bool:
    """Whether the first row is one, by which of its fields are numbers or dates."""
    if any(are_values) and not all(are_values):
        raise ValueError(
            f"{source}, line {line}: some fields are numbers or dates and some are not, so it may be the names of the "
            "columns or the first row: say header=True or header=False (--header yes or no)"
        )
    return not any(are_values)


def _names_of(source: str, first: list[str], header: bool, names: Sequence[str] | None) -> list[str]:
    if names is None:
        names = [(field if header else "") or f"column {number}" for number, field in enumerate(first)]
    if len(names) != len(first):
        raise ValueError(f"{source} has {len(first)} columns, but names has {len(names)}")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(
            f"{source} has more than one column {twice[0]!r}: give the columns other names with names=[...]"
        )
    return list(names)


def _check_settings(source: str, names: list[str], types: Mapping[str, str], dates: Mapping[str, str]) -> None:
    for argument, settings in (("types", types), ("dates", dates)):
        for name in settings:
            if name not in names:
                raise ValueError(f"{argument} has {name!r}, but the columns of {source} are {', '.join(names)[:400]}")
    for name, kind in types.items():
        if kind not in _TYPES:
            raise ValueError(f"the type of column {name!r} must be one of {', '.join(_TYPES)}, got {kind!r}")
