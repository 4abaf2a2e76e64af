"""Activations at their extremes: right values, right gradients and no warnings, in every precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.tensors import constant, gradient, leaf

from tinygrad_gru import grad, ops
from tinygrad_gru.testing import gradcheck, gradgradcheck

DTYPES = ["float16", "float32", "float64"]
FAR = np.array([-800.0, -100.0, -30.0, 30.0, 100.0, 800.0])

#: What each is far from zero, and its slope there.
SATURATING = {
    "sigmoid": (lambda x: x > 0, lambda x: 0 * x),
    "tanh": (np.sign, lambda x: 0 * x),
    "relu": (lambda x: np.maximum(x, 0), lambda x: x > 0),
    "softplus": (lambda x: np.maximum(x, 0), lambda x: x > 0),
    "silu": (lambda x: np.maximum(x, 0), lambda x: x > 0),
    "gelu": (lambda x: np.maximum(x, 0), lambda x: x > 0),
    "elu": (lambda x: np.where(x > 0, x, -1.0), lambda x: x > 0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SATURATING)
def test_far_from_zero(name, dtype):
    value, slope = SATURATING[name]
    x = leaf(FAR, dtype)
    y = getattr(ops, name)(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    np.testing.assert_allclose(y.numpy(), value(FAR).astype(dtype), atol=1e-11)
    np.testing.assert_allclose(x.grad.numpy(), slope(FAR).astype(dtype), atol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in SATURATING if name != "relu"])  # relu's slope is a constant
def test_second_derivatives_far_from_zero(name, dtype):
    x = leaf(FAR, dtype)
    g = grad(getattr(ops, name)(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(grad(g.sum(), x).numpy(), np.zeros(6), atol=1e-7)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "softplus", "elu"])
def test_infinity_is_only_a_large_number(name):
    value, slope = SATURATING[name]
    x = leaf([-np.inf, np.inf])
    y = getattr(ops, name)(x)
    y.sum().backward()
    assert y.tolist() == [float(value(-800.0)), np.inf if value(800.0) == 800 else float(value(800.0))]
    assert x.grad.tolist() == [0.0, float(slope(800.0))]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_is_symmetric(dtype):
    x = np.linspace(-20, 20, 41).astype(dtype)
    y, mirrored = ops.sigmoid(x), ops.sigmoid(-x)
    np.testing.assert_allclose(y + mirrored, np.ones_like(x), rtol=np.finfo(dtype).eps)


def test_softplus_is_exact_where_it_is_tiny():
    x = np.array([-700.0, -50.0, -36.0])
    np.testing.assert_allclose(ops.softplus(x), np.exp(x), rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kinks_have_the_slope_of_the_left_side(dtype):
    assert gradient(ops.relu, [0.0, -0.0], dtype=dtype).tolist() == [0.0, 0.0]
    assert gradient(lambda x: ops.leaky_relu(x, slope=0.25), [0.0, -1.0, 1.0], dtype=dtype).tolist() == [
        0.25,
        0.25,
        1.0,
    ]


@pytest.mark.parametrize("name", ["elu", "gelu", "silu", "softplus", "sigmoid", "tanh"])
def test_smooth_through_zero(name):
    assert gradcheck(getattr(ops, name), [np.array([1e-3, -1e-3, 0.5])])
    if name != "elu":  # whose second derivative jumps at 0
        assert gradgradcheck(getattr(ops, name), [np.array([0.0, 0.5])])


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_elu_ends_at_minus_alpha(alpha):
    assert ops.elu(constant([-800.0]), alpha=alpha).tolist() == [-alpha]


# -- softmax -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [-800.0, 0.0, 800.0])
def test_softmax_does_not_see_a_shift(dtype, shift):
    x = np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]])
    expected = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(ops.softmax(constant(x + shift, dtype)).numpy(), expected, rtol=4 * eps)
    np.testing.assert_allclose(ops.log_softmax(constant(x + shift, dtype)).numpy(), np.log(expected), rtol=4 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_far_apart_numbers(dtype):
    x = leaf([[-800.0, 800.0, 0.0]], dtype)
    weight = constant([[1.0, 2.0, 3.0]], dtype)
    (ops.softmax(x) * weight).sum().backward()
    assert ops.softmax(x).tolist() == [[0.0, 1.0, 0.0]] and x.grad.tolist() == [[0.0, 0.0, 0.0]]
    x.zero_grad()
    (ops.log_softmax(x) * weight).sum().backward()
    assert ops.log_softmax(x).tolist() == [[-1600.0, 0.0, -800.0]] and x.grad.tolist() == [[1.0, -4.0, 3.0]]


@pytest.mark.parametrize("function", [ops.softmax, ops.log_softmax])
def test_what_is_masked_with_minus_infinity_takes_no_part(function):
    x = leaf([[0.5, -np.inf, 1.5], [2.0, -np.inf, -np.inf]])
    y = function(x)
    kept = np.array([[True, False, True], [True, False, False]])
    (ops.where(kept, y, 0.0) * np.arange(1.0, 7.0).reshape(2, 3)).sum().backward()
    alone = leaf([0.5, 1.5])
    (function(alone) * np.array([1.0, 3.0])).sum().backward()
    np.testing.assert_allclose(y.numpy()[0, [0, 2]], function(alone).numpy(), rtol=1e-15)
    np.testing.assert_allclose(x.grad.numpy()[0, [0, 2]], alone.grad.numpy(), rtol=1e-13)
    assert x.grad.numpy()[:, 1].tolist() == [0.0, 0.0] and x.grad.numpy()[1].tolist() == [0.0, 0.0, 0.0]


def test_a_row_with_nothing_left_has_no_softmax():
    """There is no distribution over nothing: NaN, and NumPy's own warning."""
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(ops.softmax(constant([-np.inf, -np.inf])).numpy()).all()


def test_softmax_over_other_axes(rng):
    x = rng.standard_normal((2, 3, 4))
    for axis in (0, 1, 2, -1, -2):
        np.testing.assert_allclose(ops.softmax(x, axis=axis).sum(axis=axis), 1.0, rtol=1e-14)
        assert gradgradcheck(lambda x, axis=axis: ops.softmax(x, axis=axis), [x])


def test_softmax_of_one_class_is_certain_and_flat():
    x = leaf([[3.0], [-700.0]])
    ops.softmax(x).sum().backward()
    assert ops.softmax(x).tolist() == [[1.0], [1.0]] and x.grad.tolist() == [[0.0], [0.0]]


def test_half_precision_does_not_stop_counting():
    """4096 equal logits: each has 1/4096, though a float16 sum of ones would end at 2048."""
    x = np.zeros((4096, 2), np.float16)
    np.testing.assert_allclose(ops.softmax(x, axis=0), 1 / 4096, rtol=1e-3)
    np.testing.assert_allclose(ops.log_softmax(x, axis=0), -math.log(4096), rtol=1e-3)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_bad_axis_is_named(name):
    with pytest.raises(ValueError, match=rf"{name}: axis 2 is out of bounds"):
        getattr(ops, name)(constant([[1.0, 2.0]]), axis=2)


# -- against PyTorch -----------------------------------------------------------------------------------------------

PEERS = {
    "sigmoid": ("sigmoid", {}, {}),
    "relu": ("relu", {}, {}),
    "leaky_relu": ("leaky_relu", {"slope": 0.2}, {"negative_slope": 0.2}),
    "elu": ("elu", {"alpha": 1.5}, {"alpha": 1.5}),
    "softplus": ("softplus", {}, {"threshold": 1000}),
    "silu": ("silu", {}, {}),
    "gelu": ("gelu", {}, {"approximate": "tanh"}),
    "softmax": ("softmax", {"axis": 1}, {"dim": 1}),
    "log_softmax": ("log_softmax", {"axis": 0}, {"dim": 0}),
}


@pytest.mark.parametrize("name", PEERS)
def test_equals_torch_to_second_order(name, rng):
    torch = pytest.importorskip("torch")
    peer_name, settings, theirs = PEERS[name]
    values, weight = 4 * rng.standard_normal((5, 6)), rng.standard_normal((5, 6))
    x, p = leaf(values), torch.tensor(values, requires_grad=True)
    y = getattr(ops, name)(x, **settings)
    q = getattr(torch.nn.functional, peer_name)(p, **theirs)
    np.testing.assert_allclose(y.numpy(), q.detach().numpy(), atol=1e-14)
    g = grad((y * weight).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad((q * torch.tensor(weight)).sum(), p, create_graph=True)
    np.testing.assert_allclose(g.numpy(), h.detach().numpy(), atol=1e-13)
    if h.requires_grad and name not in ("relu", "leaky_relu"):
        second, expected = grad((g * weight).sum(), x), torch.autograd.grad((h * torch.tensor(weight)).sum(), p)[0]
        np.testing.assert_allclose(second.numpy(), expected.numpy(), atol=1e-12)
