"""The two readings of a recurrence."""

from __future__ import annotations

import pytest

from tinygrad_gru.scan import compiling


@pytest.fixture(params=["plain", "compiled"])
def reading(request):
    """Runs a test in both readings."""
    with compiling(request.param == "compiled"):
        yield request.param
