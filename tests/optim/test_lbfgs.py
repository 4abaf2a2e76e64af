"""L-BFGS: step by step as PyTorch's, the minimum that SciPy finds, the Wolfe conditions, resuming, and errors."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from tinygrad_gru import Tensor, nn, ops
from tinygrad_gru.optim import LBFGS
from tinygrad_gru.optim.lbfgs import CURVATURE, DECREASE, Point, strong_wolfe

START = np.array([-1.2, 1.0, -0.5, 2.0, 0.7])


def rosenbrock(x):
    """Of any number of dimensions; the minimum is 0 at 1, …, 1. For Tensors of this package and of PyTorch."""
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def closure_of(optimizer, loss, values=None):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        if values is not None:
            values.append(value.item())
        return value

    return closure


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"history_size": 2},
        {"max_iter": 3},
        {"lr": 0.5, "max_iter": 4},
        {"line_search_fn": None, "lr": 1e-3, "max_iter": 5},
        {"tolerance_grad": 1.0},
        {"tolerance_change": 1e-2},
    ],
)
def test_rosenbrock_step_by_step_as_in_torch(settings):
    """The same evaluations, losses and parameters, over several calls of `step`; max_eval is beyond reach."""
    torch = pytest.importorskip("torch")
    settings = {"line_search_fn": "strong_wolfe", "max_eval": 1000, **settings}
    x, p = Tensor(START, requires_grad=True), torch.tensor(START, requires_grad=True)
    mine, theirs = LBFGS([x], **settings), torch.optim.LBFGS([p], **settings)
    for _ in range(4):
        losses, expected = [], []
        first = mine.step(closure_of(mine, lambda: rosenbrock(x), losses))
        theirs.step(closure_of(theirs, lambda: rosenbrock(p), expected))
        assert first.item() == losses[0] and len(losses) == len(expected)
        np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(x.numpy(), p.detach().numpy(), rtol=1e-6)
    assert (x.numpy() != START).all()


def test_a_network_as_in_torch(rng):
    """Several parameters of several shapes, one of them without a gradient."""
    torch = pytest.importorskip("torch")
    inputs, targets = rng.standard_normal((32, 4)), rng.standard_normal((32, 1))
    values = [rng.standard_normal(shape) for shape in ((4, 8), (8,), (8, 1), (3,))]
    ours = [Tensor(value, requires_grad=True) for value in values]
    theirs = [torch.tensor(value, requires_grad=True) for value in values]
    x, t = torch.tensor(inputs), torch.tensor(targets)
    mine = LBFGS(ours, max_iter=8)
    other = torch.optim.LBFGS(theirs, max_iter=8, line_search_fn="strong_wolfe")
    for _ in range(3):
        mine.step(closure_of(mine, lambda: ((ops.tanh(inputs @ ours[0] + ours[1]) @ ours[2] - targets) ** 2).mean()))
        other.step(closure_of(other, lambda: ((torch.tanh(x @ theirs[0] + theirs[1]) @ theirs[2] - t) ** 2).mean()))
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-7)


def test_the_minimum_that_scipy_finds():
    optimize = pytest.importorskip("scipy.optimize")
    x = Tensor(START, requires_grad=True)
    optimizer = LBFGS([x], max_iter=200, tolerance_change=1e-14)
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    found = optimize.minimize(lambda v: rosenbrock(v), START, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    np.testing.assert_allclose(x.numpy(), found.x, atol=1e-5)
    np.testing.assert_allclose(x.numpy(), 1.0, atol=1e-7)
    assert optimizer.evaluations < 1.5 * found.nfev / (len(START) + 1) + 20, "finite differences need 6 each"


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 30.0, 1e6])
def test_the_line_search_ends_where_the_strong_wolfe_conditions_hold(first):
    def at(t):
        return Point(t, np.cos(t) + 0.01 * t * t, None, -np.sin(t) + 0.02 * t)

    start = at(0.3)
    line = [lambda t: at(t + 0.3)._replace(t=t)][0]
    end = strong_wolfe(line, start._replace(t=0.0), first, 1.0, 1e-12, 50)
    assert end.value <= start.value + DECREASE * end.t * start.slope
    assert abs(end.slope) <= CURVATURE * abs(start.slope)


def test_a_loss_that_is_nan_where_the_step_is_too_long(device):
    """log x is NaN below 0, where the first step leads."""
    x = Tensor(np.array([5.0]), requires_grad=True, device=device)
    optimizer = LBFGS([x], lr=100.0, max_iter=60)
    with np.errstate(invalid="ignore"):
        optimizer.step(closure_of(optimizer, lambda: (x - 2 * ops.log(x)).sum()))
    np.testing.assert_allclose(x.numpy(), 2.0, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_learns_on_every_backend_in_every_dtype(device, dtype, rng):
    x = Tensor(rng.standard_normal((64, 3)).astype(dtype), device=device)
    truth = Tensor(np.array([[1.0], [-2.0], [0.5]], dtype), device=device)
    layer = nn.Linear(3, 1, dtype=dtype, device=device)
    optimizer = LBFGS(layer.parameters())
    target = x @ truth
    for _ in range(3):
        optimizer.step(closure_of(optimizer, lambda: ops.mse(layer(x), target)))
    tolerance = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-5}[dtype]
    np.testing.assert_allclose(layer.W.numpy(), truth.numpy(), atol=tolerance)
    assert layer.W.dtype == dtype


def test_never_more_evaluations_than_max_eval():
    for most in range(2, 12):
        x, losses = Tensor(START, requires_grad=True), []
        optimizer = LBFGS([x], max_eval=most)
        optimizer.step(closure_of(optimizer, lambda x=x: rosenbrock(x), losses))
        assert len(losses) == optimizer.evaluations <= most
        assert rosenbrock(x.numpy()) <= losses[0]


def test_resumes_bit_for_bit():
    def steps(optimizer, x, count):
        for _ in range(count):
            optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
        return x.numpy()

    x = Tensor(START, requires_grad=True)
    optimizer = LBFGS([x], max_iter=3, history_size=3)
    steps(optimizer, x, 3)
    saved = optimizer.state_dict()
    saved["groups"] = json.loads(json.dumps(saved["groups"]))
    other = Tensor(x.numpy(), requires_grad=True)
    resumed = LBFGS([other])
    resumed.load_state_dict(saved)
    np.testing.assert_array_equal(steps(resumed, other, 3), steps(optimizer, x, 3))
    assert resumed.state_dict()["groups"] == optimizer.state_dict()["groups"]
    assert resumed.iterations == optimizer.iterations > 6 and resumed.steps == 6
    fresh = LBFGS([Tensor(START, requires_grad=True)])
    fresh.load_state_dict(fresh.state_dict())
    assert fresh.iterations == 0


def test_a_state_that_does_not_fit_is_refused():
    x = Tensor(START, requires_grad=True)
    optimizer = LBFGS([x], max_iter=3)
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    saved = optimizer.state_dict()
    for wrong in (
        {**saved, "state": {**saved["state"], "s.0": np.zeros(3)}},
        {**saved, "state": {k: v for k, v in saved["state"].items() if k != "y.0"}},
        {**saved, "state": {}},
        {**saved, "groups": []},
        {**saved, "groups": [{**saved["groups"][0], "optimizer": "Adam"}]},
    ):
        before = optimizer.state_dict()
        with pytest.raises(ValueError, match="saved"):
            optimizer.load_state_dict(wrong)
        after = optimizer.state_dict()
        assert before["groups"] == after["groups"]
        assert all(np.array_equal(before["state"][k], after["state"][k]) for k in before["state"])


def test_a_parameter_that_is_frozen_between_steps_stays():
    x, y = (Tensor(START, requires_grad=True) for _ in range(2))
    optimizer = LBFGS([x, y], max_iter=3)
    closure = closure_of(optimizer, lambda: rosenbrock(x * y))
    optimizer.step(closure)
    y.requires_grad = False
    before = x.numpy(), y.numpy()
    optimizer.step(closure)
    np.testing.assert_array_equal(y.numpy(), before[1])
    assert abs(x.numpy() - before[0]).max() > 1e-3


def test_a_learning_rate_of_0_moves_nothing():
    x = Tensor(START, requires_grad=True)
    optimizer = LBFGS([x], lr=0)
    optimizer.step(closure_of(optimizer, lambda: rosenbrock(x)))
    np.testing.assert_array_equal(x.numpy(), START)


def test_errors_say_what_to_write():
    x, y = (Tensor(START, requires_grad=True) for _ in range(2))
    for closure in (lambda: rosenbrock(x), lambda: rosenbrock(x).backward()):
        with pytest.raises(TypeError, match="the closure must call the loss's backward, and return the loss"):
            LBFGS([x]).step(closure)
    with pytest.raises(TypeError, match=r"expected a closure, .* optimizer.step\(closure\)"):
        LBFGS([x]).step()
    with pytest.raises(ValueError, match="expected one group of parameters, got 2"):
        LBFGS([{"parameters": [x]}, {"parameters": [y]}])
    with pytest.raises(ValueError, match="line_search_fn: expected 'strong_wolfe' or None, got 'armijo'"):
        LBFGS([x], line_search_fn="armijo")
    with pytest.raises(ValueError, match="history_size: expected a number of at least 1, got 0"):
        LBFGS([x], history_size=0)


def test_losses_of_steps_never_increase(rng):
    x, losses = Tensor(rng.standard_normal(8), requires_grad=True), []
    optimizer = LBFGS([x], max_iter=4)
    for _ in range(12):
        losses.append(optimizer.step(closure_of(optimizer, lambda: rosenbrock(x))).item())
    assert all(after <= before for before, after in pairwise(losses)) and losses[-1] < 1e-2 * losses[0]
