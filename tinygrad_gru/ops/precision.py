"""The dtypes in which ops compute: floats where results are real, float32 where arrays are in half precision.

Half precision is a format of memory. A formula or a rule that sums, counts, squares, or rounds more than once, runs in
float32 and rounds its result: 16 bits stop counting at 2048, end at 65504 and do not know 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from ..backend import as_array, astype, dtype_name, is_floating, is_half, xp_of
from ..backend.numpy import DOUBLE, SINGLE, HostArray
from ..tape import Variable

#: Up to how many numbers are added up as the library does, and of how many a block consists. A GPU adds up with many
#: threads, so that each has few.
_BLOCKS, _BLOCKS_ON_DEVICE = (256, 32), (2**16, 2**10)
_HELD_BY_FLOAT32 = frozenset({"bool", "int8", "uint8", "int16", "uint16"})


def floats(x: Any) -> tuple[Any, Any]:
    """The namespace of x, and x in floating point, for formulas whose results are real."""
    if type(x) is HostArray and (x.dtype is SINGLE or x.dtype is DOUBLE):
        return np, x
    return xp_of(x), as_floating(x)


def as_floating(x: Any) -> Any:
    """x, with integers and booleans in floating point: in float32 if that holds all of their dtype, else in float64.

    NumPy would make float16 of 8 bits, and squares and differences of integers wrap around.
    """
    dtype = getattr(x, "dtype", None)
    if dtype is None or is_floating(dtype):
        return x
    return _cast(x, "float32" if dtype_name(dtype) in _HELD_BY_FLOAT32 else "float64")


def accumulate_in_float32(function: Callable) -> Callable:
    """The function of arrays or Tensors (a formula, a rule, or one made of ops), run in float32 where the first of them
    is in half precision."""
    return _converting(function, real=False)


def real_valued(function: Callable) -> Callable:
    """As `widened`, and run in floating point where the first of them holds integers."""
    return _converting(function, real=True)


def _converting(function: Callable, real: bool) -> Callable:
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

    return converted


def pairwise_sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Σ x, by sums of blocks, sums of those, and so on: rounding grows with log n, not with n.

    NumPy itself sums so along the axis that lies element by element in memory, and adds up row after row along others:
    of three million 0.1 in float32 that makes 3 % less.
    """
    most, block = _BLOCKS if type(x) is HostArray else _BLOCKS_ON_DEVICE
    xp, shape = xp_of(x), x.shape
    if x.size <= most or not hasattr(x, "strides") or not is_floating(x.dtype):
        return xp.sum(x, axis=axis, keepdims=keepdims)
    axes = tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    is_right = len({a % len(shape) for a in axes if -len(shape) <= a < len(shape)}) == len(axes)
    is_flat = len(axes) == len(shape) and x.flags.c_contiguous
    if not is_right or is_flat or math.prod([shape[a] for a in axes]) <= most:
        return xp.sum(x, axis=axis, keepdims=keepdims)
    for a in sorted((a % len(shape) for a in axes), reverse=True):
        fast = abs(x.strides[a]) <= min(abs(stride) for stride, n in zip(x.strides, x.shape) if n > 1)
        while x.shape[a] > most and not fast:
            before, n, after = x.shape[:a], x.shape[a], x.shape[a + 1 :]
            whole = n // block * block
            blocks = x[(slice(None),) * a + (slice(whole),)].reshape(*before, n // block, block, *after)
            rest = x[(slice(None),) * a + (slice(whole, None),)]
            x = xp.sum(blocks, axis=a + 1)
            x = xp.concat([x, xp.sum(rest, axis=a, keepdims=True)], axis=a) if n > whole else x
        x = xp.sum(x, axis=a, keepdims=True)
    return x if keepdims else xp.squeeze(x, axis=axes)


def keeps_half(y: Any, *inputs: Any) -> Any:
    """A result in the dtype of its inputs, if that is one of half precision: beside a number, NumPy makes float64 of
    bfloat16, and CuPy's `where` float32 in any case."""
    dtypes = [x.dtype for x in inputs if hasattr(x, "dtype")]
    if not dtypes or not is_half(dtypes[0]) or any(dtype != dtypes[0] for dtype in dtypes):
        return y
    return y if y.dtype == dtypes[0] else _cast(y, dtypes[0])


def in_float32(x: Any) -> Any:
    """An array or Variable in half precision as float32, alone or in tuples; anything else as it is."""
    if isinstance(x, tuple):
        return tuple(map(in_float32, x))
    return _cast(x, "float32") if is_half(getattr(x, "dtype", None)) else x


def _cast(x: Any, dtype: Any) -> Any:
    return x.astype(dtype) if isinstance(x, Variable) else astype(as_array(x), dtype)  # type: ignore[attr-defined]


def demote_float64(y: Any, inputs: tuple) -> Any:
    """A result that is wider than all inputs, in the dtype of the floats among them, or in float32. NumPy made it of
    integers, of narrower floats with int64, or with numbers: its own, which are Python floats by birth, or, beside
    bfloat16, Python's."""
    kinds = {}
    for x in inputs:
        dtype = None if isinstance(x, float) else getattr(x, "dtype", None)
        if dtype is y.dtype:
            return y
        if dtype is not None and is_floating(dtype):
            kinds[dtype_name(dtype)] = dtype
    return astype(y, kinds.popitem()[1] if len(kinds) == 1 else "float32")
