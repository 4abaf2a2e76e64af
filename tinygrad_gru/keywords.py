"""Keywords that a constructor or a call has not: the error that says what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, ClassVar, TypeVar

from .hints import did_you_mean

Function = TypeVar("Function", bound=Callable)


class AnsweredKeywords:
    """Base class of classes whose constructor answers a keyword that it has not, unless it takes any."""

    #: What to write instead of keywords of other libraries.
    _keyword_hints: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *inputs: Any, **settings: Any) -> Any:
        if settings:
            parameters = inspect.signature(cls).parameters
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                for name in filter(lambda name: name not in parameters, settings):
                    raise unknown_keyword(cls.__name__, name, cls._keyword_hints, parameters)
        return super().__new__(cls)


def answered(hints: Mapping[str, str]) -> Callable[[Function], Function]:
    """A decorator of functions that answers a keyword that they have not."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def call(*inputs: Any, **settings: Any) -> Any:
            known = inspect.signature(function).parameters
            for name in filter(lambda name: name not in known, settings):
                raise unknown_keyword(function.__name__, name, hints, known)
            return function(*inputs, **settings)

        return call  # type: ignore[return-value]

    return decorate


def unknown_keyword(owner: str, name: str, hints: Mapping[str, str], known: Iterable[str]) -> TypeError:
    """The error for a keyword that is none of `known`: with its hint, or else with the known name most like it."""
    if name in hints:
        return TypeError(f"{owner} has no keyword {name!r}; here it is {hints[name]}")
    known = [word for word in known if word != "self"]
    accepted = f"it has {', '.join(known)}" if known else "it has none"
    return TypeError(f"{owner} has no keyword {name!r}{did_you_mean(name, known)}; {accepted}")
