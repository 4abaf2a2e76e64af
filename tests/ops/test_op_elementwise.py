"""Elementwise ops at extremes and singularities; the rest is in the contract."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tensors import constant, gradient, leaf

from tinygrad_gru import Tensor, grad, ops
from tinygrad_gru.testing import gradcheck, gradgradcheck

# -- power ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_integer_powers_at_zero(dtype):
    """x⁰, x¹, x², x³ at 0: 0, 1, 0, 0, without warnings; for scalar and array exponents."""
    for exponent, slope in ((0, 0.0), (1, 1.0), (2, 0.0), (3, 0.0), (0.0, 0.0), (1.0, 1.0), (2.0, 0.0)):
        assert gradient(lambda x, n=exponent: x**n, [0.0], dtype=dtype) == slope
        a, _ = gradient(ops.power, [0.0], [float(exponent)], dtype=dtype)
        assert a == slope


def test_gradient_of_the_exponent_is_zero_for_base_zero():
    a, b = gradient(ops.power, [0.0, 2.0], [2.0, 0.0])
    assert a.tolist() == [0.0, 0.0] and b.tolist() == [0.0, math.log(2.0)]


def test_a_negative_base_with_an_integer_exponent():
    x = np.array([-2.0, -0.5, 3.0])
    np.testing.assert_allclose(gradient(lambda x: x**3, x), 3 * x**2)
    np.testing.assert_allclose(gradient(lambda x: x**-2, x), -2 * x**-3.0)
    assert gradgradcheck(lambda x: x**3, [x])


def test_second_derivatives_of_a_square_at_zero():
    x = leaf([0.0])
    g = grad(x**2, x, create_graph=True)
    assert grad(g, x).item() == 2.0


@pytest.mark.parametrize("base", [2, 2.0, 0.5, 1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scalar_to_the_power_of_a_tensor(base, dtype):
    x = leaf([0.5, 2.0], dtype)
    inner = x + 0.0  # not a leaf, whose gradient is cast: what the rule gives
    y = base**inner
    g = grad(y.sum(), inner)
    assert y.dtype == g.dtype == dtype
    np.testing.assert_allclose(g.numpy(), float(base) ** x.numpy() * math.log(base), rtol=2e-3)


def test_zero_to_the_power_of_a_tensor():
    assert gradient(lambda x: 0**x, [2.0, 1.0]).tolist() == [0.0, 0.0]


def test_gradient_of_the_exponent_of_a_negative_scalar_is_nan():
    assert np.isnan(gradient(lambda x: (-2.0) ** x, [2.0])).all()


def test_power_operator_with_a_scalar_on_either_side():
    x = Tensor([2.0, 3.0])
    assert (x**2).tolist() == [4.0, 9.0] and (2**x).tolist() == [4.0, 8.0] and (x**x).tolist() == [4.0, 27.0]


# -- extremes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_log1p_and_expm1_are_exact_for_small_arguments(dtype):
    small = float(np.finfo(dtype).tiny) * 4
    x = constant([small, -small], dtype)
    np.testing.assert_array_equal(ops.log1p(x).numpy(), x.numpy())
    np.testing.assert_array_equal(ops.expm1(x).numpy(), x.numpy())


def test_where_passes_no_nan_to_the_branch_not_taken():
    """The gradient of log at 0 is infinite; taken from the other branch it must not become 0 × ∞."""
    x = leaf([0.0, 4.0])
    safe = ops.where(x.data > 0, x, 1.0)
    ops.where(x.data > 0, ops.log(safe), 0.0).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


def test_where_passes_infinite_and_nan_cotangents_to_the_branch_taken_only():
    a, b = leaf([1.0, 1.0]), leaf([1.0, 1.0])
    ops.where(np.array([True, False]), a, b).backward(np.array([np.inf, np.nan]))
    assert a.grad.tolist() == [np.inf, 0.0]
    assert b.grad.numpy()[0] == 0.0 and np.isnan(b.grad.numpy()[1])


def test_where_broadcasts_its_condition():
    condition = np.array([[True], [False]])
    a, b = gradient(lambda a, b: ops.where(condition, a, b), np.ones(3), np.ones((2, 3)))
    assert a.tolist() == [1.0, 1.0, 1.0] and b.tolist() == [[0.0] * 3, [1.0] * 3]


def test_where_of_two_scalars():
    assert ops.where(Tensor([True, False]), 1.0, 0.0).tolist() == [1.0, 0.0]
    assert ops.where(np.array([True]), leaf([2.0]), 0.0).requires_grad


@pytest.mark.parametrize("function", [ops.maximum, ops.minimum])
def test_maximum_and_minimum_split_the_gradient_of_ties(function):
    a, b = gradient(function, [1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    larger = [0.5, 0.0, 1.0]
    assert a.tolist() == (larger if function is ops.maximum else [0.5, 1.0, 0.0])
    np.testing.assert_array_equal(a + b, 1.0)


@pytest.mark.parametrize("function", [ops.maximum, ops.minimum])
def test_maximum_and_minimum_propagate_nan_as_numpy(function):
    assert np.isnan(function(constant([np.nan, 1.0]), constant([1.0, np.nan])).numpy()).all()


def test_maximum_of_a_tensor_with_itself():
    x = leaf([1.0, 2.0])
    ops.maximum(x, x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_clip_passes_the_gradient_at_its_bounds():
    assert gradient(lambda x: ops.clip(x, low=-1.0, high=1.0), [-2.0, -1.0, 0.0, 1.0, 2.0]).tolist() == [0, 1, 1, 1, 0]
    assert gradient(lambda x: x.clip(-1.0), [-2.0, 0.0]).tolist() == [0, 1]
    assert gradient(lambda x: x.clip(high=1.0), [0.0, 2.0]).tolist() == [1, 0]
    assert gradient(lambda x: x.clip(), [0.0, 2.0]).tolist() == [1, 1]


def test_clip_to_arrays_of_bounds():
    y = ops.clip(leaf([[0.0, 5.0], [0.0, 5.0]]), low=np.array([[1.0], [-1.0]]), high=4.0)
    assert y.tolist() == [[1.0, 4.0], [0.0, 4.0]]


def test_clip_refuses_tensor_bounds():
    with pytest.raises(TypeError, match="low and high are scalars or arrays, and get no gradient"):
        ops.clip(leaf([1.0]), low=constant([0.0]))


def test_gradient_of_absolute_at_zero_is_zero():
    assert gradient(ops.absolute, [-2.0, 0.0, 3.0]).tolist() == [-1.0, 0.0, 1.0]
    assert abs(Tensor([-1.0])).tolist() == [1.0]


def test_division_by_zero_warns_as_numpy():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert (Tensor([1.0]) / 0.0).tolist() == [np.inf]


@pytest.mark.parametrize("function", [ops.sqrt, ops.log])
def test_infinite_derivatives_are_infinite(function):
    x = leaf([0.0])
    with np.errstate(divide="ignore"):
        function(x).sum().backward()
    assert x.grad.tolist() == [np.inf]


# -- one tensor used repeatedly -------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["add", "subtract", "hadamard", "divide"]), min_size=1, max_size=6))
def test_gradients_of_repeated_uses_accumulate(names):
    """x op x op x …: every use adds its share."""

    def chain(x):
        y = x
        for name in names:
            y = getattr(ops, name)(y, x)
        return y + 2.5 * x  # so that not all of a derivative can cancel

    x = np.array([0.7, 1.3])
    assert gradcheck(chain, [x], atol=1e-11)
    assert gradgradcheck(chain, [x], atol=1e-11)


def test_multiply_is_hadamard():
    assert ops.multiply is ops.hadamard


# -- against PyTorch -----------------------------------------------------------------------------------------------

UNARY = ["exp", "expm1", "log", "log1p", "sqrt", "square", "abs", "sin", "cos", "tanh", "sigmoid"]


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_torch(name, dtype, rng):
    torch = pytest.importorskip("torch")
    values = rng.uniform(0.1, 3.0, (3, 4)).astype(dtype)
    x, peer = leaf(values, dtype), torch.tensor(values, requires_grad=True)
    y, target = getattr(ops, {"abs": "absolute"}.get(name, name))(x), getattr(torch, name)(peer)
    y.sum().backward()
    target.sum().backward()
    rtol = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(y.numpy(), target.detach().numpy(), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(x.grad.numpy(), peer.grad.numpy(), rtol=2 * rtol, atol=rtol)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
def test_binary_ops_equal_torch(name, rng):
    torch = pytest.importorskip("torch")
    a, b = rng.uniform(0.5, 2.0, (2, 1, 4)), rng.uniform(0.5, 2.0, (3, 1))
    x, z, weight = leaf(a), leaf(b), rng.standard_normal((2, 3, 4))
    p, q = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    getattr(ops, name)(x, z).backward(weight)
    getattr(torch, name)(p, q).backward(torch.tensor(weight))
    np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), rtol=1e-13)
    np.testing.assert_allclose(z.grad.numpy(), q.grad.numpy(), rtol=1e-13)


# -- comparison ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [Tensor([2.0, 2.0, 2.0]), np.full(3, 2.0), 2.0, 2])
def test_comparison_operators(other):
    x = leaf([1.0, 2.0, 3.0])
    for y, expected in (
        (x < other, [True, False, False]), (x <= other, [True, True, False]), (x > other, [False, False, True]),
        (x >= other, [False, True, True]), (x == other, [False, True, False]), (x != other, [True, False, True]),
        (other < x, [False, False, True]), (other >= x, [True, True, False]), (other == x, [False, True, False]),
    ):  # fmt: skip
        assert type(y) is Tensor and y.dtype == bool and y.tolist() == expected and not y.requires_grad


def test_boolean_and_integer_results_are_constants():
    x = leaf([[1.0, 3.0, 2.0]])
    for y in (
        ops.argmax(x),
        ops.argmin(x, axis=1),
        ops.isfinite(x),
        x > 1,
        ops.sign(x),
        ops.one_hot(Tensor([1]), depth=2),
    ):
        assert not y.requires_grad


def test_isfinite():
    assert ops.isfinite(Tensor([1.0, np.inf, -np.inf, np.nan])).tolist() == [True, False, False, False]


def test_where_with_a_comparison_as_condition():
    x = leaf([-1.0, 2.0])
    ops.where(x > 0, x, 0.1 * x).sum().backward()
    assert x.grad.tolist() == [0.1, 1.0]


def test_tensors_hash_by_identity():
    x, y = leaf([1.0]), leaf([1.0])
    assert {x: "x", y: "y"}[x] == "x" and x in {x} and y not in {x}


# -- division with remainder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_floor_division_and_remainder_are_those_of_numpy(dtype):
    a, b = np.meshgrid(np.array([-7, -6, 0, 6, 7], dtype), np.array([-3, -2, 2, 3], dtype))
    np.testing.assert_array_equal(ops.floor_divide(Tensor(a), Tensor(b)).numpy(), a // b)
    np.testing.assert_array_equal(ops.remainder(Tensor(a), Tensor(b)).numpy(), a % b)
    assert ops.remainder(Tensor(a), 2).dtype == ops.floor_divide(7, Tensor(b)).dtype == dtype


def test_gradients_of_remainder_are_those_of_torch(rng):
    torch = pytest.importorskip("torch")
    values = [3 * rng.standard_normal(20), rng.standard_normal(20)]
    mine, theirs = (
        [Tensor(v, requires_grad=True) for v in values],
        [torch.tensor(v, requires_grad=True) for v in values],
    )
    ops.remainder(*mine).square().sum().backward()
    torch.remainder(*theirs).square().sum().backward()
    for x, p in zip(mine, theirs):
        np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), rtol=1e-12)
    assert not ops.floor_divide(*mine).requires_grad
