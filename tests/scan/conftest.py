import pytest
from support.modes import mode as mode
from support.stand_in_cupy import stand_in_cupy

from tinygrad_gru.backend.cuda import device as cuda
from tinygrad_gru.scan import plan_cache
from tinygrad_gru.scan.passes import plan
from tinygrad_gru.scan.plan_cache import PlanCache
from tinygrad_gru.scan.targets import cuda_kernels
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


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in for CuPy."""
    for module in (cuda, cuda_kernels):  # threads that wait for each other are slow on the host
        monkeypatch.setattr(module, "THREADS", 8)
    with stand_in_cupy(monkeypatch) as module:
        yield module
