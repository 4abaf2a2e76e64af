"""Fallback: what is said, once, of a step that is not compiled: which, where, why, and what to write instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from types import MethodType, TracebackType
from typing import Any, NamedTuple

from ..closures import cell_contents, is_library, source_line
from .tracing.traced_array import Untraceable


class NotCompiledWarning(UserWarning):
    """A step of `scan` is not compiled, so every op runs and is recorded at every step, which is slower.

    It is given once per step and reason; `compiled=False` runs a step eagerly without it.
    """


class NotCompiledError(RuntimeError):
    """A step of `scan` cannot be compiled, and `compiled=True` (or a target) demands it."""


class Remark(NamedTuple):
    """What is said of a step that is not compiled.

    text      which step, where, why, and what to write instead
    place     the file and the line that are the reason
    registry  in which Python keeps which warnings it has shown
    """

    text: str
    place: tuple[str, int]
    registry: dict

    @classmethod
    def of(cls, step: Callable, reason: Untraceable) -> Remark:
        function = _users_function(step)
        name = (getattr(function, "__qualname__", None) or repr(function)).replace(".<locals>", "")
        code = getattr(function, "__code__", None)
        defined = ("<step>", 1) if code is None else (code.co_filename, code.co_firstlineno)
        place = _place(reason)
        text = f"the step `{name}` ({defined[0]}:{defined[1]}) runs eagerly, every op at every step: {reason}"
        text += f" ({source_line(*place)})" if place is not None else ""
        text += f". Instead: {reason.advice}" if reason.advice else ""
        registry = getattr(function, "__globals__", {}).setdefault("__warningregistry__", {})
        return cls(text, place or defined, registry)

    def warn(self) -> None:
        """Give a NotCompiledWarning; Python shows equal ones once."""
        text = f"{self.text}. `compiled=False` says that this is meant, `explain` shows what else is compiled"
        warnings.warn_explicit(text, NotCompiledWarning, *self.place, registry=self.registry)


def _users_function(step: Any) -> Any:
    """The function that a user wrote, where the step is one of ours that calls it: a cell's `masked_step`."""
    function, owner = step, None
    while isinstance(function, (partial, MethodType)):
        owner = getattr(function, "__self__", owner)
        function = function.func if isinstance(function, partial) else function.__func__
    if not hasattr(function, "__code__"):
        function = getattr(type(function), "forward", None) or vars(type(function)).get("__call__", function)
    if is_library(getattr(function, "__module__", None)) and hasattr(function, "__code__"):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            owner = cell_contents(cell) if name == "self" else owner
        return getattr(type(owner), "step", function)
    return function


def _place(reason: Untraceable) -> tuple[str, int] | None:
    """The file and line of the innermost call in the step that is not in a library; None if no line is the reason."""
    trace: TracebackType | None = (reason.__cause__ or reason).__traceback__
    found = None
    while trace is not None:
        code = trace.tb_frame.f_code
        if not is_library(trace.tb_frame.f_globals.get("__name__")) and not code.co_filename.startswith("<op "):
            found = code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return found
