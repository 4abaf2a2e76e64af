"""Arrays that native loops read and write where they are: inputs, cotangents, outputs and gradients of inputs."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from tinygrad_gru import Tensor, compiling, grad, native, no_grad, op, ops, scan
from tinygrad_gru.backend import IDLE_POOL, xp_of
from tinygrad_gru.nn import GRU, LSTM
from tinygrad_gru.scan.targets import source
from tinygrad_gru.scan.targets.llvm import workspace

pytestmark = pytest.mark.skipif(not native.is_available(), reason="llvmlite is not installed")

LENGTH, BATCH, WIDTH = 7, 3, 4


@pytest.fixture(autouse=True, params=[0, 400], ids=["all are bound", "large ones are bound"])
def least_bound(request, monkeypatch):
    """Bytes from which on arrays are bound."""
    monkeypatch.setattr(workspace, "LEAST_BOUND", request.param)
    IDLE_POOL.clear()


def inputs(rng):
    """Arrays of one value that a loop can read as they are, and some that it cannot."""
    x = rng.standard_normal((LENGTH, BATCH, WIDTH)).astype(np.float32)
    unaligned = np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    return {
        "as it is": x, "reversed": x[::-1].copy()[::-1], "of columns": np.asfortranarray(x), "unaligned": unaligned,
        "a slice": np.concatenate([x, x], axis=2)[..., :WIDTH],
        "read-only": np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    }  # fmt: skip


def test_inputs_and_cotangents_in_any_layout(rng):
    layer, results = LSTM(WIDTH, WIDTH), []
    for x, g in zip(inputs(rng).values(), inputs(np.random.default_rng(1)).values()):
        leaf = Tensor(np.zeros_like(x), requires_grad=True)
        leaf.data, cotangent = x, Tensor(np.zeros_like(g))
        cotangent.data = g
        with compiling("llvm"):
            y = layer(leaf)[0]
        results.append([y, *grad([y], [leaf, *layer.parameters()], [cotangent])])
    for found in results[1:]:
        for a, b in zip(results[0], found):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("length", [1, LENGTH])
def test_an_input_that_is_an_output_and_outputs_that_are_one_array(length, rng):
    x = Tensor(rng.standard_normal((length, BATCH, WIDTH)), requires_grad=True)
    h, w = Tensor(np.ones((BATCH, WIDTH)), requires_grad=True), Tensor(np.eye(WIDTH), requires_grad=True)

    def step(h, x):
        y = ops.tanh(h @ w + x)
        z = y * x
        return y, (z, x, z, x.reshape(WIDTH, BATCH), y)

    results = []
    for mode in ("llvm", False):
        with compiling(mode):
            last, ys = scan(step, h, x)
            total = sum(((y * y).sum() for y in ys), last.sum())
        results.append([last, *ys, *grad(total, [x, h, w])])
    for a, b in zip(*results):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)
    arrays = [y.data for y in results[0][1:6]] + [x.data]
    assert not any(np.may_share_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_gradients_are_arrays_of_their_own(rng):
    layer, x = GRU(WIDTH, WIDTH), Tensor(rng.standard_normal((LENGTH, BATCH, WIDTH), np.float32), requires_grad=True)
    with compiling("llvm"):
        y = layer(x)[0]
    one = grad(y.sum(), [x], retain_graph=True)[0]
    known = one.numpy().copy()
    y.data[...] = 0  # backward has its own copy of the states
    two = grad(y.sum(), [x])[0]
    assert not np.may_share_memory(one.data, two.data)
    one.data[...] = 0
    np.testing.assert_array_equal(two.numpy(), known)


def test_an_input_that_is_written_before_backward(rng):
    """A constant is copied by that; a leaf, which is not, is an error."""
    layer, array = GRU(WIDTH, WIDTH), rng.standard_normal((LENGTH, BATCH, WIDTH), np.float32)
    gradients = []
    for is_written in (False, True):
        x = Tensor(array.copy())
        with compiling("llvm"):
            y = layer(x)[0]
        if is_written:
            x[0] = 0.0
        gradients.append(grad(y.sum(), list(layer.parameters())))
    for a, b in zip(*gradients):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    x = Tensor(array, requires_grad=True)
    with compiling("llvm"):
        y = layer(x)[0]
    with no_grad():
        x[0] = 0.0
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("mode", ["llvm", "numpy", "eager"])
def test_an_array_that_is_written_before_backward(mode, rng):
    """Of an array that is no Tensor no write is logged: backward has the values that the forward pass had."""
    w, h = Tensor(np.eye(WIDTH), requires_grad=True), Tensor(np.zeros((BATCH, WIDTH)))
    array, gradients = rng.standard_normal((LENGTH, BATCH, WIDTH)), []
    for is_written in (False, True):
        with compiling(mode):
            last, _ = scan(lambda h, xs: ops.tanh(h + xs["x"] @ w), h, {"x": array})
        if is_written:
            array[...] = 9.0
        gradients += grad(last.sum(), [w])
    np.testing.assert_array_equal(gradients[0].numpy(), gradients[1].numpy())


def test_workspaces_keep_no_array_alive(rng):
    layer = LSTM(WIDTH, WIDTH)
    for _ in range(2):
        x = Tensor(rng.standard_normal((LENGTH, BATCH, WIDTH), np.float32), requires_grad=True)
        with compiling("llvm"):
            y = layer(x)[0]
        y.sum().backward()
        alive = [weakref.ref(array) for array in (x.data, x.grad.data)]
        del x, y
        gc.collect()
        assert [ref() for ref in alive] == [None, None]


@pytest.mark.parametrize("target", ["numpy", "llvm"])
def test_gradients_of_joined_weights_are_arrays_of_their_own(target, monkeypatch, rng):
    """Those of large weights are products by themselves; two that are equal are not one array, nor parts of one."""
    monkeypatch.setattr(source, "_LARGE", 0)
    layer, x = LSTM(5, WIDTH), Tensor(rng.standard_normal((LENGTH, BATCH, 5)), requires_grad=True)
    other = Tensor(np.zeros(WIDTH), requires_grad=True)
    layer.to(dtype="float64")

    def step(carry, x):
        h, c = layer.cells[0].step(carry, x)
        return (ops.tanh(h @ layer.cells[0].U_f + layer.cells[0].b_f + other), c)

    def gradients(mode):
        with compiling(mode):
            _, ys = scan(step, (Tensor(np.zeros((BATCH, WIDTH))), Tensor(np.ones((BATCH, WIDTH)))), x)
        return grad((ys * ys).sum(), [x, other, *layer.parameters()])

    found = gradients(target)
    for a, b in zip(found, gradients(False), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)
    arrays = [g.data for g in found]
    assert all(a.flags.writeable for a in arrays)
    assert not any(np.may_share_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


@pytest.mark.parametrize("columns", [np.s_[:, ::2], np.s_[:, : WIDTH - 1 : -1]], ids=["every other", "reversed"])
def test_columns_that_are_no_range_are_taken_from_the_whole_gradient(columns, monkeypatch, rng):
    monkeypatch.setattr(source, "_LARGE", 0)

    @op
    def placed(w):
        stacked = xp_of(w).stack([w, w * 0], axis=2).reshape(WIDTH, 2 * WIDTH)
        return stacked if columns[1].step == 2 else xp_of(w).concatenate([w * 0, w[:, ::-1]], axis=1)

    placed.vjp(w=lambda g: g[columns])
    w, v = (Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((WIDTH, WIDTH), (2 * WIDTH, WIDTH)))
    xs = Tensor(rng.standard_normal((LENGTH, BATCH, WIDTH)))
    found = []
    for mode in ("numpy", False):
        last, _ = scan(lambda h, x: (ops.tanh(ops.tanh(h @ placed(w)) @ v + x), ()), xs[0] * 0.0, xs, compiled=mode)
        found.append(grad(last.sum(), w).numpy())
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-14)
