"""Logic and selection by a mask: numbers as truth values, NaN, shapes and errors."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import Tensor, ops

NUMBERS = [0.0, -0.0, 1.0, -2.0, np.nan, np.inf]


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_every_number_but_zero_is_true(name, dtype):
    numbers = np.array([x for x in NUMBERS if dtype == "float32" or np.isfinite(x)]).astype(dtype)
    a, b = np.meshgrid(numbers, numbers)
    y = getattr(ops, name)(Tensor(a), Tensor(b))
    np.testing.assert_array_equal(y.numpy(), getattr(np, name)(a, b))
    assert y.dtype == bool and not y.requires_grad
    np.testing.assert_array_equal(ops.logical_not(a), np.logical_not(a))
    np.testing.assert_array_equal(getattr(ops, name)(Tensor(a), True).numpy(), getattr(np, name)(a, True))


@pytest.mark.parametrize("name", ["any", "all"])
def test_any_and_all_of_nothing_and_of_nan(name):
    for x in (np.zeros((0, 3)), np.array([[np.nan, 0.0]]), np.array([True, False]), np.array(2)):
        for axis in (None, 0) if x.ndim else (None,):
            np.testing.assert_array_equal(getattr(ops, name)(x, axis=axis), getattr(np, name)(x, axis=axis))


def test_masked_fill_equals_torch(rng):
    torch = pytest.importorskip("torch")
    values, mask = rng.standard_normal((3, 4)), rng.random(4) < 0.5
    x, p = leaf(values), torch.tensor(values, requires_grad=True)
    y, q = ops.masked_fill(x, mask, -np.inf), p.masked_fill(torch.tensor(mask), -np.inf)
    np.testing.assert_array_equal(y.numpy(), q.detach().numpy())
    ops.masked_fill(x, Tensor(mask), 2.0).square().sum().backward()
    p.masked_fill(torch.tensor(mask), 2.0).square().sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), p.grad.numpy())


def test_masked_fill_keeps_the_dtype_and_shape():
    assert ops.masked_fill(Tensor(np.zeros(2, "float32")), [True, False], 1.0).dtype == "float32"
    with pytest.raises(TypeError, match=r"mask must be an array of booleans, such as x > 0, got int64"):
        ops.masked_fill(np.zeros(2), np.array([0, 1]), 1.0)
    with pytest.raises(ValueError, match=r"mask \(3, 2\) and value do not broadcast to x \(2,\)"):
        ops.masked_fill(np.zeros(2), np.ones((3, 2), bool), 1.0)
