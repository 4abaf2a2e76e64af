"""The NumPy backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Backend, byte_range, host_generator
from .dtypes import bfloat16, is_floating
from .events import HOST_READ, record_event
from .memory import IDLE_POOL, MemoryReport, host_memory, live_arrays

#: The type of host arrays, for a quick test on the hot path of every op.
HostArray = np.ndarray
#: The rows of equal index that are summed sequentially.
_BLOCK = 128
#: The bytes of the widest vector register, and of a cache line.
_ALIGNMENT = 64
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


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
        return byte_range(array.__array_interface__["data"][0], array)

    def aligned_zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = np.zeros(size + _ALIGNMENT, np.uint8)
        start = -memory.__array_interface__["data"][0] % _ALIGNMENT
        return memory[start : start + size].view(dtype).reshape(shape)

    def arange(self, n: int) -> np.ndarray:
        return np.arange(n)

    def function_with_out(self, function: str) -> Callable[..., Any]:
        return getattr(np, function)

    def advanced_index(self, array: np.ndarray, index: Any) -> np.ndarray:
        return array[index]

    def scatter_add(self, target: np.ndarray, index: Any, values: Any) -> None:
        if isinstance(index, tuple) and len(index) == 1:
            index = index[0]
        if isinstance(index, np.ndarray) and index.dtype != np.bool_ and index.size:
            self._add_rows(target, index, values)
        elif _may_repeat(index) and is_floating(target.dtype):
            sums = np.zeros(target.shape, np.float64)  # values are added one by one: float32 would lose digits
            np.add.at(sums, index, np.asarray(values, np.float64))
            target += sums.astype(target.dtype)
        elif _may_repeat(index):
            np.add.at(target, index, values)
        else:
            target[index] += values

    @staticmethod
    def _add_rows(target: np.ndarray, index: np.ndarray, values: Any) -> None:
        """Scatter-add by sorting: rows of equal index are summed first, many times faster than `np.add.at`.

        Long runs of them are summed in blocks, and the sums of the blocks likewise, so that the rounding error grows
        with the logarithm of the length of a run.
        """
        rows = index.ravel().astype(np.intp)
        if rows.min() < -len(target) or rows.max() >= len(target):
            raise IndexError(f"an index is out of bounds for axis 0 with size {len(target)}")
        rows %= len(target)
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        values = np.broadcast_to(values, index.shape + target.shape[1:]).reshape(index.size, *target.shape[1:])[order]
        repeats = True
        while repeats:
            same = rows[1:] == rows[:-1]
            repeats = bool(same.any())
            same[_BLOCK - 1 :: _BLOCK] = False
            starts = np.flatnonzero(np.concatenate(([True], ~same)))
            rows, values = rows[starts], np.add.reduceat(values, starts, axis=0)
        target[rows] += values

    def memory(self) -> MemoryReport:
        free, total, limit = host_memory()
        used = sum(array.nbytes for array in live_arrays(np.ndarray))
        return MemoryReport(self.name, used, used, free, total, limit, IDLE_POOL.bytes)

    def limit_memory(self, limit: int | float | None) -> None:
        super().memory()

    def random(self, seed: int, position: int) -> np.random.Generator:
        return host_generator(seed, position)


def _may_repeat(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, (np.ndarray, list)) and np.asarray(part).dtype != np.bool_ for part in parts)


def _refuse_masked(value: Any) -> None:
    """TypeError for a masked array, of which NumPy would give the values behind the mask."""
    if type(value).__name__ == "MaskedArray" and value.mask.any():
        raise TypeError("a masked array has values that are missing: write x.filled(value), and use x.mask besides")
