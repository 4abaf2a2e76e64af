"""Histories of calls: compiled mode gives what eager mode gives, whatever happens between calls."""

import pytest

from tests.scan.random_histories import EVENTS, World, disagreement, history
from tinygrad_gru.scan import plan_cache as compiled

HISTORIES, TOGETHER = 500, 25


@pytest.mark.parametrize("first", range(0, HISTORIES, TOGETHER))
def test_random_histories_agree(first):
    problems = {seed: disagreement(seed, "numpy") for seed in range(first, first + TOGETHER)}
    assert not {seed: problem for seed, problem in problems.items() if problem}


def test_a_plan_that_is_reused_for_other_traces_is_noticed(monkeypatch):
    """The test above can fail: with a cache whose keys are shapes alone, most histories disagree."""
    get = compiled.PlanCache.get

    def by_shapes(self, trace, emitter, storage):
        graph = trace.forward.graph
        trace.key = tuple((v.op, v.shape) for v in graph.values if v.op != "scalar")
        return get(self, trace, emitter, storage)

    monkeypatch.setattr(compiled.PlanCache, "get", by_shapes)
    assert any(disagreement(seed, "numpy") for seed in range(30))


def test_histories_hold_every_event():
    drawn = {event for seed in range(200) for event, _ in history(seed)}
    assert drawn == set(EVENTS) and all(hasattr(World, event) for event in EVENTS)
