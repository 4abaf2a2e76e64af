"""Dtype promotion: integers become floats where results are real, half precision computes in float32.

Half precision is a storage format. A formula or a rule that sums, counts, squares, or rounds more than once, runs in
float32 and rounds its result: 16 bits stop counting at 2048, end at 65504 and do not know 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from inspect import CO_VARARGS, CO_VARKEYWORDS
from typing import Any

import numpy as np

from ..backend import as_array, astype, dtype_name, is_floating, is_half, xp_of
from ..backend.numpy import DOUBLE, SINGLE, HostArray
from ..tape import Variable

#: (longest axis that the library sums itself, block size above it). On a GPU many threads share a sum.
_BLOCKS, _BLOCKS_ON_DEVICE = (256, 32), (2**16, 2**10)
_EXACT_IN_FLOAT32 = frozenset({"bool", "int8", "uint8", "int16", "uint16"})


def promote_integers(x: Any) -> tuple[Any, Any]:
    """The array namespace of x, and x as floats, for formulas whose results are real."""
    if type(x) is HostArray and (x.dtype is SINGLE or x.dtype is DOUBLE):
        return np, x
    return xp_of(x), as_floating(x)


def as_floating(x: Any) -> Any:
    """x with integers and booleans as floats: float32 if it represents every value of the dtype exactly, else float64.

    NumPy would promote 8 bits to float16, and squares and differences of integers wrap around.
    """
    dtype = getattr(x, "dtype", None)
    if dtype is None or is_floating(dtype):
        return x
    return _cast(x, "float32" if dtype_name(dtype) in _EXACT_IN_FLOAT32 else "float64")


def accumulate_in_float32(function: Callable) -> Callable:
    """Decorator for a formula, a rule or a function of ops: half precision as first argument is computed in float32."""
    return _with_dtype_conversion(function, real=False)


def real_valued(function: Callable) -> Callable:
    """As `accumulate_in_float32`; and integers as first argument are promoted to floats."""
    return _with_dtype_conversion(function, real=True)


def _with_dtype_conversion(function: Callable, real: bool) -> Callable:
    @wraps(function)
    def converted(x: Any, *others: Any, **settings: Any) -> Any:
        if type(x) is HostArray and (x.dtype is SINGLE or x.dtype is DOUBLE):
            return function(x, *others, **settings)
        dtype = getattr(x, "dtype", None)
        if is_half(dtype):
            arrays = [y for y in others if hasattr(y, "dtype") and is_floating(y.dtype)]
            y = function(in_float32(x), *map(in_float32, others), **settings)
            return _cast(y, dtype) if all(array.dtype == dtype for array in arrays) else y
        if not real or (dtype is not None and is_floating(dtype)):
            return function(x, *others, **settings)
        y = function(as_array(x, "float64") if dtype is None else as_floating(x), *others, **settings)
        return _cast(y, "float32") if isinstance(y, Variable) else y

    # Python passes `*others, **settings` on in 0.3 µs, as long as NumPy takes for a small array.
    @wraps(function)
    def converted_one(x: Any) -> Any:
        plain = type(x) is HostArray and (x.dtype is SINGLE or x.dtype is DOUBLE)
        return function(x) if plain else converted(x)

    @wraps(function)
    def converted_two(x: Any, other: Any) -> Any:
        plain = type(x) is HostArray and (x.dtype is SINGLE or x.dtype is DOUBLE)
        return function(x, other) if plain else converted(x, other)

    code = getattr(function, "__code__", None)
    if code is None or code.co_kwonlyargcount or code.co_flags & (CO_VARARGS | CO_VARKEYWORDS):
        return converted
    by_inputs: dict[int, Callable] = {1: converted_one, 2: converted_two}
    return by_inputs.get(code.co_argcount, converted)


def pairwise_sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Σ x by pairwise summation: sums of blocks, sums of those, and so on; rounding grows with log n, not with n.

    NumPy itself does so along the contiguous axis only, and along others adds row after row: three million times 0.1 in
    float32 is then 3 % too small.
    """
    xp, shape, (longest, block) = xp_of(x), x.shape, _BLOCKS if type(x) is HostArray else _BLOCKS_ON_DEVICE
    sum_of: Any = np.add.reduce if type(x) is HostArray else xp.sum  # as np.sum does, after a while
    if x.size <= longest or not hasattr(type(x), "strides") or not is_floating(x.dtype):
        return sum_of(x, axis=axis, keepdims=keepdims)
    axes = tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    is_valid = len({a % len(shape) for a in axes if -len(shape) <= a < len(shape)}) == len(axes)
    is_flat = len(axes) == len(shape) and x.flags.c_contiguous
    if not is_valid or is_flat or math.prod([shape[a] for a in axes]) <= longest:
        return sum_of(x, axis=axis, keepdims=keepdims)
    for a in sorted((a % len(shape) for a in axes), reverse=True):
        is_contiguous = abs(x.strides[a]) <= min(abs(stride) for stride, n in zip(x.strides, x.shape) if n > 1)
        while x.shape[a] > longest and not is_contiguous:
            before, n, after = x.shape[:a], x.shape[a], x.shape[a + 1 :]
            covered = n // block * block
            blocks = x[(slice(None),) * a + (slice(covered),)].reshape(*before, n // block, block, *after)
            rest = x[(slice(None),) * a + (slice(covered, None),)]
            x = xp.sum(blocks, axis=a + 1)
            x = xp.concat([x, xp.sum(rest, axis=a, keepdims=True)], axis=a) if n > covered else x
        x = xp.sum(x, axis=a, keepdims=True)
    return x if keepdims else xp.squeeze(x, axis=axes)


def sum_of_rows(x: Any) -> Any:
    """`pairwise_sum` over the first axis of floats on the host, at once where it has no blocks."""
    if len(x) == 1:
        return x[0]
    return np.add.reduce(x, axis=0) if len(x) <= _BLOCKS[0] else pairwise_sum(x, axis=0)


def keep_half_precision(y: Any, *inputs: Any) -> Any:
    """y in the dtype of its inputs, if that is half precision.

    Beside a Python scalar NumPy promotes bfloat16 to float64, and CuPy's `where` always returns float32.
    """
    dtypes = [x.dtype for x in inputs if hasattr(x, "dtype")]
    if not dtypes or not is_half(dtypes[0]) or any(dtype != dtypes[0] for dtype in dtypes):
        return y
    return y if y.dtype == dtypes[0] else _cast(y, dtypes[0])


def in_float32(x: Any) -> Any:
    """An array or Variable in half precision as float32, alone or in tuples; anything else unchanged."""
    if isinstance(x, tuple):
        return tuple(map(in_float32, x))
    return _cast(x, "float32") if is_half(getattr(x, "dtype", None)) else x


def _cast(x: Any, dtype: Any) -> Any:
    return x.astype(dtype) if isinstance(x, Variable) else astype(as_array(x), dtype)  # type: ignore[attr-defined]


def demote_float64(y: Any, inputs: tuple) -> Any:
    """A result of higher precision than all inputs in the dtype of the floats among them, or in float32.

    NumPy promotes integers, lower-precision floats beside int64 or its own scalars (which are Python floats), and
    bfloat16 beside Python scalars.
    """
    for x in inputs:  # the usual case, at once
        if type(x) is HostArray and x.dtype is y.dtype:
            return y
    dtypes = {}
    for x in inputs:
        dtype = None if isinstance(x, float) else getattr(x, "dtype", None)
        if dtype is y.dtype:
            return y
        if dtype is not None and is_floating(dtype):
            dtypes[dtype_name(dtype)] = dtype
    return astype(y, dtypes.popitem()[1] if len(dtypes) == 1 else "float32")
