"""Fallback: what is said, once, of a step that is not compiled, which, where, why, and what to write instead; and of
one whose compilation takes long."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from ..closures import first_line, is_library, source_line
from ..native import cache
from .protocol import users_function
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
    is_ours   whether neither the step nor the line is a user's, as in an imported ONNX graph: there is nothing to mend
    """

    text: str
    place: tuple[str, int]
    registry: dict
    is_ours: bool

    @classmethod
    def of(cls, step: Callable, reason: Untraceable) -> Remark:
        function, defined = users_function(step), _defined(step)
        place = _place(reason)
        text = f"{_words(step)} runs eagerly, every op at every step: {reason}"
        text += f" ({source_line(*place)})" if place is not None else ""
        text += f". Instead: {reason.advice}" if reason.advice else ""
        is_ours = place is None and is_library(getattr(function, "__module__", None))
        return cls(text, place or defined, _registry(step), is_ours)

    def warn(self) -> None:
        """Give a NotCompiledWarning; Python shows equal ones once."""
        if self.is_ours:
            return
        text = f"{self.text}. `compiled=False` says that this is meant, `explain` shows what else is compiled"
        warnings.warn_explicit(text, NotCompiledWarning, *self.place, registry=self.registry)


def log_compilation(step: Callable | None, seconds: float, target: str) -> None:
    """Say in the log of `tinygrad_gru.scan` how long a step took to compile, and how to wait less: once of a step, not
    again for arrays of other shapes.

    It is a record of level WARNING, which Python shows where no log is set up, and no warning: a program whose warnings
    are errors runs on a slow machine as on a fast one.

    step  the step, None if it is gone
    """
    import logging  # here, for it would take 3 ms of every process's start

    if step is not None:
        registry, key = _registry(step), (__name__, *_defined(step))
        if key in registry:
            return
        registry[key] = True
    text = f"compiling {'a step' if step is None else _words(step)} took {seconds:.1f} s, by the target {target}. "
    if target.startswith("llvm"):
        problem = cache.problem()
        kept = f"not kept: {problem}" if problem else f"kept in {cache.folder()}, where the next process finds it"
        text += f"Its machine code is {kept}. compiled='numpy', or TINYGRAD_GRU_COMPILED=numpy for all, starts sooner"
    else:
        text += "compiled=False runs it eagerly, and starts at once"
    logging.getLogger(__package__).warning(text)


def _words(step: Callable) -> str:
    """Which step it is, and where it is defined."""
    function, (file, line) = users_function(step), _defined(step)
    name = (getattr(function, "__qualname__", None) or repr(function)).replace(".<locals>", "")
    return f"the step `{name}` ({file}:{line})"


def _defined(step: Callable) -> tuple[str, int]:
    """The file and line in which the function that a user wrote begins."""
    code = getattr(users_function(step), "__code__", None)
    return ("<step>", 1) if code is None else (code.co_filename, first_line(code))


def _registry(step: Callable) -> dict:
    """Where Python notes which warnings the module of a step has given."""
    return getattr(users_function(step), "__globals__", {}).setdefault("__warningregistry__", {})


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
