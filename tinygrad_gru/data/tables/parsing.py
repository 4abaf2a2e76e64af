"""The fields of a CSV column, which are texts, as a column of numbers, booleans, dates or categories."""

from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .columns import EXACT, as_column, in_coarsest_unit

_TIME = r"[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?"
_ISO_DATE = re.compile(rf"(\d{{4}}(?:-\d\d|([-/])\d\d\2\d\d(?:{_TIME})?))(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_INFINITY = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OTHER_FORMATS = ((",", ""), (".", ","), (",", "."), (".", " "), (",", " "))
_LARGEST, _MOST_DIGITS = np.iinfo(np.int64).max, 21


class FieldError(ValueError):
    """What is wrong with the field of row `row`."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


class NumberFormat:
    """How numbers are written: with which decimal sign, and with which sign between thousands, if any."""

    def __init__(self, decimal: str = ".", thousands: str = "") -> None:
        if len(decimal) != 1 or decimal == thousands or len(thousands) > 1:
            raise ValueError(f"decimal and thousands must be two different signs, got {decimal!r} and {thousands!r}")
        point, comma = re.escape(decimal), re.escape(thousands)
        whole = rf"(?:\d{{1,3}}(?:{comma}\d{{3}})+|\d+)" if thousands else r"\d+"
        self._form = re.compile(rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?", re.ASCII)
        self.decimal, self.thousands = decimal, thousands

    def parse(self, text: str) -> float:
        """The number. Raises ValueError if the text is none."""
        if not self.is_number(text):
            raise ValueError(f"{text!r} is no number")
        value = float((text.replace(self.thousands, "") if self.thousands else text).replace(self.decimal, "."))
        if math.isinf(value) and self._form.fullmatch(text):
            raise ValueError(f"{text!r} is beyond float64")
        return value

    def parse_all(self, texts: list[str]) -> list[float] | None:
        """The numbers, all at once; None if one may be none, so that each has to be looked at."""
        joined = "".join(texts)
        if (self.decimal, self.thousands) != (".", "") or "_" in joined or not joined.isascii():
            return None  # what Python reads as a number is not the same
        try:
            values = list(map(float, texts))
        except ValueError:
            return None
        return values if all(map(math.isfinite, values)) else None

    def is_number(self, text: str) -> bool:
        """Whether the text is a number."""
        return bool(self._form.fullmatch(text) or _INFINITY.fullmatch(text))

    def count(self, texts: Counter[str]) -> int:
        """How many of the texts are numbers."""
        return sum(count for text, count in texts.items() if self.is_number(text))


def parse_column(
    fields: Sequence[str], absent: frozenset[str], form: NumberFormat, kind: str | None, date_format: str | None
) -> np.ndarray:
    """The column of `fields`, where those in `absent` are missing; of a `kind`, or of the one that all fields have.

    Raises FieldError if a field is not of the kind, or is no number while most are.
    """
    present = [field for field in fields if field not in absent]
    kind = _kind_of(fields, present, absent, form) if kind is None and date_format is None else kind

    def each(parse: Callable[[str], Any], missing: Any, expected: str) -> list[Any]:
        values = []
        for row, field in enumerate(fields):
            try:
                values.append(missing if field in absent else parse(field))
            except (ValueError, KeyError):
                raise FieldError(row, f"{field!r:.80} is no {expected}") from None
        return values

    if date_format is not None:
        dates = each(lambda text: datetime.datetime.strptime(text, date_format), None, f"date as {date_format!r}")
        return as_column("", dates)
    if kind == "date":
        return in_coarsest_unit(np.array(each(_iso_date, np.datetime64("NaT", "D"), "date"), dtype="datetime64[us]"))
    if kind == "number":
        found = form.parse_all(present)
        values = np.full(len(fields), np.nan)
        if found is None:
            values[:] = each(form.parse, np.nan, "number")
        else:
            values[[field not in absent for field in fields]] = found
        if len(present) == len(fields) and _are_integers(present, _LARGEST):
            return np.array(list(map(int, present)), dtype=np.int64)
        return values
    return as_column("", each(_BOOLEANS.__getitem__ if kind == "boolean" else str, None, str(kind)))


def is_value(text: str, form: NumberFormat) -> bool:
    """Whether the text is a number or a date, as the name of a column hardly is."""
    return form.is_number(text) or bool(_ISO_DATE.fullmatch(text))


def _kind_of(fields: Sequence[str], present: list[str], absent: frozenset[str], form: NumberFormat) -> str:
    """The kind that all present fields have. Raises FieldError if most are numbers, maybe in another format."""
    numbers = len(present) if form.parse_all(present) is not None else sum(map(form.is_number, present))
    if numbers == len(present):
        is_id = _are_integers(present, None) and not _are_integers(
            present, _LARGEST if numbers == len(fields) else EXACT
        )
        return "category" if is_id else "number"
    if all(map(_BOOLEANS.__contains__, present)):
        return "boolean"
    if all(map(_ISO_DATE.fullmatch, present)):
        return "date"
    row = next(k for k, field in enumerate(fields) if field not in absent and not form.is_number(field))
    shown = f"{fields[row]!r:.80}"
    texts = Counter(present)  # of categories there are few different ones
    counts = {pair: NumberFormat(*pair).count(texts) for pair in _OTHER_FORMATS}
    most = max(counts.values())
    if most == len(present) or 2 * most > len(present) >= 2 * numbers:
        fits = [pair for pair, count in counts.items() if count == most]
        used = [pair for pair in fits if any(pair[1] in text for text in texts)] or fits[:1]
        ways = ", or with ".join(f"decimal={decimal!r}, thousands={thousands!r}" for decimal, thousands in used)
        which = f"{shown} and the others" if most == len(present) else f"{most} of {len(present)} values"
        raise FieldError(
            row, f'{which} are numbers with {ways}: give these (--decimal, --thousands), or the type "category"'
        )
    if 2 * numbers > len(present):
        raise FieldError(
            row,
            f"{shown} is no number, but {numbers} of {len(present)} values are: if it stands for a missing value, give "
            f'missing=[{shown}] (--missing); if these are names, the type "category"',
        )
    return "category"


def _are_integers(texts: list[str], largest: int | None) -> bool:
    """Whether all texts are integers, up to `largest`."""
    if not all(text.lstrip("+-").isdigit() for text in texts):
        return False
    return largest is None or all(len(text) < _MOST_DIGITS and abs(int(text)) <= largest for text in texts)


def _iso_date(text: str) -> np.datetime64:
    """A date in ISO 8601, in UTC if it has a time zone, to the microsecond. Raises ValueError if it is none."""
    match = _ISO_DATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no date")
    date, _, zone = match.groups()
    moment = np.datetime64(date.replace("/", "-").replace(" ", "T"), "us")
    if zone is None or zone == "Z":
        return moment
    minutes = 60 * int(zone[1:3]) + int(zone[-2:])
    return moment - np.timedelta64(-minutes if zone[0] == "-" else minutes, "m")
