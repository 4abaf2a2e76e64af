"""What an array library must offer, and what any library of the array API standard offers already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class BackendError(RuntimeError):
    """A backend that was asked for is not here, or arrays of two backends met."""


class Backend:
    """One array library on one device.

    The methods here are written against the array API standard alone, so that any library that follows it can be
    used; NumPy and CuPy override what they do better.
    """

    def __init__(self, name: str, namespace: Any, device: Any = None):
        self.name = name
        self.xp = namespace
        self.device = device

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        """The array of this backend with these values; shares memory with `value` where it can."""
        return self.xp.asarray(value, dtype=dtype, device=self.device)

    def to_host(self, array: Any) -> Any:
        """The same values as a NumPy array; shares memory where the array lives on the host."""
        return np.from_dlpack(array, device="cpu")

    def copy(self, array: Any) -> Any:
        """A copy that shares no memory with `array`."""
        return self.xp.asarray(array, copy=True)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array of zeros."""
        return self.xp.zeros(shape, dtype=dtype, device=self.device)

    def arange(self, n: int) -> Any:
        """The integers 0 … n − 1."""
        return self.xp.arange(n, device=self.device)

    def check_index(self, index: Any, shape: tuple[int, ...]) -> None:
        """Raise IndexError if an array in the index points outside; nothing to do where the library does so itself."""

    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        """`target[index] += values` in which a place that the index names twice receives both values."""
        rows = self.xp.reshape(index, (-1,)) if hasattr(index, "dtype") else None
        if rows is None or index.dtype == self.xp.bool:
            target[index] = target[index] + values
            return
        places = self.xp.arange(target.shape[0], dtype=rows.dtype, device=self.device)
        one_hot = self.xp.astype(places[:, None] == rows[None, :], target.dtype)
        flat = self.xp.reshape(values, (rows.shape[0], -1))
        target[...] = target + self.xp.reshape(one_hot @ flat, target.shape)

    def random(self, seed: int, position: int) -> Any:
        """A generator with `random(size, dtype)` and `standard_normal(size, dtype)` for draw `position` of `seed`."""
        raise NotImplementedError(f"backend {self.name!r} has no random numbers")

    def place(self, shape: tuple[int, ...], indices: Sequence[Any], arrays: Sequence[Any]) -> Any:
        """Zeros of `shape` to which each array is added at its index."""
        total = self.zeros(shape, arrays[0].dtype)
        for index, array in zip(indices, arrays):
            self.scatter_add(total, index, array)
        return total

    def synchronize(self) -> None:
        """Wait until all work that was given to the device is done."""
