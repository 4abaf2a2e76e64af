"""Tensors by shape, range and chance; NumPy is the oracle, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_gru as tg
from tinygrad_gru import Tensor, manual_seed


@pytest.mark.parametrize(
    ("create", "expected"),
    [
        (lambda **to: tg.zeros(2, 3, **to), np.zeros((2, 3), "float32")),
        (lambda **to: tg.zeros((2, 3), dtype="int64", **to), np.zeros((2, 3), "int64")),
        (lambda **to: tg.zeros(**to), np.zeros((), "float32")),
        (lambda **to: tg.ones([2, 3], dtype="float64", **to), np.ones((2, 3))),
        (lambda **to: tg.ones(4, dtype="bool", **to), np.ones(4, bool)),
        (lambda **to: tg.full((2,), 7.0, **to), np.full(2, 7, "float32")),
        (lambda **to: tg.full((2,), 7, **to), np.full(2, 7)),
        (lambda **to: tg.full((2,), True, **to), np.full(2, True)),
        (lambda **to: tg.full(3, 2, dtype="int64", **to), np.full(3, 2)),
        (lambda **to: tg.zeros_like(tg.ones(2, 3, **to)), np.zeros((2, 3), "float32")),
        (lambda **to: tg.ones_like(tg.zeros(2, 3, **to), dtype="int64"), np.ones((2, 3), "int64")),
        (lambda **to: tg.full_like(tg.zeros(2, dtype="float64", **to), 5), np.full(2, 5.0)),
        (lambda **to: tg.arange(5, **to), np.arange(5)),
        (lambda **to: tg.arange(2, 11, 3, **to), np.arange(2, 11, 3)),
        (lambda **to: tg.arange(10, 1, -4, **to), np.arange(10, 1, -4)),
        (lambda **to: tg.arange(3, 1, **to), np.arange(3, 1)),
        (lambda **to: tg.arange(0.0, 1.0, 0.1, **to), np.arange(0.0, 1.0, 0.1).astype("float32")),
        (lambda **to: tg.arange(0, 1, 0.25, dtype="float64", **to), np.arange(0, 1, 0.25)),
        (lambda **to: tg.arange(3, dtype="float32", **to), np.arange(3, dtype="float32")),
        (lambda **to: tg.linspace(-1, 2, 7, **to), np.linspace(-1, 2, 7, dtype="float32")),
        (lambda **to: tg.linspace(3.0, 1.0, 1, dtype="float64", **to), np.linspace(3, 1, 1)),
        (lambda **to: tg.eye(3, **to), np.eye(3, dtype="float32")),
        (lambda **to: tg.eye(2, 3, dtype="int64", **to), np.eye(2, 3, dtype="int64")),
        (lambda **to: tg.tensor([[1.0, 2.0]], **to), np.array([[1, 2]], "float32")),
    ],
)
def test_values_dtype_and_device_are_those_of_numpy(create, expected, backend):
    t = create(device=backend)
    assert type(t) is Tensor and t.device == backend.name and not t.requires_grad
    assert (t.shape, t.numpy().dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(t.numpy(), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("create", [tg.zeros, tg.ones, tg.empty, tg.rand, tg.randn])
def test_a_new_leaf(create, backend):
    t = create(2, 3, dtype="float64", device=backend, requires_grad=True)
    assert t.requires_grad and t.is_leaf and t.shape == (2, 3) and t.device == backend.name
    (t * t).sum().backward()
    np.testing.assert_allclose(t.grad.numpy(), 2 * t.numpy())
    with pytest.raises(TypeError, match="only a floating-point tensor can require a gradient"):
        tg.ones(2, dtype="int64", requires_grad=True)


def test_random_numbers_follow_the_seed_and_their_distribution(backend):
    manual_seed(3)
    draws = [
        tg.rand(20000, device=backend),
        tg.randn(20000, device=backend),
        tg.randint(-2, 3, (20000,), device=backend),
    ]
    manual_seed(3)
    again = [tg.rand(20000), tg.randn(20000), tg.randint(-2, 3, (20000,))]
    for one, other in zip(draws, again):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-6, atol=1e-6)
    uniform, normal, integers = (t.numpy() for t in draws)
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.01
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03
    assert integers.dtype == np.int64
    np.testing.assert_allclose(np.bincount(integers + 2) / 20000, 0.2, atol=0.015)


def test_randint_of_one_bound():
    assert tg.randint(3, (4, 5)).shape == (4, 5) and tg.randint(1).item() == 0
    with pytest.raises(ValueError, match="randint: expected low < high"):
        tg.randint(3, 3, (2,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tg.zeros((2, 3), "float64"), r"zeros: expected a shape.*; a dtype is given by name, zeros\(shape, d"),
        (lambda: tg.ones(2.0), "ones: expected a shape, integers ≥ 0, got 2.0"),
        (lambda: tg.randn(-1), "randn: expected a shape, integers ≥ 0, got -1"),
        (lambda: tg.zeros(2, dtype="float99"), "dtype: 'float99' is not a dtype"),
    ],
)
def test_wrong_arguments_are_answered(call, message):
    with pytest.raises(TypeError, match=message):
        call()
    with pytest.raises(ValueError, match="step must not be 0"):
        tg.arange(0, 1, 0)
