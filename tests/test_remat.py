"""remat: recomputation in backward, and errors if it would compute something else."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from support.tensors import constant, leaf

from tinygrad_gru import TapeError, Tensor, grad, manual_seed, no_grad, op, ops, random_state, remat, tape
from tinygrad_gru.testing import gradcheck, gradgradcheck

X = np.array([0.3, -0.7, 1.1])
V = np.array([0.5, 2.0, -1.0])


def step(h, x, W):
    return ops.tanh(h @ W + x) * h


def arrays(rng):
    return rng.standard_normal((2, 3)), rng.standard_normal((2, 3)), rng.standard_normal((3, 3))


def test_remat_gives_the_same_bits(rng):
    values = arrays(rng)
    direct, saved = [leaf(v) for v in values], [leaf(v) for v in values]
    y, z = step(*direct), remat(step, *saved)
    y.sum().backward()
    z.sum().backward()
    np.testing.assert_array_equal(y.numpy(), z.numpy())
    for a, b in zip(direct, saved):
        np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())


def test_remat_is_one_record_and_keeps_only_its_inputs():
    x, inner = leaf(np.ones(3)), []

    def function(x):
        h = ops.exp(x)
        inner.append(weakref.ref(h.data))
        return ops.sin(h * h)

    gc.disable()
    try:
        y = remat(function, x)
        assert [record.op.__name__ for record in tape(y)] == ["remat", "output"]
        assert inner[0]() is None, "what was computed on the way is gone"
        y.sum().backward()
        assert len(inner) == 2 and inner[1]() is None
    finally:
        gc.enable()
    np.testing.assert_allclose(x.grad.numpy(), np.cos(np.exp(2)) * 2 * np.exp(2), rtol=1e-14)


def test_closed_over_leaves_get_gradients(rng):
    h, x, W = (leaf(v) for v in arrays(rng))
    remat(lambda h: step(h, x, W), h).sum().backward()
    direct = [leaf(t.numpy()) for t in (h, x, W)]
    step(*direct).sum().backward()
    for a, b in zip((h, x, W), direct):
        np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())


def test_closed_over_recorded_tensors_lead_on_to_their_leaves():
    w = leaf([0.3, 0.5])
    h = ops.tanh(w)
    remat(lambda: h * w * h).sum().backward()
    direct = leaf([0.3, 0.5])
    k = ops.tanh(direct)
    (k * direct * k).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), direct.grad.numpy(), rtol=1e-15)


def test_second_derivatives_through_remat():
    def through(w):
        return remat(lambda h: h * h * h, ops.tanh(w))

    values = np.array([0.3, 0.5])
    assert gradcheck(through, [values]) and gradgradcheck(through, [values])
    w = leaf(values)
    g = grad(through(w).sum(), w, create_graph=True)
    direct = leaf(values)
    h = ops.tanh(direct)
    expected = grad((h * h * h).sum(), direct, create_graph=True)
    np.testing.assert_allclose(grad(g.sum(), w).numpy(), grad(expected.sum(), direct).numpy(), rtol=1e-13)


def test_random_numbers_are_replayed():
    x = leaf(np.ones(1000))
    manual_seed(5)
    y = remat(lambda x: ops.dropout(x, p=0.5) * ops.dropout(x, p=0.5), x)
    after = random_state()
    y.sum().backward()
    assert random_state() == after, "backward draws nothing of its own"
    np.testing.assert_allclose(x.grad.numpy(), 2 * y.numpy(), rtol=1e-14)
    manual_seed(5)
    np.testing.assert_array_equal(y.numpy(), (ops.dropout(x, p=0.5) * ops.dropout(x, p=0.5)).numpy())


def test_the_random_state_is_restored_after_an_error():
    x, calls = leaf([1.0]), []

    def function(x):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("second run")
        return ops.dropout(x, p=0.5)

    y = remat(function, x)
    ops.dropout(x)
    before = random_state()
    with pytest.raises(RuntimeError, match="second run"):
        y.backward()
    assert random_state() == before


@pytest.mark.parametrize("used", [(True, False), (False, True), (True, True)])
def test_several_outputs_some_of_them_unused(used):
    def function(x, w):
        return ops.tanh(x * w), ops.exp(x)

    def total(outputs):
        return sum((k + 2.0) * y.sum() for k, (y, keep) in enumerate(zip(outputs, used)) if keep)

    x, w, p, q = leaf(X), leaf(V), leaf(X), leaf(V)
    outputs = remat(function, x, w)
    assert isinstance(outputs, tuple) and len(outputs) == 2
    total(outputs).backward()
    total(function(p, q)).backward()
    np.testing.assert_array_equal(x.grad.numpy(), p.grad.numpy())
    assert (w.grad is None) == (q.grad is None)
    if q.grad is not None:
        np.testing.assert_array_equal(w.grad.numpy(), q.grad.numpy())


def test_an_output_twice_and_an_input_as_output():
    x = leaf(X)

    def function(x):
        y = x * x
        return y, y, x

    a, b, c = remat(function, x)
    (a + 2.0 * b + c).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * X + 1)


def test_remat_nests():
    def inner(x):
        return ops.tanh(x) * x

    def outer(x):
        return remat(inner, remat(inner, x)) + x

    assert gradcheck(lambda x: remat(outer, x), [X])
    assert gradgradcheck(lambda x: remat(outer, x), [X])


def test_a_chain_of_remats_recomputes_each_once():
    calls, w = [], leaf([0.9])

    def function(h):
        calls.append(1)
        return ops.tanh(h * w)

    h = leaf([0.5])
    y = h
    for _ in range(50):
        y = remat(function, y)
    y.backward()
    assert len(calls) == 100
    direct_h, direct_w = leaf([0.5]), leaf([0.9])
    y = direct_h
    for _ in range(50):
        y = ops.tanh(y * direct_w)
    y.backward()
    np.testing.assert_allclose(w.grad.numpy(), direct_w.grad.numpy(), rtol=1e-13)
    np.testing.assert_allclose(h.grad.numpy(), direct_h.grad.numpy(), rtol=1e-13)


def test_inputs_may_be_constants_and_other_objects():
    x = leaf(X)
    y = remat(lambda x, c, n, name: x * c * n if name == "run" else x, x, constant(V), 3, "run")
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * V)


def test_without_gradients_remat_is_a_call():
    y = remat(ops.exp, constant(X))
    assert not y.requires_grad
    with no_grad():
        assert not remat(ops.exp, leaf(X)).requires_grad


def test_backward_twice_through_remat_raises_without_retain_graph():
    y = remat(ops.exp, leaf(X)).sum()
    y.backward()
    with pytest.raises(TapeError, match="retain_graph=True"):
        y.backward()
    y = remat(ops.exp, x := leaf(X)).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp(X))


def test_changing_an_input_of_remat_raises():
    x = leaf(X)
    y = remat(ops.exp, x).sum()
    x.data += 1.0
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_changing_a_leaf_that_remat_closes_over_raises():
    """The recomputation would use the new values: the gradient would be that of another forward pass."""
    x, w = leaf(X), leaf(V)
    y = remat(lambda x: x * w, x).sum()
    w.data += 1.0
    with pytest.raises(TapeError, match="was changed in place"):
        y.backward()


def test_remat_on_every_backend(backend):
    x = Tensor(backend.asarray(X), requires_grad=True)
    remat(lambda x: ops.tanh(x) * x, x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.tanh(X) + X * (1 - np.tanh(X) ** 2), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("change", ["value", "tensor", "constant", "one element"])
def test_a_recomputation_with_other_results_raises(dtype, change):
    x = Tensor(np.linspace(0.1, 1, 60, dtype=dtype).reshape(5, 12), requires_grad=True)
    first, second = (Tensor(np.ones(12, dtype), requires_grad=True) for _ in range(2))
    mask = np.ones(12, dtype)
    weight, factor = first, 1.0

    def function(x):
        return ops.tanh(x * weight * factor) * mask

    y = remat(function, x).sum()
    grad(y, x, retain_graph=True)
    if change == "value":
        factor = 1.1
    elif change == "one element":
        mask[3] = 0.9
    else:
        weight = second if change == "tensor" else first.detach()
    with pytest.raises(TapeError, match="gave other values in backward"):
        y.backward()
    assert x.grad is None


# -- fingerprints: what changes gradients and no value ---------------------------------------------------------------


def reversal(factor):
    @op
    def reverse(x, *, strength=1.0):
        return x + 0

    reverse.vjp(x=lambda g, strength: -factor * strength * g)
    return reverse


class Environment:
    """What a function under remat reads, and what may change before backward."""

    def __init__(self):
        self.op, self.strength, self.weight, self.second = reversal(0.5), 1.0, 2.0, False


def set_op(environment):
    environment.op = reversal(0.25)


def redefine(environment):
    environment.op.vjp(x=lambda g: 3 * g)


def set_strength(environment):
    environment.strength = 7.0


def set_weight(environment):
    environment.weight = -1.0


def add_hook(environment):
    environment.second = True


FACTOR = 1.0


def test_a_global_of_a_function_inside_a_rule_that_changes_raises(monkeypatch):
    @op
    def identity(x):
        return x + 0

    identity.vjp(x=lambda g: sum(FACTOR * part for part in (g, g)))
    x = Tensor([1.0], requires_grad=True)
    y = remat(lambda x: identity(x), x)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    with pytest.raises(TapeError, match=r"other rules since|gave other values"):
        y.backward()


def gradient(change):
    environment, x = Environment(), Tensor(np.array([0.3, -0.4]), requires_grad=True)

    def function(x):
        y, weight = environment.op(ops.tanh(x), strength=environment.strength), environment.weight
        y.register_hook(lambda g: g * weight)
        if environment.second:
            y.register_hook(lambda g: g * weight)
        return y * y

    y = remat(function, x)
    change(environment)
    y.sum().backward()
    return x.grad.numpy()


@pytest.mark.parametrize("change", [set_op, redefine, set_strength, set_weight, add_hook])
def test_another_rule_setting_or_hook_raises(change):
    with pytest.raises(TapeError, match=r"gave other values in backward|other rules since"):
        gradient(change)


def test_the_same_rules_settings_and_hooks_are_accepted():
    """The right value: y = t², t = tanh x, with −½ for the rule and 2 for the hook: 2t · 2 · (−½) (1 − t²)."""
    t = np.tanh([0.3, -0.4])
    np.testing.assert_allclose(gradient(lambda environment: None), -2 * t * (1 - t * t), rtol=1e-14)


def test_an_op_defined_at_every_call_is_accepted():
    t, x = np.tanh([0.3, -0.4]), Tensor(np.array([0.3, -0.4]), requires_grad=True)
    remat(lambda x: reversal(0.5)(ops.tanh(x)), x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), -0.5 * (1 - t * t), rtol=1e-14)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_an_op_that_a_rule_calls_may_be_first_called_between_forward_and_backward(factor):
    """Its code is generated at its first call, but its formula and rules stay the same; other rules raise."""
    halve, x = reversal(-0.5), Tensor([3.0], requires_grad=True)

    @op
    def square(x):
        return x * x

    square.vjp(x=lambda g, x: halve(2 * g) * x)
    y = remat(square, x)
    halve(1.0)
    if factor == 1.0:
        y.backward()
        assert x.grad.tolist() == [6.0]
    else:
        halve.vjp(x=lambda g: g * factor)
        with pytest.raises(TapeError, match="used other tensors, rules"):
            y.backward()


def test_negative_settings_are_distinguished():
    """hash(-1) is hash(-2)."""
    environment, x = Environment(), Tensor(np.array([0.3, -0.4]), requires_grad=True)
    environment.strength = -1.0
    y = remat(lambda x: environment.op(x, strength=environment.strength), x)
    environment.strength = -2.0
    with pytest.raises(TapeError, match="settings"):
        y.sum().backward()


def test_a_nested_remat_is_compared_too():
    """Both would be recomputed with the new setting, so the inner one would agree with itself."""
    environment, x = Environment(), Tensor(np.array([0.3, -0.4]), requires_grad=True)
    y = remat(lambda x: 2 * remat(lambda x: environment.op(x, strength=environment.strength), x), x)
    set_strength(environment)
    with pytest.raises(TapeError, match="settings"):
        y.sum().backward()


def test_gradients_of_some_of_the_inputs():
    """The others are parts of the recomputation all the same, and second derivatives reach them."""
    a, b = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    y = remat(lambda a, b: a * b * b, a, b)
    (first,) = grad(y.sum(), [a], create_graph=True)
    assert first.tolist() == [9, 16] and grad(first.sum(), [b])[0].tolist() == [6, 8]
