"""The functions that texts call: arithmetic on values, and what is left to the C library."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from .builder import FLOATS, Builder, Value

#: What a text calls: a function of the builder and of values.
Function = Callable[..., Any]


def _float(value: Any, function: str) -> Value:
    if not isinstance(value, Value) or value.lane not in FLOATS:
        raise TypeError(f"{function} of {getattr(value, 'name', value)}: convert it to a float")
    return value


def maximum(b: Builder, x: Any, y: Any) -> Value:
    """The larger one; NaN if either is NaN."""
    return _extreme(b, x, y, lambda x, y: x >= y)


def minimum(b: Builder, x: Any, y: Any) -> Value:
    return _extreme(b, x, y, lambda x, y: x <= y)


def _extreme(b: Builder, x: Any, y: Any, is_first: Callable[[Any, Any], Any]) -> Any:
    first = is_first(x, y)
    if isinstance(x, Value) and x.lane in FLOATS:
        first = first | (x != x)
    return b.select(first, x, y)


def plus(b: Builder, x: Any, y: Any) -> Value:
    """x + y in a longer sum that may be reassociated."""
    return b.arithmetic("add", x, y, flags="contract reassoc")


def absolute(b: Builder, x: Value) -> Value:
    if x.lane in FLOATS:
        return b.call(f"llvm.fabs.{FLOATS[x.lane]}", x)
    return b.select(x < 0, 0 - x, x)


def sign(b: Builder, x: Value) -> Value:
    """−1, 0 or 1; NaN stays NaN."""
    zero = b.constant(0, x)
    is_number = b.select(x == x, zero, x)
    return b.select(x > 0, b.constant(1, x), b.select(x < 0, b.constant(-1, x), is_number))


def remainder(b: Builder, x: Any, y: Any) -> Value:
    """x − y ⌊x / y⌋ of integers; 0 if y is 0, as in NumPy."""
    _, rest, overshoots, y = _division(b, x, y)
    return b.select(overshoots, rest + y, rest)


def floor_divide(b: Builder, x: Any, y: Any) -> Value:
    """⌊x / y⌋ of integers; 0 if y is 0, as in NumPy."""
    quotient, _, overshoots, divisor = _division(b, x, y)
    result = b.select(overshoots, quotient - 1, quotient)
    return b.select(y == 0, b.constant(0, divisor), b.select(y == -1, 0 - x, result))


def _division(b: Builder, x: Any, y: Any) -> tuple[Value, Value, Value, Value]:
    """The quotient, towards 0, and the rest, whether they overshoot towards 0, and the divisor: 1 instead of 0 and −1,
    for which processors trap."""
    x, y = b._same(x, y)
    divisor = b.select((y == 0) | (y == -1), b.constant(1, y), y)
    quotient = b.instruction(x.type, f"sdiv {x}, {divisor.text}")
    rest = b.instruction(x.type, f"srem {x}, {divisor.text}")
    overshoots = (rest != 0) & ((rest < 0) != (divisor < 0))
    return quotient, rest, overshoots, divisor


def _intrinsic(name: str) -> Function:
    def function(b: Builder, *operands: Value) -> Value:
        return b.call(f"llvm.{name}.{FLOATS[_float(operands[0], name).type]}", *operands)

    return function


def _of_c(name: str) -> Function:
    """A function of the C library."""

    def function(b: Builder, x: Value) -> Value:
        return b.call(name + ("f" if _float(x, name).type == "float" else ""), x)

    return function


def exponentials(real: type, terms: int, digits: int) -> tuple[Function, Function]:
    """exp and tanh in plain arithmetic, which vectorises unlike library calls; errors are at most 1 and 3 ulps.

    With x = k ln 2 + r, |r| ≤ ½ ln 2:  eˣ = 2ᵏ eʳ, and eʳ is its Taylor series to the precision of the dtype. Adding a
    large constant rounds x / ln 2 to k and leaves k in the lowest bits. ln 2 is split in two, so that k times the first
    part, of `digits` binary digits, is exact (Cody and Waite). tanh x = e / (e + 2) with
    e = e²ˣ − 1 = 2ᵏ (eʳ − 1) + (2ᵏ − 1). Arguments are clamped first to where the result changes; NaN is preserved.
    """
    info = np.finfo(real)
    with localcontext() as context:
        context.prec = 50
        log_2 = Decimal(2).ln()
        log_2_high = round(float(log_2) * 2**digits) / 2**digits
        high, low, per_log_2 = log_2_high, float(log_2 - Decimal(log_2_high)), float(1 / log_2)
    shift = 1.5 * 2**info.nmant
    coefficients = [1 / math.factorial(n) for n in range(terms, 0, -1)]
    largest = float(real(math.log(info.max) + 1))
    smallest = float(real(math.log(info.tiny) - math.log(2) * (info.nmant + 2)))
    saturated = float(real(info.nmant + 3) * real(math.log(2)))

    def series(r: Value) -> Value:
        """eʳ − 1"""
        total = r * coefficients[0] + coefficients[1]
        for coefficient in coefficients[2:]:
            total = total * r + coefficient
        return total * r

    def power_of_two(b: Builder, shifted: Value) -> Value:
        """2ᵏ, where k is in the lowest bits of the mantissa of `shifted`."""
        integer = f"i{info.bits}"
        bits = b.instruction(integer, f"bitcast {shifted} to {integer}")
        exponent = b.instruction(integer, f"shl {bits}, {info.nmant}")
        exponent = b.instruction(integer, f"add {exponent}, {(info.maxexp - 1) << info.nmant}")
        return b.instruction(shifted.type, f"bitcast {exponent} to {shifted.type}")

    def exp(b: Builder, x: Value) -> Value:
        x = b.select(x > largest, largest, x)
        x = b.select(x < smallest, smallest, x)
        k = (x * per_log_2 + shift) - shift
        r = (x - k * high) - k * low
        halved = k * 0.5 + shift  # 2ᵏ itself may overflow or underflow
        return (series(r) + 1) * power_of_two(b, halved) * power_of_two(b, (k - (halved - shift)) + shift)

    def tanh(b: Builder, x: Value) -> Value:
        y = x + x
        y = b.select(y > saturated, saturated, y)
        y = b.select(y < -saturated, -saturated, y)
        shifted = y * per_log_2 + shift
        k = shifted - shift
        power = power_of_two(b, shifted)
        e = power * series((y - k * high) - k * low) + (power - 1)
        return e / (e + 2)

    return exp, tanh


_exp_32, _tanh_32 = exponentials(np.float32, terms=7, digits=12)
_exp_64, _tanh_64 = exponentials(np.float64, terms=13, digits=32)


def _by_type(of_float: Function, of_double: Function) -> Function:
    def function(b: Builder, x: Value) -> Value:
        return (of_float if _float(x, "exp or tanh").type == "float" else of_double)(b, x)

    return function


def wait_for_change(b: Builder, pointer: Value, index: Any, count: Any) -> Value:
    """Read an integer, which another thread will change, until it is not 0, or so many times; returns the last one."""
    place, count = b.offset(pointer, index), b.cast(count, "i64")
    again, end = b.labels("loop", "end")
    before = b.block
    b.emit(f"br label %{again}")
    b.begin(again)
    times = b.instruction("i64", "")
    phi = len(b.lines) - 1
    found = b.instruction("i64", f"load volatile i64, {place}")
    following = times + 1
    waits = (found == 0) & (following < count)
    b.lines[phi] = f"  {times.text} = phi i64 [0, %{before}], [{following.text}, %{again}]"
    b.emit(f"br {waits}, label %{again}, label %{end}")
    b.begin(end)
    return found


FUNCTIONS: dict[str, Function] = {
    "exp": _by_type(_exp_32, _exp_64), "tanh": _by_type(_tanh_32, _tanh_64), "select": Builder.select, "plus": plus,
    "maximum": maximum, "minimum": minimum, "max": maximum, "min": minimum, "abs": absolute, "sign": sign,
    "floor_divide": floor_divide, "remainder": remainder,
    "power": _intrinsic("pow"), "sqrt": _intrinsic("sqrt"), "sin": _intrinsic("sin"), "cos": _intrinsic("cos"),
    "log": _intrinsic("log"), "log1p": _of_c("log1p"), "expm1": _of_c("expm1"),
    "wait_for_change": wait_for_change,
}  # fmt: skip
FUNCTIONS |= {f"{name}_float32": FUNCTIONS[name] for name in ("exp", "tanh")}
FUNCTIONS |= {f"{name}_float64": FUNCTIONS[name] for name in ("exp", "tanh")}
