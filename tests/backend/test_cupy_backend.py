"""The CuPy backend: refusals with a cure, and, on a stand-in for CuPy, where arrays live and what is checked."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.stand_in_cupy import stand_in_cupy
from support.tensors import leaf

from tinygrad_gru import BackendError, Tensor, manual_seed, ops, use
from tinygrad_gru.backend import as_array, available, backend_of, resolve, scatter_add, select, to_host, xp_of
from tinygrad_gru.testing import SHEET, check_case

pytestmark = pytest.mark.skipif("cupy" in available(), reason="CuPy itself is here, and the other tests run on it")


@pytest.fixture
def cupy(monkeypatch):
    with stand_in_cupy(monkeypatch) as module:
        yield module


@pytest.mark.parametrize("name", SHEET)
def test_every_op_keeps_the_contract_on_the_stand_in(cupy, name):
    """No hidden copy to the host, no mixing, no NumPy-ism: the stand-in refuses them."""
    if name == "dropout":
        pytest.skip("the sheet's oracle draws NumPy's numbers")
    for case in SHEET[name]:
        check_case(name, case, "cupy")


def test_arrays_find_their_library_and_backend(cupy):
    array = as_array([1.0, 2.0], device="cupy")
    assert isinstance(array, cupy.ndarray) and xp_of(array) is cupy and xp_of(1.0, array) is cupy
    assert backend_of(array) is resolve("cupy") is resolve("cuda") is resolve("cupy:0")
    assert type(to_host(array)) is np.ndarray


def test_moving_there_and_back(cupy):
    x = leaf([1.0, 2.0])
    y = x.to("cupy")
    assert y.device == "cupy" and y.requires_grad and y.numpy().tolist() == [1.0, 2.0]
    (y * y).sum().backward()
    assert y.grad.device == "cupy" and y.grad.to("numpy").tolist() == [2.0, 4.0]
    assert repr(y) == "Tensor([1., 2.], dtype=float64, device='cupy', requires_grad=True)"


def test_it_can_be_the_default(cupy):
    with use("cupy"):
        assert Tensor([1.0]).device == "cupy"
    assert Tensor([1.0]).device == "numpy"


@pytest.mark.parametrize("operate", [lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a @ b])
def test_arrays_and_tensors_in_both_orders(cupy, operate):
    array, tensor = as_array([1.0, 2.0], device="cupy"), Tensor([3.0, 5.0], device="cupy")
    assert type(operate(array, tensor)) is type(operate(tensor, array)) is Tensor


def test_mixing_says_what_to_move(cupy):
    x = Tensor([1.0, 2.0], device="cupy")
    for operate in (lambda: x + np.ones(2), lambda: np.ones(2) + x, lambda: x * Tensor([1.0, 2.0])):
        with pytest.raises(TypeError, match=r"the inputs are on cupy and numpy: move one with \.to\(\.\.\.\)"):
            operate()
    with pytest.raises(TypeError, match="an index on numpy for an array on cupy: move it to where the array is"):
        x[np.array([0])]
    with pytest.raises(TypeError, match="an index on numpy for an array on cupy"):
        ops.cross_entropy(Tensor([[1.0, 2.0]], device="cupy"), np.array([0]))


@pytest.mark.parametrize("index", [[2], [-3], (slice(None), [5]), (None, [2]), (Ellipsis, [5]), (0, [5])], ids=repr)
def test_indices_that_cupy_would_wrap_around_are_errors(cupy, index):
    x = Tensor(np.ones((2, 5)), device="cupy")
    with pytest.raises(IndexError, match="is out of bounds for axis"):
        x[index]
    parts = index if isinstance(index, tuple) else (index,)
    arrays = tuple(as_array(p, device="cupy") if isinstance(p, list) else p for p in parts)
    with pytest.raises(IndexError, match="is out of bounds for axis"):
        scatter_add(x.data, arrays, 1.0)
    assert (x.numpy() == 1).all()


@pytest.mark.parametrize("index", [[1], [-2], (slice(None), [4]), (None, [1]), (Ellipsis, [4]), ([True, False], [4])])
def test_indices_within_bounds(cupy, index):
    values = np.arange(10.0).reshape(2, 5)
    np.testing.assert_array_equal(Tensor(values, device="cupy")[index].numpy(), values[index])


def test_the_mask_of_a_matrix_reads_two_axes(cupy):
    values = np.arange(12.0).reshape(2, 2, 3)
    mask = np.array([[True, False], [True, True]])
    x = Tensor(values, device="cupy")
    np.testing.assert_array_equal(x[as_array(mask, device="cupy"), [0, 2, 1]].numpy(), values[mask, [0, 2, 1]])


def test_seeds_and_positions_draw_different_numbers(cupy):
    draws = []
    for seed in range(3):
        manual_seed(seed)
        draws += [ops.dropout(Tensor(np.ones(64), device="cupy")).tolist() for _ in range(3)]
    assert len({tuple(draw) for draw in draws}) == 9


def test_waiting_for_the_device(cupy):
    backend = resolve("cupy")
    backend.synchronize()
    assert backend.device.waits == 1


def test_a_second_gpu_that_is_not_there(monkeypatch):
    with stand_in_cupy(monkeypatch, devices=2):
        assert resolve("cupy:1").name == "cupy:1" and "cupy" in available()
        with pytest.raises(
            BackendError, match=r"device 'cupy:2' was asked for, but this machine has 2 CUDA device\(s\)"
        ):
            resolve("cupy:2")


def test_without_a_driver(monkeypatch):
    with stand_in_cupy(monkeypatch, devices=None):
        with pytest.raises(BackendError, match=r"CUDA finds no usable GPU or driver here .*look at `nvidia-smi`"):
            resolve("cupy")
        assert available() == ["numpy"]


@pytest.fixture
def uninstalled(monkeypatch):
    """`import cupy` fails, whatever is installed; the names of distributions are set by the test."""

    def with_distributions(*names):
        found = [SimpleNamespace(metadata={"Name": name}) for name in names]
        monkeypatch.setattr("importlib.metadata.distributions", lambda: found)

    monkeypatch.setitem(sys.modules, "cupy", None)
    select._cupy.cache_clear()
    yield with_distributions
    select._cupy.cache_clear()


def test_without_cupy(uninstalled):
    uninstalled("numpy")
    message = "'cupy' was asked for, but CuPy is not installed: install exactly one of `pip install cupy-cuda12x`"
    for ask in (lambda: Tensor([1.0], device="cupy"), lambda: use("cupy"), lambda: Tensor([1.0]).to("cuda")):
        with pytest.raises(BackendError, match=message):
            ask()


def test_with_a_broken_cupy(uninstalled):
    uninstalled("cupy-cuda12x")
    with pytest.raises(BackendError, match="cupy-cuda12x is installed but cannot be imported"):
        resolve("cupy")


def test_with_two_wheels_that_overwrite_each_other(uninstalled):
    uninstalled("cupy-cuda12x", "cupy-cuda13x")
    with pytest.raises(
        BackendError, match=r"several CuPy packages are installed .*cupy-cuda12x, cupy-cuda13x; uninstall all"
    ):
        resolve("cupy")
