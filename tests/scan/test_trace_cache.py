"""Trace cache: a pure step is traced once, and again whenever something on which its trace depends has changed."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from tests.scan.pure_steps import Decay, X, run
from tinygrad_gru import Tensor, no_grad, ops, scan
from tinygrad_gru.nn import GRUCell, LSTMCell, Parameter
from tinygrad_gru.scan import pure


def test_a_pure_step_is_traced_once(traced):
    cell = Decay()
    for length in (3, 5, 3):
        run(cell, np.ones((length, 2)))
    assert len(traced) == 1


@pytest.mark.parametrize("cell_type", [GRUCell, LSTMCell])
def test_our_cells_are_pure(cell_type, traced):
    cell, x = cell_type(3, 4), Tensor(np.ones((5, 2, 3), "float32"))
    for _ in range(3):
        scan(cell.step, cell.initial_state(2), x)
    assert len(traced) == 1


def test_weights_that_were_written_or_replaced_are_read_again(traced):
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
    ids=["a scalar", "frozen", "evaluation", "another shape"],
)
def test_a_changed_dependency_is_traced_again(change, traced):
    cell = Decay()
    run(cell)
    change(cell)
    compiled = run(cell)
    assert len(traced) == 2
    expected = scan(cell.step, Tensor(np.zeros(2)), Tensor(X), compiled=False)[0]
    np.testing.assert_allclose(compiled.numpy(), expected.numpy())
    assert compiled.requires_grad == expected.requires_grad


def test_other_shapes_and_dtypes_of_the_arguments_are_traced_again(traced):
    cell = Decay()
    for x in (np.ones((3, 2)), np.ones((3, 4, 2)), np.ones((3, 2))):
        run(cell, x)
    assert len(traced) == 2
    halves = Decay()
    for dtype in ("float16", "float32", "float16"):
        halves.w = Parameter(np.ones(2), dtype=dtype)
        run(halves, np.ones((3, 2), dtype))
    assert len(traced) == 5


def test_a_step_that_computes_from_weights_alone_is_traced_every_time(traced):
    """The result is a constant of the trace that no tensor of the cell holds."""

    class Squared(Decay):
        @pure
        def step(self, h, x):
            return h + x * ops.square(self.w)

    cell = Squared()
    for value in (1.0, 2.0):
        cell.w.data[...] = value
        np.testing.assert_allclose(run(cell).numpy(), 3 * value**2)
    assert len(traced) == 2


def test_a_dictionary_attribute_is_traced_every_time(traced):
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


def test_a_method_that_overrides_a_pure_one_is_not_pure(traced):
    scale = [1.0]

    class Mine(Decay):
        def step(self, h, x):
            return scale[0] * h + x * self.w

    cell = Mine()
    run(cell)
    scale[0] = 2.0
    np.testing.assert_allclose(run(cell).numpy(), 1 + 2 + 4)
    assert len(traced) == 2


def test_gradients_of_a_cached_trace_reach_the_weights():
    cell = GRUCell(3, 4, dtype="float64")
    x, start = Tensor(np.random.default_rng(0).standard_normal((5, 2, 3))), cell.initial_state(2)

    def gradients(compiled):
        cell.zero_grad()
        scan(cell.step, start, x, compiled=compiled)[1].sum().backward()
        return [p.grad.numpy() for p in cell.parameters()]

    for _ in range(3):
        for compiled, eager in zip(gradients(True), gradients(False)):
            np.testing.assert_allclose(compiled, eager, rtol=1e-12, atol=1e-14)
    with no_grad():
        assert not scan(cell.step, start, x)[0].requires_grad
    assert scan(cell.step, start, x)[0].requires_grad


def test_the_trace_cache_is_bounded_and_keeps_no_cell_alive():
    cell = Decay()
    for size in range(1, 20):
        run(cell, np.ones((2, size, 2)))
    gone = weakref.ref(cell)
    del cell
    gc.collect()
    assert gone() is None
