"""Accuracy to the last digits: tails, half precision, narrow integers, long sums; compared with independent values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.tensors import gradient, leaf

from tinygrad_gru import Tensor, manual_seed, ops, tape
from tinygrad_gru.backend import as_array, to_host


def close(value, expected, rtol):
    value = np.asarray(value.numpy() if isinstance(value, Tensor) else value, float)
    np.testing.assert_allclose(value, expected, rtol, atol=1e-44)


@pytest.mark.parametrize(
    "compute",
    [lambda x, z: x * 1j, lambda x, z: ops.stack([x, z]), lambda x, z: x @ z, lambda x, z: ops.where(x > 0, x, z),
     lambda x, z: ops.exp(z), lambda x, z: ops.mean(z), lambda x, z: ops.mse(x, z), lambda x, z: x.astype("complex64"),
     lambda x, z: ops.cross_entropy(x[None], [0], weight=z), lambda x, z: ops.astype(z, "float32"),
     lambda x, z: ops.astype(z, "int64"), lambda x, z: x * np.clongdouble(1j)],
)  # fmt: skip
def test_complex_numbers_are_refused(compute):
    """Their imaginary parts would be lost, or a Tensor of them would get the gradient of real numbers."""
    with pytest.raises(TypeError, match="complex"):
        compute(leaf([1.0, 2.0]), np.array([1j, 2.0]))


# -- tails -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("x", [-80.0, -20.0, -3.0, 3.0, 18.0])
def test_sigmoid_and_functions_of_it_are_exact_in_both_tails(x, dtype):
    rtol = 8 * np.finfo(dtype).eps
    exact = 1 / (1 + math.exp(-x))
    t = leaf([x], dtype)
    close(ops.sigmoid(t), [exact], rtol)
    close(ops.log_sigmoid(t), [-math.log1p(math.exp(-x))], rtol)
    close(ops.silu(t), [x * exact], rtol)
    close(gradient(ops.softplus, [x], dtype=dtype), [exact], rtol)
    close(gradient(ops.log_sigmoid, [x], dtype=dtype), [1 / (1 + math.exp(x))], rtol)
    close(gradient(ops.silu, [x], dtype=dtype), [exact * (1 + x / (1 + math.exp(x)))], rtol)
    if x < 0:
        close(ops.log(ops.sigmoid(t)), [x - math.log1p(math.exp(x))], rtol)
        close(gradient(ops.sigmoid, [x], dtype=dtype), [exact * (1 - exact)], rtol)
        close(gradient(ops.expm1, [x], dtype=dtype), [math.exp(x)], rtol)


def test_sigmoid_is_subnormal_in_its_left_tail():
    exact = 1 / (1 + np.exp(95.0))
    assert abs(float(ops.sigmoid(np.float32([-95.0]))[0]) - exact) <= 2 * np.finfo(np.float32).smallest_subnormal


@pytest.mark.parametrize("x", [-80.0, -18.0, 0.0, 18.0, 80.0])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_binary_cross_entropy_is_exact_for_large_logits(x, target):
    exact = (1 - target) * np.logaddexp(0, x) + target * np.logaddexp(0, -x)
    slope = (1 - target) / (1 + math.exp(-x)) - target / (1 + math.exp(x))
    loss = lambda logits: ops.binary_cross_entropy_with_logits(logits, [target])  # noqa: E731
    close(loss(leaf([x], "float32")), exact, 1e-6)
    close(gradient(loss, [x], dtype="float32"), [slope], 1e-6)


def test_gelu_is_exact_in_its_left_tail():
    x = -4.0
    u = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    close(ops.gelu(leaf([x], "float32")), [x / (1 + math.exp(-u))], 2e-6)


# -- half precision ----------------------------------------------------------------------------------------------------


def half(values, **settings):
    return Tensor(np.asarray(values, np.float16), **settings)


def test_variance_in_float16():
    assert ops.var(half([2048.0, 2050.0])).item() == 1.0
    assert ops.std(half([-60000.0, 60000.0])).item() == 60000.0  # whose square is out of range
    x = half([-60000.0, 60000.0], requires_grad=True)
    ops.std(x).backward()
    close(x.grad, [-0.5, 0.5], 1e-3)


def test_counts_in_float16():
    x = half(np.ones(70_000), requires_grad=True)
    ops.max(x).backward()
    close(x.grad, np.full(70_000, 1 / 70_000), 3e-3)
    logits = half(np.zeros((70_000, 2)), requires_grad=True)
    loss = ops.cross_entropy(logits, np.zeros(70_000, int), ignore_index=1)
    assert loss.dtype == np.float16
    close(loss, math.log(2), 1e-3)
    loss.backward()
    close(logits.grad[0], [-0.5 / 70_000, 0.5 / 70_000], 1e-2)
    close(ops.mean(half([60000.0, 60000.0, 60000.0])), 60000.0, 0)
    close(gradient(ops.mean, np.ones(70_000), dtype="float16"), np.full(70_000, 1 / 70_000), 3e-3)


def test_sums_in_float16():
    repeated = np.zeros(5000, int)
    x = half(np.ones((2, 3)), requires_grad=True)
    x[:, repeated].sum().backward()
    assert x.grad.tolist() == [[5000, 0, 0], [5000, 0, 0]]
    x = half(np.ones(3), requires_grad=True)
    ops.sum(ops.stack([x[0] for _ in range(4000)])).backward()
    assert x.grad.tolist() == [4000, 0, 0]
    ones = half(np.ones((5000, 2)))
    assert ops.einsum("bi,bi->i", ones, ones).tolist() == [5000, 5000]
    assert ops.scatter_add(half([0.0]), half(np.ones(5000)), index=repeated).tolist() == [5000]
    assert ops.mse(half([300.0, 0, 0, 0]), half([0.0, 0, 0, 0])).item() == np.float16(22500)  # 300² is out of range
    assert ops.matmul(half(np.ones((1, 5000))), half(np.ones((5000, 1)))).item() == 5000


def test_rules_in_float16_overflow_only_if_their_result_does():
    square = Tensor(np.float16([1e-3]), requires_grad=True)
    (ops.square(square)).backward(np.float16([40000.0]))
    close(square.grad, [80.0], 1e-3)
    b = half([300.0], requires_grad=True)
    (half([60000.0]) / b).backward(np.float16([1000.0]))
    close(b.grad, [-1000 * 60000 / 300**2], 1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_dropout_in_half_precision_does_not_round_p(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    manual_seed(0)
    y = ops.dropout(Tensor(np.ones(10**6, dtype)), p=0.9996).numpy().astype(float)
    assert 0.9 < y.mean() < 1.1  # a standard deviation is 0.05
    np.testing.assert_allclose(y.max(), 2500, rtol=4e-3)


# -- integers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "bool"])
def test_real_functions_of_narrow_integers(dtype):
    a, b = np.array([0, 1, 1], dtype), np.array([1, 1, 0], dtype)
    if dtype != "bool":
        a, b = a * 100, b * 120
    x, y = a.astype(float), b.astype(float)
    exact = {
        "norm": np.sqrt((x * x).sum()), "mean": x.mean(), "var": x.var(), "std": x.std(),
        "softmax": np.exp(x - x.max()) / np.exp(x - x.max()).sum(), "sigmoid": 1 / (1 + np.exp(-x)),
        "tanh": np.tanh(x), "sqrt": np.sqrt(x), "softplus": np.logaddexp(0, x), "logsumexp": np.log(np.exp(x).sum()),
    }  # fmt: skip
    for name, value in exact.items():
        result = getattr(ops, name)(Tensor(a))
        assert result.dtype == np.float32, name
        close(result, value, 1e-6)
    close(ops.mse(Tensor(a), Tensor(b)), ((x - y) ** 2).mean(), 1e-6)
    close(ops.mae(Tensor(a), b), np.abs(x - y).mean(), 1e-6)
    close(ops.mse(a, b), ((x - y) ** 2).mean(), 1e-6)
    assert ops.exp(np.array([3], dtype)).dtype != np.float16


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
def test_products_of_narrow_integers_are_in_64_bits(dtype):
    x = np.array([[1, 100, 100]] * 2, dtype)
    for array in (x, Tensor(x)):
        product = ops.prod(array, axis=1)
        assert product.tolist() == [1, 1] if dtype == "bool" else [10000, 10000]
        assert product.dtype == ops.sum(array).dtype


# -- long sums ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3_000_000, 1), (1, 500_000, 3), (700, 3, 700)])
def test_long_float32_sums_along_any_axis(shape):
    x, value = np.full(shape, 0.1, np.float32), float(np.float32(0.1))
    for axis in (0, 1, -1, (0, 1), None):
        count = x.size // ops.sum(x, axis=axis).size
        close(ops.mean(x, axis=axis), value, 3e-6)
        close(ops.sum(x, axis=axis, keepdims=True), value * count, 3e-6)
    close(ops.mean(x.T, axis=-1), value, 3e-6)
    assert ops.sum(x, axis=0).shape == shape[1:]
    assert ops.sum(x, axis=(0, 2) if len(shape) == 3 else (0,), keepdims=True).shape[0] == 1


def test_pairwise_sum_equals_sum_for_any_length(rng):
    for shape in [(257, 5), (1000, 3), (8193, 2), (3, 700, 2), (600, 1, 300)]:
        x = rng.standard_normal(shape)
        for axis in [*range(len(shape)), (0, 1), None]:
            np.testing.assert_allclose(ops.sum(x, axis=axis), x.sum(axis), rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(ops.sum(x[::-1, ::-1], axis=axis), x[::-1, ::-1].sum(axis), atol=1e-10)


def test_long_cumulative_sums():
    x = np.full((2_000_000, 1), 0.1, np.float32)
    close(ops.cumsum(x, axis=0)[-1], [2e6 * float(np.float32(0.1))], 1e-6)


def test_long_sums_over_broadcast_axes_and_repeated_indices():
    n, value = 500_000, float(np.float32(0.1))
    bias = leaf(np.zeros(2), "float32")
    (np.zeros((n, 2), np.float32) + bias).backward(np.full((n, 2), 0.1, np.float32))
    close(bias.grad, [n * value] * 2, 3e-6)
    weight = leaf(np.zeros((3, 2)), "float32")
    ops.embedding(weight, np.ones(n, int)).backward(np.full((n, 2), 0.1, np.float32))
    close(weight.grad, [[0, 0], [n * value] * 2, [0, 0]], 3e-6)
    x = leaf(np.zeros((2, 3)), "float32")
    x[:, np.zeros(n // 10, int)].backward(np.full((2, n // 10), 0.1, np.float32))
    close(x.grad, [[n // 10 * value, 0, 0]] * 2, 3e-6)


# -- empty axes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (0,)])
def test_softmax_and_logsumexp_over_nothing_equal_torch(shape):
    torch = pytest.importorskip("torch")
    x = np.ones(shape, np.float32)
    for axis in range(len(shape)):
        for name in ("softmax", "log_softmax", "logsumexp"):
            expected = getattr(torch, name)(torch.from_numpy(x), axis).numpy()
            y = getattr(ops, name)(Tensor(x, requires_grad=True), axis=axis)
            np.testing.assert_array_equal(y.numpy(), expected)
            assert y.shape == expected.shape and y.dtype == np.float32
            y.backward(np.ones_like(expected))


def test_no_casts_are_recorded_for_float32_and_float64():
    x = leaf([1.0, 2.0], "float32")
    assert [record.op.__name__ for record in tape(ops.mean(ops.sigmoid(x)))] == ["sigmoid", "mean"]


def test_pairwise_sum_on_a_device(stand_in, rng):
    """On CuPy's arrays (here a stand-in's) blocks are longer."""
    x = rng.standard_normal((70_000, 2)).astype(np.float32)
    y = ops.sum(as_array(x, device="cupy"), axis=0)
    np.testing.assert_allclose(to_host(y), x.astype(float).sum(0), rtol=1e-4)
