"""The CuPy backend, on CuPy or a stand-in for it: devices of arrays, random numbers, and errors that say what to do."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.stand_in_cupy import stand_in_cupy
from support.tensors import leaf

from tinygrad_gru import BackendError, Tensor, nn, ops, optim, use
from tinygrad_gru.backend import (
    RandomStream,
    as_array,
    available,
    backend_of,
    immediate_checks,
    resolve,
    scatter_add,
    select,
    to_host,
    xp_of,
)
from tinygrad_gru.testing import OP_SPECS, check_case


@pytest.mark.parametrize("name", OP_SPECS)
def test_every_op_keeps_the_contract(gpu, name):
    """No hidden copy to the host, no mixing, no NumPy-ism: CuPy refuses them, and so does the stand-in."""
    for case in OP_SPECS[name]:
        check_case(name, case, "cupy")


def test_arrays_find_their_library_and_backend(gpu):
    array = as_array([1.0, 2.0], device="cupy")
    assert isinstance(array, gpu.ndarray) and xp_of(array) is gpu and xp_of(1.0, array) is gpu
    assert backend_of(array) is resolve("cupy") is resolve("cuda") is resolve("cupy:0")
    assert type(to_host(array)) is np.ndarray


def test_move_to_the_gpu_and_back(gpu):
    x = leaf([1.0, 2.0])
    y = x.to("cupy")
    assert y.device == "cupy" and y.requires_grad and y.numpy().tolist() == [1.0, 2.0]
    (y * y).sum().backward()
    assert y.grad.device == "cupy" and y.grad.to("numpy").tolist() == [2.0, 4.0]
    assert repr(y) == "Tensor([1., 2.], dtype=float64, device='cupy', requires_grad=True)"


def test_as_the_default_backend(gpu):
    with use("cupy"):
        assert Tensor([1.0]).device == "cupy"
    assert Tensor([1.0]).device == "numpy"


@pytest.mark.parametrize("operate", [lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a @ b])
def test_arrays_and_tensors_in_both_orders(gpu, operate):
    array, tensor = as_array([1.0, 2.0], device="cupy"), Tensor([3.0, 5.0], device="cupy")
    assert type(operate(array, tensor)) is type(operate(tensor, array)) is Tensor


def test_mixing_says_what_to_move(gpu):
    x = Tensor([1.0, 2.0], device="cupy")
    for operate in (lambda: x + np.ones(2), lambda: np.ones(2) + x, lambda: x * Tensor([1.0, 2.0])):
        with pytest.raises(TypeError, match=r"the inputs are on cupy and numpy: move one with \.to\('cupy'\)"):
            operate()
    with pytest.raises(TypeError, match="an index on numpy for an array on cupy: move it to the device of the array"):
        x[np.array([0])]
    with pytest.raises(TypeError, match=r"move one with \.to\('cupy'\)|on numpy for an array on cupy"):
        ops.mse(Tensor([1.0, 2.0], device="cupy"), Tensor([1.0, 2.0]))


def test_arrays_of_the_host_are_data_of_a_loss(gpu):
    loss = ops.cross_entropy(Tensor([[1.0, 2.0]], device="cupy"), np.array([0]))
    assert loss.device == "cupy" and loss.item() == pytest.approx(np.log(1 + np.e), rel=1e-6)


@pytest.mark.parametrize("index", [[1], [-2], (slice(None), [4]), (None, [1]), (Ellipsis, [4]), ([True, False], [4])])
def test_indices_within_bounds(gpu, index):
    values = np.arange(10.0).reshape(2, 5)
    np.testing.assert_array_equal(Tensor(values, device="cupy")[index].numpy(), values[index])


def test_a_mask_of_two_axes(gpu):
    values = np.arange(12.0).reshape(2, 2, 3)
    mask = np.array([[True, False], [True, True]])
    x = Tensor(values, device="cupy")
    np.testing.assert_array_equal(x[as_array(mask, device="cupy"), [0, 2, 1]].numpy(), values[mask, [0, 2, 1]])


def test_uniform_random_numbers_equal_numpys(gpu):
    """So that one seed drops the same units on both backends."""
    for draw in (RandomStream(7, 3).uniform, RandomStream(2**60).uniform):
        for dtype in ("float32", "float64", "float16"):
            on_host, on_device = draw((3, 5), dtype), RandomStream(*_at(draw)).uniform((3, 5), dtype, "cupy")
            np.testing.assert_array_equal(to_host(on_device), on_host)
            assert on_device.dtype == dtype and isinstance(on_device, gpu.ndarray)


def _at(draw):
    """The seed and the position of the draw that was made last."""
    return draw.__self__.seed, draw.__self__.position - 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_random_numbers(gpu, dtype):
    numbers = to_host(RandomStream(1).normal((201, 499), dtype, "cupy"))
    assert numbers.shape == (201, 499) and numbers.dtype == dtype
    assert abs(numbers.mean()) < 0.02 and abs(numbers.std() - 1) < 0.02 and abs((numbers**4).mean() - 3) < 0.2
    assert RandomStream(1).normal((), dtype, "cupy").shape == ()


def test_synchronize(stand_in):
    backend = resolve("cupy")
    backend.synchronize()
    assert stand_in.machine.count("wait") == 1


# -- several GPUs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch):
    with stand_in_cupy(monkeypatch, devices=2) as cupy, immediate_checks(False):
        yield cupy


def index_of(array):
    return array.device.id


def test_a_missing_second_gpu(two_gpus):
    assert resolve("cupy:1").name == resolve("cuda:1").name == "cupy:1" and "cupy" in available()
    with pytest.raises(BackendError, match=r"device 'cupy:2' was requested, but this machine has 2 CUDA device\(s\)"):
        resolve("cupy:2")


def test_new_arrays_are_on_the_gpu_of_their_backend(two_gpus):
    second = resolve("cupy:1")
    x = second.asarray(np.arange(6.0).reshape(2, 3))
    row = second.asarray([1])
    made = [
        x, row, second.copy(x), second.astype(x, "float32"), second.empty((2,), "float32"), second.arange(3),
        second.zeros((2, 3), "float64"), second.advanced_index(x, (row,)), second.scatter((2, 3), [(row,)], [x[:1]]),
        RandomStream(0).uniform((3,), device=second), RandomStream(0).normal((3,), device=second),
    ]  # fmt: skip
    scatter_add(x, (row,), second.asarray([[1.0, 1.0, 1.0]]))
    assert [index_of(array) for array in made] == [1] * len(made) and two_gpus.machine.current == 0
    assert all(backend_of(array) is second for array in made)
    assert to_host(x).tolist() == [[0, 1, 2], [4, 5, 6]]
    second.check_within(row, 0, 1, "row {} is not there")
    with pytest.raises(IndexError, match="row 1 is not there"):
        second.synchronize()


def test_move_between_gpus_does_not_copy_to_the_host(two_gpus):
    x = Tensor([1.0, 2.0], device="cupy")
    two_gpus.machine.calls.clear()
    y = x.to("cupy:1")
    assert y.device == "cupy:1" and index_of(y.data) == 1 and two_gpus.machine.count("to host") == 0
    assert y.tolist() == y.to("numpy").tolist() == y.to("cupy").tolist() == [1.0, 2.0]


def test_use_selects_the_current_gpu(two_gpus):
    layer = nn.Linear(2, 3)
    with use("cupy:1"):
        assert two_gpus.machine.current == 1
        layer.to("cupy:1")
        layer(Tensor([[1.0, 2.0]])).sum().backward()
        assert index_of(layer.W.grad.data) == 1
        with use("cupy"):
            assert two_gpus.machine.current == 0
        assert two_gpus.machine.current == 1
    assert two_gpus.machine.current == 0


def test_the_environment_variable_selects_the_current_gpu(two_gpus, monkeypatch):
    monkeypatch.setenv(select.ENVIRONMENT_VARIABLE, "cupy:1")
    x = Tensor([1.0, 2.0])
    assert index_of((x * x).data) == 1


def test_an_op_on_a_gpu_that_is_not_current_hints_at_use(two_gpus):
    x = Tensor([1.0, 2.0], device="cupy:1")
    with pytest.raises(ValueError, match=r"the current GPU is another: say use\('cupy:1'\) or `with use\('cupy:1'\):`"):
        x * x
    with pytest.raises(ValueError, match=r"the inputs are on cupy and cupy:1: move one with"):
        Tensor([1.0, 2.0], device="cupy") * x


def test_an_optimizer_follows_its_model(two_gpus):
    layer = nn.Linear(2, 3)
    adam = optim.Adam(layer.parameters())
    for name in ("numpy", "cupy:1", "cupy", "numpy"):
        with use(name):
            layer.to(name)
            layer(Tensor([[1.0, 2.0]])).sum().backward()
            adam.step()
            adam.zero_grad()
            assert {backend_of(array).name for state in adam.state for array in state.values()} == {name}


# -- missing and unusable GPUs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"devices": None, "driver": 0}, "there is no NVIDIA driver here .*`nvidia-smi`, or use the backend 'numpy'"),
        (
            {"devices": None, "driver": 11080},
            "the NVIDIA driver is too old: it knows CUDA up to 11.8, and this CuPy was made for 12.9; update",
        ),
        ({"devices": 0}, "the NVIDIA driver finds no GPU .*CUDA_VISIBLE_DEVICES"),
        ({"refuses": "cudaErrorDevicesUnavailable: busy or unavailable"}, "the GPU is taken by another process"),
        (
            {"refuses": "cudaErrorMemoryAllocation: out of memory"},
            "the GPU has no memory left .*which processes hold it",
        ),
        ({"memory": 100}, "the GPU has no memory left"),
        ({"refuses": "cudaErrorECCUncorrectable: broken"}, "CUDA finds no usable GPU here .*broken"),
    ],
)
def test_an_unusable_gpu(monkeypatch, properties, message):
    with stand_in_cupy(monkeypatch, **properties):
        with pytest.raises(BackendError, match=f"the backend 'cupy' was requested, but {message}"):
            resolve("cupy")
        assert available() == ["numpy"]


def test_cupy_without_the_libraries_of_cuda(monkeypatch):
    def missing(*_):
        raise ImportError('Failure finding "libcublasLt.so.12": No such file\nand more')

    with stand_in_cupy(monkeypatch) as cupy:
        cupy.cuda.nvrtc.getVersion = missing
        found = [SimpleNamespace(metadata={"Name": "cupy-cuda13x"})]
        monkeypatch.setattr("importlib.metadata.distributions", lambda: found)
        missing_and_cure = r"\(Failure finding .*No such file\): `pip install 'cupy-cuda13x\[ctk\]'` brings them"
        with pytest.raises(BackendError, match=f"not the libraries of CUDA that it needs {missing_and_cure}"):
            resolve("cupy")


def test_driver_and_gpu_are_looked_for_before_the_libraries_of_cuda(monkeypatch):
    with stand_in_cupy(monkeypatch, devices=None, driver=0) as cupy:
        cupy.cuda.nvrtc.getVersion = None  # would raise TypeError
        with pytest.raises(BackendError, match="there is no NVIDIA driver here"):
            resolve("cupy")


@pytest.mark.parametrize("name", ["cupy/__init__.py", "cupy.py"])
def test_a_folder_or_a_file_called_cupy(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr("importlib.metadata.distributions", list)
    monkeypatch.setattr(select, "_gpus", {})
    with pytest.raises(BackendError, match=rf"imports as cupy is not CuPy: {tmp_path}.* is found first"):
        resolve("cupy")
    assert available() == ["numpy"] and "cupy" in sys.modules
    assert (Tensor([1.0, 2.0], requires_grad=True) * 2).sum().item() == 6.0
    sys.modules.pop("cupy", None)


@pytest.fixture
def uninstalled(monkeypatch):
    """`import cupy` fails, whatever is installed; the names of distributions are set by the test."""

    def with_distributions(*names):
        found = [SimpleNamespace(metadata={"Name": name}) for name in names]
        monkeypatch.setattr("importlib.metadata.distributions", lambda: found)

    monkeypatch.setitem(sys.modules, "cupy", None)
    select._gpus.clear()
    yield with_distributions
    select._gpus.clear()


def test_without_cupy(uninstalled):
    uninstalled("numpy")
    message = r"'cupy' was requested, but CuPy is not installed: install exactly one of .*'tinygrad_gru\[cuda12\]'`"
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
