"""Tracing: an interpreter of the traced programs, forward and backward, agrees with eager mode."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scan.programs import LENGTH, arguments_of, traced
from tests.scan.random_cells import draw
from tinygrad_gru import Tensor, grad, scan


def leaves(arrays):
    return [Tensor(array, requires_grad=True) for array in arrays]


@pytest.mark.parametrize("seed", range(40))
def test_the_interpreted_trace_equals_eager_mode(seed):
    cell, reverse = draw(seed), seed % 2 == 1
    step, start, inputs = arguments_of(cell)
    found = traced(step, start, inputs, reverse=reverse, seed=seed)
    forward, backward, compiled = found.forward, found.backward, found.compiled
    carry, xs = leaves(forward.carry), leaves(forward.xs)
    last, ys = scan(
        step, tuple(carry) if len(carry) > 1 else carry[0], tuple(xs) if len(xs) > 1 else xs[0] if xs else None,
        length=LENGTH, reverse=reverse, compiled=False,
    )  # fmt: skip
    ys = ys if isinstance(ys, tuple) else (ys,)
    outputs = [*(last if isinstance(last, tuple) else (last,)), *ys]
    for output, array in zip(outputs, forward.run().arrays()):
        np.testing.assert_allclose(array, output.numpy(), rtol=1e-12, atol=1e-12)

    cotangents = [*backward.carry, *backward.xs[len(backward.xs) - len(ys) :]]
    used = [(output, Tensor(g)) for output, g in zip(outputs, cotangents) if output.requires_grad]
    parameters = {p.node: p for p in cell.parameters}
    closed_over = [parameters[node] for node in found.trace.closed_over]
    eager = grad([y for y, _ in used], [*carry, *xs, *closed_over], [g for _, g in used], allow_unused=True)
    results = backward.run()
    gradients = compiled.closed_over_gradients(results.sums, [True] * len(results.sums))
    each, sums = iter(results.ys), iter(gradients)
    interpreted = [*results.carry]
    interpreted += [next(each) if reached else 0.0 for reached in compiled.xs_reached]
    interpreted += [next(sums) if reached else 0.0 for reached in compiled.closed_over_reached]
    for right, found in zip(eager, interpreted, strict=True):
        np.testing.assert_allclose(found, 0.0 if right is None else right.numpy(), rtol=1e-11, atol=1e-11)
