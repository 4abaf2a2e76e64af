"""Base class of modules that are a function of `ops` with settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from ...tensor import Tensor
from ..module import Module


class OfOps(Module):
    """A function of `ops` as a module. The attributes are the keyword arguments of the function."""

    function: ClassVar[Callable[..., Tensor]]

    def call(self, *inputs: Any) -> Tensor:
        """The function of these inputs, with the settings."""
        return type(self).function(*inputs, **self._settings())

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "training"}

    def describe(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        given = {name: value for name, value in self._settings().items() if not isinstance(value, Tensor)}
        return ", ".join(f"{name}={value!r}" for name, value in given.items() if value != defaults[name].default)
