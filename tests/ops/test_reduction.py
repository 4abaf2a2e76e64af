"""Reductions: ties, zeros, empty axes, half precision and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tensors import constant, gradient, leaf

from tinygrad_gru import Tensor, grad, ops
from tinygrad_gru.testing import gradcheck, gradgradcheck

DTYPES = ["float16", "float32", "float64"]
NAMES = ["sum", "mean", "max", "min", "prod", "var", "std", "logsumexp", "norm"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [3, -4, (0, 5)])
def test_an_axis_out_of_bounds_raises(name, axis):
    with pytest.raises(ValueError, match="out of bounds"):
        getattr(ops, name)(leaf(np.ones((2, 3, 4))), axis=axis)


@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_out_of_bounds_of_cumsum_raises(axis):
    with pytest.raises(ValueError, match=r"cumsum: axis -?\d is out of bounds"):
        ops.cumsum(leaf(np.ones((2, 3))), axis=axis)


@st.composite
def reductions(draw):
    shape = draw(st.lists(st.integers(1, 3), max_size=3))
    axes = draw(st.sets(st.integers(0, max(len(shape) - 1, 0)), max_size=len(shape)))
    signed = tuple(a - len(shape) * draw(st.booleans()) for a in axes)
    axis = draw(st.sampled_from([None, signed, *signed]))
    return tuple(shape), axis, draw(st.booleans())


@given(reductions(), st.sampled_from(["sum", "mean", "max", "min", "prod", "var"]))
def test_any_axes_equal_numpy(case, name):
    shape, axis, keepdims = case
    x = np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape) / 7 + 0.3
    settings = {"axis": axis, "keepdims": keepdims}
    y = getattr(leaf(x), name)(**settings)
    np.testing.assert_allclose(y.numpy(), getattr(np, name)(x, **settings), rtol=1e-13, atol=1e-13)
    assert y.shape == getattr(np, name)(x, **settings).shape
    assert gradcheck(lambda x: getattr(ops, name)(x, **settings), [x])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [(0, 0), (1, -2)])
def test_a_repeated_axis_raises(name, axis):
    with pytest.raises(ValueError, match=r"names an axis twice|duplicate value in 'axis'"):
        getattr(ops, name)(leaf(np.ones((2, 3, 4))), axis=axis)


@pytest.mark.parametrize("axis", [[0, 1], 0.0, "0"])
def test_an_axis_that_is_no_integer_raises(axis):
    with pytest.raises(
        TypeError, match="axis: expected an integer, or a tuple of them where several are possible, got"
    ):
        ops.mean(leaf(np.ones((2, 3))), axis=axis)
    with pytest.raises(TypeError, match="axis: expected an integer"):
        ops.concatenate([leaf(np.ones((2, 3)))], axis=axis)


# -- half precision ------------------------------------------------------------------------------------------------


def test_sums_in_float16_do_not_stop_at_2048():
    ones = constant(np.ones((5000, 2)), "float16")
    for y in (ops.sum(ones, axis=0), ops.cumsum(ones, axis=0)[-1], ops.sum_to(ones, shape=(2,))):
        assert y.dtype == "float16" and y.tolist() == [5000.0, 5000.0]
    assert ops.sum(ones).item() == 10000.0


def test_mean_in_float16_of_a_sum_beyond_its_range():
    """The sum is 160 000, beyond the largest number of float16; the mean is not."""
    x = leaf(np.full(200, 800.0), "float16")
    ops.mean(x).backward()
    assert ops.mean(x).item() == 800.0 and ops.var(x).item() == 0.0
    np.testing.assert_allclose(x.grad.numpy(), 1 / 200, rtol=1e-3)
    assert ops.logsumexp(x).item() == pytest.approx(800 + math.log(200), rel=1e-3)


def test_norm_in_float16_does_not_overflow_in_squares():
    x = leaf([3000.0, 4000.0], "float16")
    y = ops.norm(x)
    y.backward()
    assert y.item() == 5000.0 and y.dtype == "float16"
    np.testing.assert_allclose(x.grad.numpy(), [0.6, 0.8], rtol=1e-3)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int8", "bool"])
def test_reductions_of_narrow_integers_are_not_in_float16(dtype):
    x = np.ones(300, dtype)
    assert ops.sum(x) == 300 and ops.sum(x).dtype.kind in "iu"
    assert ops.sum(np.full(10, 100, dtype)).item() == np.full(10, 100, dtype).sum()
    assert ops.mean(constant(x, dtype)).dtype == "float32"


# -- max and min ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_of_max_and_min_share_the_gradient_evenly(name):
    sign = 1 if name == "max" else -1
    x = sign * np.array([[2.0, 2.0, 1.0], [0.0, 3.0, -1.0], [5.0, 5.0, 5.0]])
    rows = gradient(lambda x: getattr(ops, name)(x, axis=1), x)
    np.testing.assert_allclose(rows, [[0.5, 0.5, 0], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(gradient(getattr(ops, name), x), [[0, 0, 0], [0, 0, 0], [1 / 3, 1 / 3, 1 / 3]])


def test_max_of_infinities():
    assert gradient(ops.max, [-np.inf, -np.inf]).tolist() == [0.5, 0.5]
    assert gradient(ops.max, [1.0, np.inf]).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", ["max", "min", "argmax"])
def test_max_and_min_of_nothing_raise(name):
    with pytest.raises(ValueError, match=name):
        getattr(ops, name)(leaf(np.ones((0, 3))), axis=0)


# -- mean, var, std ------------------------------------------------------------------------------------------------


def test_mean_and_var_of_nothing_raise():
    with pytest.raises(ValueError, match=r"mean: no elements to average over axis 0 of shape \(0, 3\)"):
        ops.mean(leaf(np.ones((0, 3))), axis=0)
    assert ops.mean(leaf(np.ones((0, 3))), axis=1).shape == (0,)
    with pytest.raises(ValueError, match=r"var: too few elements over axis None of \(1,\) for correction 1"):
        ops.var(leaf([1.0]), correction=1)


def test_variance_of_one_element():
    assert gradient(ops.var, [3.0]).tolist() == [0.0]
    assert ops.std(constant([3.0])).item() == 0.0


@pytest.mark.parametrize("correction", [0, 1, 2])
def test_var_with_correction_equals_torch(correction, rng):
    torch = pytest.importorskip("torch")
    values = rng.standard_normal((4, 5))
    for name in ("var", "std"):
        x, p = leaf(values), torch.tensor(values, requires_grad=True)
        y = getattr(x, name)(axis=1, correction=correction)
        q = getattr(torch, name)(p, dim=1, correction=correction)
        y.sum().backward()
        q.sum().backward()
        np.testing.assert_allclose(y.numpy(), q.detach().numpy(), rtol=1e-13)
        np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), atol=1e-13)


def test_variance_does_not_cancel():
    x = 1e8 + np.array([0.0, 1.0, 2.0])
    np.testing.assert_allclose(ops.var(x), 2 / 3, rtol=1e-12)


# -- prod ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [[], [1], [0, 2], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_products_with_zeros_have_right_gradients_to_second_order(length, zeros):
    x = np.linspace(0.5, 2.0, length)
    x[[k for k in zeros if k < length]] = 0.0
    others = [math.prod(np.delete(x, k)) for k in range(length)]
    np.testing.assert_allclose(gradient(ops.prod, x), others)
    assert gradgradcheck(ops.prod, [x])


def test_product_of_nothing_is_one():
    assert ops.prod(leaf(np.ones((0,)))).item() == 1.0
    assert ops.prod(leaf(np.ones((0, 2))), axis=0).tolist() == [1.0, 1.0]
    assert ops.prod(leaf(np.ones((2, 0))), axis=0).shape == (0,)


# -- logsumexp -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [-800.0, 0.0, 800.0])
def test_logsumexp_of_large_numbers(dtype, shift):
    x = leaf(np.array([0.0, 1.0, 3.0]) + shift, dtype)
    y = ops.logsumexp(x)
    y.backward()
    weights = np.exp([0.0, 1.0, 3.0])
    eps = float(np.finfo(dtype).eps)
    assert y.item() == pytest.approx(shift + math.log(weights.sum()), rel=eps)
    np.testing.assert_allclose(x.grad.numpy(), weights / weights.sum(), rtol=4 * eps)


@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_of_minus_infinity(keepdims):
    """A row of −∞ alone gives −∞ with gradient 0, without warnings."""
    x = leaf([[-np.inf, -np.inf], [-np.inf, 2.0], [1.0, 1.0]])
    y = ops.logsumexp(x, axis=1, keepdims=keepdims)
    y.sum().backward()
    np.testing.assert_allclose(y.numpy().ravel(), [-np.inf, 2.0, 1 + math.log(2)])
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0], [0, 1], [0.5, 0.5]])


def test_logsumexp_of_plus_infinity():
    assert ops.logsumexp(constant([np.inf, 0.0])).item() == np.inf


def test_logsumexp_equals_torch(rng):
    torch = pytest.importorskip("torch")
    values = 30 * rng.standard_normal((2, 3, 4))
    for axis in (0, (0, 2), -1):
        x, p = leaf(values), torch.tensor(values, requires_grad=True)
        y, q = ops.logsumexp(x, axis=axis), torch.logsumexp(p, dim=axis)
        (y * y).sum().backward()
        (q * q).sum().backward()
        np.testing.assert_allclose(y.numpy(), q.detach().numpy(), rtol=1e-14)
        np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), atol=1e-12)


# -- norm and cumsum -----------------------------------------------------------------------------------------------


def test_gradient_of_norm_at_zero_is_zero():
    x = leaf([[0.0, 0.0], [3.0, 4.0]])
    ops.norm(x, axis=1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0], [0.6, 0.8]])


def test_cumsum_along_negative_axes():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    assert x.cumsum(-1).tolist() == [[1.0, 3.0], [3.0, 7.0]]
    assert gradient(lambda x: x.cumsum(0), np.ones((3, 2))).tolist() == [[3.0] * 2, [2.0] * 2, [1.0] * 2]


@pytest.mark.parametrize("name", ["sum", "mean", "max", "prod"])
def test_methods_equal_the_ops(name):
    x = Tensor([[1.0, 2.0], [3.0, 5.0]])
    assert getattr(x, name)(axis=0).tolist() == getattr(ops, name)(x, axis=0).tolist()
    assert getattr(x, name)(axis=1, keepdims=True).shape == (2, 1)


@pytest.mark.parametrize("call", ["x.max(1)", "x.min(-1)", "ops.max(x, 0)"])
def test_extremes_along_an_axis_without_its_name_say_which_are_meant(call):
    """PyTorch's are pairs, so that `x.max(1)[1]` would be other numbers here than there, without a word."""
    with pytest.raises(TypeError, match="write axis=… for the values alone, or return_indices=True for both"):
        eval(call, {"ops": ops, "x": Tensor([[1.0, 2.0], [3.0, 5.0]])})


def test_the_gradient_of_a_sum_owns_its_memory():
    """The cotangent of a sum is one number repeated; the gradient is an array of its own."""
    x = leaf(np.ones((2, 3)))
    g = grad(x.sum(), x)
    g.data[0, 0] = 5.0
    assert g.numpy().sum() == 10.0


def test_argmax_and_argmin_return_the_first_of_ties():
    assert ops.argmax(Tensor([1.0, 3.0, 3.0])).item() == 1 and Tensor([2.0, 1.0, 1.0]).argmin(0).item() == 1
    assert Tensor([[1.0, 5.0], [7.0, 0.0]]).argmax().item() == 2
