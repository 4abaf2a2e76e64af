"""Several passes at once: forward passes whose backward has not run, and their workspaces."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from tests.scan.agreement import LENGTH, H, assert_close, gradients, leaves, results_of_layer, run
from tinygrad_gru import Tensor, compiling, grad, no_grad, ops
from tinygrad_gru.backend import IDLE_POOL
from tinygrad_gru.nn import GRU, LSTM, GRUCell

# -- several passes at once ------------------------------------------------------------------------------------------


def pending(x, W):
    """A forward pass whose backward has not run."""
    x = Tensor(x, requires_grad=True)
    outputs = run(lambda h, x, W: ops.tanh(h @ W + x), [Tensor(np.zeros(H))], [x], [W])
    return x, outputs


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("dropped", [None, 0, 1])
def test_backward_passes_in_any_order(count, dropped, rng, cache):
    arrays, (W,) = rng.standard_normal((count, LENGTH, *H)), leaves(rng, [(4, 4)])
    alone = [gradients(outputs, [x, W]) for x, outputs in (pending(array, W) for array in arrays)]
    for order in itertools.permutations(range(count)):
        waiting = [pending(array, W) for array in arrays]
        if dropped is not None:
            waiting[dropped] = None
            waiting.append(pending(rng.standard_normal((LENGTH, *H)), W))  # it may reuse the arrays of the other
        for k in order:
            if k != dropped:
                x, outputs = waiting[k]
                assert_close(gradients(outputs, [x, W]), alone[k], tolerance=0)
                assert_close(gradients(outputs, [x, W]), alone[k], tolerance=0)  # and once more
    assert len(cache.plans) == 1


@pytest.mark.parametrize("mode", [True, "llvm"])
def test_two_forward_passes_before_their_backward_passes(mode, rng):
    if mode == "llvm":
        pytest.importorskip("llvmlite")
    layer = GRU(3, 4, dtype="float64")
    first, second = rng.standard_normal((2, 6, 2, 3))
    expected = results_of_layer(layer, first, mode)[2]
    with compiling(mode):
        x = Tensor(first, requires_grad=True)
        output, _ = layer(x)
        layer(Tensor(second, requires_grad=True))[0].sum().backward()
        waiting = layer(Tensor(second, requires_grad=True))[0]
        (output * np.linspace(-1, 1, output.size).reshape(output.shape)).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), expected)
        waiting.sum().backward()


def test_results_of_a_pass_are_not_overwritten_by_the_next(rng, cache):
    arrays, (W,) = rng.standard_normal((3, LENGTH, *H)), leaves(rng, [(4, 4)])
    given = []
    for array in arrays:
        x, outputs = pending(array, W)
        given += [*outputs, *grad([y.sum() for y in outputs], [x, W])]
    kept = [tensor.numpy() for tensor in given]
    for array in arrays[::-1]:
        x, outputs = pending(array, W)
        gradients(outputs, [x, W])
    assert_close([tensor.numpy() for tensor in given], kept, tolerance=0)
    assert len(cache.plans) == 1


def test_pending_passes_of_several_lengths_and_directions(rng, cache):
    (W,) = leaves(rng, [(4, 4)])
    cases = [(leaves(rng, [H]), leaves(rng, [H], length), reverse) for length in (1, 5, 9) for reverse in (False, True)]

    def go(case, compiled):
        start, x, reverse = case
        return run(lambda h, x, W: ops.tanh(h @ W + x), start, x, [W], reverse=reverse, compiled=compiled)

    waiting = [go(case, True) for case in cases]
    for case, outputs in reversed([*zip(cases, waiting)]):
        inputs = [*case[0], *case[1], W]
        assert_close(gradients(outputs, inputs), gradients(go(case, False), inputs))
    assert len(cache.plans) == 1


def test_a_scan_over_the_outputs_of_another(rng):
    """Both have one plan; the second one's xs are the first one's ys, and its carry the first one's last."""
    weights, start, x = leaves(rng, [(4, 4)]), leaves(rng, [H]), leaves(rng, [H], LENGTH)
    results = []
    for compiled in (False, True):
        step = partial(run, lambda h, x, W: ops.tanh(h @ W + x), closure=weights, compiled=compiled)
        last, ys = step(start, x)
        outputs = [*step([last], [ys]), last, ys]
        results.append([*(y.numpy() for y in outputs), *gradients(outputs, [*weights, *start, *x])])
    assert_close(results[1], results[0])


def test_a_pass_after_an_error(rng, cache):
    cell, x = GRUCell(4, 4, dtype="float64"), leaves(rng, [H], LENGTH)
    start = [cell.initial_state(3)]
    step = lambda h, x: cell.step(h, x)  # noqa: E731
    before = gradients(run(step, start, x), x)
    (plan,) = cache.steps
    function, plan.forward.function = plan.forward.function, lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run(step, start, x)
    plan.forward.function = function
    assert_close(gradients(run(step, start, x), x), before, tolerance=0)


def test_backward_in_other_threads(rng, cache):
    arrays, (W,) = rng.standard_normal((12, LENGTH, *H)), leaves(rng, [(4, 4)])
    alone = [gradients(outputs, [x, W]) for x, outputs in (pending(array, W) for array in arrays)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            waiting = list(pool.map(lambda array: pending(array, W), arrays))
            found = pool.map(lambda pair: gradients(pair[1], [pair[0], W]), reversed(waiting))
            for mine, right in zip(found, reversed(alone)):
                assert_close(mine, right, tolerance=0)
    assert len(cache.plans) == 1


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_type", [GRU, LSTM])
def test_inference_stores_only_its_outputs_over_time(layer_type, short_chunks, cache):
    """Only x and the output h grow with the length; an LSTM's c is only carried."""
    batch, size, hidden, held = 8, 3, 16, []
    layer = layer_type(size, hidden)
    for length in (100, 200):
        with no_grad():
            layer(Tensor(np.zeros((length, batch, size), "float32")))
        (plan,) = cache.steps
        workspaces = IDLE_POOL.acquire((plan, length, False))
        assert not workspaces.backwards and IDLE_POOL.acquire((plan, length, False)) is None
        held.append(workspaces.size())
    assert held[1] - held[0] == 100 * batch * (size + hidden) * 4


def test_a_dropped_pass_releases_its_workspace(rng, cache):
    (W,) = leaves(rng, [(4, 4)])
    array = rng.standard_normal((LENGTH, *H))
    for _ in range(5):
        pending(array, W)
    (plan,) = cache.steps
    assert IDLE_POOL.acquire((plan, LENGTH, False)) is not None and IDLE_POOL.acquire((plan, LENGTH, False)) is None
