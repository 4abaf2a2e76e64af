"""Base class of modules that are a function of `ops` with settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from ...tensor import Tensor
from ..module import Module


class OfOps(Module):
    """A function of `ops` as a module. Attributes by the names of its keyword arguments are its settings."""

    function: ClassVar[Callable[..., Tensor]]
    _names: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "function"):
            parameters = inspect.signature(cls.function).parameters.values()
            cls._names = tuple(x.name for x in parameters if x.default is not x.empty)

    def call(self, *inputs: Any) -> Tensor:
        """The function of these inputs, with the settings."""
        return type(self).function(*inputs, **self._settings())

    def _settings(self) -> dict[str, Any]:
        own = vars(self)
        return {name: own[name] for name in self._names if name in own}

    def describe(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        given = {name: value for name, value in self._settings().items() if not isinstance(value, Tensor)}
        return ", ".join(f"{name}={value!r}" for name, value in given.items() if value != defaults[name].default)
