import numpy as np
import pytest

from tinygrad_gru.scan import compiling


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["plain", "compiled"])
def reading(request):
    """Runs a test in both readings of a recurrence."""
    with compiling(request.param == "compiled"):
        yield request.param
