"""What an array library must offer, and what any library of the array API standard offers already."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from .events import TO_HOST, WAIT, record_event, record_upload
from .indexing import CheckedIndex, check_bounds, places
from .memory import MemoryReport


class BackendError(RuntimeError):
    """A backend that was asked for is not here or cannot do that, or arrays of two backends met."""


def host_generator(seed: int, position: int) -> np.random.Generator:
    """NumPy's generator for draw `position` of `seed`."""
    # The position sits in a high word of Philox's counter, so that no two draws overlap.
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, position, 0]))


class Backend:
    """One array library on one device.

    The methods here are written against the array API standard alone, so that any library that follows it can be
    used; NumPy and CuPy override what they do better.
    """

    #: Whether its arrays are the host's own memory, so that looking at a value costs nothing.
    is_host = False

    def __init__(self, name: str, namespace: Any, device: Any = None):
        self.name = name
        self.xp = namespace
        self.device = device

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    def make_current(self) -> Callable[[], None]:
        """Let the library compute on this device where it is not told otherwise; returns what puts it back."""
        return lambda: None

    def advice(self) -> str:
        """What would help where an op on arrays of this backend has failed, to end a message with; if that is known."""
        return ""

    def as_current(self) -> AbstractContextManager:
        """A block in which this device is the current one, for libraries that have such a thing."""
        return nullcontext()

    def dtype(self, name: str) -> Any:
        """The dtype of that name; None if the library has none."""
        return getattr(self.xp, name, None)

    def asarray(self, value: Any, dtype: Any = None) -> Any:
        """The array of this backend with these values; shares memory with `value` where it can."""
        if not self.owns(value):
            record_upload(value)
        return self.xp.asarray(value, dtype=dtype, device=self.device)

    def owns(self, value: Any) -> bool:
        """Whether `value` is an array of this library."""
        return hasattr(value, "__array_namespace__") and value.__array_namespace__() is self.xp

    def to_host(self, array: Any) -> Any:
        """The same values as a NumPy array; shares memory where the array lives on the host."""
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
        """The addresses of the first byte of an array and of what follows its last: arrays that share memory overlap.

        The standard has no addresses; here the array itself stands for its memory, and views of it are not known.
        """
        return id(array), id(array) + 1

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array with whatever was in its memory."""
        return self.xp.empty(shape, dtype=dtype, device=self.device)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array of zeros."""
        return self.xp.zeros(shape, dtype=dtype, device=self.device)

    def arange(self, n: int) -> Any:
        """The integers 0 … n − 1."""
        return self.xp.arange(n, device=self.device)

    def writing(self, function: str) -> Callable[..., Any]:
        """The namespace's function of that name, which with `out=` writes its result there."""
        compute = getattr(self.xp, function)

        def write(*operands: Any, out: Any) -> Any:  # the standard has no `out=`
            out[...] = compute(*operands)
            return out

        return write

    def check_within(self, index: Any, low: int, high: int, complaint: str) -> None:
        """Raise IndexError unless low ≤ index < high everywhere; `complaint` has `{}` where the wrong one is named.

        A device that computes while the host goes on may raise later: when a value comes to the host.
        """
        if math.prod(index.shape) == 0:
            return
        least, greatest = int(self.xp.min(index)), int(self.xp.max(index))
        if least < low or greatest >= high:
            raise IndexError(complaint.format(least if least < low else greatest))

    def check_index(self, index: Any, shape: tuple[int, ...]) -> None:
        """Raise IndexError if an array in the index points outside of `shape`, as in `check_within`, and TypeError if
        it is one of another library."""
        check_bounds(self, index, shape)

    def advanced_index(self, array: Any, index: Any) -> Any:
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
        numbers = self.xp.reshape(self.arange(math.prod(shape)), shape)
        self.check_index(index, shape)
        return places(self.xp, numbers, index)

    def random(self, seed: int, position: int) -> Any:
        """A generator with `random(size, dtype)` and `standard_normal(size, dtype)` for draw `position` of `seed`."""
        return _FromHost(self, host_generator(seed, position))  # the standard has no random numbers

    def scatter(self, shape: tuple[int, ...], indices: Sequence[Any], arrays: Sequence[Any]) -> Any:
        """Zeros of `shape` to which each array is added at its index, which was checked when it was read."""
        total = self.zeros(shape, arrays[0].dtype)
        for index, array in zip(indices, arrays):
            self.scatter_add(total, CheckedIndex(index) if isinstance(index, tuple) else CheckedIndex((index,)), array)
        return total

    def memory(self) -> MemoryReport:
        """How much memory there is on the device."""
        raise BackendError(f"backend {self.name!r} has no memory of its own to report on or to limit: that is for GPUs")

    def limit_memory(self, limit: int | float | None) -> None:
        """Let arrays take no more memory than so many bytes, or, as a float, than that share of the device's."""
        self.memory()

    @property
    def allows_tf32(self) -> bool:
        """Whether products of float32 may be made in TF32."""
        return False

    def allow_tf32(self, on: bool) -> None:
        """Set `allows_tf32`. Raises BackendError where there is no TF32."""
        if on:
            raise BackendError(f"backend {self.name!r} has no TF32: that is for GPUs")

    def synchronize(self) -> None:
        """Wait until all work that was given to the device is done. Raises what `check_within` has put off."""
        record_event(WAIT, "synchronize")


def byte_range(address: int, array: Any) -> tuple[int, int]:
    """The memory of an array whose first element is at `address`, from its lowest byte to what follows its highest."""
    if array.flags.c_contiguous or not array.size:
        return address, address + array.nbytes
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides)]
    low, high = (sum(step for step in reach if (step > 0) == up) for up in (False, True))
    return address + low, address + high + array.itemsize


class _FromHost:
    """A generator whose numbers are drawn on the host and copied to another backend."""

    def __init__(self, home: Backend, generator: np.random.Generator):
        self.home, self.generator = home, generator

    def random(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.home.asarray(self.generator.random(shape, dtype=dtype))

    def standard_normal(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.home.asarray(self.generator.standard_normal(shape, dtype=dtype))
