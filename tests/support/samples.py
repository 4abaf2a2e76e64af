"""Training runs that draw short samples."""

from __future__ import annotations

import pytest

from tinygrad_gru.train.text import run


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(run, "_SAMPLE_LENGTH", 10)
