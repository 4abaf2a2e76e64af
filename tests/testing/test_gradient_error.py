"""GradientError: op, input, coordinate, order, ratio, and the line of the rule."""

from __future__ import annotations

import numpy as np
import pytest
from support.tensors import cube_with

from tinygrad_gru import op, ops
from tinygrad_gru.testing import GradientError, check_op, gradcheck, gradgradcheck, mutants


def two_for_three(g, x):
    return 2 * g * x * x


def wrong_on_one_side(g, x):
    return ops.where(x > 0, 2.0, 3.0) * g * x * x


def message_of(check, *arguments, **options):
    with pytest.raises(GradientError) as raised:
        check(*arguments, **options)
    return str(raised.value)


def points(*shape):
    return np.random.default_rng(1).standard_normal(shape)


@pytest.mark.parametrize("shape", [(3, 4), (100, 200)], ids=["each entry", "too many entries to try them all"])
def test_op_input_coordinate_order_ratio_and_rule(shape):
    text = message_of(gradcheck, cube_with(two_for_three), [points(*shape)])
    assert text.startswith("∂output[0, 0] / ∂inputs[0][0, 0]: the rules give ")
    assert "off by a factor of 0.666667 everywhere: 2/3 of what it should be" in text
    line = two_for_three.__code__.co_firstlineno
    assert text.endswith(f". First derivative, by the rule of x in cube ({__file__}:{line}: def two_for_three(g, x):)")


def test_check_op_says_which_op():
    text = message_of(check_op, cube_with(two_for_three), lambda x: np.power(x, 3), [(3, 4)])
    assert text.startswith("cube at [(3, 4)]: ∂output[0, 0] / ∂inputs[0][0, 0]: ")
    assert "by the rule of x in cube (" in text


def test_where_it_is_wrong():
    text = message_of(gradcheck, cube_with(wrong_on_one_side), [points(3, 4)])
    assert "entries are wrong, each by a factor of 0.666667: 2/3 of what it should be, where inputs[0] > 0" in text


def test_wrong_in_the_tail_alone():
    @op
    def softened(x):
        return np.logaddexp(0.0, x)

    softened.vjp(x=lambda g, y: g * (1 - ops.exp(-y)))  # 1 − 1 far to the left
    text = message_of(gradcheck, softened, [np.array([-80.0, 0.0, 3.0])])
    assert "the largest entries are right; wrong is what is far smaller than 0.953. First derivative" in text


def test_entries_that_should_be_0_do_not_count():
    text = message_of(gradcheck, cube_with(lambda g, x: 3 * g * x), [points(3, 4)])
    assert "12 of 12 nonzero entries are wrong" in text


def test_one_wrong_entry_of_many_is_found():
    @op
    def tripled(x):
        return 3 * x

    def rule(g):
        factor = np.full(g.shape, 3.0)
        factor[17, 5] = -3.0
        return g * factor

    tripled.vjp(x=rule)
    text = message_of(gradcheck, tripled, [points(60, 80)])
    assert text.startswith("∂output[17, 5] / ∂inputs[0][17, 5]: the rules give -3, finite differences 3")
    text = message_of(gradcheck, lambda a, b: ops.sum(a * tripled(b), axis=0), [points(60, 80), points(60, 80)])
    assert text.startswith("∂output[5] / ∂inputs[1][17, 5]: ") and text.endswith(". First derivative")


def test_the_second_derivative_is_called_that():
    def not_recorded(g, x):
        return g * (3 * np.square(getattr(x, "data", x)))

    text = message_of(gradgradcheck, cube_with(not_recorded), [points(3)])
    assert text.startswith("∂(gradient of inputs[0])[0] / ∂inputs[0][0]: the rules give 0, ")
    assert ". Second derivative: that of the rule of x in cube (" in text and "def not_recorded(g, x):" in text


def test_rules_are_found_by_the_order_of_inputs_not_of_rules():
    @op
    def product(a, b):
        return a * b

    product.vjp(b=lambda g, a: 5 * g * a, a=lambda g, b: g * b)
    text = message_of(gradcheck, product, [points(2), points(2)])
    assert "∂inputs[1][0]" in text and "5 times what it should be" in text and "by the rule of b in product (" in text


def test_a_rule_without_g():
    @op
    def inverse(x):
        return 1 / x

    inverse.vjp(x=lambda x: -1 / (x * x))
    at = np.array([1.0, 2.0])
    for text in (
        message_of(gradcheck, inverse, [at]),
        message_of(mutants, inverse, np.reciprocal, [(3, 4)], (0.5, 2.0)),
    ):
        assert text.endswith("its first parameter is x, it does not take g: is g missing?")
    inverse.vjp(x=lambda g, x: -(g**0) / (x * x))
    text = message_of(gradcheck, inverse, [at])
    assert "not linear in its cotangent. First derivative, by the rule of x in inverse" in text
    assert "is g missing" not in text


def test_a_mutant_is_placed_at_the_rule():
    text = message_of(mutants, cube_with(two_for_three), lambda x: np.power(x, 3), [(3, 4)])
    assert "test_gradient_error.py:" in text and "def two_for_three(g, x):" in text


def test_a_kink():
    text = message_of(gradcheck, ops.relu, [np.array([-1.0, 0.0, 1.0])])
    assert text.startswith("∂output[1] / ∂inputs[0][1]: the rules give 0, finite differences 0.5, but the slope is 0 b")
    assert "is 0 below and 1 above: the function has a kink here, and no derivative; check it at another point" in text
    assert "kink" not in message_of(gradcheck, cube_with(two_for_three), [np.array([-1.0, 0.0, 1.0])])
    flat = op(lambda x: 1e6 + 0 * x)  # whose differences are rounding
    flat.vjp(x=lambda g: g)
    assert "kink" not in message_of(gradcheck, flat, [np.array([0.3, 2.0])])
