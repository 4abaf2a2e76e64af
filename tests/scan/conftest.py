import pytest
from support.modes import mode as mode

from tinygrad_gru.scan import plan_cache
from tinygrad_gru.scan.passes import plan
from tinygrad_gru.scan.plan_cache import PlanCache
from tinygrad_gru.scan.tracing import trace_cache
from tinygrad_gru.scan.tracing.tracer import trace_forward


@pytest.fixture
def traced(monkeypatch):
    """The steps that were traced, in order."""
    seen = []

    def counting(step, carry, xs):
        seen.append(step)
        return trace_forward(step, carry, xs)

    monkeypatch.setattr(trace_cache, "trace_forward", counting)
    return seen


@pytest.fixture
def cache(monkeypatch):
    """An empty plan cache."""
    cache = PlanCache(8)
    monkeypatch.setattr(plan_cache, "_cache", cache)
    return cache


@pytest.fixture
def short_chunks(monkeypatch, cache):
    """Chunks of two or three steps, so that sums are accumulated over chunks."""
    monkeypatch.setattr(plan, "CHUNK_ROWS", 6)
