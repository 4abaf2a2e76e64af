"""What an array library must offer, and what any library of the array API standard offers already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .places import places


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

    def pick(self, array: Any, index: Any) -> Any:
        """`array[index]` for an index with arrays in it. Raises IndexError if one of them points outside."""
        named = self._places(array.shape, index)
        picked = self.xp.take(self.xp.reshape(array, (-1,)), self.xp.reshape(named, (-1,)), axis=0)
        return self.xp.reshape(picked, named.shape)

    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        """`target[index] += values` in which a place that the index names twice receives both values."""
        named = self._places(target.shape, index)
        flat = self.xp.reshape(named, (-1,))
        one_hot = self.xp.astype(self.arange(target.size)[:, None] == flat[None, :], target.dtype)
        values = self.xp.reshape(self.xp.broadcast_to(values, named.shape), (-1,))
        target[...] = target + self.xp.reshape(one_hot @ values, target.shape)

    def _places(self, shape: tuple[int, ...], index: Any) -> Any:
        """Where in the flattened array stands what the index names."""
        return places(self.xp, self.xp.reshape(self.arange(math.prod(shape)), shape), index)

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
