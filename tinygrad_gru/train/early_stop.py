"""Stopping when the held-out loss no longer falls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class EarlyStop:
    """Counts the evaluations since the best one; more than `patience` of them without a better one is enough.

    With `patience` None it only remembers the best loss. A loss must be lower than the best by more than
    `min_improvement` to count as better; one that is not finite never is.
    """

    def __init__(self, patience: int | None, min_improvement: float = 0.0) -> None:
        self.patience = patience
        self.min_improvement = min_improvement
        self.best: float | None = None
        self.since_best = 0

    def update(self, loss: float) -> bool:
        """Take note of an evaluation; whether it is the best so far."""
        if math.isfinite(loss) and (self.best is None or loss < self.best - self.min_improvement):
            self.best, self.since_best = loss, 0
            return True
        self.since_best += 1
        return False

    @property
    def due(self) -> bool:
        return self.patience is not None and self.since_best > self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since_best": self.since_best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.since_best = state["best"], state["since_best"]
