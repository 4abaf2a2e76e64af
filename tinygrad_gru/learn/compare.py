"""Differences between what is expected and what a solution gave, in words."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from .text import show_value


@dataclass
class Difference:
    """One difference: in which part of the result, what is wrong in words, and the values, if they say more."""

    part: str
    words: str
    expected: Any = None
    given: Any = None
    has_values: bool = False

    def __str__(self) -> str:
        lines = [": ".join(filter(None, (self.part, self.words)))] if self.part or self.words else []
        if self.has_values:
            lines += [_indented("expected  ", self.expected), _indented("yours     ", self.given)]
        return "\n".join(lines)


def difference(
    expected: Any, given: Any, rtol: float, atol: float, names: Sequence[str] = (), part: str = ""
) -> Difference | None:
    """The first difference between two results, or None.

    A list or an array will do for a tuple, and a float for an array without axes.
    """
    if given is None and expected is not None:
        return Difference(part, "None came back" if part else "None came back: is a `return` missing?")
    if isinstance(expected, dict) and isinstance(given, dict):
        if expected.keys() != given.keys():
            missing, unknown = (
                ", ".join(map(repr, [k for k in a if k not in b])) for a, b in ((expected, given), (given, expected))
            )
            words = " and ".join(filter(None, (missing and f"without {missing}", unknown and f"with {unknown}")))
            return Difference(part, f"other keys: {words}", list(expected), list(given), True)
        pairs = [(_join(part, str(key)), expected[key], given[key]) for key in expected]
    elif isinstance(expected, (tuple, list)) and (isinstance(given, (tuple, list)) or np.ndim(given)):
        if len(expected) != len(given):
            words = f"a {type(given).__name__} of {len(given)}, where {len(expected)} are expected"
            return Difference(part, words, expected, given, True)
        labels = names if len(names) == len(expected) else [f"[{i}]" for i in range(len(expected))]
        pairs = [(_join(part, label), e, g) for label, e, g in zip(labels, expected, given)]
    else:
        return _leaf_difference(expected, given, rtol, atol, part)
    return next(filter(None, (difference(e, g, rtol, atol, (), label) for label, e, g in pairs)), None)


def _leaf_difference(expected: Any, given: Any, rtol: float, atol: float, part: str) -> Difference | None:
    if not _is_numeric(expected) and type(given) is type(expected):
        return None if given == expected else Difference(part, "", expected, given, True)
    if not (_is_numeric(expected) and _is_numeric(given)):
        words = f"{kind_of(given)} came back, where {kind_of(expected)} is expected{_remedy(expected, given)}"
        return Difference(part, words, expected, given, True)
    e, g = np.asarray(expected), np.asarray(given)
    if e.shape != g.shape:
        return Difference(part, f"shape {g.shape}, where {e.shape} is expected", expected, given, True)
    if isinstance(expected, np.ndarray) and e.ndim and not isinstance(given, np.ndarray):
        return Difference(part, f"{kind_of(given)} came back, where an array is expected", expected, given, True)
    if not e.ndim and e.dtype.kind in "bi" and g.dtype.kind != e.dtype.kind:
        words = f"{g.item()!r} came back, where {'an int' if e.dtype.kind == 'i' else 'True or False'} is expected"
        return Difference(part, words, expected, given, True)
    if e.ndim and e.dtype != g.dtype:
        return Difference(part, f"dtype {g.dtype}, where {e.dtype} is expected", expected, given, True)
    if np.array_equal(e, g):
        return None
    if e.dtype.kind == "f":
        rtol = max(rtol, 32 * float(np.finfo(e.dtype).eps))
    with np.errstate(all="ignore"):
        wrong = ~np.isclose(g, e, rtol, atol, equal_nan=True)
        nan = np.isnan(g) & ~np.isnan(e)
    if not wrong.any():
        return None
    words = "NaN came back" if nan.all() else f"NaN{_places(nan)}" if nan.any() else _places(wrong).lstrip()
    if e.ndim and wrong.all() and not nan.any():
        words = ""
    return Difference(part, words, expected, given, True)


def _remedy(expected: Any, given: Any) -> str:
    """What to return instead of a container of another kind."""
    if isinstance(expected, (list, tuple)) and isinstance(given, Iterable) and not isinstance(given, str):
        return f": return {type(expected).__name__}(…)"
    if isinstance(expected, np.ndarray) and expected.ndim and isinstance(given, (list, tuple)):
        with suppress(ValueError, TypeError):  # of parts of various lengths
            if np.shape(given) == expected.shape:
                return ": return np.array(…)"
    return ""


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape}" if value.dtype != object else "an array of objects"
    if isinstance(value, (numbers.Number, np.ndarray)):
        return "a number"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _is_numeric(value: Any) -> bool:
    return isinstance(value, (numbers.Number, np.ndarray, np.generic)) and np.asarray(value).dtype.kind in "biufc"


def _places(wrong: np.ndarray) -> str:
    """Where an array is wrong, such as " at [0, 1]"; nothing for a number."""
    if not wrong.ndim:
        return ""
    first = ", ".join(str(int(i)) for i in np.argwhere(wrong)[0])
    others = int(wrong.sum()) - 1
    return f" at [{first}]" + (f" and {others} other place{'s' * (others > 1)}" if others else "")


def _join(part: str, label: str) -> str:
    return part + label if label.startswith("[") else ", ".join(filter(None, (part, label)))


def _indented(label: str, value: Any) -> str:
    lines = show_value(value).splitlines()
    text = "\n".join([lines[0], *(" " * (len(label) + 4) + line for line in lines[1:])])
    return f"    {label}{text if len(text) < 1500 else text[:1500] + ' …'}"
