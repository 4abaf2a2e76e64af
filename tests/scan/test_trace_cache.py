"""A pure step is traced once; and again whenever anything on which its trace depends is another."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from tinygrad_gru import Tensor, no_grad, ops, scan
from tinygrad_gru.nn import GRUCell, LSTMCell, Module, Parameter
from tinygrad_gru.scan import pure
from tinygrad_gru.scan.tracing import trace_cache as traces
from tinygrad_gru.scan.tracing.tracer import trace_forward


@pytest.fixture
def traced(monkeypatch):
    """The steps that were traced, in order."""
    seen = []

    def counting(step, carry, xs):
        seen.append(step)
        return trace_forward(step, carry, xs)

    monkeypatch.setattr(traces, "trace_forward", counting)
    return seen


class Decay(Module):
    """h' = factor · h + x w"""

    def __init__(self, factor=0.5):
        self.factor, self.w = factor, Parameter(np.ones(2))

    @pure
    def step(self, h, x):
        return self.factor * h + x * self.w


X = np.ones((3, 2))


def run(cell, x=X):
    return scan(cell.step, Tensor(np.zeros(x.shape[1:], x.dtype)), Tensor(x))[0]


def test_a_pure_step_is_traced_once(traced):
    cell = Decay()
    for length in (3, 5, 3):
        run(cell, np.ones((length, 2)))
    assert len(traced) == 1


@pytest.mark.parametrize("kind", [GRUCell, LSTMCell])
def test_our_cells_are_pure(kind, traced):
    cell, x = kind(3, 4), Tensor(np.ones((5, 2, 3), "float32"))
    for _ in range(3):
        scan(cell.step, cell.initial_state(2), x)
    assert len(traced) == 1


def test_weights_that_were_written_or_replaced_are_read_anew(traced):
    cell = Decay()
    run(cell)
    cell.w.data[...] = 2
    np.testing.assert_allclose(run(cell).numpy(), 2 * 1.75)
    cell.w.data = np.full(2, 3.0)
    np.testing.assert_allclose(run(cell).numpy(), 3 * 1.75)
    assert len(traced) == 1
    cell.w = Parameter(np.full(2, 4.0))
    last = run(cell)
    last.sum().backward()
    np.testing.assert_allclose(last.numpy(), 4 * 1.75)
    np.testing.assert_allclose(cell.w.grad.numpy(), 1.75)


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: setattr(cell, "factor", 0.25),
        lambda cell: cell.freeze(),
        lambda cell: cell.eval(),
        lambda cell: setattr(cell, "w", Parameter(np.ones(1))),
    ],
    ids=["a number", "frozen", "evaluation", "another shape"],
)
def test_what_the_trace_depends_on_makes_a_new_one(change, traced):
    cell = Decay()
    run(cell)
    change(cell)
    compiled = run(cell)
    assert len(traced) == 2
    expected = scan(cell.step, Tensor(np.zeros(2)), Tensor(X), compiled=False)[0]
    np.testing.assert_allclose(compiled.numpy(), expected.numpy())
    assert compiled.requires_grad == expected.requires_grad


def test_other_shapes_and_dtypes_of_the_arguments_make_a_new_trace(traced):
    cell = Decay()
    for x in (np.ones((3, 2)), np.ones((3, 4, 2)), np.ones((3, 2))):
        run(cell, x)
    assert len(traced) == 2
    halves = Decay()
    for dtype in ("float16", "float32", "float16"):
        halves.w = Parameter(np.ones(2), dtype=dtype)
        run(halves, np.ones((3, 2), dtype))
    assert len(traced) == 5


def test_a_step_that_computes_with_its_weights_alone_is_traced_every_time(traced):
    """What it computes is an array of its own that changes with the weights."""

    class Squared(Decay):
        @pure
        def step(self, h, x):
            return h + x * ops.square(self.w)

    cell = Squared()
    for value in (1.0, 2.0):
        cell.w.data[...] = value
        np.testing.assert_allclose(run(cell).numpy(), 3 * value**2)
    assert len(traced) == 2


def test_an_attribute_that_may_change_unnoticed_makes_a_new_trace_every_time(traced):
    class Table(Decay):
        @pure
        def step(self, h, x):
            return self.table["factor"] * h + x * self.w

    cell = Table()
    cell.table = {"factor": 0.0}
    np.testing.assert_allclose(run(cell).numpy(), 1)
    cell.table["factor"] = 1.0
    np.testing.assert_allclose(run(cell).numpy(), 3)
    assert len(traced) == 2


def test_a_method_that_overrides_makes_no_promise(traced):
    scale = [1.0]

    class Mine(Decay):
        def step(self, h, x):
            return scale[0] * h + x * self.w

    cell = Mine()
    run(cell)
    scale[0] = 2.0
    np.testing.assert_allclose(run(cell).numpy(), 1 + 2 + 4)
    assert len(traced) == 2


def test_gradients_of_an_old_trace_reach_the_weights():
    cell = GRUCell(3, 4, dtype="float64")
    x, start = Tensor(np.random.default_rng(0).standard_normal((5, 2, 3))), cell.initial_state(2)

    def gradients(compiled):
        cell.zero_grad()
        scan(cell.step, start, x, compiled=compiled)[1].sum().backward()
        return [p.grad.numpy() for p in cell.parameters()]

    for _ in range(3):
        for compiled, plain in zip(gradients(True), gradients(False)):
            np.testing.assert_allclose(compiled, plain, rtol=1e-12, atol=1e-14)
    with no_grad():
        assert not scan(cell.step, start, x)[0].requires_grad
    assert scan(cell.step, start, x)[0].requires_grad


def test_few_traces_are_kept_and_they_keep_no_cell_alive():
    cell = Decay()
    for size in range(1, 20):
        run(cell, np.ones((2, size, 2)))
    gone = weakref.ref(cell)
    del cell
    gc.collect()
    assert gone() is None
