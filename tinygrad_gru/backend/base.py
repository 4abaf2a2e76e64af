"""The interface of a backend, implemented for any library of the array API standard."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from .events import TO_HOST, WAIT, record_event, record_upload
from .indexing import CheckedIndex, check_bounds, take_index
from .memory import MemoryReport


class BackendError(RuntimeError):
    """A requested backend is missing or lacks a feature, or an operation has arrays of two backends."""


def host_generator(seed: int, position: int) -> np.random.Generator:
    """NumPy's generator for draw `position` of `seed`."""
    # The position sits in a high word of Philox's counter, so that no two draws overlap.
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, position, 0]))


class Backend:
    """An array library on a device.

    The methods here use the array API standard alone; NumPy's and CuPy's backends override them with faster ones.
    """

    #: Whether its arrays are in host memory, so that reading a value needs no copy.
    is_host = False

    def __init__(self, name: str, namespace: Any, device: Any = None):
        self.name = name
        self.xp = namespace
        self.device = device

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    def make_current(self) -> Callable[[], None]:
        """Make this device the current one; returns a function that restores the one before."""
        return lambda: None

    def device_hint(self) -> str:
        """The end of the message of an op that failed on arrays of this backend: the likely cause, or nothing."""
        return ""

    def as_current(self) -> AbstractContextManager:
        """A context manager in which this device is the current one."""
        return nullcontext()

    def dtype(self, name: str) -> Any:
        """The dtype of that name; None if the library does not have it."""
        return getattr(self.xp, name, None)

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        """`value` as an array of this backend; shares memory with it where possible."""
        if not self.owns(value):
            record_upload(value)
        return self.xp.asarray(value, dtype=dtype, device=self.device)

    def owns(self, value: Any) -> bool:
        """Whether `value` is an array of this library."""
        return hasattr(value, "__array_namespace__") and value.__array_namespace__() is self.xp

    def to_host(self, array: Any) -> Any:
        """The array as a NumPy array; shares memory if it is on the host."""
        host = np.from_dlpack(array, device="cpu")
        record_event(TO_HOST, "to_host", nbytes=host.nbytes)
        return host

    def copy(self, array: Any) -> Any:
        """A copy that shares no memory with `array`."""
        return self.xp.asarray(array, copy=True)

    def astype(self, array: Any, dtype: Any) -> Any:
        """A copy in another dtype of the library."""
        return self.xp.astype(array, dtype)

    def memory_range(self, array: Any) -> tuple[int, int]:
        """The addresses of the array's first byte and after its last one; ranges of arrays that share memory overlap.

        The standard has no addresses: here the array object represents its memory, and views are not recognised.
        """
        return id(array), id(array) + 1

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new uninitialised array."""
        return self.xp.empty(shape, dtype=dtype, device=self.device)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array of zeros."""
        return self.xp.zeros(shape, dtype=dtype, device=self.device)

    def aligned_zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array of zeros that begins at a multiple of the size of a vector register and of a cache line."""
        return self.zeros(shape, dtype)

    def arange(self, n: int) -> Any:
        """The integers 0 … n − 1."""
        return self.xp.arange(n, device=self.device)

    def function_with_out(self, function: str) -> Callable[..., Any]:
        """The namespace's function of that name with an argument `out`, the array for the result."""
        compute = getattr(self.xp, function)

        def write(*operands: Any, out: Any) -> Any:  # the standard has no `out`
            out[...] = compute(*operands)
            return out

        return write

    def check_within(self, index: Any, low: int, high: int, message: str) -> None:
        """Raise IndexError unless low ≤ index < high for all elements; `{}` in the message is replaced by a wrong one.

        A device that runs asynchronously may raise later, at the next copy to the host.
        """
        if math.prod(index.shape) == 0:
            return
        least, greatest = int(self.xp.min(index)), int(self.xp.max(index))
        if least < low or greatest >= high:
            raise IndexError(message.format(least if least < low else greatest))

    def check_index(self, index: Any, shape: tuple[int, ...]) -> None:
        """Raise IndexError if an array in the index is out of bounds for `shape`, as in `check_within`, and TypeError
        if it is of another library."""
        check_bounds(self, index, shape)

    def advanced_index(self, array: Any, index: Any) -> Any:
        """`array[index]` for an index with arrays in it. Raises IndexError if one of them is out of bounds."""
        positions = self._flat_positions(array.shape, index)
        selected = self.xp.take(self.xp.reshape(array, (-1,)), self.xp.reshape(positions, (-1,)), axis=0)
        return self.xp.reshape(selected, positions.shape)

    def scatter_add(self, target: Any, index: Any, values: Any) -> None:
        """`target[index] += values` in place, where repeated indices accumulate."""
        positions = self._flat_positions(target.shape, index)
        flat = self.xp.reshape(positions, (-1,))
        one_hot = self.xp.astype(self.arange(target.size)[:, None] == flat[None, :], target.dtype)
        values = self.xp.reshape(self.xp.broadcast_to(values, positions.shape), (-1,))
        target[...] = target + self.xp.reshape(one_hot @ values, target.shape)

    def _flat_positions(self, shape: tuple[int, ...], index: Any) -> Any:
        """The positions in the flattened array that the index selects."""
        positions = self.xp.reshape(self.arange(math.prod(shape)), shape)
        self.check_index(index, shape)
        return take_index(self.xp, positions, index)

    def random(self, seed: int, position: int) -> Any:
        """A generator with `random(shape, dtype)` and `standard_normal(shape, dtype)` for draw `position` of `seed`."""
        return _HostGenerator(self, host_generator(seed, position))  # the standard has no random numbers

    def scatter(self, shape: tuple[int, ...], indices: Sequence[Any], arrays: Sequence[Any]) -> Any:
        """Zeros of `shape` to which each array is added at its index; the indices are known to be in bounds."""
        total = self.zeros(shape, arrays[0].dtype)
        for index, array in zip(indices, arrays):
            self.scatter_add(total, CheckedIndex(index) if isinstance(index, tuple) else CheckedIndex((index,)), array)
        return total

    def memory(self) -> MemoryReport:
        """A report of the device's memory."""
        raise BackendError(f"backend {self.name!r} has no memory of its own to report on or to limit: that is for GPUs")

    def limit_memory(self, limit: int | float | None) -> None:
        """Limit the memory of arrays to `limit` bytes or, as a float, to that fraction of the device's."""
        self.memory()

    @property
    def allows_tf32(self) -> bool:
        """Whether float32 products may be computed in TF32."""
        return False

    def allow_tf32(self, on: bool) -> None:
        """Set `allows_tf32`. Raises BackendError where there is no TF32."""
        if on:
            raise BackendError(f"backend {self.name!r} has no TF32: that is for GPUs")

    def synchronize(self) -> None:
        """Wait until the device has finished. Raises the IndexErrors that `check_within` has deferred."""
        record_event(WAIT, "synchronize")


def byte_range(address: int, array: Any) -> tuple[int, int]:
    """`Backend.memory_range` of a strided array whose first element is at `address`."""
    if array.flags.c_contiguous or not array.size:
        return address, address + array.nbytes
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides)]
    low, high = (sum(step for step in reach if (step > 0) == up) for up in (False, True))
    return address + low, address + high + array.itemsize


class _HostGenerator:
    """A generator that draws on the host and copies to another backend."""

    def __init__(self, backend: Backend, generator: np.random.Generator):
        self.backend, self.generator = backend, generator

    def random(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.backend.asarray(self.generator.random(shape, dtype=dtype))

    def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.backend.asarray(self.generator.standard_normal(shape, dtype=dtype))
