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

    def __add__(self, other: Report) -> Report:
        return Report(
            self.values + other.values,
            self.derivatives + other.derivatives,
            tuple(sorted({*self.orders, *other.orders})),
            self.gradients + other.gradients,
            tuple(dict.fromkeys([*self.dtypes, *other.dtypes])),
            self.layouts + other.layouts,
            self.compiled + other.compiled,
        )

    def __bool__(self) -> bool:
        return bool(self.values or self.derivatives or self.gradients)

    def __str__(self) -> str:
        parts = [
            f"{self.values:,} values" if self.values else "",
            f"{self.derivatives:,} derivatives of order {_listed(self.orders)}" if self.derivatives else "",
            f"{self.gradients:,} gradients" if self.gradients else "",
        ]
        text = _listed(filter(None, parts)) or "nothing"
        text += f" in {_listed(self.dtypes)}" if self.dtypes else ""
        text += f", {self.layouts} memory layouts" if self.layouts else ""
        return text + (f", {self.compiled} compiled scans" if self.compiled else "")


def _listed(words: Iterable[object]) -> str:
    *most, last = [str(word) for word in words] or [""]
    return f"{', '.join(most)} and {last}" if most else last
