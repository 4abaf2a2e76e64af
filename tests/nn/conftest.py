"""What the tests of modules share."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import manual_seed
from tinygrad_gru.backend import available
from tinygrad_gru.scan import compiling


@pytest.fixture(
    params=["numpy", pytest.param("cupy", marks=pytest.mark.skipif("cupy" not in available(), reason="no GPU"))]
)
def device(request):
    return request.param


@pytest.fixture(params=["plain", "compiled"])
def reading(request):
    """Runs a test in both readings of a recurrence."""
    with compiling(request.param == "compiled"):
        yield request.param


@pytest.fixture(autouse=True)
def seeded():
    manual_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
