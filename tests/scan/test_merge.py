"""Merged and horizontally fused operations: how many are left, and the same results with any subset of passes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scan.random_cells import difference, draw
from tinygrad_gru import Tensor, ops, scan
from tinygrad_gru.nn import GRUCell, LSTMCell, RNNCell
from tinygrad_gru.scan import plan_cache as compiled_module
from tinygrad_gru.scan.passes import fuse_horizontally
from tinygrad_gru.scan.plan_cache import CompiledStep, PlanCache
from tinygrad_gru.scan.targets import numpy as numpy_target
from tinygrad_gru.scan.targets.numpy import BACKWARD_PASSES, FORWARD_PASSES
from tinygrad_gru.scan.tracing.trace import Trace
from tinygrad_gru.scan.tracing.tracer import trace_forward


def compiled_step(step, carry, x, xs_need_grad=(True,)):
    forward = trace_forward(step, carry, x)
    return CompiledStep(Trace.of(forward, xs_need_grad))


def layer_step(cell_type, batch=2):
    cell = cell_type(3, 4)
    return compiled_step(cell.step, cell.initial_state(batch), Tensor(np.zeros((5, batch, 3), "float32")))


@pytest.mark.parametrize(("cell_type", "forward", "backward"), [(RNNCell, 3, 3), (GRUCell, 14, 10), (LSTMCell, 12, 9)])
def test_array_calls_per_step(cell_type, forward, backward):
    step = layer_step(cell_type)
    assert (step.forward.source.calls.step, step.backward().source.calls.step) == (forward, backward)


def products(executable, level):
    return [value for value in executable.source.plan.operations(level) if value.op == "matmul"]


def test_an_lstm_has_one_product_per_step_forward_and_backward_and_one_per_gradient():
    step = layer_step(LSTMCell)
    assert len(products(step.forward, "hoisted")) == len(products(step.forward, "loop")) == 1
    assert len(products(step.backward(), "loop")) == 1
    # the gradients of x, of W and of U; those of the weights are summed over time
    assert len(products(step.backward(), "sunk")) == 3


def test_gates_with_one_activation_become_neighbours():
    """In the program a tanh stands between two σ."""
    weights = [Tensor(np.zeros((4, 4))) for _ in range(3)]

    def step(h, x):
        a, b, c = (h @ weight for weight in weights)
        return ops.sigmoid(a) * ops.tanh(b) + ops.sigmoid(c)

    executable = compiled_step(step, Tensor(np.zeros((2, 4))), Tensor(np.zeros((5, 2, 4))), None).forward
    operations = [value.op for value in executable.source.plan.operations("loop")]
    assert operations.count("exp") == operations.count("tanh") == operations.count("matmul") == 1


def test_operands_are_written_into_slices_of_their_concatenation():
    """No concatenation is left in the loop or after it."""
    for cell_type in (GRUCell, LSTMCell):
        step = layer_step(cell_type)
        for executable in (step.forward, step.backward()):
            looped = executable.source.text.split("in workspace.chunks:")[1]
            assert "concatenate" not in looped


def test_gates_of_different_widths_are_merged():
    random = np.random.default_rng(0)
    narrow, wide = Tensor(random.standard_normal((4, 1)), True), Tensor(random.standard_normal((4, 4)), True)

    def step(h, x):
        return ops.sigmoid(h @ narrow) * ops.tanh(h @ wide + x)

    step = compiled_step(step, Tensor(np.zeros((2, 4))), Tensor(np.zeros((5, 2, 4))))
    assert len(products(step.forward, "loop")) == 1


@pytest.mark.parametrize("seed", range(60))
def test_any_choice_of_passes_gives_the_same_results(seed, monkeypatch):
    random = np.random.default_rng(seed)
    some = [tuple(p for p in passes if random.random() < 0.5) for passes in (FORWARD_PASSES, BACKWARD_PASSES)]
    monkeypatch.setattr(numpy_target, "FORWARD_PASSES", some[0])
    monkeypatch.setattr(numpy_target, "BACKWARD_PASSES", some[1])
    monkeypatch.setattr(compiled_module, "_cache", PlanCache(8))
    cell = draw(10_000 + seed)
    for length, reverse in ((1, False), (3, True)):
        assert difference(cell, length, reverse) < 1e-10


def test_biases_of_different_shapes_are_not_isomorphic(monkeypatch):
    """(1, 4) beside (2, 4); found by the random choices above."""
    monkeypatch.setattr(numpy_target, "FORWARD_PASSES", (fuse_horizontally,))
    monkeypatch.setattr(compiled_module, "_cache", PlanCache(8))
    random = np.random.default_rng(0)
    U, V = (Tensor(random.standard_normal((4, 4))) for _ in range(2))
    b, c = Tensor(random.standard_normal((1, 4))), Tensor(random.standard_normal((2, 4)))

    def step(h, x):
        return ops.tanh(h @ U + b) * ops.tanh(h @ V + c)

    compiled, eager = (scan(step, Tensor(np.ones((2, 4))), length=3, compiled=on)[1].numpy() for on in (True, False))
    np.testing.assert_allclose(compiled, eager, rtol=1e-12)
