"""numba functions for compiled loops: memory by address, matrix products with packed operands, exp and tanh.

Importing this module imports numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from threading import Thread
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.compiler import Compiler
from numba.core.errors import NumbaError
from numba.extending import intrinsic

#: Division by zero is NumPy's; a product and a sum may be contracted to a fused multiply-add.
OPTIONS: dict[str, Any] = {
    "nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "no_cfunc_wrapper": True,
}  # fmt: skip
_INSIDE: dict[str, Any] = OPTIONS | {"no_cpython_wrapper": True}  # called by compiled functions only


class _NoAlias(Compiler):
    """Compiles a function whose pointers do not alias: else its loops are not vectorised."""

    def define_pipelines(self) -> list:
        self.state.flags.noalias = True
        return super().define_pipelines()


def inline(function: Callable) -> Callable:
    """A scalar function for use in loops."""
    return njit(function, **_INSIDE)


def noalias(function: Callable) -> Callable:
    """A function of pointers to memory that does not overlap."""
    return njit(function, pipeline_class=_NoAlias, **_INSIDE)


def entry(function: Callable) -> Callable:
    """A function of an array of integers and addresses, compiled immediately."""
    return njit("void(int64[::1])", **OPTIONS)(function)


# -- memory ----------------------------------------------------------------------------------------------------------


def _pointer_to(element: Any) -> Callable:
    @intrinsic
    def pointer(_: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(element)(address), code

    return pointer


#: By dtype the function from an address to a pointer. A boolean is a byte.
POINTERS = {name: _pointer_to(getattr(types, name)) for name in ("float32", "float64", "int32", "int64")}
POINTERS["bool"] = _pointer_to(types.int8)

# -- products --------------------------------------------------------------------------------------------------------

#: Rows and bytes of a block of the result at most, which is accumulated in registers.
_HEIGHT, _BYTES = 6, 384


def pack(matrix: np.ndarray, panels: np.ndarray) -> None:
    """Copy a matrix (k, n) into panels (-, k, width) of adjacent columns, in the order in which a product reads them.

    The last panel ends with the matrix; it may overlap the one before.
    """
    rows, columns = matrix.shape
    width = panels.shape[2]
    full, rest = divmod(columns, width)
    panels[:full] = matrix[:, : full * width].reshape(rows, full, width).transpose(1, 0, 2)
    if rest:
        panels[full] = matrix[:, columns - width :]


@intrinsic(prefer_literal=True)
def product(
    _: Any, m: Any, k: Any, n: Any, a: Any, a_start: Any, a_row: Any, a_column: Any, b: Any, b_start: Any, b_width: Any,
    c: Any, c_start: Any, c_row: Any,
) -> Any:  # fmt: skip
    """c = a b, (m, n) = (m, k) (k, n), with b packed in panels of a width. Starts and strides count elements.

    BLAS packs b at every call, which dominates small products with the same b at all steps. Each block of c, a few rows
    by a panel, is accumulated in vector registers over all of k.
    """
    rows, inner, columns = m.literal_value, k.literal_value, n.literal_value
    c_type = c.dtype
    row_stride, column_stride, out_stride = a_row.literal_value, a_column.literal_value, c_row.literal_value
    width, item = b_width.literal_value, np.dtype(c.dtype.name).itemsize
    blocks = -(-rows // min(_HEIGHT, max(1, _BYTES // (width * item))))
    height, taller = divmod(rows, blocks)  # that many blocks have one more row

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, _, a, a_start, _, _, b, b_start, _, c, c_start, _ = arguments
        vector = ir.VectorType(context.get_value_type(c_type), width)
        index_type, lane_type = ir.IntType(64), ir.IntType(32)

        def constant(value: int) -> Any:
            return ir.Constant(index_type, value)

        def at(pointer: Any, start: Any, *steps: tuple[Any, int]) -> Any:
            for index, stride in steps:
                start = builder.add(start, builder.mul(index, constant(stride)))
            return builder.gep(pointer, [start])

        def broadcast(x: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(lane_type, 0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(lane_type, width), [0] * width))

        def block(row: Any, panel: Any, column: Any, height: int) -> None:
            totals = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * width)) for _ in range(height)]
            for total in totals:
                builder.store(ir.Constant(vector, [0.0] * width), total)
            with cgutils.for_range(builder, constant(inner)) as steps:
                pointer = at(b, b_start, (panel, inner * width), (steps.index, width))
                right = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=item)
                for i, total in enumerate(totals):
                    pointer = at(a, a_start, (builder.add(row, constant(i)), row_stride), (steps.index, column_stride))
                    term = builder.fmul(broadcast(builder.load(pointer)), right, flags=["contract"])
                    builder.store(builder.fadd(builder.load(total), term, flags=["contract"]), total)
            for i, total in enumerate(totals):
                pointer = at(c, c_start, (builder.add(row, constant(i)), out_stride), (column, 1))
                builder.store(builder.load(total), builder.bitcast(pointer, vector.as_pointer()), align=item)

        with cgutils.for_range(builder, constant(-(-columns // width))) as panels:
            column = builder.mul(panels.index, constant(width))
            last = constant(columns - width)
            column = builder.select(builder.icmp_signed("<", column, last), column, last)
            with cgutils.for_range(builder, constant(taller)) as some:
                block(builder.mul(some.index, constant(height + 1)), panels.index, column, height + 1)
            with cgutils.for_range(builder, constant(blocks - taller)) as some:
                row = builder.add(constant(taller * (height + 1)), builder.mul(some.index, constant(height)))
                block(row, panels.index, column, height)
        return context.get_dummy_value()

    return types.void(m, k, n, a, a_start, a_row, a_column, b, b_start, b_width, c, c_start, c_row), code


# -- scalar functions --------------------------------------------------------------------------------------------


@inline
def select(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


@inline
def maximum(a: Any, b: Any) -> Any:
    """The larger one; NaN if either is NaN."""
    return a if a >= b or a != a else b


@inline
def minimum(a: Any, b: Any) -> Any:
    return a if a <= b or a != a else b


@inline
def power(a: Any, b: Any) -> Any:
    return a**b


@njit(**(_INSIDE | {"fastmath": {"contract", "reassoc"}}))
def plus(a: Any, b: Any) -> Any:
    """a + b in a longer sum that may be reassociated."""
    return a + b


@intrinsic
def _power_of_two(_: Any, shifted: Any) -> Any:
    """2ᵏ, where k is in the lowest bits of the mantissa of `shifted`."""
    info = np.finfo(shifted.name)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = ir.IntType(info.bits)
        exponent = builder.shl(builder.bitcast(arguments[0], bits), ir.Constant(bits, info.nmant))
        exponent = builder.add(exponent, ir.Constant(bits, (info.maxexp - 1) << info.nmant))
        return builder.bitcast(exponent, context.get_value_type(signature.return_type))

    return shifted(shifted), code


def _exponentials(real: type, terms: int, digits: int) -> tuple[Callable, Callable]:
    """exp and tanh in plain arithmetic, which vectorises unlike library calls; errors are at most 1 and 3 ulps.

    With x = k ln 2 + r, |r| ≤ ½ ln 2:  eˣ = 2ᵏ eʳ, and eʳ is its Taylor series to the precision of the dtype. Adding a
    large constant rounds x / ln 2 to k and leaves k in the lowest bits. ln 2 is split in two, so that k times the first
    part, of `digits` binary digits, is exact (Cody and Waite). tanh x = e / (e + 2) with
    e = e²ˣ − 1 = 2ᵏ (eʳ − 1) + (2ᵏ − 1). Arguments are clamped first to where the result changes; NaN is preserved.
    """
    info, power_of_two = np.finfo(real), cast(Callable, _power_of_two)
    with localcontext() as context:
        context.prec = 50
        log_2 = Decimal(2).ln()
        log_2_high = round(float(log_2) * 2**digits) / 2**digits
        high, low, per_log_2 = real(log_2_high), real(float(log_2 - Decimal(log_2_high))), real(float(1 / log_2))
    one, two, half, shift = real(1), real(2), real(0.5), real(1.5 * 2**info.nmant)
    coefficients = [real(1 / math.factorial(n)) for n in range(terms, 0, -1)]
    first, rest = coefficients[0], tuple(coefficients[1:])
    largest, smallest = real(math.log(info.max) + 1), real(math.log(info.tiny) - math.log(2) * (info.nmant + 2))
    saturated = real(info.nmant + 3) * real(math.log(2))

    @inline
    def series(r: Any) -> Any:
        """eʳ − 1"""
        total = first
        for coefficient in rest:
            total = total * r + coefficient
        return total * r

    @inline
    def exp(x: Any) -> Any:
        x = largest if x > largest else x
        x = smallest if x < smallest else x
        k = (x * per_log_2 + shift) - shift
        r = (x - k * high) - k * low
        halved = k * half + shift  # 2ᵏ itself may overflow or underflow
        return (series(r) + one) * power_of_two(halved) * power_of_two((k - (halved - shift)) + shift)

    @inline
    def tanh(x: Any) -> Any:
        y = x + x
        y = saturated if y > saturated else y
        y = -saturated if y < -saturated else y
        shifted = y * per_log_2 + shift
        k = shifted - shift
        power = power_of_two(shifted)
        e = power * series((y - k * high) - k * low) + (power - one)
        return e / (e + two)

    return exp, tanh


_exp_32, _tanh_32 = _exponentials(np.float32, terms=7, digits=12)
_exp_64, _tanh_64 = _exponentials(np.float64, terms=13, digits=32)


def in_threads(loop: Callable, steps: list[np.ndarray]) -> None:
    """Run the loop in a thread for each share of the batch."""
    others = [Thread(target=loop, args=(share,)) for share in steps[1:]]
    for thread in others:
        thread.start()
    loop(steps[0])
    for thread in others:
        thread.join()


#: The names that the source of a loop uses.
IN_LOOPS: dict[str, Any] = {
    "noalias": noalias, "entry": entry, "product": product, "select": select, "maximum": maximum, "minimum": minimum,
    "plus": plus, "power": power, "exp_float32": _exp_32, "tanh_float32": _tanh_32, "exp_float64": _exp_64,
    "tanh_float64": _tanh_64, "inf": np.inf, "nan": np.nan,
}  # fmt: skip
IN_LOOPS |= {f"pointer_{name}": pointer for name, pointer in POINTERS.items()}
IN_LOOPS |= {name: getattr(types, name) for name in POINTERS if name != "bool"}
IN_LOOPS |= {name: getattr(np, name) for name in ("expm1", "log", "log1p", "sqrt", "sin", "cos", "sign", "abs")}


def compiled(source: str, filename: str) -> Callable:
    """The function `loop` that a source defines."""
    scope = dict(IN_LOOPS)
    try:
        exec(compile(source, filename, "exec"), scope)
    except NumbaError as error:
        raise RuntimeError(
            f"compiled='numba': numba cannot compile the loop of a step, {filename}, which is a bug of tinygrad_gru; "
            f"compiled=True runs the step without numba ({str(error).strip()})"
        ) from error
    return scope["loop"]
