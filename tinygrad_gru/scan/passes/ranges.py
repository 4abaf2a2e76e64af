"""Ranges: bounds of the elements of each value, by interval arithmetic on the operations that compute it.

    v0 = x(position=0)                           (2, 4) float32    -inf … inf
    v2 = minimum(v0, 40.0)                       (2, 4) float32    -inf … inf
    v3 = exp(v2)                                 (2, 4) float32    0 … inf
    v5 = add(1, v3)                              (2, 4) float32    1 … inf
    v6 = divide(v3, v5)                          (2, 4) float32    0 … 1
    v7 = subtract(1, v6)                         (2, 4) float32    0 … 1
    v8 = multiply(v6, v7)                        (2, 4) float32    0 … 1
    xs v0; ys v8

σ(x), computed as eˣ / (1 + eˣ), is found to be in 0 … 1, and so is its derivative y (1 − y).
"""

from __future__ import annotations

import math
from itertools import product
from operator import attrgetter

import numpy as np

from ..ir import Graph, Value

Range = tuple[float, float]

_number = attrgetter("number")

ANY: Range = (-math.inf, math.inf)

#: Operations that move elements, or select among those of their operands.
_SELECTING = frozenset("reshape rearrange transpose broadcast_to getitem concat max min astype maximum minimum".split())

_OF_ANY: dict[str, Range] = {
    "tanh": (-1, 1), "sin": (-1, 1), "cos": (-1, 1), "sign": (-1, 1), "exp": (0, math.inf), "expm1": (-1, math.inf),
    "abs": (0, math.inf), "sqrt": (0, math.inf), "zeros": (0, 0),
}  # fmt: skip


class Ranges:
    """The ranges of the values of a graph, computed on demand."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.known: list[Range] = []  # by the number of the value

    def __getitem__(self, value: Value) -> Range:
        for one in self.graph.values[len(self.known) : value.number + 1]:
            self.known.append(self._range_of(one))
        return self.known[value.number]

    def are_moderate(self, value: Value) -> bool:
        """Whether the value, as a factor, makes no product overflow; nor, if it is a scalar, underflow."""
        low, high = self[value]
        if value.op == "scalar" and 0 < abs(low) < 2.0**-10:
            return False
        return max(-low, high) <= 2.0**10

    def _range_of(self, value: Value) -> Range:
        """The range of a value from those of its operands."""
        if value.op == "scalar":
            number = float(value["value"])
            return ANY if math.isnan(number) else (number, number)
        if value.dtype == np.bool_:
            return 0, 1
        bounds = list(map(self.known.__getitem__, map(_number, value.inputs)))
        if value.op == "gather":
            return bounds[0]
        if value.op == "arange":
            return 0, value.shape[0]
        if value.op in _SELECTING:
            return min(low for low, _ in bounds), max(high for _, high in bounds)
        if value.op == "where":
            return min(bounds[1][0], bounds[2][0]), max(bounds[1][1], bounds[2][1])
        if value.op in ("add", "subtract", "negative"):
            low, high = bounds[-1] if value.op == "add" else (-bounds[-1][1], -bounds[-1][0])
            return (low, high) if len(bounds) == 1 else (bounds[0][0] + low, bounds[0][1] + high)
        if value.op == "multiply":
            ends = [0.0 if math.isnan(x * y) else x * y for x, y in product(*bounds)]
            return (0.0 if value.inputs[0] is value.inputs[1] else min(ends)), max(ends)
        if value.op == "divide" and bounds[0][0] >= 0:  # x / (x + …), or a divisor of 1 or more
            numerator, divisor = value.inputs
            terms = divisor.inputs if divisor.op == "add" else ()
            if numerator in terms and all(self.known[i.number][0] >= 0 for i in terms):
                return 0, 1
            return (0, bounds[0][1]) if bounds[1][0] >= 1 else ANY
        return _OF_ANY.get(value.op, ANY)
