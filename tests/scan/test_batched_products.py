"""Products of several matrices in a step: attention over a memory, without a fallback, as eager mode computes them."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor, explain, native, ops, scan

BATCH, SOURCE, WIDTH, STEPS = 2, 5, 6, 3

needs_llvm = pytest.mark.skipif(not native.is_available(), reason="llvmlite is not installed")
TARGETS = ["numpy", pytest.param("llvm", marks=needs_llvm), pytest.param("llvm:2", marks=needs_llvm)]


def column(h):
    return ops.expand_dims(h, axis=2)


def row(h):
    return ops.expand_dims(h, axis=1)


def one_query(h, memory, others, weights, vector):
    scores = ops.squeeze(memory @ column(h), axis=2)
    return ops.squeeze(row(ops.softmax(scores)) @ memory, axis=1)


def additive(h, memory, others, weights, vector):
    scores = ops.tanh(memory @ weights + row(h)) @ vector
    return ops.squeeze(row(ops.softmax(scores)) @ memory, axis=1)


def masked(h, memory, others, weights, vector):
    """The second row has no source at all, so that its weights are NaN, as in PyTorch; these are not used."""
    valid = np.arange(SOURCE) < np.array([[3], [0]])
    scores = ops.where(Tensor(valid), ops.squeeze(memory @ column(h), axis=2), -np.inf)
    context = ops.squeeze(row(ops.softmax(scores)) @ memory, axis=1)
    return ops.where(Tensor(np.array([[True], [False]])), context, h)


def two_heads(h, memory, others, weights, vector):
    heads = ops.transpose(ops.reshape(memory, shape=(BATCH, SOURCE, 2, WIDTH // 2)), axes=(0, 2, 1, 3))
    queries = ops.reshape(h, shape=(BATCH, 2, 1, WIDTH // 2))
    context = ops.softmax(queries @ heads.mT) @ heads
    return ops.reshape(context, shape=(BATCH, WIDTH))


def of_matrices(h, memory, others, weights, vector):
    """Both change with the step."""
    varying = memory * row(h)
    return ops.mean(varying @ others @ varying.mT @ varying, axis=1)


def broadcast(h, memory, others, weights, vector):
    return ops.squeeze(weights[None].mT @ (weights[None] @ column(h)), axis=2) + ops.mean(vector @ memory.mT)


def by_matrix(h, memory, others, weights, vector):
    return ops.mean((memory * row(h)) @ weights, axis=1)


STEPS_OF = [one_query, additive, masked, two_heads, of_matrices, broadcast, by_matrix]


def results(attend, compiled, dtype="float64", device="numpy"):
    random = np.random.default_rng(0)
    shapes = [(BATCH, SOURCE, WIDTH), (BATCH, WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH,), (BATCH, WIDTH)]
    shapes.append((STEPS, BATCH, WIDTH))
    leaves = [Tensor(random.standard_normal(s).astype(dtype), requires_grad=True, device=device) for s in shapes]
    *closed_over, start, x = leaves

    def step(h, x):
        return ops.tanh(x + attend(h, *closed_over))

    with np.errstate(invalid="ignore"):  # of rows without a source
        _, states = scan(step, start, x, compiled=compiled)
        ops.sum(ops.square(states)).backward()
    report = explain(step, start, x, compiled=compiled or "numpy")
    gradients = [np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy() for leaf in leaves]
    return [states.numpy(), *gradients], report


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("attend", STEPS_OF, ids=lambda f: f.__name__)
def test_every_target_computes_what_eager_mode_does(attend, target):
    expected, _ = results(attend, False)
    found, report = results(attend, target)
    assert "does not compile" not in report and "runs eagerly" not in report
    for right, mine in zip(expected, found, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("attend", [one_query, two_heads, of_matrices], ids=lambda f: f.__name__)
def test_on_a_gpu(attend, cupy):
    expected, _ = results(attend, False)
    found, report = results(attend, True, device="cupy")
    assert "does not compile" not in report and "runs eagerly" not in report
    for right, mine in zip(expected, found, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-10, atol=1e-12)


@needs_llvm
@pytest.mark.parametrize("inner", [1, 3, 4, 7, 8])
def test_sums_of_any_length(inner, rng):
    """The loop along columns takes four terms at once, and the rest one by one."""
    a, b = (Tensor(rng.standard_normal(shape)) for shape in ((2, 3, inner), (2, inner, 5)))

    def step(h, x):
        return x * ops.mean((a * ops.mean(h)) @ b, axis=1)

    x, h = rng.standard_normal((4, 1)), rng.standard_normal((2, 5))
    last, _ = scan(step, Tensor(h), Tensor(x), compiled="llvm")
    for number in x:
        h = number * np.mean((a.numpy() * h.mean()) @ b.numpy(), axis=1)
    np.testing.assert_allclose(last.numpy(), h, rtol=1e-12)


def test_the_gradient_of_the_memory_is_one_product_over_all_steps():
    _, report = results(one_query, "numpy")
    assert report.count("add_products(totals[") == 2
