"""Tensor.backward: cotangents, dtypes, hooks, retained gradients."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import TapeError, Tensor, grad, no_grad, ops


def test_only_a_scalar_needs_no_cotangent():
    x = leaf([1.0, 2.0])
    with pytest.raises(TapeError, match=r"shape \(2,\) needs a cotangent of that shape.*did you mean loss.mean\(\)"):
        (x * 2.0).backward()
    (x[:1] * 2.0).backward()  # one element, whatever its shape
    assert x.grad.tolist() == [2.0, 0.0]


@pytest.mark.parametrize("cotangent", [[1.0, 3.0], np.array([1.0, 3.0]), np.array([1, 3]), Tensor([1.0, 3.0])])
def test_a_cotangent_weights_the_output(cotangent):
    x = leaf([1.0, 2.0])
    (x * x).backward(cotangent)
    assert x.grad.tolist() == [2.0, 12.0] and x.grad.dtype == "float64"


def test_a_scalar_cotangent_of_a_scalar():
    x = leaf(3.0, "float32")
    (x * x).backward(0.5)
    assert x.grad.item() == 3.0 and x.grad.dtype == "float32"


@pytest.mark.parametrize("cotangent", [np.ones(3), np.ones((2, 1)), 1.0, np.ones((1, 2))])
def test_a_cotangent_of_another_shape_raises(cotangent):
    y = leaf([1.0, 2.0]) * 2.0
    with pytest.raises(TapeError, match=r"cotangent: expected the shape of the differentiated tensor, \(2,\), got"):
        y.backward(cotangent)


@pytest.mark.parametrize("make", [lambda x: x.detach(), lambda x: constant([1.0]), lambda x: no_grad()(ops.exp)(x)])
def test_backward_from_a_constant_raises(make):
    with pytest.raises(TapeError, match=r"backward: this tensor is a constant; no tensor that requires a gradient led"):
        make(leaf([1.0])).backward()


def test_the_gradient_of_a_leaf_with_respect_to_itself_is_one():
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0
    assert grad(x, x).item() == 1.0


@pytest.mark.parametrize("again", [lambda y: y.backward(), lambda y: (y * 2.0).backward()])
def test_backward_twice_without_retain_graph_raises(again):
    x = leaf([2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(TapeError, match=r"has run through #\d+ \w+ .* give the first backward retain_graph=True"):
        again(y)


def test_retain_graph_keeps_residuals():
    x = leaf([2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]
    with pytest.raises(TapeError, match="retain_graph"):
        y.backward()


def test_records_that_are_not_visited_are_not_freed():
    x, w = leaf([2.0]), leaf([3.0])
    h = x * x
    loss, other = (h * w).sum(), (h * h).sum()
    assert grad(loss, h).tolist() == [3.0]  # ends at h, so that x * x is not freed
    other.backward()
    assert x.grad.tolist() == [4 * 8.0]


def test_backward_in_two_parts_equals_one_backward():
    x = leaf([0.3, 0.5])
    h = ops.tanh(x)
    h.backward(grad((h * h).sum(), h))
    np.testing.assert_allclose(x.grad.numpy(), 2 * h.numpy() * (1 - h.numpy() ** 2), rtol=1e-15)


def test_integer_inputs_require_no_gradient():
    x = leaf([1.0, 2.0])
    y = (x * Tensor([2, 3])).sum()
    y.backward()
    assert x.grad.tolist() == [2.0, 3.0]


# -- dtypes ----------------------------------------------------------------------------------------------------------


def test_gradients_have_the_dtype_of_their_leaf():
    wide, narrow = leaf([1.0], "float64"), leaf([1.0], "float32")
    (wide * narrow).backward()
    assert wide.grad.dtype == "float64" and narrow.grad.dtype == "float32"
    narrow.zero_grad()
    g = grad(wide * narrow, narrow, create_graph=True)
    assert g.dtype == "float32" and g.requires_grad


@pytest.mark.parametrize("cotangent", [np.ones(1), np.ones(1, int), [1.0], Tensor([1.0], dtype="float64")])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_cotangent_is_cast_to_the_dtype_of_the_output(cotangent, create_graph):
    h = leaf([2.0], "float32") * 1.0  # not a leaf, whose gradient is cast in any case
    g = grad(h * 3.0, h, cotangent, create_graph=create_graph)
    assert g.dtype == "float32" and g.tolist() == [3.0]


def test_the_gradient_of_a_record_has_its_dtype():
    h = leaf([2.0], "float32") * 1.0
    assert grad(h * np.ones(1), h).dtype == "float32"


# -- hooks and retain_grad -------------------------------------------------------------------------------------------


def test_a_hook_is_called_once_with_the_complete_gradient():
    x, seen = leaf([1.0, 2.0]), []
    h = x * 2.0
    h.register_hook(lambda g: seen.append(g.tolist()))
    (h + h * 3.0).sum().backward()
    assert seen == [[4.0, 4.0]] and x.grad.tolist() == [8.0, 8.0]


def test_a_hook_may_replace_the_gradient():
    x = leaf([1.0, 2.0])
    h = x * 2.0
    h.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    h.sum().backward()
    assert x.grad.tolist() == [21.0, 21.0]


def test_a_hook_that_writes_in_place_changes_no_other_gradient():
    x, z, cotangent = leaf([1.0, 1.0]), leaf([1.0, 1.0]), np.ones(2)
    h, k = x * 1.0, z * 1.0
    h.register_hook(lambda g: g.data.fill(0.0))
    (h + k).backward(cotangent)
    assert z.grad.tolist() == [1.0, 1.0] and cotangent.tolist() == [1.0, 1.0]


def test_hooks_run_in_order_and_can_be_removed():
    x, seen = leaf([1.0]), []
    first = x.register_hook(lambda g: seen.append("first"))
    x.register_hook(lambda g: seen.append("second"))
    x.sum().backward()
    first()
    first()  # a second removal does nothing
    x.sum().backward()
    assert seen == ["first", "second", "second"]


def test_a_hook_may_remove_itself():
    x, seen = leaf([1.0]), []

    def once(g):
        seen.append(1)
        remove()

    remove = x.register_hook(once)
    x.register_hook(lambda g: seen.append(2))
    x.sum().backward()
    x.sum().backward()
    assert seen == [1, 2, 2]


@pytest.mark.parametrize("answer", [np.ones(2), constant([1.0]), 3.0, "g", Tensor([1, 2]), Tensor([True, False])])
def test_a_hook_that_returns_something_else_raises(answer):
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: answer)
    with pytest.raises(TypeError, match=r"hook must return None or a floating-point tensor of shape \(2,\) on 'numpy'"):
        x.sum().backward()
    assert x.grad is None


def test_a_hook_that_returns_a_tensor_of_another_device_raises(stand_in):
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    x.register_hook(lambda g: g.to("cupy"))
    with pytest.raises(TypeError, match=r"a floating-point tensor of shape .* on 'numpy'"):
        x.sum().backward()


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_the_result_of_a_hook_is_cast_to_the_dtype_of_the_gradient(create_graph, recorded):
    x = leaf([1.0, 2.0], "float32")
    h, seen = x * 1.0 if recorded else x, []
    h.register_hook(lambda g: g.astype("float64") * 3.0)
    h.register_hook(lambda g: seen.append(g.dtype))
    g = grad((h * h).sum(), x, create_graph=create_graph, retain_graph=True)
    assert g.dtype == "float32" and g.tolist() == [6.0, 12.0] and seen == ["float32"]
    (h * h).sum().backward(create_graph=create_graph)
    assert x.grad.dtype == "float32"
    x.zero_grad()


def test_one_function_registered_as_two_hooks():
    """Each removal function removes its own hook, however often it is called."""
    x = leaf([1.0])

    def doubled(g):
        return g * 2.0

    first, second = x.register_hook(doubled), x.register_hook(doubled)
    first()
    first()
    assert grad(x.sum(), x).tolist() == [2.0]
    second()
    assert grad(x.sum(), x).tolist() == [1.0]


def test_hooks_are_recorded_with_create_graph():
    x = leaf([2.0])
    x.register_hook(lambda g: g * g)
    g = grad((x * x * x).sum(), x, create_graph=True)
    assert g.item() == 144.0
    x._state("test").hooks.clear()
    assert grad(g, x).item() == 2 * 12 * 12  # d/dx (3x²)² = 2 · 3x² · 6x


def test_a_hook_on_a_constant_raises():
    with pytest.raises(TapeError, match=r"register_hook: this tensor is a constant and will have no gradient"):
        constant([1.0]).register_hook(print)


def test_retain_grad_keeps_the_gradient_of_a_recorded_tensor():
    x = leaf([1.0, 2.0])
    h, k = (x * x).retain_grad(), x * 3.0
    (h * k).sum().backward()
    assert h.grad.tolist() == [3.0, 6.0] and k.grad is None
    assert x.grad.tolist() == [9.0, 36.0]


def test_retained_gradients_accumulate_and_can_be_cleared():
    x = leaf([1.0])
    h = (x * 2.0).retain_grad()
    y = h * 3.0
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    assert h.grad.tolist() == [6.0]
    h.zero_grad()
    assert h.grad is None


# -- backends --------------------------------------------------------------------------------------------------------


def test_backward_stays_on_the_backend(backend):
    W = Tensor(backend.asarray([[0.1, 0.2], [0.3, 0.4]]), requires_grad=True)
    x = Tensor(backend.asarray([[1.0, -1.0]]))
    h = ops.tanh(x @ W)
    y = (h * h)[0, 1] + ops.logsumexp(h) + W[0, 0]
    gradients = grad(y, W, create_graph=True)
    (gradients * gradients).sum().backward()
    assert W.grad.device == gradients.device == backend.name
    host = [leaf([[0.1, 0.2], [0.3, 0.4]])]
    h = ops.tanh(constant([[1.0, -1.0]]) @ host[0])
    y = (h * h)[0, 1] + ops.logsumexp(h) + host[0][0, 0]
    expected = grad(y, host[0], create_graph=True)
    (expected * expected).sum().backward()
    np.testing.assert_allclose(gradients.numpy(), expected.numpy(), rtol=1e-13)
    np.testing.assert_allclose(W.grad.numpy(), host[0].grad.numpy(), rtol=1e-12)
