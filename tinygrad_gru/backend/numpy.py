"""The NumPy backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import native
from .base import Backend, byte_range, host_generator
from .dtypes import bfloat16, is_floating
from .events import HOST_READ, record_event
from .memory import IDLE_POOL, MemoryReport, host_memory, live_arrays

#: The type of host arrays, for a quick test on the hot path of every op.
HostArray = np.ndarray
#: The bytes of the widest vector register, and of a cache line.
_ALIGNMENT = 64
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_COMPLEX = (np.complex64, np.complex128, np.clongdouble)
#: Dtypes that no Tensor has: rules are right for real numbers.
COMPLEX = frozenset({complex, *_COMPLEX, *map(np.dtype, _COMPLEX)})
#: Elements from which on native code is worth it: fewer are added before a library is loaded.
_LEAST_NATIVE = 32768
#: For each row of the target, the sum of its values, which lie at `order[i]`, is added to it.
_ADD_ROWS = """
def loop(steps):
    for s in range(steps[0]):
        add_to_row(
            steps[1], s, pointer_int64(steps[2]), pointer_int64(steps[3]), pointer_int64(steps[4]),
            pointer_float64(steps[5]), steps[6], steps[7],
        )

def add_to_row(n, s, rows, starts, order, total, values, target):
    for j in range(n):
        total[j] = float64(0)
    for i in range(starts[s], starts[s + 1]):
        add_value(n, total, pointer_{real}(values + order[i] * n * {size}))
    add_total(n, total, pointer_{real}(target + rows[s] * n * {size}))

def add_value(n, total, x):
    for j in range(n):
        total[j] = total[j] + float64(x[j])

def add_total(n, total, y):
    for j in range(n):
        y[j] = {real}(float64(y[j]) + total[j])
"""


class NumPyBackend(Backend):
    """NumPy arrays in host memory."""

    is_host = True

    def __init__(self) -> None:
        super().__init__("numpy", np, "cpu")

    def dtype(self, name: str) -> Any:
        return bfloat16() if name == "bfloat16" else super().dtype(name)

    def asarray(self, value: Any, dtype: Any = None) -> np.ndarray:
        _refuse_masked(value)
        return np.asarray(value, dtype=dtype)

    def to_host(self, array: Any) -> np.ndarray:
        if isinstance(array, np.ndarray):
            record_event(HOST_READ, "to_host", nbytes=array.nbytes)
        return np.asarray(array)

    def copy(self, array: Any) -> np.ndarray:
        _refuse_masked(array)
        return np.array(np.asarray(array))  # in two steps, for tensors of PyTorch know no `copy`

    def memory_range(self, array: Any) -> tuple[int, int]:
        if not isinstance(array, np.ndarray):
            return 0, 0  # a NumPy scalar, which cannot be written
        return byte_range(native.address(array), array)

    def aligned_zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = np.zeros(size + _ALIGNMENT, np.uint8)
        start = -native.address(memory) % _ALIGNMENT
        return memory[start : start + size].view(dtype).reshape(shape)

    def arange(self, n: int) -> np.ndarray:
        return np.arange(n)

    def function_with_out(self, function: str) -> Callable[..., Any]:
        return getattr(np, function)

    def advanced_index(self, array: np.ndarray, index: Any) -> np.ndarray:
        return array[index]

    def scatter_add(self, target: np.ndarray, index: Any, values: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        if parts and all(map(_is_integers, parts)):
            rows = target if target.flags.c_contiguous else np.zeros(target.shape, target.dtype)
            _add_rows(rows, parts, values)
            if rows is not target:
                target += rows
        elif _may_repeat(index) and is_floating(target.dtype):
            sums = np.zeros(target.shape, np.float64)  # values are added one by one: float32 would lose digits
            np.add.at(sums, index, np.asarray(values, np.float64))
            target += sums.astype(target.dtype)
        elif _may_repeat(index):
            np.add.at(target, index, values)
        else:
            target[index] += values

    def memory(self) -> MemoryReport:
        free, total, limit = host_memory()
        used = sum(array.nbytes for array in live_arrays(np.ndarray))
        return MemoryReport(self.name, used, used, free, total, limit, IDLE_POOL.bytes)

    def limit_memory(self, limit: int | float | None) -> None:
        super().memory()

    def random(self, seed: int, position: int) -> np.random.Generator:
        return host_generator(seed, position)


def _add_rows(target: np.ndarray, index: Sequence[np.ndarray], values: Any) -> None:
    """Scatter-add to the rows of the target that arrays for its first axes select, many times faster than `np.add.at`.

    The values for a row are sorted to be side by side, and added in the order in which they come: in float64, so that
    float32 does not lose digits in a sum of many, which is then added to the row and rounded once.
    """
    if len(index) > target.ndim:
        raise IndexError(f"{len(index)} arrays of indices for the {target.ndim} axes of shape {target.shape}")
    dtype = getattr(values, "dtype", None)
    if dtype is not None and not np.can_cast(dtype, target.dtype, "same_kind"):
        raise TypeError(f"values of {dtype} cannot be added to {target.dtype}")
    rows: Any = 0
    for axis, (part, n) in enumerate(zip(index, target.shape)):
        if part.size and (part.min() < -n or part.max() >= n):
            raise IndexError(f"an index is out of bounds for axis {axis} with size {n}")
        rows = rows * n + part.astype(np.intp) % n
    shape = target.shape[len(index) :]
    values = np.broadcast_to(values, rows.shape + shape).reshape(rows.size, *shape)
    if not values.size:
        return
    target = target.reshape(-1, *shape)
    rows = rows.ravel().astype(np.min_scalar_type(len(target)))  # few bits are sorted faster
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    if _added_natively(target, rows[starts], starts, order, values):
        return
    dtype = DOUBLE if is_floating(target.dtype) else target.dtype
    target[rows[starts]] += np.add.reduceat(values[order], starts, axis=0, dtype=dtype)


def _added_natively(target: np.ndarray, rows: Any, starts: Any, order: Any, values: np.ndarray) -> bool:
    """Whether a native loop has added the values: they are many, and llvmlite is installed."""
    dtype = target.dtype
    if values.size < _LEAST_NATIVE or values.dtype != dtype or (dtype != SINGLE and dtype != DOUBLE):
        return False
    if native.problem() or np.may_share_memory(target, values):
        return False
    row = values.size // len(values)
    memory = [
        *(part.astype(np.int64) for part in (rows, np.append(starts, len(values)), order)),
        *(np.empty(row), np.ascontiguousarray(values), target),
    ]
    native.function(_ADD_ROWS.format(real=dtype.name, size=dtype.itemsize)).on(len(starts), row, *memory)
    return True


def _is_integers(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind in "iu"


def _may_repeat(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, (np.ndarray, list)) and np.asarray(part).dtype != np.bool_ for part in parts)


def _refuse_masked(value: Any) -> None:
    """TypeError for a masked array, of which NumPy would give the values behind the mask."""
    if type(value).__name__ == "MaskedArray" and value.mask.any():
        raise TypeError("a masked array has values that are missing: write x.filled(value), and use x.mask besides")
