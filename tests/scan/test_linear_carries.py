"""Linear recurrences of the NumPy target: which are recognised, and scans against the loop, eager mode and float64."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest

from tests.scan.agreement import assert_modes_agree
from tests.scan.linear_steps import (
    LINEAR,
    NOT_LINEAR,
    H,
    RandomLinear,
    arguments,
    gate_sees_state,
    min_gru,
    mixing,
    rectified,
    sru,
)
from tests.scan.random_cells import difference, draw
from tinygrad_gru import Tensor, compiling, explain, grad, nn, no_grad, ops, scan
from tinygrad_gru.scan.passes.linear import MOST_ELEMENTS, why_not_linear
from tinygrad_gru.scan.plan_cache import CompiledStep
from tinygrad_gru.scan.targets import blocked_scan, numpy
from tinygrad_gru.scan.targets.blocked_scan import FEWEST_STEPS, linear_scan
from tinygrad_gru.scan.tracing.trace import Trace
from tinygrad_gru.scan.tracing.tracer import trace_forward

agree = partial(assert_modes_agree, mode="numpy")


def compiled_step(step, parts, rng, shape=H):
    carry, (x,), weights = arguments(parts, rng, 1, shape)
    carry = tuple(carry) if parts > 1 else carry[0]
    forward = trace_forward(lambda carry, x: step(carry, x, *weights), carry, x)
    return CompiledStep(Trace.of(forward, [True]))


@pytest.fixture
def scans(monkeypatch):
    """For each scan whether its result was taken."""
    taken = []

    def noted(*arguments):
        taken.append(linear_scan(*arguments))
        return taken[-1]

    monkeypatch.setattr(numpy, "linear_scan", noted)
    return taken


@pytest.fixture
def short_chunks(monkeypatch, cache):
    monkeypatch.setattr(numpy, "_SCANNED", (FEWEST_STEPS + 10) * 6)


@pytest.mark.parametrize("step", LINEAR, ids=lambda step: step.__name__)
def test_linear_recurrences_are_recognised(step, rng):
    compiled = compiled_step(step, LINEAR[step], rng)
    for executable in (compiled.forward, compiled.backward()):
        parts = executable.source.plan.program.linear
        assert sorted(i for part in parts for i in part.positions) == list(range(LINEAR[step]))
        assert why_not_linear(executable.source.plan.program) == ""


@pytest.mark.parametrize("step", NOT_LINEAR, ids=lambda step: step.__name__)
def test_what_is_just_not_linear_is_not(step, rng):
    compiled = compiled_step(step, NOT_LINEAR[step], rng)
    assert compiled.forward.source.plan.program.linear == ()


def test_the_backward_pass_of_a_nonlinear_diagonal_step_is_linear(rng):
    """Its derivative by the carry is known before it begins."""
    compiled = compiled_step(gate_sees_state, 1, rng)
    assert len(compiled.backward().source.plan.program.linear) == 1


def test_with_many_elements_the_loop_stays(rng):
    assert compiled_step(min_gru, 1, rng, (1, MOST_ELEMENTS)).forward.source.plan.program.linear
    program = compiled_step(min_gru, 1, rng, (1, MOST_ELEMENTS + 1)).forward.source.plan.program
    assert program.linear == () and f"{MOST_ELEMENTS + 1} elements" in why_not_linear(program)


def test_explain_says_so(rng):
    def report(step, shape=H):
        carry, (x,), weights = arguments(1, rng, 2, shape)
        return explain(lambda h, x: step(h, x, *weights), carry[0], x, compiled="numpy")

    assert report(min_gru).count("Linear and diagonal in its state: run as a scan of logarithmic depth") == 2
    assert re.search(r"Not run as a scan: v\d+ = maximum\(v\d+, 0\.0\) is not linear in its state", report(rectified))
    assert "100 elements per step are enough for a loop" in report(min_gru, (1, 100))
    assert "scan:" not in report(mixing)  # it is far from being one
    assert "not run as a scan" not in report(lambda h, x, W, U: ops.tanh(x))


# -- both modes agree --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("step", LINEAR, ids=lambda step: step.__name__)
def test_modes_agree(step, reverse, rng, scans, short_chunks):
    """In two chunks of different lengths."""
    carry, xs, weights = arguments(LINEAR[step], rng, 2 * FEWEST_STEPS + 20)
    agree(step, carry, xs, weights, reverse=reverse)
    assert sum(scans) >= 4


@pytest.mark.parametrize("step", NOT_LINEAR, ids=lambda step: step.__name__)
def test_modes_agree_on_steps_that_are_not_linear(step, rng):
    carry, xs, weights = arguments(NOT_LINEAR[step], rng, FEWEST_STEPS + 5)
    small = [Tensor(0.3 * x.numpy(), requires_grad=True) for x in (*carry, *xs)]
    agree(step, small[: len(carry)], small[len(carry) :], weights)


def test_modes_agree_with_checkpoints_and_records(rng, scans):
    carry, xs, weights = arguments(1, rng, 3 * FEWEST_STEPS)
    agree(sru, carry, xs, weights, checkpoint_every=FEWEST_STEPS + 10)

    def step(c, x):
        f = ops.sigmoid(x @ weights[0])
        return f * c + (1 - f) * x

    both = [scan(step, carry[0], xs[0], record=("f", "c"), compiled=mode) for mode in ("numpy", False)]
    for name in ("f", "c"):
        np.testing.assert_allclose(*(found[2][name].numpy() for found in both), atol=1e-12)
    assert sum(scans) >= 4


def test_second_derivatives_agree(rng):
    carry, xs, weights = arguments(1, rng, FEWEST_STEPS)
    inputs = [*carry, *xs, *weights]
    second = []
    for mode in ("numpy", False):
        _, ys = scan(lambda h, x: min_gru(h, x, *weights), carry[0], xs[0], compiled=mode)
        first = grad([(ys * ys).sum()], inputs, create_graph=True)
        second.append(grad([sum((g * g).sum() for g in first)], inputs))
    for a, b in zip(*second):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)


def test_an_empty_batch_is_not_scanned(rng):
    weights = arguments(1, rng, 1)[2]
    _, ys = scan(
        lambda h, x: min_gru(h, x, *weights), np.zeros((0, 3)) * Tensor(1.0), np.zeros((500, 0, 3)), compiled="numpy"
    )
    assert ys.shape == (500, 0, 3)


@pytest.mark.parametrize("seed", range(25))
def test_random_linear_steps(seed, rng, scans, cache, monkeypatch):
    monkeypatch.setattr(blocked_scan, "FEWEST_STEPS", 2)
    monkeypatch.setattr(numpy, "_SCANNED", int(rng.integers(5, 60)) * 6)
    step = RandomLinear(seed)
    carry, xs, weights = arguments(step.parts, rng, 45)
    agree(step, carry, xs, weights, reverse=bool(seed % 2))
    assert sum(scans) > len(scans) / 2


# -- numbers -----------------------------------------------------------------------------------------------------------


def loop(a, b, first, dtype):
    """The states of the recurrence, step by step in that dtype."""
    states = np.empty((len(b) + 1, *b.shape[1:]), dtype)
    states[0] = first
    for t, (x, y) in enumerate(zip(a.astype(dtype), b.astype(dtype))):
        states[t + 1] = x * states[t] + y
    return states


LONG = 100_000
COEFFICIENTS = {
    "near 1": lambda rng: 1 - 1e-4 * rng.random((LONG, 2)),
    "1": lambda rng: np.ones((LONG, 2)),
    "negative": lambda rng: -(1 - 1e-3 * rng.random((LONG, 2))),
    "of both signs": lambda rng: rng.uniform(-1, 1, (LONG, 2)),
    "tiny": lambda rng: 1e-30 * rng.random((LONG, 2)),
    "gates": lambda rng: rng.random((LONG, 2)),
    "almost 0 or 1": lambda rng: rng.beta(0.01, 0.01, (LONG, 2)),
    "above 1 now and then": lambda rng: rng.uniform(0.5, 1.1, (LONG, 2)),
}


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_errors_are_like_those_of_the_loop(name, rng):
    """In float32, against the loop in float64 on the same numbers."""
    a = COEFFICIENTS[name](rng).astype("float32")
    b = rng.standard_normal(a.shape).astype("float32")
    found = np.ones((LONG + 1, 2), "float32")
    assert linear_scan({}, [found], [a], [b], False)
    exact, looped = loop(a, b, 1, np.float64), loop(a, b, 1, np.float32)
    scale = np.abs(exact).max()
    error, errors_of_loop = (np.abs(x - exact).max() / scale for x in (found, looped))
    assert error <= 2 * errors_of_loop + 4 * np.finfo("float32").eps


def test_errors_in_float64_are_like_those_of_the_loop(rng):
    """In products of coefficients near 1 rounding has a preferred direction."""
    a, b = COEFFICIENTS["near 1"](rng), rng.standard_normal((LONG, 2))
    found = np.ones((LONG + 1, 2))
    assert linear_scan({}, [found], [a], [b], False)
    exact, looped = loop(a, b, 1, np.longdouble), loop(a, b, 1, np.float64)
    error, error_of_loop = (float(np.abs(x - exact).max() / np.abs(exact).max()) for x in (found, looped))
    assert error <= 30 * error_of_loop and error < 1e-13


def test_growing_coefficients_are_left_to_the_loop(rng):
    """h = 2 h − 1 stays at 1 in the loop, where products of coefficients would lose all digits."""
    b = np.full((FEWEST_STEPS, 1), -1.0)
    assert not linear_scan({}, [np.ones((FEWEST_STEPS + 1, 1))], [2.0], [b], False)

    def step(h, x):
        return 2.0 * h - x

    last, _ = scan(step, Tensor(np.ones((1, 1))), np.ones((500, 1, 1)), compiled="numpy")
    assert last.item() == 1.0


SPECIAL = {
    "an infinite state times 0": ([0.5, 0.0, 0.5], [0.0, 1.0, 1.0], np.inf),
    "an infinite input": ([0.5, 0.5, 0.0], [np.inf, 1.0, 1.0], 1.0),
    "opposite infinities": ([0.5, 0.5, 0.5], [np.inf, -np.inf, 1.0], 1.0),
    "no number": ([0.5, np.nan, 0.5], [1.0, 1.0, 1.0], 1.0),
    "no number as an input": ([0.5, 0.5, 0.5], [1.0, np.nan, 1.0], 1.0),
    "an infinite coefficient of 0": ([0.0, np.inf, 0.5], [0.0, 1.0, 1.0], 1.0),
    "an overflow": ([1.0, 1.0, -1.0], [1e308, 1e308, 1e308], 1.5e308),
    "an underflow that a large state survives": ([1e-200, 1e-200, 1.0], [0.0, 0.0, 0.0], 1e300),
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("where", [0, 30, FEWEST_STEPS - 3])
def test_infinities_and_what_is_no_number_are_those_of_eager_mode(name, where):
    a, b, first = SPECIAL[name]
    xs = np.ones((FEWEST_STEPS, 2, 1, 1)) * 0.5
    xs[where : where + 3, 0, 0, 0], xs[where : where + 3, 1, 0, 0] = a, b
    start = Tensor(np.full((1, 1), first))
    with np.errstate(all="ignore"):
        eager, compiled = (
            scan(lambda h, x: x[0] * h + x[1], start, Tensor(xs), compiled=mode)[1].numpy() for mode in (False, "numpy")
        )
    np.testing.assert_allclose(compiled, eager, rtol=1e-12, atol=np.finfo("float64").tiny * 1e300)


@pytest.mark.parametrize("mask", [0.0, 1.0], ids=["kept", "restarted"])
def test_a_selection_hides_what_is_not_selected(mask):
    """where(restart, 0, a h) of an infinite h is 0, and where(end, h, NaN) is h."""
    xs = np.zeros((FEWEST_STEPS, 1, 2))
    xs[10] = mask, np.inf
    xs[11] = 1.0, 1.0

    def step(h, x):
        return ops.where(x[:, :1] > 0.5, 0.0, 0.5 * h + x[:, 1:])

    first = Tensor(np.ones((1, 1)))
    eager, compiled = (scan(step, first, Tensor(xs), compiled=mode)[1].numpy() for mode in (False, "numpy"))
    np.testing.assert_array_equal(compiled, eager)
    assert np.isfinite(compiled[11:]).all()


def test_the_same_input_gives_the_same_bits(rng):
    carry, xs, weights = arguments(1, rng, 500)
    with no_grad():
        first, again = (
            scan(lambda h, x: sru(h, x, *weights), carry[0], xs[0], compiled="numpy")[1].numpy() for _ in range(2)
        )
    np.testing.assert_array_equal(first, again)


# -- layouts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [FEWEST_STEPS, 511, 512, 513, 4099])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("reverse", [False, True])
def test_any_number_of_steps_and_any_shape(steps, shape, reverse, rng):
    a, b = rng.uniform(-1, 1, (2, steps, *shape))
    expected = loop(a, b, 2.0, np.float64)
    found = np.full((steps + 1, *shape), 2.0)
    if reverse:
        assert linear_scan({}, [found], [a[::-1]], [b[::-1]], True)
        found = found[::-1]
    else:
        assert linear_scan({}, [found], [a], [b], False)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["MinGRU", "MinLSTM", "SRU", "QRNN", "LRU"])
@pytest.mark.parametrize("reverse", [False, True])
def test_layers_of_the_library(name, reverse, rng, scans, cache, monkeypatch):
    """With lengths, which mask the state past the end of a sequence."""
    monkeypatch.setattr(blocked_scan, "FEWEST_STEPS", 10)
    layer = getattr(nn, name)(3, 4, dtype="float64", bidirectional=reverse)
    x, lengths = rng.standard_normal((30, 2, 3)), [30, 17]
    results = []
    for mode in ("numpy", False):
        layer.zero_grad()
        there = Tensor(x, requires_grad=True)
        with compiling(mode):
            output = layer(there, lengths=lengths)[0]
        (output * np.linspace(-1, 1, output.size).reshape(output.shape)).sum().backward()
        results.append([output.numpy(), there.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())])
    for compiled, eager in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-10, atol=1e-12)
    assert sum(scans) >= 2


def test_random_cells(scans, cache, monkeypatch):
    """Any cells: the backward pass of many is linear where the forward pass is not."""
    monkeypatch.setattr(blocked_scan, "FEWEST_STEPS", 2)
    for seed in range(40):
        assert difference(draw(seed), 7, bool(seed % 2), mode="numpy") < 1e-10, seed
    assert sum(scans) > 20
