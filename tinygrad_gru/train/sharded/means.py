"""Metrics of outputs in training over all shards, in their order: the same value on any number of ranks."""

from __future__ import annotations

from typing import Any

from ...parallel import Ranks
from ...tensor import Tensor
from ..metrics import Metric
from ..trainer import EpochMeans


class ShardedMeans(EpochMeans):
    """Means over the steps of an epoch. Each shard's part of a metric is kept until `merge` adds those of all ranks."""

    def __init__(self, metrics: list[Metric]) -> None:
        for metric in metrics:
            if type(metric).state_dict is not Metric.state_dict:
                raise ValueError(
                    f"metrics: {metric.name} has a state of its own, and ranks can only add sums: keep it in self.sums"
                )
        self._parts: list[Any] = []
        super().__init__(metrics)

    def update(self, outputs: Tensor, targets: Any) -> None:
        parts = []
        for metric in self.metrics:
            sums, metric.sums = metric.sums, {}
            metric.update(outputs.detach(), targets)
            parts.append(metric.state_dict())
            metric.sums = sums
        self._parts.append(parts)

    def merge(self, ranks: Ranks) -> None:
        """Add the parts of all ranks, in the order of the shards."""
        if self.metrics:
            for everyone in ranks.gather({"parts": self._parts}):
                for parts in everyone["parts"]:
                    for metric, part in zip(self.metrics, parts):
                        for name, value in part.items():
                            metric.sums[name] = metric.sums.get(name, 0.0) + (value if value.ndim else value.item())
        self._parts = []
