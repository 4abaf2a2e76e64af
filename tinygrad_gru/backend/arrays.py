"""Functions on arrays of any backend."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .base import Backend
from .numpy import COMPLEX
from .select import backend_of, resolve


def xp_of(array: Any, *others: Any) -> Any:
    """The namespace of functions for these arrays: `xp_of(x).tanh(x)` runs on the device of x.

    CuPy is only looked up in sys.modules: without it there are no arrays of it.
    """
    if type(array) is np.ndarray and not others:
        return np
    cupy, found = sys.modules.get("cupy"), np
    for candidate in (array, *others):
        if type(candidate) is np.ndarray:
            continue
        if cupy is not None and isinstance(candidate, getattr(cupy, "ndarray", ())):
            found = cupy
        elif hasattr(candidate, "__array_namespace__") and not isinstance(candidate, (np.generic, np.ndarray)):
            return candidate.__array_namespace__()  # a traced array among arrays decides
    return found


def as_array(value: Any, dtype: Any = None, device: str | Backend | None = None) -> Any:
    """`value` as an array, on `device` or, by default, on its own device."""
    if type(value) is np.ndarray and dtype is None and device is None:
        return value
    backend = backend_of(value) if device is None else resolve(device)
    return backend.asarray(value, dtype=dtype)


def to_host(value: Any) -> np.ndarray:
    """`value` as a NumPy array: a list, a scalar or an array of any backend."""
    return backend_of(value).to_host(value)


def astype(array: Any, dtype: Any) -> Any:
    """The array in that dtype; the array itself if it has it already."""
    dtype = as_dtype(array, dtype)
    if array.dtype == dtype:
        return array
    if array.dtype in COMPLEX:
        raise TypeError(f"expected real numbers, got {array.dtype}: a conversion would lose the imaginary parts")
    return backend_of(array).astype(array, dtype)


def as_dtype(array: Any, dtype: Any) -> Any:
    """The dtype object of a name, in the library of `array`; other dtypes are returned unchanged."""
    if not isinstance(dtype, str):
        if isinstance(dtype, (int, float)):
            raise TypeError(f"dtype: expected a name such as 'float32', got {dtype!r}")
        return dtype
    found = backend_of(array).dtype(dtype)
    if found is None:
        raise TypeError(f"dtype: {dtype!r} is not a dtype (expected such as 'float32', 'float64' or 'int64')")
    return found


def copy_of(array: Any) -> Any:
    """A copy that shares no memory with `array`."""
    return np.array(array) if type(array) is np.ndarray else backend_of(array).copy(array)


def is_unshared(arrays: dict[Any, Any], key: Any) -> bool:
    """Whether nothing but this dictionary refers to its array at `key`, or to the memory of that.

    No variable here holds the array: a debugger would hold it, too, while it looks at variables.
    """
    is_owner = type(arrays[key]) is np.ndarray and arrays[key].flags.owndata
    return is_owner and sys.getrefcount(arrays[key]) <= _OF_ONE_ITEM


def _of_one_item() -> int:
    """The references to an array that only a dictionary refers to, counted as `is_unshared` does."""
    arrays = {0: np.empty(0)}
    return sys.getrefcount(arrays[0])


_OF_ONE_ITEM = _of_one_item()


def scatter_add(target: Any, index: Any, values: Any) -> None:
    """`target[index] += values` in place, where repeated indices accumulate."""
    backend_of(target).scatter_add(target, index, values)


def check_ids(ids: Any, size: int, name: str) -> None:
    """Raise IndexError unless every id is in 0 … size − 1 (CuPy would wrap silently, NumPy count from the end).

    On a GPU the error may be raised later, by the next copy to the host (see `Backend.check_within`).
    """
    backend = backend_of(ids)
    ids = backend.asarray(ids)
    if not backend.xp.isdtype(ids.dtype, "integral"):
        raise TypeError(f"{name} must be integers, got {ids.dtype}")
    message = f"{name} must lie in 0 … {size - 1}, got {{}} (a vocabulary of another size?)"
    backend.check_within(ids, 0, size, message)
