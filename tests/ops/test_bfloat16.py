"""bfloat16 on NumPy, through ml_dtypes: every op keeps it, and Python scalars are weakly typed beside it."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import Tensor, grad, manual_seed, nn, ops, optim
from tinygrad_gru.scan import compiling
from tinygrad_gru.testing import OP_SPECS
from tinygrad_gru.train import mixed_precision

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
CASES = [(name, k) for name, cases in OP_SPECS.items() for k in range(len(cases)) if name not in ("one_hot", "astype")]


def cast(value):
    return value.astype(bfloat16) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


@pytest.mark.parametrize(("name", "k"), CASES, ids=[f"{name}-{k}" for name, k in CASES])
def test_every_op_keeps_bfloat16_and_equals_float32(name, k):
    case, random = OP_SPECS[name][k], np.random.default_rng(0)
    function = case.function or getattr(ops, name)
    domains = [case.domain] * len(case.shapes) if np.ndim(case.domain) == 1 else list(case.domain)
    values = [s if isinstance(s, np.ndarray) else random.uniform(*d, size=s) for s, d in zip(case.shapes, domains)]
    arrays = list(map(cast, values))
    results = []
    for dtype in (bfloat16, np.float32):
        manual_seed(0)
        inputs = [Tensor(a.astype(dtype), requires_grad=True) if a.dtype == bfloat16 else a for a in arrays]
        y = function(*inputs, **(case.settings or {}))
        ys = list(y) if isinstance(y, (list, tuple)) else [y]
        assert all(y.dtype in (dtype, np.bool_, np.int64) for y in ys)
        leaves = [x for x in inputs if isinstance(x, Tensor)]
        recorded = [y for y in ys if y.node is not None]
        weights = [Tensor(np.ones(y.shape, dtype)) for y in recorded]
        found = grad(recorded, leaves, weights, allow_unused=True) if recorded else ()
        assert all(g is None or g.dtype == dtype for g in found)
        results.append([np.asarray(t.numpy(), float) for t in [*ys, *found] if t is not None])
    for rounded, exact in zip(*results, strict=True):
        np.testing.assert_allclose(rounded, exact, rtol=0.05, atol=0.05 * max(1, np.abs(exact).max(initial=0)))


@pytest.mark.parametrize(
    "formula",
    [
        lambda x: x + 1.0, lambda x: 1 - x, lambda x: x * 2.0, lambda x: 2 / x, lambda x: x**0.5, lambda x: 2.0**x,
        lambda x: ops.maximum(x, 0.5), lambda x: ops.minimum(2.0, x), lambda x: ops.where(x > 1, x, 0.0),
        lambda x: x * np.float64(2), lambda x: x.clip(0.1, 2.0), lambda x: x @ x,
    ],
)  # fmt: skip
def test_python_scalars_are_weakly_typed(formula):
    x = Tensor(np.array([1.5, 2.5], bfloat16), requires_grad=True)
    y = formula(x)
    assert y.dtype == bfloat16
    exact = formula(Tensor([1.5, 2.5]))
    np.testing.assert_allclose(y.numpy().astype(float), exact.numpy(), rtol=0.01)
    (y * Tensor(np.ones(2, np.float32))).sum().backward()
    assert x.grad.dtype == bfloat16


@pytest.mark.parametrize("optimizer_type", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_optimizer_state_roundtrip(optimizer_type):
    def run(steps, resume):
        x = Tensor(np.array([1.5, 2.5], bfloat16), requires_grad=True)
        optimizer = optimizer_type([x], lr=0.1)
        for _ in range(steps):
            if resume:
                state = optimizer.state_dict()
                optimizer = optimizer_type([x], lr=0.1)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            (x * x).sum().backward()
            optimizer.step()
        assert x.dtype == bfloat16
        return x.tolist()

    assert run(4, resume=True) == run(4, resume=False) != [1.5, 2.5]


def test_optimizer_state_saved_in_bfloat16_loads():
    x = Tensor(np.array([1.5], bfloat16), requires_grad=True)
    optimizer = optim.SGD([x], momentum=0.5)
    x.sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    state["state"] = {name: array.astype(bfloat16) for name, array in state["state"].items()}
    optimizer.load_state_dict(state)
    assert optimizer.state[0]["b"].dtype == np.float32


@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])
def test_recurrent_layers_in_mixed_precision(layer):
    manual_seed(0)
    model = layer(3, 4)
    x = Tensor(np.random.default_rng(0).standard_normal((5, 2, 3)).astype("float32"))
    exact, _ = model(x)
    for compiled in (True, False):
        with compiling(compiled):
            y, _ = mixed_precision(model, "bfloat16")(x)
        np.testing.assert_allclose(y.numpy(), exact.numpy(), atol=0.02)
