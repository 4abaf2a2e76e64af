"""Random histories: compiled mode agrees with eager mode, whatever happens between calls."""

import pytest

from tests.scan.random_histories import EVENTS, World, disagreement, history
from tinygrad_gru.scan import plan_cache as compiled

HISTORIES, BATCH = 200, 25


@pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning")
@pytest.mark.parametrize("first", range(0, HISTORIES, BATCH))
def test_random_histories_agree(first):
    problems = {seed: disagreement(seed, "numpy") for seed in range(first, first + BATCH)}
    assert not {seed: problem for seed, problem in problems.items() if problem}


def test_a_plan_reused_for_other_traces_is_detected(monkeypatch):
    """The test above can fail: with a cache whose keys are shapes alone, most histories disagree."""
    get = compiled.PlanCache.get

    def by_shapes(self, trace, target, device):
        graph = trace.forward.graph
        trace.key = tuple((v.op, v.shape) for v in graph.values if v.op != "scalar")
        return get(self, trace, target, device)

    monkeypatch.setattr(compiled.PlanCache, "get", by_shapes)
    assert any(disagreement(seed, "numpy") for seed in range(30))


def test_histories_hold_every_event():
    events = {event for seed in range(200) for event, _ in history(seed)}
    assert events == set(EVENTS) and all(hasattr(World, event) for event in EVENTS)
