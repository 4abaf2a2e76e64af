import pytest
from support.modes import mode as mode

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
