"""Soundness of compiled mode: no stale plan, no lost digit, no NaN from an unused output.

The expected values are closed forms, or PyTorch's.
"""

from __future__ import annotations

import importlib.util
import logging
import random
import types
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial
from itertools import count, repeat

import numpy as np
import pytest

from tinygrad_gru import TapeError, Tensor, explain, grad, manual_seed, nn, op, ops, random_state, scan
from tinygrad_gru.scan import NotCompiledError, pure
from tinygrad_gru.trees import flatten

MODES = [False, None, *(["llvm"] if importlib.util.find_spec("llvmlite") else [])]
modes = pytest.mark.parametrize("mode", MODES)
pytestmark = pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning")


def leaf(*values, dtype="float64"):
    return Tensor(np.array(values, dtype), requires_grad=True)


def gradient_of_x(step, mode, steps=3):
    """∂(last carry)/∂x of a scan from 0 over `steps` ones."""
    x = Tensor(np.ones(steps), requires_grad=True)
    return grad(scan(step, Tensor(np.zeros(())), x, compiled=mode)[0], x).numpy()


# -- which traces share a plan ---------------------------------------------------------------------------------------


def reversal(scale):
    @op
    def rev(x):
        return x * 1.0

    rev.vjp(x=lambda g: -scale * g)
    return rev


@modes
def test_two_ops_of_one_name(mode):
    for scale in (0.1, 1.0):
        rev = reversal(scale)
        np.testing.assert_allclose(gradient_of_x(lambda h, u, rev=rev: h + rev(u), mode), -scale)


@modes
def test_a_redefined_rule(mode):
    rev = reversal(1.0)

    def step(h, u):
        return h + rev(u)

    np.testing.assert_allclose(gradient_of_x(step, mode), -1)
    rev.vjp(x=lambda g: 5 * g)
    np.testing.assert_allclose(gradient_of_x(step, mode), 5)
    x = leaf(1, 1)
    last = scan(step, Tensor(np.zeros(())), x, compiled=mode)[0]
    rev.vjp(x=lambda g: 7 * g)
    with pytest.raises(TapeError, match="was given other rules"):
        grad(last, x)


@modes
def test_a_setting_that_only_the_rule_reads(mode):
    @op
    def grl(x, *, scale):
        return x * 1.0

    grl.vjp(x=lambda g, scale: -scale * g)
    for scale in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(gradient_of_x(lambda h, u, s=scale: h + grl(u, scale=s), mode), -scale)


@modes
def test_a_rule_that_reads_a_mutable_closure(mode):
    scale, mask = [1.0], [np.ones(())]

    @op
    def scaled(x):
        return x * 1.0

    scaled.vjp(x=lambda g: scale[0] * g * mask[0])
    np.testing.assert_allclose(gradient_of_x(lambda h, u: h + scaled(u), mode), 1)
    scale[0] = 3.0
    np.testing.assert_allclose(gradient_of_x(lambda h, u: h + scaled(u), mode), 3)
    mask[0] = np.full((), 2.0)
    np.testing.assert_allclose(gradient_of_x(lambda h, u: h + scaled(u), mode), 6)


@modes
@pytest.mark.parametrize("first", [False, True])
def test_a_hook_inside_a_step(mode, first):
    seen = []

    def step(h, u, hooked=True):
        y = u * 2.0
        if hooked:
            y.register_hook(lambda g: (seen.append(g.item()), g * 10)[1])
        return h + y

    if first:
        np.testing.assert_allclose(gradient_of_x(lambda h, u: step(h, u, False), mode), 2)
    np.testing.assert_allclose(gradient_of_x(step, mode), 20)
    assert seen == [1.0] * 3


def layer_output(layer, mode):
    layer.compiled = mode
    return layer(Tensor(np.full((1, 1, 1), 0.5)))[0].item()


def simple_layer(**options):
    layer = nn.RNN(1, 1, dtype="float64", bias=False, **options)
    layer.cells[0].W.data[...] = 1.0
    return layer


FACTOR = 1.0


def global_factor(a):
    return ops.tanh(FACTOR * a)


@modes
@pytest.mark.parametrize("where", ["closure", "default", "global", "nested"])
def test_a_function_whose_closure_default_or_global_changes(mode, where, monkeypatch):
    """k in tanh(k a), read from a closure, a default, a global, or by an inner function."""
    k = 1.0

    def inner(a):
        return ops.tanh(k * a)

    def default(a, k=1.0):
        return ops.tanh(k * a)

    functions = {"closure": inner, "default": default, "global": global_factor, "nested": lambda a: inner(a)}
    layer = simple_layer(activation=functions[where])
    assert layer_output(layer, mode) == pytest.approx(np.tanh(0.5))
    k = 3.0
    default.__defaults__ = (3.0,)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert layer_output(layer, mode) == pytest.approx(np.tanh(1.5))


@modes
def test_an_attribute_of_the_class_that_changes(mode):
    class Scaled(nn.Cell):
        factor = 1.0

        @pure
        def step(self, h, x):
            return self.helper(x) + 0 * h

        def helper(self, x):
            return self.factor * x

        def __init__(self, *sizes, **options):
            super().__init__(*sizes, **options)
            self.b = self.new_b()

    layer = nn.Recurrent.of(Scaled)(1, 1, dtype="float64")
    assert layer_output(layer, mode) == 0.5
    Scaled.factor = 3.0
    assert layer_output(layer, mode) == 1.5
    Scaled.helper = lambda self, x: 5 * x
    assert layer_output(layer, mode) == 2.5


@modes
def test_tensors_that_share_an_array_and_later_do_not(mode):
    class Two(nn.Cell):
        def __init__(self, *sizes, **options):
            super().__init__(*sizes, **options)
            self.U = self.new_W()
            self.U.data[...] = 1.0
            self.slow = self.U.detach()

        @pure
        def step(self, h, x):
            return x @ self.U + x @ self.slow + 0 * h

    layer = nn.Recurrent.of(Two)(1, 1, dtype="float64")
    assert layer_output(layer, mode) == 1.0
    layer.cells[0].slow[...] = 2.0  # a constant is written into a copy
    assert layer_output(layer, mode) == 1.5
    layer.cells[0].slow.data = layer.cells[0].U.data
    assert layer_output(layer, mode) == 1.0


# -- recomputation and replay ------------------------------------------------------------------------------------------


@modes
def test_second_derivatives_of_a_step_whose_closure_changed(mode):
    """A late-bound loop variable; 2 + 3 = 5, not 3 + 3."""
    x, total = leaf(1, 1, 1), 0
    for k in (2.0, 3.0):
        total = total + scan(lambda h, u: h + k * u * u, Tensor(np.zeros(())), x, compiled=mode)[0]  # noqa: B023
    first = grad(total, x, create_graph=True)
    np.testing.assert_allclose(first.numpy(), 10)
    np.testing.assert_allclose(grad(first.sum(), x).numpy(), 10)


@modes
def test_second_derivatives_reach_what_the_first_ones_leave_out(mode):
    """d/dh of the gradient of W: the first walk passes by h, the carry."""
    h, W = Tensor([[1.0, 2.0]], requires_grad=True), Tensor([[0.5, 1.0], [1.0, 0.5]], requires_grad=True)
    _, ys = scan(lambda h, x: (h, h @ W), h, length=2, compiled=mode)
    (first,) = grad((ys**2).sum(), [W], create_graph=True)
    (second,) = grad((first**2).sum(), [h])
    y = h.numpy() @ W.numpy()
    expected = 4 * h.numpy().T @ y  # ∂/∂W of 2 ‖h W‖²
    np.testing.assert_allclose(first.numpy(), expected)
    dy = 8 * (h.numpy() @ expected) @ W.numpy().T + 8 * (y @ expected.T)
    np.testing.assert_allclose(second.numpy(), dy, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_second_derivatives_use_the_rules_of_the_ops(mode):
    """A straight-through op inside: y = sign x with dy/dx = 1, so that d(y²)/dx = 2y and d²(y²)/dx² = 2."""

    @op
    def binary(x):
        return np.sign(1.0) * x / abs(x)

    binary.vjp(x=lambda g: g)
    x = leaf(0.5, -3.0)
    last = scan(lambda h, u: h + binary(u) * binary(u), Tensor(np.zeros(())), x, compiled=mode)[0]
    first = grad(last, x, create_graph=True)
    np.testing.assert_allclose(first.numpy(), [2, -2])
    np.testing.assert_allclose(grad(first.sum(), x).numpy(), [2, 2])


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("every", [None, 1, 2])
def test_eval_between_forward_and_backward_changes_nothing(mode, every):
    found = []
    for evaluated in (False, True):
        manual_seed(0)
        layer = nn.GRU(2, 2, zoneout=0.5, recurrent_dropout=0.5, checkpoint_every=every, compiled=mode, dtype="float64")
        x = Tensor(np.ones((4, 1, 2)), requires_grad=True)
        y = layer(x)[0].sum()
        if evaluated:
            layer.eval()
        first = grad(y, x, create_graph=True)
        found.append([first.numpy(), *(g.numpy() for g in grad(ops.square(first).sum(), [x, layer.cells[0].U_h]))])
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("every", [None, 1])
def test_computed_weights_of_a_layer_that_is_called_twice(mode, every):
    """h' = tanh(x w) at two steps of x = 1, twice: 4 (1 − tanh² w)."""
    w = Tensor(np.full((1, 1), 0.5), requires_grad=True)
    layer, total = nn.RNN(1, 1, bias=False, checkpoint_every=every, compiled=mode, dtype="float64"), 0
    layer.cells[0].U.data[...] = 0
    del layer.cells[0].W
    for _ in range(2):
        layer.cells[0].W = w * 1.0
        total = total + layer(Tensor(np.ones((2, 1, 1))))[0].sum()
    if mode is False and every:  # the step's Python runs again, with the attributes of today
        with pytest.raises(TapeError, match="used other tensors"):
            grad(total, w)
        return
    np.testing.assert_allclose(grad(total, w).item(), 4 * (1 - np.tanh(0.5) ** 2))


@pytest.mark.parametrize("every", [None, 2])
def test_the_python_of_a_step_runs_once(every, capsys):
    def step(h, u):
        print("step")
        return h * u * u

    x = leaf(1, 2, 3)
    last = scan(step, Tensor(np.ones(())), x, checkpoint_every=every)[0]
    first = grad(last, x, create_graph=True)
    np.testing.assert_allclose(grad(first[0], x).numpy(), [72, 72, 48])
    assert capsys.readouterr().out.count("step") == 1


# -- rewrites are exact ------------------------------------------------------------------------------------------------


@modes
def test_an_open_gate_forgets_a_large_state_exactly(mode):
    """(1 − z) h + z h̃ with z = 1 is h̃, however large h."""

    def step(h, x):
        return (1 - x[0]) * h + x[0] * x[1]

    start = Tensor(np.full(1, 3e6, "float32"))
    x = Tensor(np.array([[[1.0], [0.1]]], "float32"))
    np.testing.assert_allclose(scan(step, start, x, compiled=mode)[0].numpy(), 0.1)


@modes
@pytest.mark.parametrize("order", ["left", "right"])
def test_terms_that_cancel_are_added_in_the_written_order(mode, order):
    """Large terms cancel before the small one comes; in another order it would be lost."""
    x, y = Tensor(np.full((1, 1), -1e8, "float32")), 0.25
    steps = {"left": lambda h, u: (h + u) + y, "right": lambda h, u: y + (h + u)}
    found = scan(steps[order], Tensor(np.full(1, 1e8, "float32")), x, compiled=mode)[0]
    assert found.item() == 0.25


@modes
@pytest.mark.parametrize(
    ("dtype", "p", "q", "g"),
    [("float16", 1e-4, 1e-4, 2.0**15), ("float32", 1e-25, 1e-25, 1e25), ("float32", 1e25, 1e25, 1e-25)],
)
def test_factors_of_a_cotangent_neither_overflow_nor_underflow(mode, dtype, p, q, g):
    """g p q, where p q alone is too small or too large for the dtype. Loss scaling exists for the first."""
    h = Tensor(np.full(1, min(g, 1.0), dtype), requires_grad=True)
    factors = Tensor(np.full((1, 1), p, dtype)), Tensor(np.full((1, 1), q, dtype))
    last, _ = scan(lambda h, u: (h * u[0]) * u[1], h, factors, compiled=mode)
    cotangent = Tensor(np.full(1, g, dtype))
    np.testing.assert_allclose(grad(last, h, cotangent).numpy(), g * p * q, rtol=1e-2 if dtype == "float16" else 1e-5)


# -- absent cotangents ------------------------------------------------------------------------------------------------


@modes
@pytest.mark.parametrize(
    "singular",
    [lambda u: 1 / u, ops.log, ops.sqrt, lambda u: u / ops.absolute(u), lambda u: ops.clip(1 / u, low=-1.0)],
    ids=["divide", "log", "sqrt", "sign", "clip"],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_an_unused_singular_output_gives_no_nan(mode, singular):
    x = leaf(1, 0)
    _, (used, _) = scan(lambda h, u: (h, (u, singular(u))), Tensor(np.zeros(())), x, compiled=mode)
    np.testing.assert_array_equal(grad(used.sum(), x).numpy(), [1, 1])


@modes
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_an_unused_part_of_the_last_carry_gives_no_nan(mode, reverse):
    """s is not used after the last step, where its factor 1/x is infinite, but at the others by h."""
    x = leaf(*((0, 2, 4) if reverse else (4, 2, 0)))

    def step(carry, u):
        h, s = carry
        return h + s, 1 / u

    start = Tensor(np.zeros(())), Tensor(np.zeros(()))
    (h, _), _ = scan(step, start, x, reverse=reverse, compiled=mode)
    expected = [0, -1 / 4, -1 / 16] if reverse else [-1 / 16, -1 / 4, 0]
    np.testing.assert_allclose(grad(h, x).numpy(), expected)


@modes
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_parts_of_the_carry_that_alternate(mode):
    """The part that has a cotangent alternates from step to step."""
    x = leaf(2, 0, 3)

    def step(carry, u):
        a, b = carry
        return b * 2, a / u

    start = leaf(1.0), leaf(1.0)
    (a, _), _ = scan(step, start, x, compiled=mode)
    found = grad(a.sum(), [x, *start], allow_unused=True)
    # a₃ = 2 b₂ = 2 a₁ / u₂ = 4 b₀ / u₂, which is infinite; a₀ and u₁, u₃ lead to b₃ alone
    assert found[1] is None
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found[2].numpy(), [np.inf])
    np.testing.assert_array_equal(found[0].numpy(), [0, -np.inf, 0])


@modes
def test_a_nonlinear_rule_is_not_called_for_absent_cotangents(mode):
    """It adds a multiple of its input to every gradient that passes."""

    @op
    def decayed(x):
        return x * 1.0

    decayed.vjp(x=lambda g, x: g + 0.5 * x)
    x = leaf(2, 4)
    _, (a, b) = scan(lambda h, u: (h, (u * 3, decayed(u))), Tensor(np.zeros(())), x, compiled=mode)
    np.testing.assert_allclose(grad(a.sum(), x, retain_graph=True).numpy(), [3, 3])
    np.testing.assert_allclose(grad(b.sum(), x).numpy(), [2, 3])


@pytest.mark.parametrize("lengths", [None, [5, 3]])
@pytest.mark.parametrize("used", ["outputs", "last state"])
@pytest.mark.parametrize("layer_type", [nn.LSTM, nn.GRU])
def test_layers_need_one_backward_program_for_common_uses(layer_type, used, lengths, cache):
    """If only the outputs are used: the cotangents of the last state are zeros that are only added."""
    layer = layer_type(2, 3, dtype="float64")
    x = Tensor(np.random.default_rng(0).standard_normal((5, 2, 2)), requires_grad=True)
    found = []
    for mode in (True, False):
        layer.compiled = mode
        y, state = layer(x, lengths=lengths)
        loss = y.sum() if used == "outputs" else sum(ops.square(part).sum() for part in flatten(state))
        found.append([g.numpy() for g in grad(loss, [x, *layer.parameters()])])
    for compiled, eager in zip(*found):
        np.testing.assert_allclose(compiled, eager, rtol=1e-10, atol=1e-13)
    (plan,) = cache.steps
    assert len(plan._backwards) == 1


@modes
def test_outputs_without_a_gradient_are_constants(mode):
    h, x = leaf(0.0), Tensor(np.ones((2, 1)))
    last, (a, b, c) = scan(lambda h, u: (h + u, (h > 0, u * 2, h * 2)), h, x, compiled=mode)
    assert [last.requires_grad, a.requires_grad, b.requires_grad, c.requires_grad] == [True, False, False, True]
    assert a.numpy().tolist() == [[False], [True]]
    (one, two), _ = scan(lambda s, u: ((s[0] + u, s[1] + s[0]), u), (Tensor(np.zeros(1)), h), x, compiled=mode)
    assert [one.requires_grad, two.requires_grad] == [False, True]


# -- side effects of a step -------------------------------------------------------------------------------------------


@modes
def test_a_step_that_appends_its_values_to_a_list(mode):
    kept, h = [], leaf(1.0)

    def step(h, u):
        kept.append(h * u)
        return kept[-1]

    scan(step, h, Tensor(np.array([2.0, 3.0])), compiled=mode)
    assert len(kept) == 2
    sum(kept[1:], kept[0]).sum().backward()
    np.testing.assert_allclose(h.grad.numpy(), 8)


class Counter(nn.Module):
    def __init__(self):
        self.calls, self.seen = 0, {}

    def step(self, h, x):
        self.calls += 1
        self.seen[self.calls] = True
        return h + self.calls * x


@modes
@pytest.mark.parametrize("traceable", [True, False])
def test_side_effects_happen_at_every_step(mode, traceable):
    """Exactly once per step, and so is what depends on it."""
    count, array, draws, cell = 0, np.zeros(1, int), np.random.default_rng(0), Counter()

    def step(h, u):
        nonlocal count
        count += 1
        array[0] += 1
        if not traceable:
            assert u.item() > 0
        return cell.step(h, u) + count + draws.random()

    expected = [0.0]
    random = np.random.default_rng(0)
    for k in (1, 2, 3):
        expected.append(expected[-1] + k + k + random.random())
    _, ys = scan(step, Tensor(np.zeros(())), Tensor(np.ones(3)), compiled=mode)
    np.testing.assert_allclose(ys.numpy(), expected[1:])
    assert (count, array[0], cell.calls, list(cell.seen)) == (3, 3, 3, [1, 2, 3])
    assert "side effects" in explain(step, Tensor(np.zeros(())), Tensor(np.ones(3))) or not traceable
    assert count == 3  # nor does explaining change anything


def test_an_assertion_that_pytest_has_rewritten_leads_to_no_state(monkeypatch):
    """Not even to an iterator of pytest, which would say that the step may advance it."""
    state = iter(())
    monkeypatch.setattr("_pytest.assertion.util._reprcompare", lambda *_: state and None)

    def step(h, u):
        assert h.shape == ()
        return h + u

    last, _ = scan(step, Tensor(np.zeros(())), Tensor(np.ones(3)), compiled=True)
    assert last.item() == 3


@modes
def test_an_iterator_advances_at_every_step(mode):
    factors = iter([1.0, 2.0, 3.0])
    last, _ = scan(lambda h, u: h + next(factors) * u, Tensor(np.zeros(())), Tensor(np.ones(3)), compiled=mode)
    assert last.item() == 6


@modes
def test_a_trace_does_not_shift_random_numbers(mode):
    """Nor does a trace that fails."""

    def step(h, u):
        return ops.dropout(h + u, p=0.5) * (1.0 if u.item() > 0 else 2.0)

    manual_seed(0)
    x = Tensor(np.ones((4, 1)))
    found = [scan(step, Tensor(np.ones(1)), x, compiled=mode)[0].item(), ops.dropout(x, p=0.5).numpy().tolist()]
    manual_seed(0)
    h = Tensor(np.ones(1))
    for _ in range(4):
        h = ops.dropout(h + 1, p=0.5)
    assert found == [h.item(), ops.dropout(x, p=0.5).numpy().tolist()]


def test_length_zero_draws_no_random_numbers():
    manual_seed(0)
    expected = random_state()
    scan(lambda h, u: ops.dropout(h + u, p=0.5), Tensor(np.ones(1)), Tensor(np.ones((0, 1))))
    assert random_state() == expected


def test_a_traced_value_that_escaped_raises_when_used():
    hidden = ContextVar("hidden")

    def step(h, u):
        hidden.set(h * u)
        return hidden.get()

    scan(step, Tensor(np.ones(())), Tensor(np.ones(2)))
    with pytest.raises(RuntimeError, match="stored while it was traced"):
        hidden.get() + 1


# -- corner cases ----------------------------------------------------------------------------------------------------


@modes
@pytest.mark.parametrize("sizes", [(0, 3), (2, 0)])
def test_sizes_of_zero(mode, sizes):
    """x W + h U of no inputs is h U; of no units nothing."""
    inputs, units = sizes
    W, U = (Tensor(np.full(shape, 0.5), requires_grad=True) for shape in (sizes, (units, units)))
    last, ys = scan(
        lambda h, x: ops.tanh(x @ W + h @ U),
        Tensor(np.ones((2, units))),
        Tensor(np.ones((4, 2, inputs))),
        compiled=mode,
    )
    expected = np.ones((2, units))
    for _ in range(4):
        expected = np.tanh(expected @ U.numpy())
    np.testing.assert_allclose(last.numpy(), expected)
    gradients = grad(ys.sum(), [W, U], allow_unused=True)
    assert [g.shape for g in gradients] == [sizes, (units, units)]


@modes
def test_an_empty_carry(mode):
    last, ys = scan(lambda s, u: ((), u * 2), (), Tensor(np.array([1.0, 2.0])), compiled=mode)
    assert last == () and ys.numpy().tolist() == [2, 4]


@modes
def test_a_y_of_none_keeps_its_position(mode):
    _, ys = scan(
        lambda h, u: (h, (None, u, None, -u)), Tensor(np.zeros(())), Tensor(np.array([1.0, 2.0])), compiled=mode
    )
    assert [None if y is None else y.numpy().tolist() for y in ys] == [None, [1, 2], None, [-1, -2]]


@modes
@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32"])
def test_casts(mode, dtype):
    values = np.array([0.0, -1.5, 2.7, 0.3])
    _, ys = scan(
        lambda h, u: (h + u, ops.astype(u * 1.0, dtype=dtype)), Tensor(np.zeros(())), Tensor(values), compiled=mode
    )
    assert ys.dtype == dtype and ys.numpy().tolist() == values.astype(dtype).tolist()


@modes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_numpy_scalar_is_emitted_by_value(mode, dtype):
    scale = np.sqrt(2.0)
    start, x = Tensor(np.zeros((2, 3), dtype)), Tensor(np.ones((4, 2, 3), dtype))
    last, _ = scan(lambda h, u: ops.tanh(h * scale + u), start, x, compiled=mode)
    expected = 0.0
    for _ in range(4):
        expected = np.tanh(expected * np.sqrt(2.0) + 1)
    np.testing.assert_allclose(last.numpy(), expected, rtol=1e-6)
    assert last.dtype == dtype
    for target in ("cuda", True):
        assert "np.float64" not in explain(lambda h, u: ops.tanh(h * scale + u), start, x, compiled=target)


@pytest.mark.parametrize("mode", [False, True, *MODES[2:]])
def test_beside_a_float64_scalar_is_computed_in_float64_as_by_numpy(mode):
    """0.1 in float32 is another number than in float64, and the quotient of 0.3 by it jumps there."""
    x, limit = np.full((2, 3), 0.1, np.float32), np.float64(0.1)
    functions = (lambda x: x == limit, lambda x: limit < x, lambda x: (3 * x) // limit, lambda x: abs(x - limit) < 1e-9)
    _, ys = scan(lambda h, x: (h, tuple(f(x) for f in functions)), Tensor(x[0]), Tensor(x), compiled=mode)
    for y, f in zip(ys, functions, strict=True):
        np.testing.assert_array_equal(y.numpy(), f(x))
    difference = Tensor(x, requires_grad=True)
    _, ys = scan(lambda h, x: (h, x - limit), Tensor(x[0]), difference, compiled=mode)
    np.testing.assert_array_equal(ys.numpy(), (x - limit).astype("float32"))
    np.testing.assert_array_equal(grad(ys.sum(), difference).numpy(), np.ones((2, 3), "float32"))
    half, large = np.full((2, 3), 0.001, np.float16), np.float64(1e5)  # which is none of float16
    _, (product, quotient) = scan(
        lambda h, x: (h, (x * large, x * 50 / large)), Tensor(half[0]), Tensor(half), compiled=mode
    )
    np.testing.assert_array_equal(product.numpy(), (half * large).astype("float16"))
    np.testing.assert_array_equal(quotient.numpy(), (half * 50 / large).astype("float16"))


@pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning")
@pytest.mark.parametrize("number", [2**31, -(2**40), 2**64])
@pytest.mark.parametrize("mode", MODES)
def test_an_integer_of_any_size_is_compared_as_by_numpy(number, mode):
    x = np.array([[0, -5, 2**31 - 1], [-(2**31), 7, 1]], np.int32)
    _, ys = scan(lambda h, x: (h, (x < number, x == number, number <= h)), Tensor(x[0]), Tensor(x), compiled=mode)
    for y, expected in zip(ys, (x < number, x == number, np.stack([number <= x[0]] * 2)), strict=True):
        np.testing.assert_array_equal(y.numpy(), expected)
    with pytest.raises(OverflowError, match=r"out of bounds for int32|too large"):
        scan(lambda h, x: (h + number, x), Tensor(x[0]), Tensor(x), compiled=mode)


# -- what a step does besides computing -------------------------------------------------------------------------------

CALLS = 0


class Counted:
    """A class whose instances count in it."""

    calls = 0

    def next(self):
        type(self).calls += 1
        return type(self).calls


class Slotted:
    __slots__ = ("calls",)

    def __init__(self):
        self.calls = 0

    def next(self):
        self.calls += 1
        return self.calls


class PrivateSlot(Counted):
    """One slot, by a private name, of an object that has attributes of its own, too."""

    __slots__ = "__calls"

    def __init__(self):
        self.__calls = 0

    def next(self):
        self.__calls += 1
        return self.__calls


def counting():
    global CALLS
    CALLS += 1
    return CALLS


def deep(levels):
    return deep(levels - 1) if levels else counting()


def calls_others():
    return deeper()


def deeper():
    return deepest()


def deepest():
    return counting()


def of_module():
    module = types.ModuleType("a_users_module")
    exec("calls = 0\ndef next():\n    global calls\n    calls += 1\n    return calls", vars(module))
    return lambda: module.next()


def of_environment():
    variable = ContextVar("calls", default=0)
    return lambda: variable.set(variable.get() + 1) and variable.get()


RANDOM = {
    "random.Random": lambda: random.Random(1).random,
    "a random.Random": lambda: partial(random.Random(1).gauss, 0, 1),
    "RandomState": lambda: np.random.RandomState(1).rand,
    "a bit generator": lambda: partial(lambda bits: np.random.Generator(bits).random(), np.random.PCG64(1)),
    "imported from numpy": lambda: [np.random.seed(1), lambda draw=np.random.randn: draw()][1],
    "imported from random": lambda: [random.seed(1), lambda draw=random.gauss: draw(0, 1)][1],
}
COUNTERS = {
    "a class": lambda: Counted().next, "slots": lambda: Slotted().next, "a module": of_module,
    "a private slot": lambda: PrivateSlot().next,
    "functions of functions": lambda: calls_others, "recursion": lambda: partial(deep, 6),
    "a method of a list": lambda: [1.0, 2.0, 3.0, 4.0, 5.0].pop,
}  # fmt: skip


@pytest.mark.parametrize("source", [*RANDOM, *COUNTERS])
def test_a_step_that_counts_or_draws_elsewhere_runs_eagerly_from_where_it_was(source, monkeypatch):
    found = []
    for mode in (False, None):
        monkeypatch.setattr(Counted, "calls", 0)
        monkeypatch.setitem(globals(), "CALLS", 0)
        number = (RANDOM | COUNTERS)[source]()
        _, ys = scan(lambda h, u: h * number() + u, Tensor(np.ones(())), Tensor(np.ones(3)), compiled=mode)  # noqa: B023
        found.append(ys.numpy())
    np.testing.assert_array_equal(*found)


def test_a_step_that_counts_where_nobody_looks_is_found_by_its_second_trace(capsys):
    number, x = of_environment(), Tensor(np.ones(3))
    with pytest.raises(NotCompiledError, match=r"something else each time it is called.* nothing there is undone"):
        scan(lambda h, u: h * number() + u, Tensor(np.ones(())), x, compiled=True)
    assert "computes something else each time" in explain(lambda h, u: h * number() + u, Tensor(np.ones(())), x)
    scan(lambda h, u: h * (print("once") or 2.0) + u, Tensor(np.ones(())), x, compiled=True)
    assert capsys.readouterr().out == "once\n"
    arrays = map(np.full, repeat(()), count())
    hidden, hides = ContextVar("arrays", default=lambda: next(arrays)), False
    step = lambda h, u: h * Tensor(hidden.get()() if hides else np.full((), 2)) + u  # noqa: E731
    for hides in (False, True):  # with the same graph
        with pytest.raises(NotCompiledError, match="computes something else") if hides else nullcontext():
            scan(step, Tensor(np.ones(())), x, compiled=True)


def caught_by(error):
    def step(h, u):
        try:
            return h * float(u)
        except error:
            return h

    return step


@pytest.mark.parametrize(
    "step",
    [
        caught_by(Exception), caught_by((RuntimeError, Exception)),
        lambda h, u: h * (3.0 if hasattr(u.data, "strides") else 2.0),
        lambda h, u: h * getattr(u.data, "itemsize", 1) + u,
        lambda h, u: h * (2.0 if u.requires_grad else 3.0) + u,
        lambda h, u: h * (2.0 if (h + 1).requires_grad else 3.0) + u,
        lambda h, u: h * (2.0 if u.is_leaf else 3.0) + u,
    ],
)  # fmt: skip
def test_a_question_that_only_values_answer_is_no_answer_that_is_caught(step):
    h, x = Tensor(np.ones(())), Tensor(np.array([2.0, 3.0]))
    expected = scan(step, h, x, compiled=False)[1].numpy()
    np.testing.assert_array_equal(scan(step, h, x)[1].numpy(), expected)
    with pytest.raises(NotCompiledError):
        scan(step, h, x, compiled=True)


def test_a_large_array_that_a_step_writes_into_is_another_at_every_step():
    """No copy is made of it: while the step is traced it is read-only, and so is the array that it is a view of."""
    found = []
    for mode in (False, None):
        table = np.zeros((2, 500))
        counts = table.reshape(1000)

        def step(h, u, counts=counts, table=table):
            counts[...] += 1
            return h * 0.5 + u * counts / len(table), ()

        last, _ = scan(step, Tensor(np.zeros(1000)), Tensor(np.ones((3, 1000))), compiled=mode)
        found.append(last.numpy())
        assert counts.flags.writeable and table.flags.writeable and (table == 3).all()
    np.testing.assert_array_equal(*found)


def test_a_step_that_logs_is_compiled():
    """A logger notes for which levels it was asked, which is no effect."""
    log = logging.getLogger("a logger that is asked for the first time")
    last, _ = scan(lambda h, u: log.debug("step") or h + u, Tensor(np.ones(())), Tensor(np.ones(3)), compiled=True)
    assert last.item() == 4


def test_a_sum_of_many_elements_is_compiled():
    """Whether it has strides is a question to the array's type: one to a traced array would be the step's."""
    x = Tensor(np.ones((1, 2**16 + 1)))
    _, ys = scan(lambda h, u: (h, ops.sum(u * u)), Tensor(np.ones(())), x, compiled=True)
    assert ys.tolist() == [2**16 + 1]
