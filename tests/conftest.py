"""Fixtures and settings of all tests: the backends; Keras runs on PyTorch."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from support.stand_in_cupy import stand_in_cupy
from support.strict import STRICT

from tinygrad_gru import manual_seed
from tinygrad_gru.backend import available, immediate_checks, resolve

os.environ.setdefault("KERAS_BACKEND", "torch")  # before Keras is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for processes that tests start: they run beside one another
os.environ.setdefault("TINYGRAD_GRU_COMPILED", "numpy")  # the target that is always there, whatever is installed
os.environ.setdefault("TINYGRAD_GRU_CACHE", str(Path(tempfile.gettempdir()) / "tinygrad_gru_tests"))  # not the user's

# A job in the background of a shell ignores Ctrl-C, and so do the processes it starts; the tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run and process, without a deadline; --hypothesis-profile=default draws new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")

BACKENDS = [*map(resolve, available()), STRICT]


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request):
    """Every backend of this machine: NumPy, CuPy where there is a GPU, and array-api-strict off the host."""
    return request.param


@pytest.fixture(params=available())
def device(request):
    """The backends of users: NumPy, and CuPy where there is a GPU."""
    return request.param


@pytest.fixture
def stand_in(monkeypatch):
    """A stand-in for CuPy, whose `machine` counts calls and can fail; index checks are deferred."""
    if "cupy" in available():
        pytest.skip("CuPy itself is installed, which does not count calls")
    with immediate_checks(False), stand_in_cupy(monkeypatch) as cupy:
        yield cupy


@pytest.fixture
def gpu(request):
    """CuPy where there is a GPU, else the stand-in; index checks are deferred."""
    if "cupy" in available():
        with immediate_checks(False):
            yield resolve("cupy").xp
    else:
        yield request.getfixturevalue("stand_in")


@pytest.fixture(autouse=True)
def seeded():
    manual_seed(0)


@pytest.fixture(autouse=True)
def checks_at_once():
    """An index out of bounds raises at once, on a GPU too; for tests of deferred checks see `gpu`."""
    with immediate_checks():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)
