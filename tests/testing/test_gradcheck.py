"""The checker is checked with wrong rules: each must be caught, and a right one must pass."""

from __future__ import annotations

import numpy as np
import pytest
from support.strict import STRICT
from support.tensors import constant, leaf

from tinygrad_gru import Tensor, no_grad, ops
from tinygrad_gru.ops import op
from tinygrad_gru.ops.op import unwrap
from tinygrad_gru.testing import GradientError, gradcheck, gradgradcheck

X = np.array([[0.3, -0.7, 1.1], [0.5, 0.2, -1.3]])


def tanh_with(rule):
    """tanh under another rule."""

    @op
    def curve(x):
        return np.tanh(x)

    curve.vjp(x=rule)
    return curve


RIGHT = tanh_with(lambda g, y: g * (1 - y * y))


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("full", [False, True])
def test_a_right_rule_passes(check, full):
    assert check(RIGHT, [X], full=full).derivatives


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0, 0.0, 2.0])
def test_a_wrong_factor_is_caught(factor, full):
    with pytest.raises(GradientError, match="the rules give"):
        gradcheck(tanh_with(lambda g, y: factor * (g * (1 - y * y))), [X], full=full)


def test_a_rule_that_is_wrong_in_one_element_is_caught_and_full_names_it():
    mask = np.ones(X.shape)
    mask[1, 2] = 1.001
    wrong = tanh_with(lambda g, y: g * (1 - y * y) * mask)
    with pytest.raises(GradientError):
        gradcheck(wrong, [X])
    with pytest.raises(GradientError, match=r"∂output\[1, 2\] / ∂inputs\[0\]\[1, 2\]"):
        gradcheck(wrong, [X], full=True)


def test_a_rule_that_returns_nan_is_caught():
    with pytest.raises(GradientError, match="nan"):
        gradcheck(tanh_with(lambda g, y: g * np.nan), [X])


def test_a_rule_that_ignores_its_cotangent_is_caught():
    with pytest.raises(GradientError):
        gradcheck(tanh_with(lambda g, y: 1 - y * y), [X])


def detached(y):
    return Tensor(unwrap(y)) if isinstance(y, Tensor) else y


WRONG_IN_SECOND_ORDER = {
    "a constant stands for the output": lambda g, y: g * (1 - detached(y) * detached(y)),
    "a constant stands for the cotangent": lambda g, y: detached(g) * (1 - y * y),
    "everything is a constant": lambda g, y: detached(g) * (1 - detached(y) * detached(y)),
}


@pytest.mark.parametrize("rule", WRONG_IN_SECOND_ORDER.values(), ids=WRONG_IN_SECOND_ORDER)
def test_a_rule_that_is_wrong_in_second_order_alone_is_caught_by_gradgradcheck(rule):
    assert gradcheck(tanh_with(rule), [X])
    with pytest.raises(GradientError):
        gradgradcheck(tanh_with(rule), [X])


def test_exchanged_rules_are_caught():
    @op
    def product(a, b):
        return a * b

    product.vjp(a=lambda g, a: g * a, b=lambda g, b: g * b)
    with pytest.raises(GradientError, match=r"inputs\[0\]"):
        gradcheck(product, [X, X + 1])


@pytest.mark.parametrize("shape", [(2, 3), (3, 3)])
def test_a_missing_sum_over_a_broadcast_axis_is_caught(shape):
    """Also where the wrong cotangent happens to fit, for a square."""

    @op
    def scaled_rows(x, s):
        return x * s[:, None]

    def rule(missing):
        return lambda g, x: g * x if missing else ops.sum(g * x, axis=1)

    random = np.random.default_rng(0)
    inputs = [random.standard_normal(shape), random.standard_normal(shape[0])]
    scaled_rows.vjp(x=lambda g, s: g * s[:, None], s=rule(missing=False))
    assert gradcheck(scaled_rows, inputs)
    scaled_rows.vjp(x=lambda g, s: g * s[:, None], s=rule(missing=True))
    with pytest.raises((GradientError, ValueError)):
        gradcheck(scaled_rows, inputs)


def test_an_unrecorded_dependence_is_caught():
    with pytest.raises(GradientError, match="the rules give 0"):
        gradcheck(lambda x: x * 0.0 + Tensor(unwrap(x)) * Tensor(unwrap(x)), [X])


def test_several_outputs_and_inputs():
    assert gradcheck(lambda a, b: (a * b, ops.sum(a), ops.tanh(b)), [X, X + 1])
    assert gradgradcheck(lambda a, b: (a * b, ops.sum(a), ops.tanh(b)), [X, X + 1])
    wrong = tanh_with(lambda g, y: g)
    with pytest.raises(GradientError, match=r"inputs\[1\]"):
        gradcheck(lambda a, b: (a * b, ops.sum(a), wrong(b)), [X, X + 1])


def test_integers_and_booleans_are_passed_on():
    def picked(x, ids, mask):
        return ops.where(mask, x, 0.0)[ids]

    assert gradcheck(picked, [X, np.array([1, 1, 0]), np.array([True, False, True])])


def test_inputs_that_cannot_be_checked_raise():
    with pytest.raises(TypeError, match=r"inputs\[1\]: finite differences need float64, got float32"):
        gradcheck(ops.add, [X, X.astype("float32")])
    with pytest.raises(ValueError, match="nothing to differentiate"):
        gradcheck(ops.equal, [np.array([1, 2])])


def test_inputs_are_not_changed():
    x, values = leaf(X), X.copy()
    gradcheck(ops.tanh, [x])
    np.testing.assert_array_equal(x.numpy(), values)
    assert x.grad is None


def test_a_function_without_gradient_passes_where_it_is_constant():
    assert gradcheck(ops.sign, [X])
    assert gradgradcheck(ops.sign, [X])


def test_inputs_may_be_lists_scalars_empty_arrays_and_constants():
    assert gradcheck(ops.tanh, [[0.1, 0.2]])
    assert gradcheck(ops.tanh, [0.3])
    assert gradcheck(ops.add, [constant(X), X])


def test_gradcheck_under_no_grad():
    with no_grad():
        assert gradgradcheck(lambda x: ops.tanh(x) * x, [X])


def test_gradcheck_on_every_backend(backend):
    @op
    def doubled(x):
        return 2 * x

    doubled.vjp(x=lambda g: g)
    assert gradcheck(ops.tanh, [backend.asarray(X)])
    assert gradgradcheck(ops.tanh, [backend.asarray(X)])
    with pytest.raises(GradientError):
        gradcheck(doubled, [backend.asarray(X)])


def test_the_strict_backend_is_not_the_host():
    with pytest.raises(RuntimeError, match="device1"):
        np.asarray(STRICT.asarray([1.0]))
