"""A checkpoint refuses to compute anything else in backward, also where only gradients would be others."""

import numpy as np
import pytest

from tinygrad_gru import TapeError, Tensor, checkpoint, op, ops


def reversal(factor):
    @op
    def reverse(x, *, strength=1.0):
        return x + 0

    reverse.vjp(x=lambda g, strength: -factor * strength * g)
    return reverse


class Seen:
    """What a checkpointed function sees, and may see changed."""

    def __init__(self):
        self.op, self.strength, self.weight, self.second = reversal(0.5), 1.0, 2.0, False


def set_op(seen):
    seen.op = reversal(0.25)


def redefine(seen):
    seen.op.vjp(x=lambda g: 3 * g)


def set_strength(seen):
    seen.strength = 7.0


def set_weight(seen):
    seen.weight = -1.0


def add_hook(seen):
    seen.second = True


def gradient(change):
    seen, x = Seen(), Tensor(np.array([0.3, -0.4]), requires_grad=True)

    def function(x):
        y, weight = seen.op(ops.tanh(x), strength=seen.strength), seen.weight
        y.register_hook(lambda g: g * weight)
        if seen.second:
            y.register_hook(lambda g: g * weight)
        return y * y

    y = checkpoint(function, x)
    change(seen)
    y.sum().backward()
    return x.grad.numpy()


@pytest.mark.parametrize("change", [set_op, redefine, set_strength, set_weight, add_hook])
def test_another_rule_setting_or_hook_is_refused(change):
    with pytest.raises(TapeError, match=r"gave other values in backward|other rules since"):
        gradient(change)


def test_what_is_the_same_is_computed_again():
    """The right value: y = t², t = tanh x, with −½ for the rule and 2 for the hook: 2t · 2 · (−½) (1 − t²)."""
    t = np.tanh([0.3, -0.4])
    np.testing.assert_allclose(gradient(lambda seen: None), -2 * t * (1 - t * t), rtol=1e-14)


def test_an_op_that_is_defined_anew_at_every_call_is_the_same():
    t, x = np.tanh([0.3, -0.4]), Tensor(np.array([0.3, -0.4]), requires_grad=True)
    checkpoint(lambda x: reversal(0.5)(ops.tanh(x)), x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), -0.5 * (1 - t * t), rtol=1e-14)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_an_op_that_a_rule_calls_may_be_called_first_in_between(factor):
    """Its code is generated at its first call, but its formula and rules stay the same; other rules are refused."""
    halve, x = reversal(-0.5), Tensor([3.0], requires_grad=True)

    @op
    def square(x):
        return x * x

    square.vjp(x=lambda g, x: halve(2 * g) * x)
    y = checkpoint(square, x)
    halve(1.0)
    if factor == 1.0:
        y.backward()
        assert x.grad.tolist() == [6.0]
    else:
        halve.vjp(x=lambda g: g * factor)
        with pytest.raises(TapeError, match="used other tensors, rules"):
            y.backward()


def test_negative_settings_are_told_apart():
    """hash(-1) is hash(-2)."""
    seen, x = Seen(), Tensor(np.array([0.3, -0.4]), requires_grad=True)
    seen.strength = -1.0
    y = checkpoint(lambda x: seen.op(x, strength=seen.strength), x)
    seen.strength = -2.0
    with pytest.raises(TapeError, match="settings"):
        y.sum().backward()


def test_a_checkpoint_inside_a_checkpoint_is_compared_too():
    """Both would be computed again with the new setting, so the inner one would agree with itself."""
    seen, x = Seen(), Tensor(np.array([0.3, -0.4]), requires_grad=True)
    y = checkpoint(lambda x: 2 * checkpoint(lambda x: seen.op(x, strength=seen.strength), x), x)
    set_strength(seen)
    with pytest.raises(TapeError, match="settings"):
        y.sum().backward()
