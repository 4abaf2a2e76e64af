"""scan(checkpoint_every=k): the same values and gradients in less memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from tinygrad_gru import Tensor, grad, ops, scan
from tinygrad_gru.nn import GRUCell, LSTMCell
from tinygrad_gru.testing import gradgradcheck


def everything(cell, x, every, **options):
    """All values and gradients."""
    cell.zero_grad()
    x = Tensor(x, requires_grad=True)
    start = cell.initial_state(x.shape[1])
    parts = start if isinstance(start, tuple) else (start,)
    parts = tuple(Tensor(part.data + 0.1, requires_grad=True) for part in parts)
    last, ys = scan(cell.step, parts if len(parts) > 1 else parts[0], x, checkpoint_every=every, **options)
    lasts = last if isinstance(last, tuple) else (last,)
    sum((ops.square(part).sum() for part in (*lasts, ys)), start=Tensor(0.0, dtype="float64")).backward()
    return [t.numpy() for t in (*lasts, ys)] + [t.grad.numpy() for t in (x, *parts, *cell.parameters())]


@pytest.mark.parametrize("cell_type", [GRUCell, LSTMCell])
@pytest.mark.parametrize("every", [1, 3, 4, 11, 12, 99])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_segments_equal_the_whole(cell_type, every, reverse, compiled):
    cell = cell_type(3, 4, dtype="float64")
    x = np.random.default_rng(0).standard_normal((12, 2, 3))
    expected = everything(cell, x, None, reverse=reverse, compiled=compiled)
    for a, b in zip(everything(cell, x, every, reverse=reverse, compiled=compiled), expected):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_no_xs_and_several_xs_and_outputs():
    w = Tensor(np.full((2, 2), 0.3), requires_grad=True)

    def step(carry, x):
        h, c = carry
        h = ops.tanh(h @ w + (0 if x is None else x[0] * x[1]))
        return (h, c + h), (h * c, c)

    start = (Tensor(np.ones((1, 2))), Tensor(np.ones((1, 2))))
    xs = tuple(Tensor(a) for a in np.random.default_rng(0).standard_normal((2, 7, 1, 2)))
    for inputs in (None, xs):
        results = []
        for every in (None, 3):
            last, ys = scan(step, start, inputs, length=7, checkpoint_every=every)
            results.append([*last, *ys, grad(sum((y.sum() for y in ys), start=last[0].sum()), w)])
        for a, b in zip(*results):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_second_derivatives():
    cell = GRUCell(2, 2, dtype="float64")
    x = np.random.default_rng(0).standard_normal((5, 1, 2))
    assert gradgradcheck(lambda x: scan(cell.step, cell.initial_state(1), x, checkpoint_every=2)[1], [x])


@pytest.mark.parametrize("compiled", [False, True])
def test_memory_grows_with_the_square_root_of_the_length(compiled):
    cell, x = GRUCell(4, 32), np.zeros((900, 4, 4), "float32")
    everything(cell, x[:31], 30, compiled=compiled)  # compiles, which takes memory, too

    def peak(every):
        tracemalloc.start()
        everything(cell, x, every, compiled=compiled)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(30) < peak(None) / 2


@pytest.mark.parametrize("every", [0, -3, 2.5])
def test_checkpoint_every_that_is_not_a_positive_integer_raises(every):
    with pytest.raises(ValueError, match=r"checkpoint_every must be a number of steps, 1 or more"):
        scan(lambda h, x: h + x, Tensor(np.zeros(2)), Tensor(np.ones((3, 2))), checkpoint_every=every)
