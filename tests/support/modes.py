"""The two modes of a recurrence, as a fixture."""

from __future__ import annotations

import pytest

from tinygrad_gru.scan import compiling


@pytest.fixture(params=["eager", "compiled"])
def mode(request):
    """Runs a test in eager and in compiled mode."""
    with compiling(None if request.param == "compiled" else False):
        yield request.param
