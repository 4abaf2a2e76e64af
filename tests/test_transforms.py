"""vjp, jvp, hvp, jacobian, hessian: against closed forms, PyTorch, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import TapeError, Tensor, grad, hessian, hvp, jacobian, jvp, no_grad, ops, vjp
from tinygrad_gru.testing import gradcheck, gradgradcheck

X = np.array([0.3, -0.7, 1.1])
V = np.array([0.5, 2.0, -1.0])
A = np.array([[1.0, 2.0, 0.5], [0.0, 3.0, 1.0]])


def curve(x):
    """ℝ³ → ℝ², neither linear nor separable."""
    return ops.tanh(constant(A) @ (x * x)) + ops.sin(x).sum()


def curve_jacobian(x):
    return (1 - np.tanh(A @ x**2) ** 2)[:, None] * (2 * A * x) + np.cos(x)


def bowl(x):
    return (x * x * x).sum() + x[0] * x[1] * x[2]


def bowl_hessian(x):
    a, b, c = x
    return np.array([[6 * a, c, b], [c, 6 * b, a], [b, a, 6 * c]])


# -- vjp and jvp -----------------------------------------------------------------------------------------------------


def test_vjp_is_v_times_the_jacobian():
    y, apply_vjp = vjp(curve, leaf(X))
    np.testing.assert_allclose(y.numpy(), np.tanh(A @ X**2) + np.sin(X).sum(), rtol=1e-14)
    for v in ([1.0, 0.0], [0.3, -2.0]):
        (g,) = apply_vjp(constant(v))
        np.testing.assert_allclose(g.numpy(), np.array(v) @ curve_jacobian(X), rtol=1e-13)


def test_jvp_is_the_jacobian_times_t():
    y, derivative = jvp(curve, [leaf(X)], [constant(V)])
    np.testing.assert_allclose(derivative.numpy(), curve_jacobian(X) @ V, rtol=1e-13)
    assert y.shape == derivative.shape == (2,)


def test_jvp_of_several_inputs_is_a_sum():
    a, b = leaf(X), leaf(V)
    _, derivative = jvp(lambda a, b: a * b, [a, b], [constant([1.0, 0.0, 0.0]), constant([0.0, 1.0, 1.0])])
    np.testing.assert_allclose(derivative.numpy(), [V[0], X[1], X[2]])


def test_jvp_and_vjp_agree():
    """vᵀ (J t) = (vᵀ J) t."""
    v = np.array([0.7, -0.2])
    _, forward = jvp(curve, [leaf(X)], [constant(V)])
    _, apply_vjp = vjp(curve, leaf(X))
    assert v @ forward.numpy() == pytest.approx(apply_vjp(constant(v))[0].numpy() @ V, rel=1e-13)


def test_inputs_may_be_constants_leaves_or_recorded_tensors():
    for x in (constant(X), leaf(X), leaf(X / 2) * 2.0):
        assert vjp(bowl, x)[1](1.0)[0].shape == (3,)
        assert jvp(bowl, [x], [constant(V)])[1].shape == ()
        assert hvp(bowl, x, constant(V)).shape == (3,)
        assert x.grad is None


def test_a_vjp_leads_back_through_a_recorded_input():
    w = leaf(X)
    _, apply_vjp = vjp(ops.exp, w * 2.0)
    (g,) = apply_vjp(constant(np.ones(3)))
    np.testing.assert_allclose(grad(g.sum(), w).numpy(), 2 * np.exp(2 * X), rtol=1e-14)


def test_transforms_are_differentiable_in_every_argument():
    """J t in x and in t, vᵀ J in x and in v, H v in x and in v."""
    assert gradcheck(lambda x, t: jvp(curve, [x], [t])[1], [X, V])
    assert gradcheck(lambda x, v: vjp(curve, x)[1](v)[0], [X, V[:2]])
    assert gradcheck(lambda x, v: hvp(bowl, x, v), [X, V])
    assert gradgradcheck(lambda x, t: jvp(curve, [x], [t])[1], [X, V])


def test_tangents_of_other_shapes_raise():
    for transform in (vjp, jacobian):
        with pytest.raises(TypeError, match="function: expected one that returns a Tensor, got a tuple"):
            transform(lambda x: (x, x), Tensor([1.0]))
    with pytest.raises(ValueError, match="tangents: expected one for each of the 1 primals, got 2"):
        jvp(ops.exp, [leaf(X)], [constant(V), constant(V)])
    with pytest.raises(ValueError, match=r"tangents\[0\]: expected the shape \(3,\) of its primal, got \(\)"):
        jvp(ops.exp, [leaf(X)], [np.float64(1.0)])


def test_derivatives_of_functions_that_ignore_their_input_are_zero():
    flat = [lambda x: constant([1.0, 2.0]), lambda x: x.detach()[:2]]
    for function in flat:
        assert vjp(function, leaf(X))[1](constant([1.0, 1.0]))[0].tolist() == [0.0, 0.0, 0.0]
        assert jvp(function, [leaf(X)], [constant(V)])[1].tolist() == [0.0, 0.0]
        assert not jacobian(function, leaf(X)).numpy().any() and jacobian(function, leaf(X)).shape == (2, 3)
    for function in (lambda x: constant(1.0), lambda x: x.sum()):
        assert hvp(function, leaf(X), constant(V)).tolist() == [0.0, 0.0, 0.0]
        assert not hessian(function, leaf(X)).numpy().any()


@pytest.mark.parametrize("transform", [
    lambda x: vjp(curve, x)[1](constant([1.0, 1.0]))[0], lambda x: jvp(curve, [x], [constant(V)])[1],
    lambda x: jacobian(curve, x), lambda x: hessian(bowl, x),
    lambda x: hvp(lambda x: (x * x * x).sum(), x, constant(V)),
    lambda x: hvp(bowl, x, constant(V)),
])  # fmt: skip
def test_transforms_under_no_grad_give_the_same_values(transform):
    expected = transform(leaf(X)).numpy()
    with no_grad():
        np.testing.assert_array_equal(transform(leaf(X)).numpy(), expected)


# -- jacobian, hessian, hvp ------------------------------------------------------------------------------------------


def test_jacobian_hessian_and_hvp_equal_closed_forms():
    np.testing.assert_allclose(jacobian(curve, leaf(X)).numpy(), curve_jacobian(X), rtol=1e-13)
    np.testing.assert_allclose(hessian(bowl, leaf(X)).numpy(), bowl_hessian(X), rtol=1e-13)
    np.testing.assert_allclose(hvp(bowl, leaf(X), constant(V)).numpy(), bowl_hessian(X) @ V, rtol=1e-13)


@pytest.mark.parametrize("shape", [(), (2,), (2, 1), (0,), (0, 3)])
def test_shapes_of_a_jacobian(shape):
    x = leaf(np.ones(shape))
    assert jacobian(lambda x: x * 2.0, x).shape == shape + shape
    assert jacobian(lambda x: x.sum(), x).shape == shape
    assert hessian(lambda x: (x * x).sum(), x).shape == shape + shape


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_the_scalar_of_hessian_and_hvp_may_have_axes(shape):
    """Both equal the closed form."""

    def function(x):
        return ops.reshape(bowl(x), shape=shape)

    np.testing.assert_allclose(hessian(function, leaf(X)).numpy(), bowl_hessian(X), rtol=1e-13)
    np.testing.assert_allclose(hvp(function, leaf(X), constant(V)).numpy(), bowl_hessian(X) @ V, rtol=1e-13)


def test_hessian_equals_torch(rng):
    torch = pytest.importorskip("torch")
    W, x = rng.standard_normal((3, 4)), rng.standard_normal((2, 3))
    function = lambda lib, W: lambda x: (lib.tanh(x @ W) ** 2).sum()  # noqa: E731
    mine = hessian(function(ops, constant(W)), leaf(x))
    theirs = torch.autograd.functional.hessian(function(torch, torch.tensor(W)), torch.tensor(x))
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-13)


def test_third_derivatives():
    third = jacobian(lambda x: hessian(lambda z: (z**4).sum(), x), leaf(X)).numpy()
    expected = np.zeros((3, 3, 3))
    expected[np.arange(3), np.arange(3), np.arange(3)] = 24 * X
    np.testing.assert_allclose(third, expected, rtol=1e-12)


def test_hessian_and_hvp_of_a_vector_function_raise():
    for transform in (lambda: hessian(ops.exp, leaf(X)), lambda: hvp(ops.exp, leaf(X), constant(V))):
        with pytest.raises(TapeError, match=r"the function must return a scalar, got shape \(3,\)"):
            transform()


def test_transforms_run_on_every_backend(backend):
    x = Tensor(backend.asarray(X), requires_grad=True)
    a = Tensor(backend.asarray(A))

    def function(x):
        return ops.tanh(a @ (x * x)) + ops.sin(x).sum()

    np.testing.assert_allclose(jacobian(function, x).numpy(), curve_jacobian(X), rtol=1e-13)
    tangent = Tensor(backend.asarray(V))
    np.testing.assert_allclose(jvp(function, [x], [tangent])[1].numpy(), curve_jacobian(X) @ V, rtol=1e-13)
    np.testing.assert_allclose(hessian(lambda x: (x * x * x).sum(), x).numpy(), np.diag(6 * X), rtol=1e-13)
