"""TF32: off by default, and available on newer GPUs only."""

from __future__ import annotations

import pytest
from support.stand_in_cupy import stand_in_cupy

from tinygrad_gru import BackendError, use
from tinygrad_gru.backend import backend_of, resolve, tf32, tf32_allowed
from tinygrad_gru.backend.cuda.backend import TF32_VARIABLE


def test_off_by_default(stand_in):
    assert not tf32_allowed("cupy") and not stand_in.machine.tf32
    with tf32():
        assert tf32_allowed("cupy") and stand_in.machine.tf32
        with tf32(False):
            assert not tf32_allowed("cupy") and not stand_in.machine.tf32
        assert stand_in.machine.tf32
        assert backend_of(resolve("cupy").zeros((1,), "float32")).allows_tf32
    assert not tf32_allowed("cupy") and not stand_in.machine.tf32


def test_as_a_function(stand_in):
    tf32(True)
    assert tf32_allowed("cupy")
    with use("cupy"):
        assert tf32_allowed()
        tf32(False)
        assert not tf32_allowed()


def test_a_block_ends_with_an_exception(stand_in):
    with pytest.raises(KeyError), tf32():
        raise KeyError
    assert not tf32_allowed("cupy")


@pytest.mark.parametrize(("value", "on"), [("1", True), ("0", False), ("", False)])
def test_the_environment_variable(stand_in, monkeypatch, value, on):
    monkeypatch.setenv(TF32_VARIABLE, value)
    assert tf32_allowed("cupy") is on


def test_cupys_own_environment_variable(stand_in):
    stand_in.machine.tf32 = True
    assert tf32_allowed("cupy")


@pytest.mark.parametrize(("capability", "dotted"), [("75", "7.5"), ("61", "6.1")])
def test_older_gpus_raise(stand_in, monkeypatch, capability, dotted):
    with stand_in_cupy(monkeypatch, capability=capability):
        message = rf"TF32 needs a GPU of compute capability 8.0 \(Ampere\) or later, and 'cupy' has {dotted}"
        with pytest.raises(BackendError, match=message):
            tf32()
        assert not tf32_allowed("cupy")
        with tf32(False):
            assert not tf32_allowed("cupy")


@pytest.mark.parametrize("capability", ["80", "90", "120"])
def test_newer_gpus(stand_in, monkeypatch, capability):
    with stand_in_cupy(monkeypatch, capability=capability), tf32():
        assert tf32_allowed("cupy")


def test_numpy_raises():
    assert not tf32_allowed() and not tf32_allowed("numpy")
    with pytest.raises(BackendError, match="backend 'numpy' has no TF32: that is for GPUs"):
        tf32(device="numpy")
    with tf32(False, "numpy"):
        pass
