"""Instrumented arrays: duck arrays that wrap an array and record a device event for every launch and copy.

They count what formulas and rules would do on a device, also on the host, where NumPy's arrays are instrumented.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..backend.base import Backend
from ..backend.duck_array import OPERATORS, DuckArray
from ..backend.events import LAUNCH, TO_HOST, record_event
from ..backend.select import backend_of

#: Functions that return a view and launch nothing.
_VIEWS = frozenset(
    "asarray broadcast_to expand_dims flip matrix_transpose moveaxis permute_dims reshape squeeze".split()
)
#: Functions whose result has a length that depends on values, for which the host waits.
_SIZED_BY_VALUES = frozenset(
    "argwhere compress extract flatnonzero nonzero unique unique_all unique_counts unique_inverse unique_values".split()
)


def instrument(value: Any) -> Any:
    """The value with its arrays wrapped, in tuples and lists too; duck arrays are unchanged."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(instrument, value))
    is_array = hasattr(value, "dtype") and hasattr(value, "shape") and not hasattr(value, "__backend__")
    return InstrumentedArray(value) if is_array else value


def uninstrument(value: Any) -> Any:
    """The value with the wrapped arrays themselves."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(uninstrument, value))
    return value.array if isinstance(value, InstrumentedArray) else value


def _instrumented(name: str, function: Callable) -> Callable:
    """The function on instrumented arrays. A call that returns no array is a query, and no launch."""

    def call(*arguments: Any, **settings: Any) -> Any:
        result = function(*uninstrument(arguments), **{key: uninstrument(value) for key, value in settings.items()})
        wrapped = instrument(result)
        if wrapped is not result and name not in _VIEWS:
            record_event(LAUNCH, name)
        if name in _SIZED_BY_VALUES:
            record_event(TO_HOST, f"the length of {name}()")
        return wrapped

    return call


class InstrumentedArray(DuckArray):
    """The array that it wraps, with an event for every launch and every copy to the host."""

    __slots__ = ("array",)
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None  # type: ignore[assignment]  # formulas that call NumPy's functions do not run on all arrays

    def __init__(self, array: Any):
        self.array = array

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # no protocol that would take the array without an event
            raise AttributeError(name)
        value = getattr(self.array, name)
        if name in ("item", "tolist"):
            record_event(TO_HOST, name, nbytes=self.array.nbytes)
        return _instrumented(name, value) if callable(value) else instrument(value)

    @property
    def namespace(self) -> Any:
        return self.__backend__.xp

    @property
    def __backend__(self) -> Backend:
        return _InstrumentedBackend(backend_of(self.array))

    def accepts(self, other: Any) -> bool:
        return type(other) is type(self.array) or getattr(other, "__array_ufunc__", self) is not None

    def concretize(self, conversion: type) -> Any:
        if conversion is np.ndarray:
            raise TypeError("an instrumented array is not converted to NumPy implicitly, as a GPU's would not be")
        record_event(TO_HOST, f"{conversion.__name__}()", nbytes=getattr(self.array.dtype, "itemsize", 0))
        return conversion(self.array)

    def __array_function__(self, *_: Any) -> Any:
        self.concretize(np.ndarray)

    def __getitem__(self, index: Any) -> Any:
        index = uninstrument(index)
        arrays = [part for part in (index if isinstance(index, tuple) else (index,)) if hasattr(part, "dtype")]
        if arrays:
            record_event(LAUNCH, "getitem")
        if any(part.dtype.kind == "b" for part in arrays):
            record_event(TO_HOST, "the length of a[booleans]")
        return instrument(self.array[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        record_event(LAUNCH, "setitem")
        self.array[uninstrument(index)] = uninstrument(value)


class _Namespace:
    """A library's functions, on instrumented arrays."""

    def __init__(self, library: Any):
        self.library = library
        self.__name__ = library.__name__

    def __getattr__(self, name: str) -> Any:
        value = OPERATORS.get(name) or getattr(self.library, name)
        if isinstance(value, ModuleType):  # such as xp.linalg
            return _Namespace(value)
        return _instrumented(name, value) if callable(value) and not isinstance(value, type) else value


class _InstrumentedBackend(Backend):
    """A backend for instrumented arrays. It records no events: the wrapped backend records its own."""

    def __init__(self, backend: Backend):
        super().__init__(backend.name, _Namespace(backend.xp), backend.device)
        self.backend, self.is_host = backend, backend.is_host


def _delegated(name: str) -> Callable:
    def method(self: _InstrumentedBackend, *arguments: Any, **settings: Any) -> Any:
        return instrument(getattr(self.backend, name)(*uninstrument(arguments), **settings))

    return method


for _name in (
    "arange", "asarray", "astype", "check_index", "check_within", "copy", "empty", "owns", "advanced_index", "scatter",
    "scatter_add", "to_host", "zeros",
):  # fmt: skip
    setattr(_InstrumentedBackend, _name, _delegated(_name))
