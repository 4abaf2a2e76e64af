"""Report: what a check compared. A check that compared nothing has failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """How much a check that passed has compared. Reports add up; `str` is a sentence.

    values       entries of results, with the oracle, in any dtype
    derivatives  entries of Jacobians, with finite differences; a derivative along a random direction counts as one
    orders       of the derivatives
    gradients    entries of gradients in lower precision, with those in float64
    dtypes       in which values and gradients were compared
    layouts      runs on non-contiguous arrays and cotangents, each compared with a contiguous one
    compiled     scans whose compiled step was compared with the eager one, to second order
    not_compiled  why others were not compiled: they run eagerly

    >>> report = testing.gradcheck(ops.tanh, [np.ones(2)])
    >>> report.derivatives, report.orders
    (4, (1,))
    """

    values: int = 0
    derivatives: int = 0
    orders: tuple[int, ...] = ()
    gradients: int = 0
    dtypes: tuple[str, ...] = ()
    layouts: int = 0
    compiled: int = 0
    not_compiled: tuple[str, ...] = ()

    def __add__(self, other: Report) -> Report:
        return Report(
            self.values + other.values,
            self.derivatives + other.derivatives,
            tuple(sorted({*self.orders, *other.orders})),
            self.gradients + other.gradients,
            tuple(dict.fromkeys([*self.dtypes, *other.dtypes])),
            self.layouts + other.layouts,
            self.compiled + other.compiled,
            tuple(dict.fromkeys([*self.not_compiled, *other.not_compiled])),
        )

    def __bool__(self) -> bool:
        return bool(self.values or self.derivatives or self.gradients)

    def __str__(self) -> str:
        parts = [
            _counted(self.values, "value"),
            _counted(self.derivatives, "derivative") + f" of order {_listed(self.orders)}" if self.derivatives else "",
            _counted(self.gradients, "gradient"),
        ]
        text = _listed(filter(None, parts)) or "nothing"
        text += f" in {_listed(self.dtypes)}" if self.dtypes else ""
        counts = [_counted(self.layouts, "memory layout"), _counted(self.compiled, "compiled scan")]
        text = ", ".join([text, *filter(None, counts)])
        return text + "".join(f"; not compiled: {reason}, runs eagerly" for reason in self.not_compiled)


def _counted(number: int, what: str) -> str:
    """ "1 value", "60 values"; nothing of 0."""
    return f"{number:,} {what}{'s' if number > 1 else ''}" if number else ""


def _listed(words: Iterable[object]) -> str:
    *most, last = [str(word) for word in words] or [""]
    return f"{', '.join(most)} and {last}" if most else last
