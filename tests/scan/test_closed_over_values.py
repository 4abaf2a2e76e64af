"""Values that a step closes over: read at every call, and part of what makes two programs different."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests.scan.agreement import LENGTH, H, assert_close, assert_modes_agree, gradients, leaves, run
from tinygrad_gru import TapeError, Tensor, ops, scan

FROM_WEIGHTS = {
    "times a mask": lambda W, m: W * m,
    "where": lambda W, m: ops.where(m > 0, W, 0.5 * W),
    "squared": lambda W, m: ops.square(W),
    "exp": lambda W, m: ops.exp(W),
    "at least": lambda W, m: ops.maximum(W, 0.3 * m),
    "softmax": lambda W, m: ops.softmax(W + m),
    "normalized": lambda W, m: W / ops.sqrt(ops.sum(ops.square(W), axis=0, keepdims=True)) * m,
}


@pytest.mark.parametrize("name", FROM_WEIGHTS)
def test_values_computed_from_weights_alone_are_recomputed(name, rng, cache):
    """Two models of one architecture share a plan, but no values."""
    make = FROM_WEIGHTS[name]
    start, x = leaves(rng, [H]), leaves(rng, [H], LENGTH)
    for _ in range(3):
        mask, weights = rng.standard_normal((4, 4)), leaves(rng, [(4, 4)])
        assert_modes_agree(lambda h, x, W, m=mask: ops.tanh(h @ make(W, Tensor(m)) + x), start, x, weights)
        assert_modes_agree(lambda h, x, W, m=mask: ops.tanh(h @ make(W, m) + x), start, x, weights)
    assert len(cache.plans) <= 2


def test_closed_over_arrays_are_read_at_every_call(rng, cache):
    start, x = leaves(rng, [H]), leaves(rng, [H], LENGTH)
    array = rng.standard_normal(H)
    for change in ("none", "its content", "another array"):
        if change == "its content":
            array[...] = rng.standard_normal(H)
        elif change == "another array":
            array = rng.standard_normal(H)
        assert_modes_agree(lambda h, x, a=array: ops.tanh(h * a + x), start, x)
    assert len(cache.plans) == 1


def test_one_array_used_twice_and_two_arrays_are_different_programs(rng, cache):
    start, x, (a, b) = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [H, H])
    for closure in ([a, a], [a, b], [b, b]):
        assert_modes_agree(lambda h, x, a, b: ops.tanh(h * a + x * b), start, x, closure)
    assert len(cache.plans) == 2


@pytest.mark.parametrize("scalars", [(0.5, -2.0, 0.5), (1, 1.0, True), (2, 2.5), (math.inf, 3.0)])
def test_scalars_that_change_between_calls(scalars, rng, cache):
    start, x, weights = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)])
    for scalar in scalars:
        step = lambda h, x, W, k=scalar: ops.tanh(ops.minimum(h @ W, k) + x * (1.0 if math.isinf(k) else k))  # noqa: E731
        assert_modes_agree(step, start, x, weights)


def test_nan_makes_no_new_plan(rng, cache):
    x, start = Tensor(np.ones((1, 2))), Tensor(np.ones(2))
    for _ in range(3):
        last, _ = scan(lambda h, x: ops.where(x > 0, h * float("nan"), h), start, x)
        assert np.isnan(last.numpy()).all()
    assert len(cache.plans) == 1


def test_zero_and_negative_zero_are_different_scalars(rng):
    x, start = Tensor(np.ones((1, 2))), Tensor(np.ones(2))
    signs = []
    for zero in (0.0, -0.0):
        last, _ = scan(lambda h, x, k=zero: h * k, start, x)
        signs.append(np.signbit(last.numpy()).tolist())
    assert signs == [[False] * 2, [True] * 2]


def test_requires_grad_may_change_between_calls(rng):
    for given in itertools.product([False, True], repeat=3):
        inputs = [
            [Tensor(x.numpy(), requires_grad=yes) for x in leaves(rng, [shape], *lead)]
            for yes, shape, lead in zip(given, (H, H, (4, 4)), ((), (LENGTH,), ()))
        ]
        assert_modes_agree(lambda h, x, W: ops.tanh(h @ W + x), *inputs)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("which", ["weight", "x"])
def test_a_write_between_forward_and_backward_raises(which, compiled, rng):
    start, (x,), (W,) = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)])
    last, _ = run(lambda h, x, W: ops.tanh(h @ W + x * x), start, [x], [W], compiled=compiled)
    written = {"weight": W, "x": x}[which]
    written.data[...] *= 2
    written.mark_changed()
    with pytest.raises(TapeError, match="changed in place"):
        last.sum().backward()


def test_backward_uses_the_weight_of_its_forward(rng):
    start, x, (W,) = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)])
    expected = gradients(run(lambda h, x, W: ops.tanh(h @ W + x), start, x, [W]), [W, *x])
    outputs = run(lambda h, x, W: ops.tanh(h @ W + x), start, x, [W])
    W.data = 2 * W.data
    assert_close(gradients(outputs, [W, *x]), expected)
