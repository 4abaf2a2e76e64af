"""Python calls per training pass: a profiler's counts stay small (`python -m benchmarks.calls`)."""

from __future__ import annotations

import pytest

from benchmarks.calls import measure
from tinygrad_gru.scan import plan_cache


@pytest.mark.parametrize(("layer", "most_warm", "most_cold"), [("GRU", 290, 8050), ("LSTM", 325, 9750)])
def test_python_calls_of_a_training_pass(layer, most_warm, most_cold, monkeypatch):
    monkeypatch.setattr(plan_cache, "_cache", plan_cache.PlanCache(8))
    cold, warm = measure(layer)
    assert sum(warm.values()) <= most_warm
    assert 1000 < sum(cold.values()) <= most_cold
