"""Memory of a GPU: reports, limits, and out-of-memory errors that list the largest arrays."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from support.stand_in_cupy import stand_in_cupy
from support.strict import STRICT

from tinygrad_gru import BackendError, OutOfMemoryError, Tensor, cli, nn, ops, optim, use
from tinygrad_gru.backend import available, memory_limit, memory_report, resolve, with_memory_report
from tinygrad_gru.backend.memory import format_bytes, live_arrays

MEGABYTE = 2**20


@pytest.fixture
def small_gpus(stand_in, monkeypatch):
    """Two GPUs of 64 MB, with nothing on them that another test has left in a cycle."""
    gc.collect()
    with stand_in_cupy(monkeypatch, devices=2, memory=64 * MEGABYTE) as module:
        yield module


def zeros(megabytes, device="cupy"):
    return resolve(device).zeros((megabytes, 2**18), np.float32)


def test_a_report(small_gpus):
    before = memory_report()
    x = zeros(8)
    report = memory_report("cupy")
    assert report.used - before.used == x.nbytes == 8 * MEGABYTE and report.held >= report.used
    assert report.total == 64 * MEGABYTE and before.free - report.free == 8 * MEGABYTE
    assert report.limit is None and report.backend == "cupy"
    assert memory_report("cupy:1").used < MEGABYTE
    assert str(report._replace(idle=0)) == (
        "cupy: arrays use 8.0 MiB of the 8.0 MiB held for them; 56.0 MiB of 64.0 MiB on the device are free"
    )
    assert str(report._replace(idle=2**20)).endswith("are free; recurrences keep 1.0 MiB for their next pass")
    with use("cupy:1"):
        assert memory_report().backend == "cupy:1"


def test_a_limit_in_bytes_or_as_a_fraction(small_gpus):
    memory_limit(16 * MEGABYTE)
    assert memory_report().limit == 16 * MEGABYTE and memory_report("cupy:1").limit is None
    assert "held for them, of at most 16.0 MiB; " in str(memory_report())
    with pytest.raises(MemoryError):
        zeros(20)
    assert zeros(20, "cupy:1").nbytes == 20 * MEGABYTE
    memory_limit(0.5, "cupy")
    assert memory_report().limit == 32 * MEGABYTE and zeros(20).nbytes == 20 * MEGABYTE
    memory_limit(None)
    assert memory_report().limit is None and zeros(40).nbytes == 40 * MEGABYTE


@pytest.mark.parametrize("limit", [0, -1, 1.5, 0.0, float("nan")])
def test_invalid_limits(small_gpus, limit):
    with pytest.raises(ValueError, match="limit: expected a positive number of bytes, or a share in"):
        memory_limit(limit)


@pytest.mark.parametrize("limit", [True, "1GB", [1]])
def test_limits_of_a_wrong_type(small_gpus, limit):
    with pytest.raises(TypeError, match="limit: expected bytes as an int, a share as a float, or None"):
        memory_limit(limit)


@pytest.mark.parametrize("device", ["numpy", STRICT])
def test_the_host_has_no_pool(device):
    asked = [lambda: memory_report(device), lambda: memory_limit(1, device)]
    for ask in asked[1 if device == "numpy" else 0 :]:
        with pytest.raises(BackendError, match=r"backend '\w+' has no memory of its own to report on or to limit"):
            ask()


def test_the_memory_of_the_host():
    before = memory_report("numpy")
    held = [np.ones(2**20)]
    report = memory_report("numpy")
    assert report.used >= before.used + held[0].nbytes // 2 and report.total >= report.used
    assert f"{report.backend}: arrays use" in str(report)


@pytest.mark.skipif("cupy" in available(), reason="there is a GPU here")
def test_without_a_gpu_the_error_says_what_to_install():
    with pytest.raises(BackendError, match="CuPy is not installed: install exactly one of"):
        memory_report()


NEEDS = "a smaller batch, shorter sequences or a smaller hidden size need less, and so does checkpoint_every="


def test_out_of_memory_in_an_op_names_the_largest_arrays(small_gpus):
    held = [Tensor.from_node(zeros(8), None) for _ in range(4)] + [Tensor.from_node(zeros(12), None)]
    large = Tensor.from_node(zeros(15), None)
    with pytest.raises(OutOfMemoryError, match=NEEDS) as error:
        held[0] * held[1]
    lines = str(error.value).splitlines()
    assert lines[0].startswith("out of memory: Out of memory allocating 8,388,608 bytes (allocated so far: ")
    assert lines[2:5] == [
        "    4 × (8, 262144) float32, 8.0 MiB each",
        "    1 × (15, 262144) float32, 15.0 MiB",
        "    1 × (12, 262144) float32, 12.0 MiB",
    ]
    del held, large
    assert isinstance(error.value, MemoryError)


def test_out_of_memory_in_backward_and_in_the_optimizer(small_gpus):
    weight = Tensor(np.zeros((10, 2**18), np.float32), requires_grad=True, device="cupy")
    kept = [zeros(10) for _ in range(3)]
    memory_limit(41 * MEGABYTE)
    with pytest.raises(
        OutOfMemoryError, match=r"4 × \(10, 262144\) float32, 10.0 MiB each\n(.*\n)*.*checkpoint_every="
    ):
        ops.sum(weight).backward()
    memory_limit(None)
    kept.clear()
    ops.sum(weight).backward()
    memory_limit(31 * MEGABYTE)
    with pytest.raises(OutOfMemoryError, match=r"3 × \(10, 262144\) float32"):
        optim.Adam([weight]).step()


def test_out_of_memory_on_the_host():
    with pytest.raises(OutOfMemoryError, match=rf"out of memory: Unable to allocate .*\n(.*\n)*.*{NEEDS[:40]}"):
        ops.broadcast_to(Tensor(1.0), shape=(2**45,)) * 2.0


def test_the_report_is_added_once():
    error = with_memory_report(MemoryError("first"))
    assert with_memory_report(error) is error


def test_the_command_line_prints_the_report(monkeypatch, capsys):
    def exhausted(*_):
        raise MemoryError("Unable to allocate")

    monkeypatch.setattr(cli.models, "versions", exhausted)
    assert cli.main(["info"]) == 1
    assert "error: out of memory: Unable to allocate" in capsys.readouterr().err


def test_out_of_memory_while_building_a_model_names_the_layer(small_gpus):
    memory_limit(MEGABYTE)
    with pytest.raises(OutOfMemoryError):
        nn.Linear(1024, 1024).to("cupy")


def test_format_bytes():
    assert [format_bytes(n) for n in (0, 1023, 1024, 1536 * 2**20)] == ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 GiB"]


def test_dead_weak_proxies_are_skipped():
    class Gone:
        pass

    proxies = [weakref.proxy(Gone())]
    kept = np.zeros(3)
    assert any(array is kept for array in live_arrays(np.ndarray)) and proxies
