"""A small part of `python -m benchmarks.accuracy`: errors of elementwise functions in ulp."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import accuracy

mpmath = pytest.importorskip("mpmath")
pytestmark = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="the oracle needs x87's long double")
ORDINARY = [f for f in accuracy.FUNCTIONS if not f.slow]


def identify(function):
    return accuracy.full_name(function)


@pytest.mark.parametrize("function", ORDINARY, ids=identify)
def test_errors_are_within_the_limits_in_every_dtype_eager_and_compiled(function):
    for dtype, most in accuracy.LIMITS.items():
        x = accuracy.inputs(function, dtype, 4000)
        accuracy.confirm(function, x[::400].astype(float))
        for target in (False, "numpy"):
            found = accuracy.errors(function, x, target)
            assert found.max() <= most, (dtype, target, x[found.argmax()])


def test_tails_are_accurate_with_llvm():
    pytest.importorskip("llvmlite")
    for name in ("σ(x)", "silu x", "tanh x"):
        (function,) = (f for f in accuracy.FUNCTIONS if f.name == name)
        x = accuracy.inputs(function, "float32", 4000)
        assert accuracy.errors(function, x, "llvm").max() <= 4


def test_errors_of_gelu_are_those_of_its_inner_polynomial():
    for function in (f for f in accuracy.FUNCTIONS if f.slow):
        for dtype, most in {"float16": 1, "float32": 200, "float64": 200}.items():
            assert accuracy.errors(function, accuracy.inputs(function, dtype, 300), False).max() <= most


def _slightly_wrong(m, x):
    return m.exp(x) * (1 + 2.0**-52 if m is np else 1)


def test_inaccurate_functions_are_detected():
    """A function that is inaccurate in its tail, as ½ tanh(½x) + ½ is, and one that is off by 6 ulp."""
    (sigma,) = (f for f in accuracy.FUNCTIONS if f.name == "σ(x)")
    x = accuracy.inputs(sigma, "float32", 2000)
    for wrong in (lambda x: (x * 0.5).tanh() * 0.5 + 0.5, lambda x: 1 / (1 + (-x.clip(-80, None)).exp()) * (1 + 4e-7)):
        function = accuracy.Function("wrong", wrong, sigma.oracle, sigma.domain)
        assert accuracy.errors(function, x, False).max() > 4
    with pytest.raises(AssertionError):
        accuracy.confirm(accuracy.Function("wrong", wrong, _slightly_wrong), np.array([1.0]))
