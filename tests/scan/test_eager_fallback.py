"""Steps that cannot be compiled run eagerly, with the same results and errors."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scan.agreement import LENGTH, H, assert_close, gradients, leaves, run
from tinygrad_gru import Tensor, explain, op, ops, scan
from tinygrad_gru.scan.tracing.traced_array import Untraceable
from tinygrad_gru.scan.tracing.tracer import trace_forward

pytestmark = pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning")

KNOWN_LATE = "values that are known only when it runs"


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda h, x: h + x if ops.sum(x) > 0 else h, KNOWN_LATE),
        (lambda h, x: h + (x if x[0, 0] else h), KNOWN_LATE),
        (lambda h, x: h * max(x[0, 0], h[0, 0]), KNOWN_LATE),
        (lambda h, x: h * float(ops.sum(x)), KNOWN_LATE),
        (lambda h, x: h + x.numpy(), KNOWN_LATE),
        (lambda h, x: h + ops.sum(x[x > 0]), "by a mask"),
    ],
    ids=["if", "if an element", "max", "float", "numpy", "a mask"],
)
def test_steps_that_depend_on_values_run_eagerly_and_say_why(step, reason, rng, request):
    (start,), (x,) = leaves(rng, [H]), leaves(rng, [H], LENGTH)
    with pytest.raises(Untraceable, match=reason):
        trace_forward(step, start, x)
    results = []
    for compiled in (None, False):
        request.getfixturevalue("seeded")
        outputs = run(step, [start], [x], compiled=compiled)
        results.append([*(y.numpy() for y in outputs), *gradients(outputs, [start, x])])
    assert_close(*results, tolerance=0)


@op
def cubed(x):
    """y = x³"""
    return x * x * x


cubed.vjp(x=lambda g, x: g * np.float64(3) * np.square(x, dtype=x.dtype))  # a rule that traced arrays do not support


def test_explain_says_why_only_backward_cannot_be_compiled():
    x, start = Tensor(np.ones((3, 2)), requires_grad=True), Tensor(np.ones(2))
    text = explain(lambda h, x: h * cubed(x), start, x)
    assert "runs eagerly" in text and "on traced arrays it fails" in text
    scan(lambda h, x: h * cubed(x), start, x)[0].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((3, 2), 3.0))


def test_both_modes_check_the_carry():
    x, start = Tensor(np.ones((2, 3))), Tensor(np.ones(3))
    for step in (
        lambda h, x: h.astype("float32"), lambda h, x: h[:2], lambda h, x: ((h, h), x), lambda h, x: h[None, ...],
        lambda h, x: None,
    ):  # fmt: skip
        errors = []
        for compiled in (False, True):
            with pytest.raises(ValueError, match="carry must keep its structure, shapes and dtypes") as raised:
                scan(step, start, x, compiled=compiled)
            errors.append(str(raised.value))
        assert errors[0] == errors[1]


def test_errors_in_the_step_are_the_same_in_both_modes():
    x, start = Tensor(np.ones((2, 3, 4))), Tensor(np.ones((3, 5)))
    errors = []
    for compiled in (False, True):
        with pytest.raises(ValueError, match="add") as raised:
            scan(lambda h, x: h + x, start, x, compiled=compiled)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]
