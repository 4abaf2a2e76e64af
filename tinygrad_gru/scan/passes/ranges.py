"""Ranges: between which numbers the elements of a value lie, as far as the operations that make it tell.

σ(x), made as eˣ / (1 + eˣ)     0 … 1
y (1 − y) of it                 0 … 1
x W + b                         −∞ … ∞
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from ..ir import Graph, Value

Range = tuple[float, float]

ANY: Range = (-math.inf, math.inf)

#: What moves elements about, or chooses among those of its operands.
_KEEPS = frozenset("reshape rearrange transpose broadcast_to getitem concat max min astype maximum minimum".split())

_OF_ANY: dict[str, Range] = {
    "tanh": (-1, 1), "sin": (-1, 1), "cos": (-1, 1), "sign": (-1, 1), "exp": (0, math.inf), "expm1": (-1, math.inf),
    "abs": (0, math.inf), "sqrt": (0, math.inf), "zeros": (0, 0),
}  # fmt: skip


class Ranges:
    """The ranges of the values of a listing, found when they are asked for."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.known: list[Range] = []  # by the number of the value

    def __getitem__(self, value: Value) -> Range:
        for one in self.graph.values[len(self.known) : value.number + 1]:
            self.known.append(self._found(one))
        return self.known[value.number]

    def are_moderate(self, value: Value) -> bool:
        """Whether the value never makes much more of what it is multiplied with, nor a number much less."""
        low, high = self[value]
        if value.op == "scalar" and 0 < abs(low) < 2.0**-10:
            return False
        return max(-low, high) <= 2.0**10

    def _found(self, value: Value) -> Range:
        if value.op == "scalar":
            number = float(value["value"])
            return ANY if math.isnan(number) else (number, number)
        if value.dtype == np.bool_:
            return 0, 1
        of = [self.known[i.number] for i in value.inputs]
        if value.op in _KEEPS:
            return min(low for low, _ in of), max(high for _, high in of)
        if value.op == "where":
            return min(of[1][0], of[2][0]), max(of[1][1], of[2][1])
        if value.op in ("add", "subtract", "negative"):
            low, high = of[-1] if value.op == "add" else (-of[-1][1], -of[-1][0])
            return (low, high) if len(of) == 1 else (of[0][0] + low, of[0][1] + high)
        if value.op == "multiply":
            ends = [0.0 if math.isnan(x * y) else x * y for x, y in product(*of)]
            return (0.0 if value.inputs[0] is value.inputs[1] else min(ends)), max(ends)
        if value.op == "divide" and of[0][0] >= 0:  # a part of a whole, or of something that is 1 or more
            part, whole = value.inputs
            terms = whole.inputs if whole.op == "add" else ()
            if part in terms and all(self.known[i.number][0] >= 0 for i in terms):
                return 0, 1
            return (0, of[0][1]) if of[1][0] >= 1 else ANY
        return _OF_ANY.get(value.op, ANY)
