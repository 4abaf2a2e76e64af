"""Accuracy of elementwise functions and their derivatives: errors in ulp, against an oracle of 50 digits.

`--quick` takes few inputs and writes no results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, ops, scan

from .timing import installed, report, row

COMMAND = "python -m benchmarks.accuracy"
#: The largest errors allowed, in ulp: in float16 against the rounded result, otherwise against the exact one.
LIMITS = {"float16": 1.0, "float32": 4.0, "float64": 4.0}
COUNT = {"float32": 1_000_000, "float64": 300_000}
TARGETS: dict[str, Any] = {"eager": False, "compiled, NumPy": "numpy", "compiled, LLVM": "llvm"}
EXPLANATION = """\
The largest error over the sample, and its input, in units in the last place (ulp) of the result; for subnormal results
an ulp is the smallest number. float16: all numbers of the domain, and the distance to the *rounded* exact result.
float32: a million, float64: 300,000 inputs, half of them uniform over the bit patterns of the domain, half uniform over
its middle, |x| < 120 or 800. A derivative is the result of backward for a cotangent of 1.

The oracle is x87's extended precision (64 bits, errors below 2⁻⁶³, which is 0.001 ulp of float64), in formulas without
cancellation. It is checked against mpmath with 50 digits at 200 inputs of every function and at the worst of every row;
a difference of more than 0.01 ulp is an error.

- *of terms*: where a result is a difference of terms that cancel, its ulp is that of the largest term.
- *of 1*: σ′ = y (1 − y) and tanh′ = 1 − y² are computed from the output, as in other frameworks: up to a rounding of
  y, which is one of 1. Where y is nearly ±1 they lose relative accuracy, and underflow to 0."""


@dataclass(frozen=True)
class Function:
    """A function to measure. Its oracle works with NumPy's long double and with mpmath, as the namespace `m`.

    domain  the range of inputs; None for all
    unit    (a label, the value whose ulp is the unit of error), if not the result
    slow    whether mpmath itself is the oracle, on fewer inputs: long double would lose digits
    """

    name: str
    ours: Callable[[Any], Any]
    oracle: Callable[[Any, Any], Any]
    domain: tuple[float, float] | None = None
    derivative: bool = False
    unit: tuple[str, Callable[[Any, Any], Any]] | None = None
    slow: bool = False


def _sigma(m: Any, x: Any) -> Any:
    return 1 / (1 + m.exp(-x))


def _inner(m: Any, x: Any) -> Any:
    """2u of gelu."""
    c = 8 / m.pi if m is not np else 8 / _PI
    return m.sqrt(c) * (x + _decimal(m, "0.044715") * x * x * x)


def _gelu_slope(m: Any, x: Any) -> Any:
    s, slope = _sigma(m, _inner(m, x)), m.sqrt(8 / (m.pi if m is not np else _PI))
    return s * (1 + x * _sigma(m, -_inner(m, x)) * slope * (1 + 3 * _decimal(m, "0.044715") * x * x))


def _decimal(m: Any, text: str) -> Any:
    return np.longdouble(text) if m is np else m.mpf(text)


_PI = np.longdouble("3.14159265358979323846264338327950288")
#: Beyond it long double has no exponentials, and every function here is 0, 1 or x.
_EXP = (-1e4, 1e4)
_NORMAL = (-87.0, 1e4)
_POSITIVE = (0.0, np.inf)
_GELU = (-8.0, 40.0)
_ONE = ("of 1", lambda m, x: 1 + 0 * x)

FUNCTIONS = [
    Function("eˣ", ops.exp, lambda m, x: m.exp(x), _EXP),
    Function("eˣ − 1", ops.expm1, lambda m, x: m.expm1(x), _EXP),
    Function("its derivative", ops.expm1, lambda m, x: m.exp(x), _EXP, True),
    Function("log x", ops.log, lambda m, x: m.log(x), _POSITIVE),
    Function("its derivative", ops.log, lambda m, x: 1 / x, _POSITIVE, True),
    Function("log(1 + x)", ops.log1p, lambda m, x: m.log1p(x), (-1.0, np.inf)),
    Function("its derivative", ops.log1p, lambda m, x: 1 / (1 + x), (-1.0, np.inf), True),
    Function("√x", ops.sqrt, lambda m, x: m.sqrt(x), _POSITIVE),
    Function("its derivative", ops.sqrt, lambda m, x: 1 / (2 * m.sqrt(x)), _POSITIVE, True),
    Function("sin x", ops.sin, lambda m, x: m.sin(x)),
    Function("cos x", ops.cos, lambda m, x: m.cos(x)),
    Function("1 / x", lambda x: 1 / x, lambda m, x: 1 / x),
    Function("its derivative", lambda x: 1 / x, lambda m, x: -1 / (x * x), None, True),
    Function("x^2.5", lambda x: x**2.5, lambda m, x: x * x * m.sqrt(x), _POSITIVE),
    Function("its derivative", lambda x: x**2.5, lambda m, x: 5 * x * m.sqrt(x) / 2, _POSITIVE, True),
    Function("2ˣ", lambda x: ops.power(2.0, x), lambda m, x: m.power(_decimal(m, "2"), x), _EXP),
    Function("tanh x", ops.tanh, lambda m, x: m.tanh(x), _EXP),
    Function("its derivative", ops.tanh, lambda m, x: 4 * _sigma(m, 2 * x) * _sigma(m, -2 * x),
             (-5e3, 5e3), True, _ONE),
    Function("σ(x)", ops.sigmoid, _sigma, _EXP),
    Function("its derivative", ops.sigmoid, lambda m, x: _sigma(m, x) * _sigma(m, -x), _EXP, True, _ONE),
    Function("log σ(x)", ops.log_sigmoid, lambda m, x: -m.log1p(m.exp(-x)), _EXP),
    Function("its derivative", ops.log_sigmoid, lambda m, x: _sigma(m, -x), _EXP, True),
    Function("softplus x", ops.softplus, lambda m, x: m.log1p(m.exp(x)), _EXP),
    Function("its derivative", ops.softplus, _sigma, _EXP, True),
    Function("silu x", ops.silu, lambda m, x: x * _sigma(m, x), _NORMAL),
    Function("its derivative", ops.silu, lambda m, x: _sigma(m, x) * (1 + x * _sigma(m, -x)), _NORMAL, True,
             ("of terms", lambda m, x: _sigma(m, x) * (1 + abs(x) * _sigma(m, -x)))),
    Function("gelu x", ops.gelu, lambda m, x: x * _sigma(m, _inner(m, x)), _GELU, slow=True),
    Function("its derivative", ops.gelu, _gelu_slope, _GELU, True,
             ("of terms", lambda m, x: _sigma(m, _inner(m, x)) + abs(_gelu_slope(m, x))), slow=True),
    Function("elu x", ops.elu, lambda m, x: _where(m, x > 0, x, m.expm1(_negative(m, x))), _EXP),
    Function("its derivative", ops.elu, lambda m, x: _where(m, x > 0, 1 + 0 * x, m.exp(_negative(m, x))), _EXP, True),
    Function("BCE of the logit x, t = 1", lambda x: _bce(x, 1.0), lambda m, x: m.log1p(m.exp(-x)), _EXP),
    Function("its derivative", lambda x: _bce(x, 1.0), lambda m, x: -_sigma(m, -x), _EXP, True),
    Function("BCE of the logit x, t = 1/4", lambda x: _bce(x, 0.25),
             lambda m, x: (m.log1p(m.exp(-x)) + 3 * m.log1p(m.exp(x))) / 4, _EXP),
]  # fmt: skip


def _where(m: Any, condition: Any, a: Any, b: Any) -> Any:
    return np.where(condition, a, b) if m is np else a if condition else b


def _negative(m: Any, x: Any) -> Any:
    return np.minimum(x, 0) if m is np else min(x, 0)


def _bce(x: Any, target: float) -> Any:
    return ops.binary_cross_entropy_with_logits(x, np.full(x.shape, target, x.dtype), reduction="none")


def inputs(function: Function, dtype: str, count: int) -> np.ndarray:
    """The sample of finite inputs, the same at every call."""
    low, high = function.domain or (-np.inf, np.inf)
    floating = np.dtype(dtype)
    bits = np.dtype(f"uint{8 * floating.itemsize}")
    if dtype == "float16" and count >= 2**16:
        x = np.arange(2**16, dtype=bits).view(floating)
    else:
        random = np.random.default_rng(0)
        middle = 800.0 if dtype == "float64" else 120.0
        spread = random.integers(0, np.iinfo(bits).max, count // 2, bits, endpoint=True).view(floating)
        x = np.concatenate([spread, random.uniform(max(low, -middle), min(high, middle), count // 2).astype(floating)])
    with np.errstate(invalid="ignore"):
        return x[np.isfinite(x) & (x > low) & (x < high) & (x != 0)]


def results(function: Function, x: np.ndarray, target: Any) -> np.ndarray:
    """The function or its derivative at x, computed by a target."""
    columns = 4096
    rows = -(-len(x) // columns)
    padded = Tensor(np.resize(x, (rows, columns)), requires_grad=True)
    with np.errstate(over="ignore", divide="ignore", under="ignore"):
        if target is False:
            y = function.ours(padded)
        else:
            start = Tensor(np.zeros((1, columns), x.dtype))  # values that depend on the carry are computed in the loop
            _, y = scan(
                lambda h, row: (h, function.ours(h + row)), start, padded.reshape(rows, 1, columns), compiled=target
            )
        if function.derivative:
            y.backward(np.ones(y.shape, x.dtype))
            y = padded.grad
    return y.numpy().reshape(-1)[: len(x)]


def exact(function: Function, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exact values, and those whose ulp is the unit of error, in long double."""
    if function.slow:
        return _exact_by_mpmath(function, x)
    wide = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        y = function.oracle(np, wide)
        return y, y if function.unit is None else function.unit[1](np, wide)


def _exact_by_mpmath(function: Function, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import mpmath

    def wide(value: Any) -> np.longdouble:
        with mpmath.workprec(64):
            fraction, exponent = mpmath.frexp(+value)
            high = float(fraction)
            return np.ldexp(np.longdouble(high) + np.longdouble(float(fraction - high)), exponent)

    with mpmath.workdps(50):
        values = [mpmath.mpf(value) for value in x.astype(float).tolist()]
        right = np.array([wide(function.oracle(mpmath.mp, value)) for value in values])
        scale = right if function.unit is None else np.array([wide(function.unit[1](mpmath.mp, v)) for v in values])
    return right, scale


def ulp_of(y: np.ndarray, dtype: str) -> np.ndarray:
    """The unit in the last place (ulp) of a dtype at the magnitude of y."""
    info = np.finfo(dtype)
    _, exponent = np.frexp(np.abs(y))
    return np.ldexp(np.longdouble(1), np.maximum(exponent - info.nmant - 1, info.minexp - info.nmant))


def errors(function: Function, x: np.ndarray, target: Any) -> np.ndarray:
    """The errors of the results, in ulp."""
    dtype = x.dtype.name
    y, (right, scale) = results(function, x, target), exact(function, x)
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "float16":
            right = right.astype(dtype).astype(np.longdouble)
        beyond = np.abs(right) > np.finfo(dtype).max
        distance = np.abs(y.astype(np.longdouble) - right) / ulp_of(scale, dtype)
        distance[beyond & np.isinf(y)] = 0
        distance[beyond & (np.abs(y) == np.finfo(dtype).max)] = 0.5
    return np.where(np.isnan(distance), np.inf, distance).astype(float)


def confirm(function: Function, x: np.ndarray) -> None:
    """Compare the oracle with mpmath. Raises AssertionError if they differ by more than 0.01 ulp of float64."""
    import mpmath

    with mpmath.workdps(50):
        for value, right in zip(x.tolist(), exact(function, x)[0]):
            if not 0 < abs(right) < np.finfo(np.longdouble).max:
                continue
            sure = function.oracle(mpmath.mp, mpmath.mpf(value))
            fraction, exponent = np.frexp(right)
            high = float(fraction)
            found = (mpmath.mpf(high) + mpmath.mpf(float(fraction - high))) * mpmath.mpf(2) ** int(exponent)
            scale = sure if function.unit is None else function.unit[1](mpmath.mp, mpmath.mpf(value))
            assert abs(found - sure) <= 0.01 * 2**-52 * abs(scale) + mpmath.mpf(2) ** -1090, (function, value)


def cases(count: dict[str, int]) -> Iterator[tuple[Function, str, str, Any, float]]:
    """Every function in every dtype on every target, with its worst input and the error there."""
    for function in FUNCTIONS:
        for dtype in LIMITS:
            x = inputs(function, dtype, min(count.get(dtype, 2**16), 6000 if function.slow else 2**30))
            confirm(function, x[:: max(1, len(x) // 200)].astype(float))
            for name, target in TARGETS.items():
                if target == "llvm" and (dtype == "float16" or not installed("llvmlite")):
                    continue
                found = errors(function, x, target)
                worst = int(np.argmax(found))
                confirm(function, x[worst : worst + 1].astype(float))
                yield function, dtype, name, x[worst], float(found[worst])


def main(quick: bool = False) -> None:
    count = {"float16": 1000, "float32": 4000, "float64": 4000} if quick else COUNT
    columns = [
        f"{dtype}, {name}" for dtype in LIMITS for name in TARGETS if (dtype, name) != ("float16", "compiled, LLVM")
    ]
    lines, above, found = [EXPLANATION, "", row(["", *columns]), row(["---"] * (len(columns) + 1))], [], {}
    for function, dtype, name, x, error in cases(count):
        found[f"{dtype}, {name}"] = f"{error:.2f}"
        if error > LIMITS[dtype]:
            above.append(f"- {full_name(function)} in {dtype}, {name}: {error:.1f} at x = {x:.9g}")
        if len(found) == len(columns):
            unit = f" ({function.unit[0]})" if function.unit else ""
            lines.append(row([function.name + unit, *(found[column] for column in columns)]))
            print(lines[-1], flush=True)
            found = {}
    lines += ["", "Above the limits (4 ulp; in float16 1 ulp of the rounded result):", "", *(above or ["- nothing"])]
    if quick:
        print("\n".join(lines))
    else:
        report("accuracy", "Accuracy of elementwise functions", COMMAND, lines, ["llvmlite", "mpmath"])


def full_name(function: Function) -> str:
    """The name of a function, or of a derivative with its function."""
    before = FUNCTIONS[FUNCTIONS.index(function) - 1].name
    return f"the derivative of {before}" if function.derivative else function.name


if __name__ == "__main__":
    main("--quick" in sys.argv)
