"""check_op is checked with ops that break one clause of the contract each, and names the clause."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.strict import STRICT

from tinygrad_gru import Tensor, explain, ops
from tinygrad_gru.backend import xp_of
from tinygrad_gru.ops import op
from tinygrad_gru.ops.op import unwrap
from tinygrad_gru.testing import ContractError, GradientError, check_op


def tanh_with(rule):
    @op
    def curve(x):
        return xp_of(x).tanh(x)

    curve.vjp(x=rule)
    return curve


def product_with(a, b):
    @op
    def product(a, b):
        return a * b

    product.vjp(a=a, b=b)
    return product


def check_tanh(rule):
    check_op(tanh_with(rule), np.tanh, [(3, 4)], elementwise=True)


def check_product(a, b):
    check_op(product_with(a, b), np.multiply, [(3, 4), (3, 4)], elementwise=True)


# -- right rules ---------------------------------------------------------------------------------------------------


def test_right_rules_pass(backend):
    check_op(tanh_with(lambda g, y: g * (1 - y * y)), np.tanh, [(3, 4)], elementwise=True, backend=backend)
    product = product_with(lambda g, b: g * b, lambda g, a: g * a)
    check_op(product, np.multiply, [(3, 4), (3, 4)], elementwise=True, backend=backend)


def test_a_function_of_ops_is_checked_like_an_op():
    check_op(lambda x, w: ops.tanh(x @ w), lambda x, w: np.tanh(x @ w), [(2, 3), (3, 4)])


def test_arrays_among_the_shapes_are_used_as_they_are():
    ids = np.array([2, 0, 2])
    check_op(ops.embedding, lambda weight, ids: weight[ids], [(3, 2), ids])


def test_arrays_among_the_settings_are_moved_to_the_backend(backend):
    index = (np.array([0, 2, 2]), np.array([1, 1, 0]))
    check_op(ops.getitem, lambda x, index: x[index], [(3, 2)], backend=backend, index=index)


# -- wrong rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0])
def test_a_wrong_factor(factor):
    with pytest.raises(GradientError):
        check_tanh(lambda g, y: g * (1 - y * y) * factor)


def test_a_wrong_factor_on_one_of_two_inputs():
    with pytest.raises(GradientError, match=r"inputs\[1\]"):
        check_product(lambda g, b: g * b, lambda g, a: 1.001 * (g * a))


def test_exchanged_rules():
    with pytest.raises(GradientError, match=r"inputs\[0\]"):
        check_product(lambda g, a: g * a, lambda g, b: g * b)


def test_a_missing_rule():
    with pytest.raises(GradientError, match="the rules give 0"):
        check_product(lambda g, b: g * b, None)


@pytest.mark.parametrize("shape", [(3, 4), (4, 4)])
def test_a_missing_sum(shape):
    @op
    def scaled_rows(x, s):
        return x * s[:, None]

    scaled_rows.vjp(x=lambda g, s: g * s[:, None], s=lambda g, x: g * x)
    with pytest.raises((GradientError, ValueError)):
        check_op(scaled_rows, lambda x, s: x * s[:, None], [shape, shape[:1]])


def test_a_transposed_cotangent():
    """As many numbers as the input has, in another shape: nothing may reshape them into place."""

    @op
    def row_sums(x):
        return x.sum(axis=1)

    row_sums.vjp(x=lambda g, x_shape: ops.broadcast_to(g, shape=x_shape[::-1]))
    with pytest.raises(ValueError, match=r"row_sums: the rule of x returned shape \(4, 3\), expected \(3, 4\)"):
        check_op(row_sums, lambda x: x.sum(axis=1), [(3, 4)])


def test_a_wrong_second_derivative():
    with pytest.raises(GradientError):
        check_tanh(
            lambda g, y: g * (1 - Tensor(unwrap(y)) * Tensor(unwrap(y))) if isinstance(y, Tensor) else g * (1 - y * y)
        )


def test_a_recorded_rule_that_differs_from_the_executed_one():
    with pytest.raises(ContractError, match="executed and recorded backward give different bits"):
        check_tanh(lambda g, y: g * (1 - y * y) * (1.001 if isinstance(g, Tensor) else 1.0))


def test_a_rounding_difference_between_executed_and_recorded():
    with pytest.raises(ContractError, match="executed and recorded backward give different bits"):
        check_tanh(lambda g, y: g - g * y * y if isinstance(g, Tensor) else g * (1 - y * y))


def _writes_into_g(g, y):
    if isinstance(g, Tensor):
        return g * (1 - y * y)
    g *= 1 - y * y
    return g


def _writes_into_y(g, y):
    result = g * (1 - y * y)
    if not isinstance(y, Tensor):
        y[...] = 0
    return result


def _writes_into_x(g, x):
    result = g * (1 - ops.tanh(x) ** 2)
    if not isinstance(x, Tensor):
        x[...] = 0
    return result


@pytest.mark.parametrize("rule", [_writes_into_g, _writes_into_y, _writes_into_x])
def test_a_rule_that_writes_in_place(rule):
    with pytest.raises(ContractError, match="a rule wrote into an array that it was given"):
        check_tanh(rule)


@pytest.mark.parametrize(
    "rule",
    [
        lambda g, y: g * (1 - y * y) * np.float64(1.0),
        lambda g, y: ops.astype(g * (1 - y * y), dtype="float64"),
        lambda g, y: g * (1 - y * y) + np.zeros(np.shape(unwrap(y))),
    ],
)
def test_a_rule_that_promotes_to_float64(rule):
    """Seen although the gradient of a leaf is cast to its dtype."""
    with pytest.raises(ContractError, match=r"in float32: .*the gradient became float64"):
        check_tanh(rule)


# -- wrong formulas -----------------------------------------------------------------------------------------------


def unary(formula, rule=lambda g: g):
    @op
    def curve(x):
        return formula(x)

    curve.vjp(x=rule)
    return curve


def test_a_wrong_value():
    with pytest.raises(ContractError, match="differs from the oracle: at"):
        check_op(unary(lambda x: x * (1 + 1e-9)), lambda x: x, [(3, 4)])


def test_a_wrong_nan():
    with pytest.raises(ContractError, match="differs from the oracle"):
        check_op(unary(lambda x: x * np.nan), lambda x: x, [(3, 4)])


def test_a_wrong_shape():
    with pytest.raises(ContractError, match=r"shape \(3, 4\), the oracle has \(4, 3\)"):
        check_op(unary(lambda x: 1 * x), lambda x: x.T, [(3, 4)])


def test_a_wrong_number_of_outputs():
    with pytest.raises(ContractError, match="2 outputs, the oracle has 3"):
        check_op(lambda x: ops.split(x, 2), lambda x: np.split(x, 3), [(6,)])


def test_a_formula_that_writes_into_its_input():
    def formula(x):
        x += 1
        return x

    with pytest.raises(ContractError, match=r"into its input|different values"):
        check_op(unary(formula), lambda x: x + 1, [(3, 4)])


def test_a_formula_that_promotes_to_float64():
    with pytest.raises(ContractError, match="the output became float64"):
        check_op(unary(lambda x: x + np.zeros(x.shape)), lambda x: x, [(3, 4)])


def test_an_op_that_returns_tensors_for_arrays():
    with pytest.raises(ContractError, match="arrays must give an array"):
        check_op(lambda x: Tensor(unwrap(x)), lambda x: x, [(3, 4)])


def test_an_op_that_returns_arrays_for_tensors():
    with pytest.raises(ContractError, match="Tensors must give a Tensor, got ndarray"):
        check_op(lambda x: unwrap(x) * 1, lambda x: x, [(3, 4)])


def test_a_gradient_of_a_non_differentiable_op():
    with pytest.raises(ContractError, match="no gradient was declared"):
        check_op(ops.tanh, np.tanh, [(3, 4)], differentiable=False)


def test_an_elementwise_op_that_fails_for_an_edge_case_shape():
    """Empty arrays: right everywhere but there."""

    @op
    def largest_shifted(x):
        return x - x.max() + x.max()

    largest_shifted.vjp(x=lambda g: g)
    check_op(largest_shifted, lambda x: x, [(3, 4)])
    with pytest.raises(ValueError, match="zero-size"):
        check_op(largest_shifted, lambda x: x, [(3, 4)], elementwise=True)


def test_a_numpy_only_function_fails_on_the_strict_backend():
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        check_op(unary(lambda x: np.add(x, 0.0)), lambda x: x, [(3, 4)], backend=STRICT)


def softsign_with(magnitude):
    @op
    def softsign(x):
        return x / (1 + magnitude(x))

    softsign.vjp(x=lambda g, x: g / (1 + magnitude(x)) ** 2)
    return softsign


@pytest.mark.parametrize("magnitude", [abs, np.abs, np.fabs, lambda x: np.where(x > 0, x, -x)])
def test_functions_of_python_and_numpy_in_a_formula_are_compiled(magnitude):
    report = check_op(softsign_with(magnitude), lambda x: x / (1 + np.abs(x)), [(3, 4)], elementwise=True)
    assert report.compiled == 1 and str(report).endswith("12 memory layouts, 1 compiled scan")
    assert str(report + report).endswith(", 2 compiled scans")


def test_the_report_says_why_a_scan_was_not_compiled():
    report = check_op(unary(lambda x: np.trunc(x) * 0 + x), lambda x: x, [(3, 4)])
    assert report.compiled == 0 and report.not_compiled == ("the array function trunc cannot be compiled",)
    both = report + report + check_op(ops.tanh, np.tanh, [(1,)], quick=True, dtypes=())
    assert both.compiled == 1
    assert str(both).endswith(
        "1 compiled scan; not compiled: the array function trunc cannot be compiled, runs eagerly"
    )
    one = check_op(ops.tanh, np.tanh, [(1,)], quick=True, dtypes=(), compiled=False)
    assert str(one).startswith("1 value and ")


def test_a_method_of_numpys_arrays_in_a_formula():
    report = check_op(unary(lambda x: x + 0 * x.sum()), lambda x: x, [(3, 4)])
    assert report.not_compiled[0].startswith("on traced arrays it fails with AttributeError")
    assert "a traced array has no 'sum', which is not of the array API standard: write xp_of(x).sum(x)" in str(report)


def test_a_function_of_math_in_a_formula():
    with pytest.raises(TypeError, match=r"softsign: .*for math\.fabs\(x\) write xp_of\(x\)\.abs\(x\)"):
        check_op(softsign_with(math.fabs), lambda x: x / (1 + np.abs(x)), [(3, 4)])
    text = explain(lambda h, x: softsign_with(math.fabs)(h + x), Tensor(0.5), Tensor([1.0, 2.0]))
    assert "takes a scalar" in text and "of a formula's x, `xp_of(x).abs` is `math.fabs`" in text
