"""Leaves that are watched: told of their gradient in the middle of a backward walk, once it is complete."""

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import grad, ops, remat, scan
from tinygrad_gru.completion import watched
from tinygrad_gru.contexts import setting


def watching(events, **leaves):
    """A block in which each of these leaves, when it is told its gradient, adds its name and a copy to the events."""

    def told(name, gradient):
        events.append((name, np.array(gradient)))

    return setting(watched, {x.node: lambda gradient, name=name: told(name, gradient) for name, x in leaves.items()})


def test_a_leaf_is_told_as_soon_as_no_record_is_left_that_leads_to_it():
    events = []
    x, a, b, c = (leaf(np.full((2, 2), 0.5)) for _ in range(4))
    h = x @ a
    y = ops.tanh(h @ b) @ c
    for name, value in {"h": h, "y": y}.items():
        value.register_hook(lambda g, name=name: events.append((name, None)))
    with watching(events, a=a, b=b, c=c):
        (y.sum() + (h @ b).sum()).backward()
    assert [name for name, _ in events] == ["y", "c", "b", "h", "a"]
    assert all(np.array_equal(dict(events)[name], w.grad.numpy()) for name, w in {"a": a, "b": b, "c": c}.items())


@pytest.mark.parametrize("make", [
    lambda w, x: (w * w[0] + w[1:] @ x[:-1] + w).sum(),  # used several times, with sparse cotangents
    lambda w, x: remat(lambda x: ops.tanh(w * x), x).sum() + (w * 2.0).sum(),
    lambda w, x: scan(lambda h, x: ops.tanh(h * w + x), constant(np.zeros(3)), x.reshape(1, 3))[0].sum() + w.sum(),
    lambda w, x: w.sum() + w.sum() + x.detach().sum(),  # both sums have one cotangent in common
], ids=["slices", "remat", "scan", "sums"])  # fmt: skip
def test_what_a_leaf_is_told_is_its_gradient(make):
    w, x = leaf([0.5, -1.0, 2.0]), leaf([1.0, 2.0, 3.0])
    expected = grad(make(w, x), [w, x], allow_unused=True)
    events = []
    with watching(events, w=w, x=x):
        make(w, x).backward()
    assert sorted(name for name, _ in events) == ["w", "x"][: 2 if expected[1] is not None else 1]
    for name, told in events:
        assert np.array_equal(told, {"w": w, "x": x}[name].grad.numpy())
        assert np.array_equal(told, expected["wx".index(name)].numpy())


def test_only_backward_tells_and_no_leaf_whose_hooks_may_change_the_gradient():
    events, x, w = [], leaf([1.0]), leaf([2.0])
    x.register_hook(lambda gradient: 10.0 * gradient)
    with watching(events, x=x, w=w):
        grad((x * w).sum(), [x, w])
        (x * w).sum().backward(create_graph=True)
        assert events == [] and x.grad.tolist() == [20.0]
        (x * w).sum().backward()
    assert [name for name, _ in events] == ["w"] and x.grad.tolist() == [40.0]
    for tensor in (x, w):
        tensor.zero_grad()
