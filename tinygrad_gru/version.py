"""The version of the package, and errors for names of earlier ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar

__version__ = "0.1.0"

Function = TypeVar("Function", bound=Callable)


def renamed_arguments(**new_names: str) -> Callable[[Function], Function]:
    """A decorator for functions with renamed keyword arguments: a former name is a TypeError with the new one."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            for name in new_names.keys() & keywords.keys():
                called = function.__qualname__.removesuffix(".__init__")
                raise TypeError(f"{called}: the argument {name} is called {new_names[name]} now")
            return function(*arguments, **keywords)

        return call  # type: ignore[return-value]

    return decorate


class RenamedAttribute:
    """The former name of an attribute: an AttributeError with the new one."""

    def __init__(self, new_name: str):
        self.new_name = new_name

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__}.{self.name} is called {self.new_name} now")
