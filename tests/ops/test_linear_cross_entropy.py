"""The cross-entropy of an output layer by blocks of rows: that of its logits, to every order, in less memory."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import grad, native, nn, ops
from tinygrad_gru.ops.loss import likelihood
from tinygrad_gru.ops.loss import output_layer as blocks
from tinygrad_gru.ops.op import unwrap
from tinygrad_gru.testing import OP_SPECS, check_case, clauses


@pytest.fixture(params=["native", "numpy"])
def in_small_blocks(request, monkeypatch):
    """Blocks of three rows, by native loops or by NumPy."""
    if request.param == "native" and native.problem():
        pytest.skip("needs llvmlite")
    monkeypatch.setattr(blocks, "_LEAST", 1)
    monkeypatch.setattr(blocks, "_BLOCK", 1)
    monkeypatch.setattr(blocks, "_LEAST_ROWS", 3)
    monkeypatch.setattr(likelihood, "_LEAST_NATIVE", 1 if request.param == "native" else 10**9)


def output_layer(rng, is_tied, has_bias=True):
    """x (4, 2, 3), W (3, 20), b (20), and class ids (4, 2)."""
    weight = leaf(rng.standard_normal((20, 3) if is_tied else (3, 20)))
    bias = leaf(rng.standard_normal(20)) if has_bias else None
    return leaf(rng.standard_normal((4, 2, 3))), weight, bias, rng.integers(0, 20, (4, 2)).astype(np.int32)


@pytest.mark.parametrize("is_tied", [False, True], ids=["W", "tied"])
@pytest.mark.parametrize("settings", [
    {}, {"reduction": "sum"}, {"reduction": "none"}, {"ignore_index": 1}, {"weight": np.linspace(0, 2, 20)},
    {"weight": np.linspace(0, 2, 20), "ignore_index": 1, "reduction": "sum"},
])  # fmt: skip
def test_linear_cross_entropy_by_blocks_is_that_of_logits(in_small_blocks, monkeypatch, settings, is_tied, rng):
    """Loss, gradients, gradients again, of a multiple of the loss, and second derivatives."""
    x, weight, bias, ids = output_layer(rng, is_tied, has_bias="weight" in settings)
    ids[0, 1] = 1
    passes, run = [], blocks._in_blocks
    monkeypatch.setattr(blocks, "_in_blocks", lambda *arguments: passes.append(1) or run(*arguments))

    def both(function):
        w = weight.mT if is_tied else weight
        return function(x, w), [value for value in (x, weight, bias) if value is not None]

    mine, leaves = both(lambda x, w: ops.linear_cross_entropy(x, w, ids, linear_bias=bias, **settings))
    theirs, _ = both(lambda x, w: ops.cross_entropy(ops.linear(x, w, bias), ids, **settings))
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-13)
    assert len(passes) == 1
    cotangent = rng.standard_normal(mine.shape) if settings.get("reduction") == "none" else np.float64(0.3)
    expected = grad(theirs, leaves, cotangent, retain_graph=True)
    for number in range(2):  # the second time they are computed anew
        for found, known in zip(grad(mine, leaves, cotangent, retain_graph=True), expected, strict=True):
            np.testing.assert_allclose(found.numpy(), known.numpy(), rtol=1e-12, atol=1e-14)
        assert len(passes) == 1 + number + (settings.get("reduction") == "none")
    for a, b in zip(grad(mine.sum(), leaves, retain_graph=True), grad(theirs.sum(), leaves, retain_graph=True)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)
    found, known = (
        grad(sum((g * g).sum() for g in grad(y.sum(), leaves, create_graph=True)), leaves) for y in (mine, theirs)
    )
    for a, b in zip(found, known, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-13)


def same_to_rounding(a, b):
    a, b = np.asarray(unwrap(a)), np.asarray(unwrap(b))
    return a.dtype == b.dtype and np.allclose(a, b, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("case", OP_SPECS["linear_cross_entropy"])
def test_the_blocks_keep_the_contract_of_ops(in_small_blocks, monkeypatch, case):
    """But to rounding: a recorded backward has no blocks, and adds in another order. The specs have few logits, of
    which `linear_cross_entropy` else makes no blocks."""
    passes, run = [], blocks._in_blocks
    monkeypatch.setattr(blocks, "_in_blocks", lambda *arguments: passes.append(1) or run(*arguments))
    monkeypatch.setattr(clauses, "_same_bits", same_to_rounding)
    report = check_case("linear_cross_entropy", case, dtypes=())
    assert report.orders == (1, 2) and report.layouts and len(passes) > 100


def test_linear_cross_entropy_has_neither_logits_nor_their_gradient(rng):
    """Nor is anything computed for what requires no gradient."""
    rows, classes = 4096, 1000
    x, weight = leaf(rng.standard_normal((rows, 8)), "float32"), constant(rng.standard_normal((8, classes)), "float32")
    tracemalloc.start()
    loss = ops.linear_cross_entropy(x, weight, np.zeros(rows, int))
    loss.backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * blocks._BLOCK * 4 and 4 * rows * classes > 16e6 and weight.grad is None
    assert loss.item() == pytest.approx(ops.cross_entropy(x @ weight, np.zeros(rows, int)).item(), rel=1e-5)


def test_linear_cross_entropy_with_logits_of_minus_infinity(in_small_blocks):
    """A class that a bias of −∞ excludes has no gradient; an ignored row none either."""
    x, bias = leaf(np.ones((2, 3))), leaf([-np.inf, 0.0, 1.0])
    loss = ops.linear_cross_entropy(x, leaf(np.ones((3, 3))), [2, -1], linear_bias=bias, ignore_index=-1)
    loss.backward()
    p = 1 / (1 + math.e)
    assert loss.item() == pytest.approx(-math.log(1 - p), rel=1e-14)
    np.testing.assert_allclose(bias.grad.numpy(), [0.0, p, -p], atol=1e-15)


def test_linear_cross_entropy_of_wrong_shapes_or_ids_says_so(in_small_blocks):
    x, weight = leaf(np.ones((2, 3))), leaf(np.ones((3, 4)))
    with pytest.raises(ValueError, match="do not match"):
        ops.linear_cross_entropy(x, weight[:2], [0, 1])
    with pytest.raises(ValueError, match=r"linear_weight is \(in, C\), got \(4, 3\) for x \(2, 3\): .*give weight.mT"):
        ops.linear_cross_entropy(x, weight.mT, [0, 1])
    with pytest.raises(TypeError, match=r"got Linear: that of a Linear is layer\.W"):
        ops.linear_cross_entropy(x, nn.Linear(3, 4), [0, 1])
    with pytest.raises(ValueError, match="linear_cross_entropy: scores of shape"):
        ops.linear_cross_entropy(x, weight, [0, 1, 2])
    with pytest.raises(IndexError, match="targets"):
        ops.linear_cross_entropy(x, weight, [0, 4])
