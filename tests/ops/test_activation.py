"""Activations at their extremes in every precision; layer normalization; dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.tensors import constant, gradient, leaf

from tinygrad_gru import Tensor, grad, manual_seed, ops, random_state, set_random_state
from tinygrad_gru.testing import gradcheck, gradgradcheck

DTYPES = ["float16", "float32", "float64"]
FAR = np.array([-800.0, -100.0, -30.0, 30.0, 100.0, 800.0])

#: The asymptote of each, and its slope.
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
def test_saturation_far_from_zero(name, dtype):
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
def test_saturation_at_infinity(name):
    value, slope = SATURATING[name]
    x = leaf([-np.inf, np.inf])
    y = getattr(ops, name)(x)
    y.sum().backward()
    assert y.tolist() == [float(value(-800.0)), np.inf if value(800.0) == 800 else float(value(800.0))]
    assert x.grad.tolist() == [0.0, float(slope(800.0))]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_of_minus_x_is_one_minus_sigmoid(dtype):
    x = np.linspace(-20, 20, 41).astype(dtype)
    y, mirrored = ops.sigmoid(x), ops.sigmoid(-x)
    np.testing.assert_allclose(y + mirrored, np.ones_like(x), rtol=np.finfo(dtype).eps)


def test_softplus_is_exact_in_its_left_tail():
    x = np.array([-700.0, -50.0, -36.0])
    np.testing.assert_allclose(ops.softplus(x), np.exp(x), rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_at_kinks_are_those_of_the_left_side(dtype):
    assert gradient(ops.relu, [0.0, -0.0], dtype=dtype).tolist() == [0.0, 0.0]
    assert gradient(lambda x: ops.leaky_relu(x, slope=0.25), [0.0, -1.0, 1.0], dtype=dtype).tolist() == [
        0.25,
        0.25,
        1.0,
    ]


@pytest.mark.parametrize("name", ["elu", "gelu", "silu", "softplus", "sigmoid", "tanh"])
def test_gradcheck_at_zero(name):
    assert gradcheck(getattr(ops, name), [np.array([1e-3, -1e-3, 0.5])])
    if name != "elu":  # whose second derivative jumps at 0
        assert gradgradcheck(getattr(ops, name), [np.array([0.0, 0.5])])


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_elu_ends_at_minus_alpha(alpha):
    assert ops.elu(constant([-800.0]), alpha=alpha).tolist() == [-alpha]


# -- softmax -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [-800.0, 0.0, 800.0])
def test_softmax_is_shift_invariant(dtype, shift):
    x = np.array([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]])
    expected = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(ops.softmax(constant(x + shift, dtype)).numpy(), expected, rtol=4 * eps)
    np.testing.assert_allclose(ops.log_softmax(constant(x + shift, dtype)).numpy(), np.log(expected), rtol=4 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_logits_far_apart(dtype):
    x = leaf([[-800.0, 800.0, 0.0]], dtype)
    weight = constant([[1.0, 2.0, 3.0]], dtype)
    (ops.softmax(x) * weight).sum().backward()
    assert ops.softmax(x).tolist() == [[0.0, 1.0, 0.0]] and x.grad.tolist() == [[0.0, 0.0, 0.0]]
    x.zero_grad()
    (ops.log_softmax(x) * weight).sum().backward()
    assert ops.log_softmax(x).tolist() == [[-1600.0, 0.0, -800.0]] and x.grad.tolist() == [[1.0, -4.0, 3.0]]


@pytest.mark.parametrize("function", [ops.softmax, ops.log_softmax])
def test_softmax_masked_with_minus_infinity(function):
    x = leaf([[0.5, -np.inf, 1.5], [2.0, -np.inf, -np.inf]])
    y = function(x)
    kept = np.array([[True, False, True], [True, False, False]])
    (ops.where(kept, y, 0.0) * np.arange(1.0, 7.0).reshape(2, 3)).sum().backward()
    alone = leaf([0.5, 1.5])
    (function(alone) * np.array([1.0, 3.0])).sum().backward()
    np.testing.assert_allclose(y.numpy()[0, [0, 2]], function(alone).numpy(), rtol=1e-15)
    np.testing.assert_allclose(x.grad.numpy()[0, [0, 2]], alone.grad.numpy(), rtol=1e-13)
    assert x.grad.numpy()[:, 1].tolist() == [0.0, 0.0] and x.grad.numpy()[1].tolist() == [0.0, 0.0, 0.0]


def test_softmax_of_a_fully_masked_row_is_nan():
    """No class is possible: NaN, and NumPy's own warning."""
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(ops.softmax(constant([-np.inf, -np.inf])).numpy()).all()


def test_softmax_over_other_axes(rng):
    x = rng.standard_normal((2, 3, 4))
    for axis in (0, 1, 2, -1, -2):
        np.testing.assert_allclose(ops.softmax(x, axis=axis).sum(axis=axis), 1.0, rtol=1e-14)
        assert gradgradcheck(lambda x, axis=axis: ops.softmax(x, axis=axis), [x])


def test_softmax_of_one_class_has_no_gradient():
    x = leaf([[3.0], [-700.0]])
    ops.softmax(x).sum().backward()
    assert ops.softmax(x).tolist() == [[1.0], [1.0]] and x.grad.tolist() == [[0.0], [0.0]]


def test_softmax_in_float16_sums_in_float32():
    """4096 equal logits: each has 1/4096, though a float16 sum of ones would end at 2048."""
    x = np.zeros((4096, 2), np.float16)
    np.testing.assert_allclose(ops.softmax(x, axis=0), 1 / 4096, rtol=1e-3)
    np.testing.assert_allclose(ops.log_softmax(x, axis=0), -math.log(4096), rtol=1e-3)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_an_axis_out_of_bounds_raises(name):
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


# -- layer normalization ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_layer_norm_equals_torch_to_second_order(eps, rng):
    torch = pytest.importorskip("torch")
    arrays = [rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)]
    weight = rng.standard_normal((2, 3, 5))
    mine, peers = [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, q = ops.layer_norm(*mine, eps=eps), torch.nn.functional.layer_norm(peers[0], (5,), *peers[1:], eps=eps)
    np.testing.assert_allclose(y.numpy(), q.detach().numpy(), atol=1e-14)
    found = grad((y * weight).sum(), mine, create_graph=True)
    expected = torch.autograd.grad((q * torch.tensor(weight)).sum(), peers, create_graph=True)
    for g, h in zip(found, expected):
        np.testing.assert_allclose(g.numpy(), h.detach().numpy(), atol=1e-12)
    second = grad((found[0] * weight).sum(), mine[:2])
    for g, h in zip(second, torch.autograd.grad((expected[0] * torch.tensor(weight)).sum(), peers[:2])):
        np.testing.assert_allclose(g.numpy(), h.numpy(), atol=1e-11)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_layer_norm_of_equal_features_has_finite_gradients(dtype):
    x = leaf(np.full((2, 4), 300.0), dtype)
    y = ops.layer_norm(x)
    (y * np.arange(4.0, dtype=dtype)).sum().backward()
    assert not y.numpy().any() and np.isfinite(x.grad.numpy()).all() and y.dtype == dtype


def test_layer_norm_without_weight_or_bias(rng):
    x, weight, bias = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal(4)
    normalized = ops.layer_norm(x)
    np.testing.assert_allclose(normalized.mean(axis=-1), 0, atol=1e-15)
    np.testing.assert_allclose(normalized.std(axis=-1), 1, rtol=1e-4)
    np.testing.assert_array_equal(ops.layer_norm(x, weight), normalized * weight)
    np.testing.assert_array_equal(ops.layer_norm(x, bias=bias), normalized + bias)
    np.testing.assert_array_equal(ops.layer_norm(x, weight, bias), normalized * weight + bias)


def test_layer_norm_in_float16_does_not_overflow():
    x = np.array([[-3000.0, 0.0, 1000.0, 2000.0]])
    double = leaf(x)
    half = Tensor(x, requires_grad=True, dtype="float16")
    for tensor in (double, half):
        (ops.layer_norm(tensor) * np.array([1, 2, 3, 5], str(tensor.dtype))).sum().backward()
    assert half.grad.dtype == ops.layer_norm(half).dtype == "float16"
    np.testing.assert_allclose(ops.layer_norm(half).numpy(), ops.layer_norm(double).numpy(), rtol=2e-3)
    np.testing.assert_allclose(half.grad.numpy(), double.grad.numpy(), rtol=5e-2, atol=1e-6)


# -- dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_rate_and_mean(device, p, dtype):
    n = 40_000
    y = ops.dropout(constant(np.ones(n), dtype, device), p=p)
    values = y.numpy().astype(np.float64)
    spread = 5 * np.sqrt(p * (1 - p) / n)
    assert abs((values == 0).mean() - p) < spread
    assert abs(values.mean() - 1) < spread / (1 - p) + 1e-3
    np.testing.assert_allclose(values[values > 0], 1 / (1 - p), rtol=1e-3)
    assert y.dtype == dtype


def test_dropped_elements_are_independent(rng):
    """Neighbours are uncorrelated, within a draw and between draws."""
    first, second = (ops.dropout(np.ones(20_000), p=0.5) > 0 for _ in range(2))
    for a, b in ((first[1:], first[:-1]), (first, second)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.04


def test_gradient_of_dropout_uses_the_same_mask():
    x = leaf(np.arange(1.0, 1001.0))
    y = ops.dropout(x, p=0.3)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy() * x.numpy(), y.numpy())


def test_dropout_is_reproducible_from_seed_and_state(device):
    x = constant(np.ones(100), device=device)
    manual_seed(3)
    first, second = ops.dropout(x).tolist(), ops.dropout(x).tolist()
    assert first != second
    manual_seed(3)
    assert [ops.dropout(x).tolist(), ops.dropout(x).tolist()] == [first, second]
    state = random_state()
    third = ops.dropout(x).tolist()
    set_random_state(state)
    assert ops.dropout(x).tolist() == third


def test_dropout_in_evaluation_is_the_identity():
    x, state = leaf([1.0, 2.0]), random_state()
    assert ops.dropout(x, training=False) is x and ops.dropout(x, p=0) is x
    assert random_state() == state


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_refuses_p_outside_of_0_to_1(p):
    with pytest.raises(ValueError, match=r"p: expected a probability in \[0, 1\), got"):
        ops.dropout(leaf([1.0]), p=p)


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_dropout_refuses_integers(dtype):
    with pytest.raises(TypeError, match=f"dropout: expected floating-point numbers, got {dtype}"):
        ops.dropout(constant([1, 0], dtype))


def test_dropout_of_empty_and_0d_arrays():
    assert ops.dropout(leaf(np.zeros((0, 3)))).shape == (0, 3)
    assert ops.dropout(leaf(1.0), p=0.5).item() in (0.0, 2.0)
