"""Compiled mode agrees with eager mode to rounding; plans and workspaces are shared and bounded."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.scan.agreement import results_of_layer
from tests.scan.random_cells import difference, draw
from tinygrad_gru import Tensor, compiling, grad, manual_seed, no_grad, ops, scan
from tinygrad_gru.backend.memory import IdlePool
from tinygrad_gru.nn import GRU, LSTM, RNN, GRUCell
from tinygrad_gru.scan import api as scan_api
from tinygrad_gru.scan import plan_cache as compiled_module
from tinygrad_gru.scan.targets.workspace import Workspace
from tinygrad_gru.scan.tracing.traced_array import Untraceable
from tinygrad_gru.scan.tracing.tracer import trace_forward
from tinygrad_gru.testing import gradcheck, gradgradcheck

RANDOM_CELLS = 300


@pytest.mark.parametrize("first", range(0, RANDOM_CELLS, 50))
def test_random_cells_agree_in_both_modes(first):
    for seed in range(first, first + 50):
        cell = draw(seed)
        for length, reverse in ((1, False), (2, True), (7, False)):
            assert difference(cell, length, reverse, mode="numpy") < 1e-10, (seed, length, reverse)


def test_random_cells_are_really_compiled(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("this cell ran eagerly")

    monkeypatch.setattr(scan_api, "scan_eager", refuse)
    for seed in range(30):
        cell = draw(seed)
        carry = [Tensor(np.zeros((cell.batch, 4))) for _ in range(cell.parts)]
        xs = [Tensor(np.zeros((2, cell.batch, 5))) for _ in range(cell.xs)]
        scan(cell.step, tuple(carry) if len(carry) > 1 else carry[0],
             None if not xs else tuple(xs) if len(xs) > 1 else xs[0], length=2)  # fmt: skip


@pytest.mark.parametrize("layer_type", [RNN, GRU, LSTM])
@pytest.mark.parametrize(
    ("dtype", "tolerance", "length"),
    [
        *[("float64", 1e-12, length) for length in (1, 40, 600)],
        *[("float32", 2e-4, length) for length in (1, 40, 600)],
        *[("float16", 0.1, length) for length in (1, 40)],  # a sum of thousands in float16 has no digits to compare
    ],
)
def test_layers_agree_in_both_modes(layer_type, dtype, tolerance, length):
    manual_seed(0)
    layer = layer_type(3, 4, num_layers=2, bidirectional=True, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((length, 2, 3)).astype(dtype)
    for eager, compiled in zip(results_of_layer(layer, x, False), results_of_layer(layer, x, True)):
        assert compiled.dtype == eager.dtype
        scale = max(1.0, float(np.abs(eager).max()))
        assert np.abs(eager.astype("float64") - compiled).max() <= tolerance * scale


def test_results_of_a_scan_are_not_overwritten_by_the_next():
    layer = GRU(3, 4)
    output, state = layer(Tensor(np.ones((5, 2, 3), "float32")))
    kept, kept_state = output.numpy(), state.numpy()
    output.sum().backward()
    layer(Tensor(np.zeros((5, 2, 3), "float32")))[0].sum().backward()
    np.testing.assert_array_equal(output.numpy(), kept)
    np.testing.assert_array_equal(state.numpy(), kept_state)


def test_backward_twice_with_retain_graph():
    layer = LSTM(3, 4, dtype="float64")
    x = Tensor(np.random.default_rng(0).standard_normal((6, 2, 3)), requires_grad=True)
    loss = (layer(x)[0] ** 2).sum()
    loss.backward(retain_graph=True)
    once = x.grad.numpy()
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * once, rtol=1e-14)


@pytest.mark.parametrize("layer_type", [GRU, LSTM])
def test_derivatives_to_second_order(layer_type):
    layer = layer_type(2, 3, dtype="float64")
    x = np.random.default_rng(0).standard_normal((4, 2, 2))
    assert gradcheck(lambda x: layer(x)[0], [x])
    assert gradgradcheck(lambda x: layer(x)[0], [x])


def test_gradients_of_weights_computed_outside_of_the_step():
    random = np.random.default_rng(0)
    base, mask = random.standard_normal((2, 4, 4))
    x = Tensor(random.standard_normal((5, 2, 4)))

    def gradient(compiled):
        weight = Tensor(base, requires_grad=True)
        masked = weight * mask  # a record, not a leaf
        last, _ = scan(lambda h, x: ops.tanh(h @ masked + x @ masked), Tensor(np.zeros((2, 4))), x, compiled=compiled)
        return grad(last.sum(), weight).numpy()

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-12)


def test_a_weight_that_was_written_is_read_again():
    cell, x = GRUCell(3, 4), Tensor(np.ones((3, 2, 3), "float32"))
    start = cell.initial_state(2)
    before = scan(cell.step, start, x)[0].numpy()
    cell.W_h.data[...] *= 2
    after = scan(cell.step, start, x)[0].numpy()
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, scan(cell.step, start, x, compiled=False)[0].numpy(), rtol=1e-6)


def test_a_scalar_that_changes_between_calls():
    x = Tensor(np.ones((3, 2)))
    for factor in (0.5, 2.0, 0.5):
        last, _ = scan(lambda h, x, f=factor: f * h + x, Tensor(np.zeros(2)), x)
        np.testing.assert_allclose(last.numpy(), 1 + factor + factor**2)


def test_a_new_length_needs_no_new_plan(cache):
    layer = GRU(3, 4)
    for length in (2, 5, 9, 5):
        layer(Tensor(np.ones((length, 2, 3), "float32")))[0].sum().backward()
    assert len(cache.plans) == 1
    layer(Tensor(np.ones((2, 7, 3), "float32")))
    assert len(cache.plans) == 2


def test_the_plan_cache_is_bounded(monkeypatch):
    cache = compiled_module.PlanCache(3)
    monkeypatch.setattr(compiled_module, "_cache", cache)
    for batch in range(1, 8):
        scan(lambda h, x: h + x, Tensor(np.zeros(batch)), Tensor(np.ones((2, batch))))
    assert len(cache.plans) == 3


def test_no_residuals_without_gradients(cache):
    with no_grad():
        output, _ = GRU(3, 4)(Tensor(np.ones((5, 2, 3), "float32")))
    assert not output.requires_grad
    (plan,) = cache.steps
    assert plan.backward() is None
    assert plan.residuals == []


def reason(step, carry, xs):
    with pytest.raises(Untraceable) as refused:
        trace_forward(step, carry, xs)
    return str(refused.value)


@pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning")
def test_steps_that_cannot_be_compiled_run_eagerly_and_say_why():
    x, start = Tensor(np.array([[1.0], [-2.0], [3.0]])), Tensor(np.zeros(1))

    def step(h, x):
        return h + x if x.item() > 0 else h

    assert "values that are known only when it runs" in reason(step, start, x) or "host" in reason(step, start, x)
    assert scan(step, start, x)[0].item() == 4.0


def test_random_numbers_are_drawn_at_every_step():
    x = Tensor(np.ones((50, 4)))

    def step(h, x):
        return ops.dropout(x, p=0.5)

    manual_seed(0)
    _, ys = scan(step, Tensor(np.zeros(4)), x, compiled=True)
    assert len({tuple(row) for row in ys.numpy()}) > 4


def test_workspaces_are_released_by_reference_counting():
    layer, x = GRU(3, 4), Tensor(np.ones((5, 2, 3), "float32"))
    layer(x)[0].sum().backward()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            layer(x)[0].sum().backward()
            layer.zero_grad()
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning")
def test_a_formula_that_needs_values_runs_eagerly():
    @ops.op
    def doubled(x):
        return np.add(x, x, dtype=x.dtype)

    doubled.vjp(x=lambda g: 2 * g)
    x = Tensor(np.ones((3, 2)), requires_grad=True)
    assert "on traced arrays it fails" in reason(lambda h, x: h + doubled(x), Tensor(np.zeros(2)), x)
    last, _ = scan(lambda h, x: h + doubled(x), Tensor(np.zeros(2)), x)
    last.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((3, 2), 2.0))


def test_bias_gradients_in_half_precision_accumulate_in_float32():
    layer = RNN(1, 1, dtype="float16")
    for parameter in layer.parameters():
        parameter.data[...] = 0
    output, _ = layer(Tensor(np.zeros((40, 200, 1), "float16")))
    output.sum().backward()
    assert layer.cells[0].b.grad.item() == 8000


def test_idle_workspaces_of_all_plans_together_are_bounded(monkeypatch):
    idle = IdlePool(entries=100, limit=300_000)
    monkeypatch.setattr(compiled_module, "IDLE_POOL", idle)
    layer = GRU(3, 4)
    for batch in range(1, 40):
        layer(Tensor(np.ones((10, batch, 3), "float32")))[0].sum().backward()
        layer.zero_grad()
        assert 0 < idle.bytes <= 300_000
    assert len(idle) < 39
    layer(Tensor(np.ones((10, 400, 3), "float32")))[0].sum().backward()
    assert idle.bytes > 300_000 and len(idle) == 1  # the only one


def test_idle_workspaces_are_freed_when_memory_runs_out(monkeypatch):
    idle, refused = IdlePool(entries=100, limit=2**40), []
    monkeypatch.setattr(compiled_module, "IDLE_POOL", idle)
    zeros = Workspace._zeros

    def scarce(*arguments):
        if len(idle):
            refused.append(1)
            raise MemoryError("no memory")
        return zeros(*arguments)

    layer = GRU(3, 4)
    layer(Tensor(np.ones((3, 2, 3), "float32")))[0].sum().backward()
    monkeypatch.setattr(Workspace, "_zeros", scarce)
    layer(Tensor(np.ones((4, 2, 3), "float32")))[0].sum().backward()
    assert refused == [1]


SIZES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
import numpy as np
from tinygrad_gru import Tensor, memory_report
from tinygrad_gru.nn import RNN
first, last, hidden = map(int, sys.argv[1:])
layer = RNN(1, hidden)
for batch in range(first, last):
    layer(Tensor(np.ones((35, batch, 1), "float32")))[0].sum().backward()
    layer.zero_grad()
report = memory_report("numpy")
assert report.idle <= 2**27 and report.limit == 2**30 and "for their next pass" in str(report), report
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_many_batch_sizes_fit_into_little_memory():
    """Without a bound on all idle workspaces together, some of 14 large sizes would not."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", SIZES, "20000", "20014", "8"], check=True, env=environment)


def test_compiling_one_plan_does_not_block_another(monkeypatch):
    cache, made, go = compiled_module.PlanCache(8), threading.Event(), threading.Event()
    monkeypatch.setattr(compiled_module, "_cache", cache)
    init = compiled_module.CompiledStep.__init__

    def slow(self, trace, *arguments):
        if trace.forward.carry[0].shape == (7,):
            made.set()
            assert go.wait(20)
        init(self, trace, *arguments)

    def run(size):
        return scan(lambda h, x: h + x, Tensor(np.zeros(size)), Tensor(np.ones((2, size))))[0].numpy()

    run(3)
    monkeypatch.setattr(compiled_module.CompiledStep, "__init__", slow)
    with ThreadPoolExecutor(2) as pool:
        slow_ones = [pool.submit(run, 7) for _ in range(2)]
        assert made.wait(20)
        np.testing.assert_array_equal(run(3), np.full(3, 2.0))
        go.set()
        for one in slow_ones:
            np.testing.assert_array_equal(one.result(), np.full(7, 2.0))
    assert len(cache.steps) == 2


def test_threads_share_a_plan():
    layer = LSTM(3, 4, dtype="float64")
    inputs = np.random.default_rng(0).standard_normal((8, 20, 2, 3))

    def run(x):
        leaf = Tensor(x, requires_grad=True)
        return grad((layer(leaf)[0] ** 2).sum(), leaf).numpy()

    expected = [run(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, right in zip(pool.map(run, inputs), expected):
                np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("layer_type", [GRU, LSTM])
def test_unused_outputs_cost_nothing_in_backward(layer_type, cache):
    layer = layer_type(3, 4, dtype="float64")
    x = np.random.default_rng(0).standard_normal((6, 2, 3))

    def gradients(on, which):
        layer.zero_grad()
        leaf = Tensor(x, requires_grad=True)
        with compiling(on):
            output, state = layer(leaf)
        last = state[0] if isinstance(state, tuple) else state
        (output if which == "output" else last).sum().backward()
        return [leaf.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())]

    for which in ("last", "output"):
        for compiled, eager in zip(gradients("numpy", which), gradients(False, which)):
            np.testing.assert_allclose(compiled, eager, rtol=1e-12, atol=1e-14)
    (plan,) = cache.steps
    unused = plan.cotangents[-1]
    without, full = plan.backward(frozenset([unused])), plan.backward()
    assert without.source.calls.step == full.source.calls.step - 1
    assert unused in full.source.plan.program.xs and unused not in without.source.plan.program.xs


def test_the_plan_cache_keeps_no_model_alive():
    layer = GRU(3, 4)
    layer(Tensor(np.ones((5, 2, 3), "float32")))[0].sum().backward()
    gone = weakref.ref(layer.cells[0].U_h.data)
    del layer
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("compiled", [False, True])
def test_inputs_that_used_outputs_do_not_depend_on_have_no_gradient(compiled):
    """It is None rather than zeros, to which an optimizer would add weight decay."""
    used, unused = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    start = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)

    def step(carry, x):
        a, b = carry
        return (a * used, b * unused), (a, b)

    scan(step, start, length=3, compiled=compiled)[1][0].sum().backward()
    assert used.grad is not None and unused.grad is None
    assert start[0].grad is not None and start[1].grad is None


def test_an_unknown_target_raises():
    with pytest.raises(ValueError, match="expected True, False, 'cuda', 'llvm', 'llvm:2'"):
        scan(lambda h, x: h + x, Tensor(np.zeros(2)), Tensor(np.ones((3, 2))), compiled="cython")
