from __future__ import annotations

import numpy as np
import pytest
from support.tensors import leaf

from tinygrad_gru import Tensor, grad, ops


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_equals_torch_to_second_order(eps, rng):
    torch = pytest.importorskip("torch")
    arrays = [rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)]
    weight = rng.standard_normal((2, 3, 5))
    mine, peers = [leaf(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, q = ops.layer_norm(*mine, eps=eps), torch.nn.functional.layer_norm(peers[0], (5,), *peers[1:], eps=eps)
    np.testing.assert_allclose(y.numpy(), q.detach().numpy(), atol=1e-14)
    found = grad((y * weight).sum(), mine, create_graph=True)
    expected = torch.autograd.grad((q * torch.tensor(weight)).sum(), peers, create_graph=True)
    for g, h in zip(found, expected):
        np.testing.assert_allclose(g.numpy(), h.detach().numpy(), atol=1e-12)
    second = grad((found[0] * weight).sum(), mine[:2])
    for g, h in zip(second, torch.autograd.grad((expected[0] * torch.tensor(weight)).sum(), peers[:2])):
        np.testing.assert_allclose(g.numpy(), h.numpy(), atol=1e-11)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_equal_features_give_zero_and_finite_gradients(dtype):
    x = leaf(np.full((2, 4), 300.0), dtype)
    y = ops.layer_norm(x)
    (y * np.arange(4.0, dtype=dtype)).sum().backward()
    assert not y.numpy().any() and np.isfinite(x.grad.numpy()).all() and y.dtype == dtype


def test_weight_and_bias_are_optional(rng):
    x, weight, bias = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal(4)
    plain = ops.layer_norm(x)
    np.testing.assert_allclose(plain.mean(axis=-1), 0, atol=1e-15)
    np.testing.assert_allclose(plain.std(axis=-1), 1, rtol=1e-4)
    np.testing.assert_array_equal(ops.layer_norm(x, weight), plain * weight)
    np.testing.assert_array_equal(ops.layer_norm(x, bias=bias), plain + bias)
    np.testing.assert_array_equal(ops.layer_norm(x, weight, bias), plain * weight + bias)


def test_squares_have_room_in_half_precision():
    x = np.array([[-3000.0, 0.0, 1000.0, 2000.0]])
    wide = leaf(x)
    half = Tensor(x, requires_grad=True, dtype="float16")
    for tensor in (wide, half):
        (ops.layer_norm(tensor) * np.array([1, 2, 3, 5], str(tensor.dtype))).sum().backward()
    assert half.grad.dtype == ops.layer_norm(half).dtype == "float16"
    np.testing.assert_allclose(ops.layer_norm(half).numpy(), ops.layer_norm(wide).numpy(), rtol=2e-3)
    np.testing.assert_allclose(half.grad.numpy(), wide.grad.numpy(), rtol=5e-2, atol=1e-6)
