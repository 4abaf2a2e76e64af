"""What all tests share: the backends."""

from __future__ import annotations

import numpy as np
import pytest
from support.strict import STRICT

from tinygrad_gru import manual_seed
from tinygrad_gru.backend import available, resolve

BACKENDS = [*map(resolve, available()), STRICT]


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request):
    """Every backend that works here: NumPy, CuPy where there is a GPU, and the bare standard away from the host."""
    return request.param


@pytest.fixture(params=available())
def device(request):
    """The backends of users: NumPy, and CuPy where there is a GPU."""
    return request.param


@pytest.fixture(autouse=True)
def seeded():
    manual_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
