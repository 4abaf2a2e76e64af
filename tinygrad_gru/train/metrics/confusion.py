"""The confusion matrix, with precision, recall and F1 of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend import to_host
from ...html import table
from .base import Metric
from .classification import predicted_classes


class ConfusionMatrix(Metric):
    """Confusion matrix: how often a target of each class (row) was predicted as each class (column).

    classes       names, or their number; by default numbers, as many as the outputs have
    threshold     as of `Accuracy`: None for scores of classes, a number for binary scores
    ignore_index  targets of this value do not count

    `print` shows the table with precision, recall and F1 of each class. Its value in records is the macro F1: the mean
    F1 of the classes that occur in targets or predictions. Of a class that was never predicted precision is NaN, and
    of one that never was a target recall is. Outputs that are NaN predict no class: they are not in the matrix, and all
    that is computed from it is NaN then.

    >>> confusion = train.ConfusionMatrix(["cat", "dog"])
    >>> confusion.update(np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]]), np.array([0, 1, 1]))
    >>> confusion.matrix.tolist()
    [[1, 0], [1, 1]]
    >>> print(confusion)
    target \\ predicted   cat   dog   precision   recall      F1   count
    cat                    1     0       0.500    1.000   0.667       1
    dog                    1     1       1.000    0.500   0.667       2
    accuracy 0.667, macro F1 0.667 of 3 targets
    """

    name, average, higher_is_better = "macro_f1", "classes", True

    def __init__(
        self,
        classes: int | Sequence[str] | None = None,
        threshold: float | None = None,
        ignore_index: int | None = None,
    ) -> None:
        self.classes = list(map(str, range(classes))) if isinstance(classes, int) else classes and list(classes)
        self.threshold, self.ignore_index = threshold, ignore_index
        super().__init__()

    def update(self, outputs: Any, targets: Any) -> None:
        predictions, ids, counts = predicted_classes(self, outputs, targets)
        size = outputs.shape[-1] if self.threshold is None else 2
        if self.classes is None:
            self.classes = list(map(str, range(size)))
        if len(self.classes) != size:
            raise ValueError(f"{self.name}: outputs for {size} classes, but {len(self.classes)} were named")
        predicted, ids = (to_host(values)[to_host(counts)] for values in (predictions, ids))
        pairs = (ids * size + predicted)[predicted >= 0]
        self.sums["nan"] = self.sums.get("nan", 0) + int((predicted < 0).sum())
        matrix = np.bincount(pairs.ravel(), minlength=size * size).reshape(size, size)
        self.sums["matrix"] = self.sums.get("matrix", 0) + matrix

    @property
    def matrix(self) -> np.ndarray:
        """Counts of shape (C, C), integers: a row per class of the target, a column per predicted class."""
        size = len(self.classes or ())
        return self.sums.get("matrix", np.zeros((size, size), int))

    @property
    def precision(self) -> np.ndarray:
        """Of each class (C,): which part of its predictions was right."""
        return self._ratio(self.matrix.diagonal(), self.matrix.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """Of each class (C,): which part of its targets was found."""
        return self._ratio(self.matrix.diagonal(), self.matrix.sum(axis=1))

    @property
    def f1(self) -> np.ndarray:
        """Of each class (C,): the harmonic mean of precision and recall; NaN for one that does not occur."""
        return self._ratio(2 * self.matrix.diagonal(), self.matrix.sum(axis=0) + self.matrix.sum(axis=1))

    @property
    def accuracy(self) -> float:
        """The part of all targets that was predicted right."""
        return float(self._ratio(self.matrix.trace(), self.matrix.sum()))

    def compute(self) -> float:
        f1 = self.f1[~np.isnan(self.f1)]
        return float(f1.mean()) if f1.size else math.nan

    def _ratio(self, part: Any, whole: Any) -> Any:
        """part / whole; NaN where the whole is 0, and everywhere if outputs were NaN."""
        known = (np.asarray(whole) != 0) & (not self.sums.get("nan"))
        return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=known)

    def _rows(self) -> list[list[Any]]:
        values = zip(self.precision, self.recall, self.f1)
        counts = self.matrix.sum(axis=1)
        return [
            [name, *map(int, row), *("–" if math.isnan(x) else f"{x:.3f}" for x in three), int(count)]
            for name, row, three, count in zip(self.classes or (), self.matrix, values, counts)
        ]

    def _columns(self) -> list[str]:
        return ["target \\ predicted", *(self.classes or ()), "precision", "recall", "F1", "count"]

    def _summary(self) -> str:
        unknown = f", and {int(self.sums['nan']):,} whose outputs are NaN" if self.sums.get("nan") else ""
        return f"accuracy {self.accuracy:.3f}, macro F1 {self.compute():.3f} of {self.matrix.sum():,} targets{unknown}"

    def __repr__(self) -> str:
        rows = [self._columns(), *([str(cell) for cell in row] for row in self._rows())]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "   ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
            for row in rows
        ]
        return "\n".join([*lines, self._summary()])

    def _repr_html_(self) -> str:
        return table("Confusion matrix", self._rows(), self._columns(), self._summary())
