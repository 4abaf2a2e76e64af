"""vjp, jvp, hvp, jacobian, hessian, checkpoint: against closed forms, PyTorch, and each other."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import (
    TapeError,
    Tensor,
    checkpoint,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    manual_seed,
    no_grad,
    ops,
    random_state,
    tape,
    vjp,
)
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


# -- vjp and jvp ---------------------------------------------------------------------------------------------------


def test_vjp_is_v_times_the_jacobian():
    y, pullback = vjp(curve, leaf(X))
    np.testing.assert_allclose(y.numpy(), np.tanh(A @ X**2) + np.sin(X).sum(), rtol=1e-14)
    for v in ([1.0, 0.0], [0.3, -2.0]):
        (g,) = pullback(constant(v))
        np.testing.assert_allclose(g.numpy(), np.array(v) @ curve_jacobian(X), rtol=1e-13)


def test_jvp_is_the_jacobian_times_t():
    y, derivative = jvp(curve, [leaf(X)], [constant(V)])
    np.testing.assert_allclose(derivative.numpy(), curve_jacobian(X) @ V, rtol=1e-13)
    assert y.shape == derivative.shape == (2,)


def test_jvp_of_several_inputs_adds_up():
    a, b = leaf(X), leaf(V)
    _, derivative = jvp(lambda a, b: a * b, [a, b], [constant([1.0, 0.0, 0.0]), constant([0.0, 1.0, 1.0])])
    np.testing.assert_allclose(derivative.numpy(), [V[0], X[1], X[2]])


def test_jvp_and_vjp_agree_in_one_number():
    """vᵀ (J t) = (vᵀ J) t."""
    v = np.array([0.7, -0.2])
    _, forward = jvp(curve, [leaf(X)], [constant(V)])
    _, pullback = vjp(curve, leaf(X))
    assert v @ forward.numpy() == pytest.approx(pullback(constant(v))[0].numpy() @ V, rel=1e-13)


def test_inputs_may_be_constants_leaves_or_recorded():
    for x in (constant(X), leaf(X), leaf(X / 2) * 2.0):
        assert vjp(bowl, x)[1](1.0)[0].shape == (3,)
        assert jvp(bowl, [x], [constant(V)])[1].shape == ()
        assert hvp(bowl, x, constant(V)).shape == (3,)
        assert x.grad is None


def test_what_came_before_a_recorded_input_can_be_differentiated():
    w = leaf(X)
    _, pullback = vjp(ops.exp, w * 2.0)
    (g,) = pullback(constant(np.ones(3)))
    np.testing.assert_allclose(grad(g.sum(), w).numpy(), 2 * np.exp(2 * X), rtol=1e-14)


def test_a_derivative_can_be_differentiated_in_every_slot():
    """J t in x and in t, vᵀ J in x and in v, H v in x and in v."""
    assert gradcheck(lambda x, t: jvp(curve, [x], [t])[1], [X, V])
    assert gradcheck(lambda x, v: vjp(curve, x)[1](v)[0], [X, V[:2]])
    assert gradcheck(lambda x, v: hvp(bowl, x, v), [X, V])
    assert gradgradcheck(lambda x, t: jvp(curve, [x], [t])[1], [X, V])


def test_tangents_have_the_shapes_of_their_primals():
    with pytest.raises(ValueError, match="tangents: expected one for each of the 1 primals, got 2"):
        jvp(ops.exp, [leaf(X)], [constant(V), constant(V)])
    with pytest.raises(ValueError, match=r"tangents\[0\]: expected the shape \(3,\) of its primal, got \(\)"):
        jvp(ops.exp, [leaf(X)], [np.float64(1.0)])


def test_functions_that_do_not_depend_on_their_input():
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
def test_under_no_grad_the_values_are_the_same(transform):
    expected = transform(leaf(X)).numpy()
    with no_grad():
        np.testing.assert_array_equal(transform(leaf(X)).numpy(), expected)


# -- jacobian, hessian, hvp ----------------------------------------------------------------------------------------


def test_jacobian_and_hessian():
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
def test_a_scalar_may_have_axes(shape):
    """What hvp takes hessian takes, and both equal the matrix on paper."""

    def function(x):
        return ops.reshape(bowl(x), shape=shape)

    np.testing.assert_allclose(hessian(function, leaf(X)).numpy(), bowl_hessian(X), rtol=1e-13)
    np.testing.assert_allclose(hvp(function, leaf(X), constant(V)).numpy(), bowl_hessian(X) @ V, rtol=1e-13)


def test_equals_torch(rng):
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


def test_a_hessian_is_of_one_number():
    for transform in (lambda: hessian(ops.exp, leaf(X)), lambda: hvp(ops.exp, leaf(X), constant(V))):
        with pytest.raises(TapeError, match=r"the function must return one number, got shape \(3,\)"):
            transform()


def test_they_run_on_every_backend(backend):
    x = Tensor(backend.asarray(X), requires_grad=True)
    a = Tensor(backend.asarray(A))

    def function(x):
        return ops.tanh(a @ (x * x)) + ops.sin(x).sum()

    np.testing.assert_allclose(jacobian(function, x).numpy(), curve_jacobian(X), rtol=1e-13)
    tangent = Tensor(backend.asarray(V))
    np.testing.assert_allclose(jvp(function, [x], [tangent])[1].numpy(), curve_jacobian(X) @ V, rtol=1e-13)
    np.testing.assert_allclose(hessian(lambda x: (x * x * x).sum(), x).numpy(), np.diag(6 * X), rtol=1e-13)


# -- checkpoint ----------------------------------------------------------------------------------------------------


def step(h, x, W):
    return ops.tanh(h @ W + x) * h


def arrays(rng):
    return rng.standard_normal((2, 3)), rng.standard_normal((2, 3)), rng.standard_normal((3, 3))


def test_a_checkpoint_gives_the_same_bits(rng):
    values = arrays(rng)
    plain, saved = [leaf(v) for v in values], [leaf(v) for v in values]
    y, z = step(*plain), checkpoint(step, *saved)
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_array_equal(y.numpy(), z.numpy())
    for a, b in zip(plain, saved):
        np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())


def test_a_checkpoint_is_one_record_and_keeps_only_its_inputs():
    x, inner = leaf(np.ones(3)), []

    def function(x):
        h = ops.exp(x)
        inner.append(weakref.ref(h.data))
        return ops.sin(h * h)

    gc.disable()
    try:
        y = checkpoint(function, x)
        assert [record.op.__name__ for record in tape(y)] == ["remat", "output"]
        assert inner[0]() is None, "what was computed on the way is gone"
        y.sum().backward()
        assert len(inner) == 2 and inner[1]() is None
    finally:
        gc.enable()
    np.testing.assert_allclose(x.grad.numpy(), np.cos(np.exp(2)) * 2 * np.exp(2), rtol=1e-14)


def test_leaves_that_are_not_handed_over_get_their_gradients_too(rng):
    h, x, W = (leaf(v) for v in arrays(rng))
    checkpoint(lambda h: step(h, x, W), h).sum().backward()
    plain = [leaf(t.numpy()) for t in (h, x, W)]
    step(*plain).sum().backward()
    for a, b in zip((h, x, W), plain):
        np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())


def test_recorded_tensors_that_are_not_handed_over_lead_on():
    w = leaf([0.3, 0.5])
    h = ops.tanh(w)
    checkpoint(lambda: h * w * h).sum().backward()
    plain = leaf([0.3, 0.5])
    k = ops.tanh(plain)
    (k * plain * k).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), plain.grad.numpy(), rtol=1e-15)


def test_second_derivatives_through_a_checkpoint():
    def through(w):
        return checkpoint(lambda h: h * h * h, ops.tanh(w))

    values = np.array([0.3, 0.5])
    assert gradcheck(through, [values]) and gradgradcheck(through, [values])
    w = leaf(values)
    g = grad(through(w).sum(), w, create_graph=True)
    plain = leaf(values)
    h = ops.tanh(plain)
    expected = grad((h * h * h).sum(), plain, create_graph=True)
    np.testing.assert_allclose(grad(g.sum(), w).numpy(), grad(expected.sum(), plain).numpy(), rtol=1e-13)


def test_random_numbers_are_drawn_again_as_they_were():
    x = leaf(np.ones(1000))
    manual_seed(5)
    y = checkpoint(lambda x: ops.dropout(x, p=0.5) * ops.dropout(x, p=0.5), x)
    after = random_state()
    y.sum().backward()
    assert random_state() == after, "backward draws nothing of its own"
    np.testing.assert_allclose(x.grad.numpy(), 2 * y.numpy(), rtol=1e-14)
    manual_seed(5)
    np.testing.assert_array_equal(y.numpy(), (ops.dropout(x, p=0.5) * ops.dropout(x, p=0.5)).numpy())


def test_the_random_state_is_restored_after_an_error():
    x, calls = leaf([1.0]), []

    def function(x):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("second run")
        return ops.dropout(x, p=0.5)

    y = checkpoint(function, x)
    ops.dropout(x)
    before = random_state()
    with pytest.raises(RuntimeError, match="second run"):
        y.backward()
    assert random_state() == before


@pytest.mark.parametrize("used", [(True, False), (False, True), (True, True)])
def test_several_outputs_of_which_some_are_used(used):
    def function(x, w):
        return ops.tanh(x * w), ops.exp(x)

    def total(outputs):
        return sum((k + 2.0) * y.sum() for k, (y, keep) in enumerate(zip(outputs, used)) if keep)

    x, w, p, q = leaf(X), leaf(V), leaf(X), leaf(V)
    outputs = checkpoint(function, x, w)
    assert isinstance(outputs, tuple) and len(outputs) == 2
    total(outputs).backward()
    total(function(p, q)).backward()
    np.testing.assert_array_equal(x.grad.numpy(), p.grad.numpy())
    assert (w.grad is None) == (q.grad is None)
    if q.grad is not None:
        np.testing.assert_array_equal(w.grad.numpy(), q.grad.numpy())


def test_the_same_output_twice_and_an_input_as_output():
    x = leaf(X)

    def function(x):
        y = x * x
        return y, y, x

    a, b, c = checkpoint(function, x)
    (a + 2.0 * b + c).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * X + 1)


def test_checkpoints_nest():
    def inner(x):
        return ops.tanh(x) * x

    def outer(x):
        return checkpoint(inner, checkpoint(inner, x)) + x

    assert gradcheck(lambda x: checkpoint(outer, x), [X])
    assert gradgradcheck(lambda x: checkpoint(outer, x), [X])


def test_a_chain_of_checkpoints_recomputes_each_once_more():
    calls, w = [], leaf([0.9])

    def function(h):
        calls.append(1)
        return ops.tanh(h * w)

    h = leaf([0.5])
    y = h
    for _ in range(50):
        y = checkpoint(function, y)
    y.backward()
    assert len(calls) == 100
    plain_h, plain_w = leaf([0.5]), leaf([0.9])
    y = plain_h
    for _ in range(50):
        y = ops.tanh(y * plain_w)
    y.backward()
    np.testing.assert_allclose(w.grad.numpy(), plain_w.grad.numpy(), rtol=1e-13)
    np.testing.assert_allclose(h.grad.numpy(), plain_h.grad.numpy(), rtol=1e-13)


def test_constants_and_other_objects_among_the_inputs():
    x = leaf(X)
    y = checkpoint(lambda x, c, n, name: x * c * n if name == "run" else x, x, constant(V), 3, "run")
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * V)


def test_where_nothing_wants_a_gradient_a_checkpoint_is_a_call():
    y = checkpoint(ops.exp, constant(X))
    assert not y.requires_grad
    with no_grad():
        assert not checkpoint(ops.exp, leaf(X)).requires_grad


def test_a_second_backward_through_a_checkpoint_explains_itself():
    y = checkpoint(ops.exp, leaf(X)).sum()
    y.backward()
    with pytest.raises(TapeError, match="retain_graph=True"):
        y.backward()
    y = checkpoint(ops.exp, x := leaf(X)).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp(X))


def test_an_input_of_a_checkpoint_that_was_changed_is_noticed():
    x = leaf(X)
    y = checkpoint(ops.exp, x).sum()
    x.data += 1.0
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_a_leaf_that_a_checkpoint_closes_over_and_that_was_changed_is_noticed():
    """The recomputation would see the new values: the gradient would belong to another forward pass."""
    x, w = leaf(X), leaf(V)
    y = checkpoint(lambda x: x * w, x).sum()
    w.data += 1.0
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_a_checkpoint_on_every_backend(backend):
    x = Tensor(backend.asarray(X), requires_grad=True)
    checkpoint(lambda x: ops.tanh(x) * x, x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.tanh(X) + X * (1 - np.tanh(X) ** 2), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("change", ["value", "tensor", "constant", "one element"])
def test_a_recomputation_that_gives_something_else_is_an_error(dtype, change):
    x = Tensor(np.linspace(0.1, 1, 60, dtype=dtype).reshape(5, 12), requires_grad=True)
    first, second = (Tensor(np.ones(12, dtype), requires_grad=True) for _ in range(2))
    mask = np.ones(12, dtype)
    weight, factor = first, 1.0

    def function(x):
        return ops.tanh(x * weight * factor) * mask

    y = checkpoint(function, x).sum()
    grad(y, x, retain_graph=True)
    if change == "value":
        factor = 1.1
    elif change == "one element":
        mask[3] = 0.9
    else:
        weight = second if change == "tensor" else first.detach()
    with pytest.raises(TapeError, match="gave other values in backward"):
        y.backward()
    assert x.grad is None
