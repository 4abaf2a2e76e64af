"""grad: gradients that are returned, and those of higher order."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import TapeError, grad, no_grad, ops
from tinygrad_gru.ops import op


def test_grad_returns_gradients_and_accumulates_none():
    x, w = leaf([2.0]), leaf([3.0])
    y = x * w
    assert grad(y, x, retain_graph=True).tolist() == [3.0]
    first, second = grad(y, (x, w))
    assert (first.tolist(), second.tolist()) == ([3.0], [2.0])
    assert x.grad is None and w.grad is None


def test_grad_with_respect_to_an_intermediate_value():
    x = leaf([2.0])
    h = x * x
    y = h * h + x
    gh, gx = grad(y, [h, x])
    assert (gh.item(), gx.item()) == (8.0, 33.0)


def test_grad_visits_only_records_that_lead_to_the_inputs():
    called = []

    @op
    def counted(x):
        return x * 1.0

    counted.vjp(x=lambda g: called.append(1) or g)
    x, w = leaf([1.0]), leaf([1.0])
    y = counted(x) * w
    assert grad(y, w).tolist() == [1.0] and called == []


def test_unused_inputs_raise_or_give_none():
    x, other = leaf([1.0]), leaf([1.0])
    other.name = "weight"
    with pytest.raises(
        TapeError, match=r"inputs\[1\] weight leaf \(1,\) did not lead to the outputs; pass allow_unused"
    ):
        grad(x * 2.0, [x, other])
    assert grad(x * 2.0, [x, other], allow_unused=True)[1] is None
    with pytest.raises(TapeError, match=r"grad, inputs\[0\]: this tensor is a constant"):
        grad(x * 2.0, constant([1.0]), allow_unused=True)


def test_grad_of_several_outputs():
    x = leaf([1.0, 2.0])
    y, z = x * x, ops.exp(x)
    g = grad([y, z], x, [np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    np.testing.assert_allclose(g.numpy(), [2.0, np.exp(2.0)])
    y = x * x
    assert grad([y.sum(), y.sum()], x, retain_graph=True).tolist() == [4.0, 8.0]
    assert grad([y, y], x, [[1.0, 0.0], [1.0, 1.0]]).tolist() == [4.0, 4.0], "one output, named twice"


def test_grad_takes_one_cotangent_for_each_output():
    x = leaf([1.0])
    with pytest.raises(ValueError, match="cotangents: expected one for each of the 2 outputs, got 1"):
        grad([x * 1.0, x * 2.0], x, [np.ones(1)])
    assert grad([x * 1.0, x * 2.0], [x], [None, np.ones(1)])[0].tolist() == [3.0]


def test_grad_with_respect_to_an_output():
    x = leaf([3.0])
    y = x * x
    gy, gx = grad(y, [y, x])
    assert (gy.item(), gx.item()) == (1.0, 6.0)


def test_grad_with_respect_to_one_input_twice():
    x = leaf([3.0])
    assert [g.item() for g in grad(x * x, [x, x])] == [6.0, 6.0]


# -- higher orders ---------------------------------------------------------------------------------------------------


def test_derivatives_of_every_order():
    x = leaf(0.7)
    y = ops.sin(x)
    for expected in (np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v), np.sin, np.cos):
        y = grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(expected(0.7), rel=1e-12)


def test_double_backward_equals_torch(rng):
    """A penalty on the gradient, through a product, a nonlinearity, slices and a loss."""
    torch = pytest.importorskip("torch")
    values = [rng.standard_normal(s) for s in ((4, 3), (3, 5), (5,))]

    def loss(lib, x, w, b):
        h = lib.tanh(x @ w + b)
        return (lib.exp(h[1:] * 0.3) * h[:-1]).sum() + (h * h).mean()

    mine = [leaf(v) for v in values]
    peers = [torch.tensor(v, requires_grad=True) for v in values]
    penalty = sum((g * g).sum() for g in grad(loss(ops, *mine), mine, create_graph=True))
    penalty.backward()
    found = torch.autograd.grad(loss(torch, *peers), peers, create_graph=True)
    sum((g * g).sum() for g in found).backward()
    for m, p in zip(mine, peers):
        np.testing.assert_allclose(m.grad.numpy(), p.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_backward_with_create_graph_can_be_differentiated():
    x = leaf([2.0])
    (x * x * x).sum().backward(create_graph=True)
    first = x.grad
    assert first.requires_grad
    x.zero_grad()
    first.backward()
    assert x.grad.tolist() == [12.0]


def test_create_graph_records_under_no_grad():
    x = leaf([2.0])
    y = x * x * x
    with no_grad():
        g = grad(y, x, create_graph=True)
    assert grad(g, x).item() == 12.0


def test_create_graph_records_slices_under_no_grad():
    x = leaf([2.0, 3.0])
    y = x[0] * x[0] * x[1]
    with no_grad():
        g = grad(y, x, create_graph=True)
    assert g.requires_grad
    assert grad(g.sum(), x).tolist() == [2 * 3.0 + 2 * 2.0, 2 * 2.0]


def test_inputs_may_be_a_generator():
    x, z = leaf([2.0]), leaf([3.0])
    assert [g.item() for g in grad(x * z, (t for t in (x, z)))] == [3.0, 2.0]


def test_grad_of_what_is_no_tensor_raises():
    x = leaf([2.0])
    for outputs, inputs, name in ((3.0, x, "outputs"), (x, 3.0, "inputs"), (x, [x, None], "inputs")):
        with pytest.raises(TypeError, match=f"{name}: expected a tensor or a list of tensors, got"):
            grad(outputs, inputs)


def test_without_create_graph_gradients_are_constants():
    x = leaf([2.0])
    assert not grad(x * x, x).requires_grad
    (x * x).backward()
    assert not x.grad.requires_grad


def test_grad_is_differentiable_in_the_cotangent():
    """gᵀv is linear in v: its derivative with respect to v is g."""
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    g = grad(x * x, x, v, create_graph=True)
    assert grad(g.sum(), v).tolist() == [2.0, 4.0]
