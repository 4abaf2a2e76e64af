"""Arrays that stand for others and note every call: what formulas and rules ask of a device.

To an op a `Watched` is an array of a library of its own, as a symbol is; what is done to it is done to the array that
it stands for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ..backend.base import Backend
from ..backend.events import LAUNCH, TO_HOST, record_event
from ..backend.select import backend_of

#: Functions that only look at an array in another way, and launch nothing.
_VIEWS = frozenset("asarray broadcast_to expand_dims flip moveaxis permute_dims reshape squeeze".split())


def instrument(value: Any) -> Any:
    """The value with watched arrays for its arrays; what stands for an array already is left as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(instrument, value))
    is_array = hasattr(value, "dtype") and hasattr(value, "shape") and not hasattr(value, "__backend__")
    return InstrumentedArray(value) if is_array else value


def uninstrument(value: Any) -> Any:
    """The value with the arrays themselves for watched ones."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(uninstrument, value))
    return value.array if isinstance(value, InstrumentedArray) else value


def _noting(name: str, function: Callable) -> Callable:
    """The function on watched arrays. What gives no array is a question about one, and launches nothing."""

    def call(*arguments: Any, **settings: Any) -> Any:
        result = function(*uninstrument(arguments), **{key: uninstrument(value) for key, value in settings.items()})
        seen = instrument(result)
        if seen is not result and name not in _VIEWS:
            record_event(LAUNCH, name)
        return seen

    return call


def _number(kind: type) -> Callable[[Any], Any]:
    def convert(self: InstrumentedArray) -> Any:
        record_event(TO_HOST, f"{kind.__name__}()", nbytes=getattr(self.array.dtype, "itemsize", 0))
        return kind(self.array)

    return convert


def _binary(operate: Callable, swap: bool = False) -> Callable[[Any, Any], Any]:
    def method(self: InstrumentedArray, other: Any) -> Any:
        if getattr(other, "__array_ufunc__", self) is None and type(other) not in (InstrumentedArray, type(self.array)):
            return NotImplemented  # a Variable, or a symbol
        record_event(LAUNCH, operate.__name__.strip("_"))
        return instrument(
            operate(uninstrument(other), self.array) if swap else operate(self.array, uninstrument(other))
        )

    return method


class InstrumentedArray:
    """An array in whose place it is."""

    __slots__ = ("array",)
    __array_ufunc__ = None  # array * Watched is ours to answer

    def __init__(self, array: Any):
        self.array = array

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # no protocol by which the array would be taken unseen
            raise AttributeError(name)
        value = getattr(self.array, name)
        return _noting(name, value) if callable(value) else instrument(value)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.__backend__.xp

    @property
    def __backend__(self) -> Backend:
        return _WatchingBackend(backend_of(self.array))

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a watched array does not become one of NumPy's by itself, as a GPU's would not")

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Any:
        index = uninstrument(index)
        if any(hasattr(part, "dtype") for part in (index if isinstance(index, tuple) else (index,))):
            record_event(LAUNCH, "getitem")
        return instrument(self.array[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        record_event(LAUNCH, "setitem")
        self.array[uninstrument(index)] = uninstrument(value)

    def __neg__(self) -> Any:
        record_event(LAUNCH, "neg")
        return instrument(-self.array)

    __bool__, __int__, __float__, __index__ = _number(bool), _number(int), _number(float), _number(int)
    __add__, __radd__ = _binary(operator.add), _binary(operator.add, swap=True)
    __sub__, __rsub__ = _binary(operator.sub), _binary(operator.sub, swap=True)
    __mul__, __rmul__ = _binary(operator.mul), _binary(operator.mul, swap=True)
    __truediv__, __rtruediv__ = _binary(operator.truediv), _binary(operator.truediv, swap=True)
    __pow__, __rpow__ = _binary(operator.pow), _binary(operator.pow, swap=True)
    __matmul__, __rmatmul__ = _binary(operator.matmul), _binary(operator.matmul, swap=True)
    __and__, __or__ = _binary(operator.and_), _binary(operator.or_)
    __lt__, __le__ = _binary(operator.lt), _binary(operator.le)
    __gt__, __ge__ = _binary(operator.gt), _binary(operator.ge)
    __eq__, __ne__ = _binary(operator.eq), _binary(operator.ne)  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class _Namespace:
    """A library's functions, on watched arrays."""

    def __init__(self, library: Any):
        self.library = library
        self.__name__ = library.__name__

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.library, name)
        return _noting(name, value) if callable(value) and not isinstance(value, type) else value


class _WatchingBackend(Backend):
    """A backend, for watched arrays. It notes nothing more: what a backend does it notes itself."""

    def __init__(self, home: Backend):
        super().__init__(home.name, _Namespace(home.xp), home.device)
        self.home, self.is_host = home, home.is_host


def _of_home(name: str) -> Callable:
    def method(self: _WatchingBackend, *arguments: Any, **settings: Any) -> Any:
        return instrument(getattr(self.home, name)(*uninstrument(arguments), **settings))

    return method


for _name in (
    "arange", "asarray", "astype", "check_index", "check_within", "copy", "empty", "owns", "advanced_index", "scatter",
    "scatter_add", "to_host", "zeros",
):  # fmt: skip
    setattr(_WatchingBackend, _name, _of_home(_name))
