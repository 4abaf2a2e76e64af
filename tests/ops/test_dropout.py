"""Dropout (ops/random.py): how much it drops, how it repeats itself, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import manual_seed, ops, random_state, set_random_state


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_it_drops_a_share_of_p_and_keeps_the_mean(device, p, dtype):
    n = 40_000
    y = ops.dropout(constant(np.ones(n), dtype, device), p=p)
    values = y.numpy().astype(np.float64)
    spread = 5 * np.sqrt(p * (1 - p) / n)
    assert abs((values == 0).mean() - p) < spread
    assert abs(values.mean() - 1) < spread / (1 - p) + 1e-3
    np.testing.assert_allclose(values[values > 0], 1 / (1 - p), rtol=1e-3)
    assert y.dtype == dtype


def test_elements_are_dropped_one_by_one(rng):
    """Neighbours know nothing of each other, within a draw and from draw to draw."""
    first, second = (ops.dropout(np.ones(20_000), p=0.5) > 0 for _ in range(2))
    for a, b in ((first[1:], first[:-1]), (first, second)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.04


def test_the_gradient_passes_where_the_value_did():
    x = leaf(np.arange(1.0, 1001.0))
    y = ops.dropout(x, p=0.3)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy() * x.numpy(), y.numpy())


def test_the_same_seed_drops_the_same(device):
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


def test_outside_of_training_it_is_not_there():
    x, state = leaf([1.0, 2.0]), random_state()
    assert ops.dropout(x, training=False) is x and ops.dropout(x, p=0) is x
    assert random_state() == state


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_p_is_a_probability_below_one(p):
    with pytest.raises(ValueError, match=r"p: expected a probability in \[0, 1\), got"):
        ops.dropout(leaf([1.0]), p=p)


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_integers_cannot_be_scaled(dtype):
    with pytest.raises(TypeError, match=f"dropout: expected floating-point numbers, got {dtype}"):
        ops.dropout(constant([1, 0], dtype))


def test_nothing_to_drop():
    assert ops.dropout(leaf(np.zeros((0, 3)))).shape == (0, 3)
    assert ops.dropout(leaf(1.0), p=0.5).item() in (0.0, 2.0)
