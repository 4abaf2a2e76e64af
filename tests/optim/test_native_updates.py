"""Update rules as one native loop over all parameters: bit for bit the numbers of NumPy's operations one by one."""

from __future__ import annotations

import platform
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from tinygrad_gru import Tensor, native, optim
from tinygrad_gru.optim import optimizer as optimizer_module
from tinygrad_gru.optim.update_kernel import NativeUpdates

pytestmark = pytest.mark.skipif(not native.is_available(), reason="needs llvmlite")

SHAPES = [(13, 7), (64,), (3, 2, 5), (), (0, 4), (1000,)]
RULES = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "AMSGrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.01),
}


class Signs(optim.Optimizer):
    """A rule of a user's, with all functions that a rule may use."""

    allowed: ClassVar = {"lr": (0, 1)}

    def __init__(self, parameters, lr=0.1):
        super().__init__(parameters, lr=lr)

    @staticmethod
    def rule(p, g, s, *, step, lr):
        s = optim.maximum(0.5 * s, abs(g))
        return {"p": p - lr * g / (optim.sqrt(s) + 1e-3), "s": s}


@pytest.fixture
def native_calls(monkeypatch):
    """The number of updates that native loops have made."""
    made, run = [], NativeUpdates.run

    def counted(self):
        made.extend(self._waiting)
        return run(self)

    monkeypatch.setattr(optimizer_module, "_LEAST_NATIVE", 1)
    monkeypatch.setattr(NativeUpdates, "run", counted)
    return made


def trained(make, rng_seed, dtype, layout=lambda x: x):
    """All arrays after four steps; in the second one a parameter has no gradient."""
    rng = np.random.default_rng(rng_seed)
    parameters = [Tensor(layout(rng.standard_normal(shape).astype(dtype)), requires_grad=True) for shape in SHAPES]
    optimizer = make(parameters)
    for step in range(4):
        for number, p in enumerate(parameters):
            p.grad = None if (step, number) == (1, 0) else Tensor(rng.standard_normal(p.shape).astype(dtype))
        optimizer.step()
    return [p.numpy() for p in parameters] + [array for state in optimizer.state for array in state.values()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [*RULES.values(), Signs], ids=[*RULES, "a user's"])
def test_a_native_loop_gives_the_bits_of_numpy(native_calls, monkeypatch, make, dtype):
    mine = trained(make, 0, dtype)
    assert len(native_calls) == 4 * (len(SHAPES) - 1) - 1, "all but the empty one, and the one without a gradient"
    monkeypatch.setattr(optimizer_module, "_LEAST_NATIVE", 10**9)
    expected = trained(make, 0, dtype)
    assert len(native_calls) == 4 * (len(SHAPES) - 1) - 1
    for a, b in zip(mine, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flushes on x86")
def test_averages_of_gradients_that_stay_zero_end_at_zero_not_at_subnormal_numbers(native_calls):
    """The moments of a word that a text no longer has; what is subnormal takes a processor a hundred times as long."""
    p = Tensor(np.ones(40, np.float32), requires_grad=True)
    optimizer = optim.Adam([p], lr=0.01)
    p.grad = Tensor(np.full(40, 1e-20, np.float32))  # whose square is below the subnormal numbers, too
    for _ in range(500):
        optimizer.step()
        p.grad = Tensor(np.zeros(40, np.float32))
    assert len(native_calls) == 500 and not optimizer.state[0]["m"].any()


def test_all_parameters_of_all_groups_are_one_call(native_calls, monkeypatch):
    texts, ignored = [], SimpleNamespace(on=lambda *arguments: None)
    monkeypatch.setattr(native, "function", lambda text, flushes: texts.append(text) or ignored)
    parameters = [Tensor(np.ones(shape), requires_grad=True) for shape in SHAPES[:3]]
    for p in parameters:
        p.grad = Tensor(np.ones(p.shape))
    optim.Adam([{"parameters": parameters[:1], "lr": 0.1}, {"parameters": parameters[1:]}]).step()
    assert len(texts) == 1


@pytest.mark.parametrize("dtype", ["float16", ">f4"])
def test_other_dtypes_are_left_to_numpy(native_calls, dtype):
    p = Tensor(np.ones(3, dtype), requires_grad=True)
    p.grad = Tensor(np.ones(3, dtype))
    optim.SGD([p], lr=0.5).step()
    assert p.tolist() == [0.5] * 3 and not native_calls


def test_other_layouts_are_left_to_numpy(native_calls):
    p = Tensor(np.ones((3, 4)), requires_grad=True)
    p.grad = Tensor.from_node(np.broadcast_to(np.arange(4.0), (3, 4)), None)
    optim.SGD([p], lr=1.0).step()
    np.testing.assert_array_equal(p.numpy(), 1 - np.arange(12.0).reshape(3, 4) % 4)
    assert not native_calls


def test_a_gradient_in_the_memory_of_its_parameter_is_left_to_numpy(native_calls):
    memory = np.arange(9.0)
    p = Tensor(np.zeros(8), requires_grad=True)
    p.data = memory[:8]
    p.grad = Tensor.from_node(memory[1:], None)
    optim.SGD([p], lr=1.0).step()
    np.testing.assert_array_equal(p.numpy(), -np.ones(8))
    assert not native_calls


def test_parameters_before_one_that_fails_are_updated(native_calls):
    first, second = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    first.grad, second.grad = Tensor(np.ones(3)), Tensor(np.ones(3))
    second.data.flags.writeable = False
    optimizer = optim.SGD([first, second], lr=1.0)
    with pytest.raises(ValueError, match="read-only"):
        optimizer.step()
    assert first.tolist() == [0.0] * 3 and optimizer.updates == [1, 0] and len(native_calls) == 1


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.5, momentum=0.9), Signs], ids=["momentum", "a user's"])
def test_parameters_that_share_memory_are_updated_in_their_order(native_calls, monkeypatch, make):
    """Views, of which NumPy updates one and native loops the others, by two texts: for one group has lr = 1."""

    def run(least):
        monkeypatch.setattr(optimizer_module, "_LEAST_NATIVE", least)
        rng = np.random.default_rng(0)
        memory = rng.standard_normal(100)
        views = [memory[:60], memory[30:90], memory[:60].reshape(6, 10).T, memory[10:70], memory[20:30]]
        parameters = [Tensor(np.zeros(view.shape), requires_grad=True) for view in views]
        for p, view in zip(parameters, views, strict=True):
            p.data = view
        optimizer = make([{"parameters": parameters[:1]}, {"parameters": parameters[1:]}])
        optimizer.groups[0]["lr"] = 0.25
        if "momentum" in optimizer.groups[0]:
            optimizer.groups[0]["momentum"] = 0.0
        for _ in range(3):
            for p in parameters:
                p.grad = Tensor(rng.standard_normal(p.shape))
            parameters[4].grad = Tensor.from_node(memory[:10], None)  # what other updates write
            optimizer.step()
        return memory

    mine = run(0)
    assert len(native_calls) == 3 * 4
    np.testing.assert_array_equal(mine, run(10**9))
