"""NumPy's functions on Tensors: through the op where there is one, on values of constants, or an error that helps."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import Tensor, grad, ops

X = np.array([[0.3, -0.5, 1.5], [0.7, 0.9, -1.1]])

#: Each is evaluated with NumPy's array, which is the oracle, and with a leaf and a constant.
FUNCTIONS = [
    lambda x: np.sin(x),
    lambda x: np.exp(x) + np.cos(x) * np.tanh(x),
    lambda x: np.log1p(np.abs(x)) + np.sqrt(np.absolute(x)) + np.square(x) + np.expm1(x) + np.sign(x),
    lambda x: np.add(x, 1.0) * np.subtract(2.0, x) + np.multiply(x, x) + np.divide(x, 2.0) + np.negative(x),
    lambda x: np.maximum(x, 0.0) + np.minimum(x, X) + np.power(x, 2.0) + np.fabs(x) + np.float_power(x, 2),
    lambda x: np.matmul(x, X.T) + np.dot(x, X.T) + X @ np.transpose(x),
    lambda x: np.reciprocal(x) + np.positive(x),
    lambda x: np.sum(x) + np.sum(x, 1).sum() + np.sum(x, axis=0, keepdims=True).sum(),
    lambda x: np.mean(x, axis=1) + np.max(x, axis=1) + np.amin(x, axis=1) + np.prod(x, axis=1),
    lambda x: np.std(x) + np.var(x, ddof=1) + np.std(x, axis=1, ddof=1),
    lambda x: np.cumsum(x) + np.ravel(np.cumsum(x, axis=1)) + np.ravel(np.cumsum(x, 0)),
    lambda x: np.concatenate([x, X]) + np.concatenate((X, x), axis=0),
    lambda x: np.stack([x, x], axis=1),
    lambda x: np.where(X > 0, x, 0.0),
    lambda x: np.reshape(x, (3, 2)) + np.transpose(x) + np.swapaxes(x, 0, 1) + np.moveaxis(x, 0, 1),
    lambda x: np.squeeze(np.expand_dims(x, 0)) + np.flip(x, axis=1) + np.copy(x),
    lambda x: np.broadcast_to(x, (4, 2, 3)),
    lambda x: np.clip(x, -0.4, 0.8) + np.clip(x, min=-0.4, max=0.8),
    lambda x: np.split(x, 3, axis=1)[1],
    lambda x: np.take(x, [0, 2], axis=1) + np.take_along_axis(x, np.array([[0, 1], [2, 0]]), axis=1),
    lambda x: np.take_along_axis(x, np.array([[2, 0]]), axis=1) + np.take_along_axis(x, np.array([[1]]), axis=0)[:, :2],
    lambda x: np.repeat(x, 2, axis=0) + np.sum(np.repeat(x, 3, 1)) + np.sum(np.take(x, [1, 2], 1)),
    lambda x: np.einsum("ij,kj->ik", x, X),
    lambda x: np.linalg.norm(x) + np.linalg.norm(x, axis=1),
    lambda x: np.sort(x, axis=1),
]
#: Their results have no gradient.
COMPARISONS = [
    lambda x: np.greater(x, 0.0) & (X < 1.0),
    lambda x: (X > 0.0) | np.less_equal(x, X),
    lambda x: np.logical_not(np.equal(x, 0.3)) ^ np.isfinite(x),
    lambda x: np.invert(x > 0),
    lambda x: np.argmax(x, axis=1) + np.argmin(x, 1),
    lambda x: np.argsort(x, axis=1),
    lambda x: np.any(x > 1, axis=0) == np.all(x > -2, axis=0),
    lambda x: np.isnan(x),
    lambda x: np.zeros_like(x) + np.ones_like(x) + np.full_like(x, 2.0),
    lambda x: np.array([np.shape(x)[0], np.ndim(x), np.size(x), np.size(x, 1)]),
    lambda x: np.array(np.allclose(x, X)),
    lambda x: np.where(x > 0)[0],
]


@pytest.mark.parametrize("function", range(len(FUNCTIONS)))
def test_a_function_of_numpy_is_recorded(function):
    function = FUNCTIONS[function]
    x = leaf(X)
    y = function(x)
    assert type(y) is Tensor and y.requires_grad and type(function(constant(X))) is Tensor
    np.testing.assert_allclose(y.numpy(), function(X), rtol=1e-12)
    gradient = grad(y.sum(), x).numpy()
    eps, slope = 1e-6, np.zeros_like(X)
    for i in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[i] = eps
        slope[i] = (np.sum(function(X + step)) - np.sum(function(X - step))) / (2 * eps)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("function", range(len(COMPARISONS)))
def test_a_function_of_numpy_without_a_gradient(function):
    function = COMPARISONS[function]
    for x in (leaf(X), constant(X)):
        np.testing.assert_array_equal(np.asarray(function(x)), function(X))


def test_functions_run_on_the_device_of_the_tensor(backend):
    x = Tensor(X, device=backend)
    assert np.sin(x).device == np.sum(x, axis=1).device == np.stack([x, x]).device == backend.name


def test_other_functions_run_on_the_values_of_constants():
    x = constant(X)
    np.testing.assert_array_equal(np.arctan(x).numpy(), np.arctan(X))
    np.testing.assert_array_equal(np.percentile(x, 50), np.percentile(X, 50))
    np.testing.assert_array_equal(np.vstack([x, x]), np.vstack([X, X]))
    np.testing.assert_allclose(x, X)
    np.testing.assert_array_equal(np.asarray(x), X)


def test_settings_that_ops_do_not_have_are_numpys_for_constants():
    x, out, total = constant(X), np.zeros(()), np.zeros((2, 3))
    assert np.sum(x, out=out) is out and out == X.sum()
    assert np.mean(x, dtype="float64") == X.mean() and np.max(x, initial=9.0) == 9.0
    assert np.add(x, 1.0, out=total) is total
    total += x
    np.testing.assert_allclose(total, 2 * X + 1)
    np.testing.assert_allclose(np.add.reduce(x).numpy(), X.sum(0))
    assert np.random.default_rng(0).choice(3, size=Tensor(2)).shape == (2,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: np.arctan(x), r"np\.arctan: no op does it, and NumPy would lose the gradient.*@op, or say"),
        (lambda x: np.percentile(x, 50), r"np\.percentile: no op does it"),
        (lambda x: np.vstack([x, x]), r"np\.vstack: no op does it.*\(did you mean 'stack'\?\)"),
        (lambda x: np.asarray(x), "NumPy would lose this tensor's gradient"),
        (lambda x: np.add.reduce(x), r"np\.add\.reduce of a Tensor: write ops\.sum\(tensor, axis\)"),
        (lambda x: np.hypot.outer(x, x), r"np\.hypot\.outer of a Tensor: write it with ops"),
        (lambda x: np.add(x, 1.0, out=np.zeros((2, 3))), "cannot be written into a NumPy array"),
        (lambda x: np.zeros((2, 3)).__iadd__(x), r"write a = a \+ tensor"),
        (lambda x: np.sin(x, where=X > 0), r"np\.sin of a Tensor takes no where"),
        (lambda x: np.sum(x, out=np.zeros(())), "sum: there is no setting 'out': an op gives a new array"),
        (lambda x: np.sum(x, where=X > 0), "sum: there is no setting 'where'"),
        (lambda x: np.mean(x, dtype="float32"), r"mean: there is no setting 'dtype': write x\.astype\(dtype\)"),
        (lambda x: np.sum(x, 0, None), r"np\.sum of a Tensor: give the settings after axis by name"),
        (lambda x: np.linalg.norm(x, 1), "is the Euclidean norm"),
        (lambda x: np.dot(X[0], ops.stack([x.T, x.T])), "write a @ b"),
    ],
)
def test_what_does_not_work_says_what_to_write(call, message):
    with pytest.raises(TypeError, match=message):
        call(leaf(X))


def test_an_array_times_a_tensor_keeps_the_gradient():
    x = leaf(X)
    y = X * x + X / x - (X - x) ** 2
    assert type(y) is Tensor
    np.testing.assert_allclose(grad(y.sum(), x).numpy(), X - X / X**2 + 2 * (X - X), rtol=1e-12)
    assert type(np.float64(2.0) * x) is Tensor and type(np.float32(2.0) - x) is Tensor


def test_cupy_leaves_an_array_times_a_tensor_to_the_tensor():
    """By NEP 13, as CuPy reads it: the attribute of the instance is None. NumPy reads that of the type."""
    assert Tensor(1.0).__array_ufunc__ is None and callable(Tensor.__array_ufunc__)
