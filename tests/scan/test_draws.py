"""Random numbers in a step: compiled mode draws before the loop what eager mode draws in it."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_gru import (
    Tensor,
    compiling,
    explain,
    grad,
    interop,
    manual_seed,
    nn,
    ops,
    rand,
    randn,
    random_state,
    remat,
    scan,
    set_random_state,
)
from tinygrad_gru.backend import random_stream
from tinygrad_gru.scan import NotCompiledWarning, pure

LENGTH, BATCH, WIDTH = 5, 3, 4
W = Tensor(0.5 * np.random.default_rng(0).standard_normal((WIDTH, WIDTH)), requires_grad=True)
X = np.random.default_rng(1).standard_normal((LENGTH, BATCH, WIDTH))


def dropout_and_noise(h, x):
    h = ops.tanh(ops.dropout(h, p=0.3) @ W + x)
    noise = 0.1 * randn(*h.shape, dtype="float64") * rand(BATCH, 1, dtype="float64")
    return h + noise, ops.dropout(h, p=0.5)


def run(step, compiled, dtype="float64", **options):
    """The last carry, the ys, the gradients of h₀, x and W, a second derivative, and where the stream is."""
    manual_seed(3)
    h, x = Tensor(np.ones((BATCH, WIDTH)), requires_grad=True, dtype=dtype), Tensor(X, requires_grad=True, dtype=dtype)
    last, ys = scan(step, h, x, compiled=compiled, **options)
    loss = (ops.square(ys).sum() + last.sum()).astype("float64")
    first = grad(loss, [h, x, W], create_graph=True)
    second = grad(sum(ops.square(g).sum() for g in first[1:]).astype("float64"), h)
    return [t.numpy() for t in (last, ys, *first, second)], random_state()


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"checkpoint_every": 2}, {"length": LENGTH}], ids=str)
def test_both_modes_draw_the_same_numbers(options):
    expected, state = run(dropout_and_noise, False, **options)
    found, same_state = run(dropout_and_noise, True, **options)
    assert same_state == state == {"seed": 3, "position": 4 * LENGTH}
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    assert 0.2 < np.mean(expected[1] == 0) < 0.8


def test_the_masks_are_drawn_anew_at_every_call_and_again_from_a_state():
    manual_seed(0)
    step, ones = (lambda h, x: (h, ops.dropout(h + x, p=0.5))), np.ones((LENGTH, 8, 8), "float32")
    state = random_state()
    masks = [scan(step, Tensor(np.zeros((8, 8))), ones, compiled=True)[1].numpy() for _ in range(2)]
    assert (masks[0] != masks[1]).any() and (masks[0][0] != masks[0][1]).any()
    set_random_state(state)
    np.testing.assert_array_equal(scan(step, Tensor(np.zeros((8, 8))), ones, compiled=True)[1].numpy(), masks[0])


class Regularised(nn.Cell):
    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.W, self.U, self.dropout = self.new_W(), self.new_U(), nn.Dropout(0.4)

    @pure
    def step(self, h, x):
        return ops.tanh(x @ self.W + self.dropout(h) @ self.U)


@pytest.mark.filterwarnings("error::tinygrad_gru.scan.NotCompiledWarning")
def test_a_layer_of_a_cell_with_dropout():
    """Its trace is cached; train() and eval() make another one."""
    layer = nn.Recurrent.of(Regularised)(WIDTH, 6, num_layers=2)
    results = {}
    for mode in (False, True):
        manual_seed(5)
        with compiling(mode):
            results[mode] = [
                layer.train(training)(X.astype("float32"), lengths=[5, 2, 3])[0].numpy()
                for training in (True, True, False, True, False)
            ]
    for eager, compiled in zip(results[False], results[True]):
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-6)
    first, again, evaluated, _, same = results[True]
    assert (first != again).any() and (evaluated == same).all()


def test_half_precision():
    def step(h, x):
        return ops.dropout(h, p=0.25) + x * rand(BATCH, 1, dtype="float16")

    manual_seed(1)
    results = []
    for compiled in (False, True):
        manual_seed(1)
        results.append(scan(step, Tensor(np.ones((BATCH, WIDTH), "float16")), X.astype("float16"), compiled=compiled))
    np.testing.assert_allclose(results[1][1].numpy(), results[0][1].numpy(), rtol=5e-3)


def test_remat_inside_of_a_step_keeps_its_masks():
    def inner(h):
        return ops.dropout(ops.tanh(h @ W), p=0.5)

    expected, state = run(lambda h, x: inner(h) + x, False)
    for compiled in (False, True):
        found, same_state = run(lambda h, x: remat(inner, h) + x, compiled)
        assert same_state == state
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_no_steps_draw_nothing():
    manual_seed(0)
    scan(dropout_and_noise, Tensor(np.ones((BATCH, WIDTH))), X[:0])
    explain(dropout_and_noise, Tensor(np.ones((BATCH, WIDTH))), X)
    assert random_state() == {"seed": 0, "position": 0}


def test_explain_says_what_is_drawn():
    text = explain(dropout_and_noise, Tensor(np.ones((BATCH, WIDTH))), X)
    assert "Random numbers: 4 draws per step, made before the loop" in text and "# draw 3 of the step" in text
    assert "hoisted): 2 greater_equal" in text


def seeds(h, x):
    manual_seed(1)
    return ops.dropout(h + x, p=0.5)


def draws_otherwise(h, x):
    return h + x * float(random_stream().generator("numpy").poisson(3.0))


def rate_of_a_value(h, x):
    return ops.dropout(h, p=ops.mean(ops.sigmoid(x))) + x


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (seeds, "it seeds the random numbers at every step.* Instead: seed them before the scan"),
        (draws_otherwise, r"draws from the distribution 'poisson' .*\(.*poisson\(3\.0\).* Instead: compute"),
        (rate_of_a_value, r"from values that are known only when it runs \(.*: return ops\.dropout\(h, p=ops\.mean"),
    ],
)
def test_what_cannot_be_drawn_before_the_loop_runs_eagerly(step, reason):
    with pytest.warns(NotCompiledWarning, match=reason):
        manual_seed(2)
        _, found = scan(step, Tensor(np.zeros((BATCH, WIDTH))), X)
    state = random_state()
    manual_seed(2)
    _, expected = scan(step, Tensor(np.zeros((BATCH, WIDTH))), X, compiled=False)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert random_state() == state


def test_a_script_draws_nothing():
    with pytest.raises(interop.InteropError, match="draws random numbers"):
        interop.javascript.scan_source(dropout_and_noise, Tensor(np.ones((BATCH, WIDTH))), X)
