"""Modes: how `scan` runs a step, by rule: its argument, `compiling`, TINYGRAD_GRU_COMPILED, or what is installed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

from .. import native
from ..backend import is_on_cuda
from ..contexts import block, setting

#: The environment variable that names the mode where neither an argument nor a block does.
VARIABLE = "TINYGRAD_GRU_COMPILED"

_WORDS = "'llvm', 'llvm:2' (for two threads), 'numpy' or 'eager'"
_EXPECTED = f"True, False, 'cuda', {_WORDS}"
_NAME = re.compile("eager|numpy|cuda|javascript|(llvm|numba)(:[1-9][0-9]*)?")
_compiling: ContextVar[Mode | None] = ContextVar("compiling", default=None)


class Mode(NamedTuple):
    """How a step runs.

    target    "numpy", "llvm", "llvm:2" (in two threads); "cuda", "javascript"; "" is eager mode. Whatever the
              target of host arrays, arrays on a GPU are computed there
    reason    what decides that
    is_asked  whether that is an argument, a block or the environment variable, rather than what is installed
    strict    whether a step that cannot be compiled is an error
    """

    target: str
    reason: str
    is_asked: bool = True
    strict: bool = False

    @property
    def family(self) -> str:
        """The target without its number of threads, which changes no result; "eager" for none."""
        return self.target.partition(":")[0] or "eager"

    def on(self, array: Any) -> Mode:
        """The mode for arrays like this one."""
        if self.target in ("", "cuda", "javascript") or not is_on_cuda(array):
            return self
        return self._replace(target="cuda", reason="its arrays are on a GPU")


def mode_of(compiled: bool | str | None = None) -> Mode:
    """The mode of a `scan` with this argument. Raises ValueError for an unknown one."""
    if compiled is None:
        return _compiling.get() or _default(os.environ.get(VARIABLE, ""))
    return _asked(compiled, "compiled={!r}")


def _asked(compiled: Any, by: str) -> Mode:
    """The mode that an argument or a block asks for."""
    if compiled is True:
        default = _default(os.environ.get(VARIABLE, ""))
        default = default if default.target else _of_installed()
        return default._replace(reason=f"{by.format(True)}, and {default.reason}", strict=True)
    if compiled is not False and not isinstance(compiled, str):
        raise ValueError(f"compiled: expected {_EXPECTED}, got {compiled!r}")
    return _named("eager" if compiled is False else compiled, "compiled", by.format(compiled))


@lru_cache(maxsize=64)
def _named(name: str, argument: str, reason: str) -> Mode:
    """The mode of that name, for that reason."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{argument}: expected {_EXPECTED}, got {name!r}")
    return Mode("" if name == "eager" else name.replace("numba", "llvm"), reason)  # numba is its old name


def is_word(name: str) -> bool:
    """Whether it is one of the words for how host arrays are computed: not "cuda", nor what Python does not run."""
    return name not in ("cuda", "javascript") and _NAME.fullmatch(name) is not None


@lru_cache(maxsize=8)
def _default(variable: str) -> Mode:
    """The mode that the environment variable names, or what is installed gives."""
    if not variable:
        return _of_installed()
    if not is_word(variable):
        raise ValueError(f"{VARIABLE}: expected {_WORDS}, got {variable!r}")
    return _named(variable, f"the environment variable {VARIABLE}", f"{VARIABLE}={variable}")


@lru_cache(maxsize=1)
def _of_installed() -> Mode:
    """LLVM's target where it works, the same in every process of an environment."""
    problem = native.problem()
    return Mode("numpy", problem, is_asked=False) if problem else Mode("llvm", "llvmlite is installed", is_asked=False)


def continued(before: str | None, compiled: bool | str | None, now: Mode) -> tuple[bool | str | None, str]:
    """The argument `compiled` with which a run is to be continued, and what is to be said of it, or "".

    before    the family of the mode so far; None for a run of an earlier version, whose default was "numpy"
    compiled  the argument that is given now, of which `now` is the mode

    Where nothing asks for another mode it is the one so far, so that a resumed run is bit-identical to one that was
    never interrupted.
    """
    if not now.is_asked and now.family != "cuda" and before in (None, "numpy", "eager"):
        return False if before == "eager" else "numpy", ""
    if before in (None, now.family):
        return compiled, ""
    return compiled, (
        f"recurrences ran by the target {before} so far, and run by {now.family} from here on ({now.reason}): the run "
        "goes on with results that are equal to rounding, not bit for bit"
    )


@block
def compiling(on: bool | str | None = True) -> Iterator[None]:
    """The default of `scan`'s argument `compiled` in this block.

    True         compiled, by the target that is the default; a step that cannot be compiled is a NotCompiledError
    False        eager mode; so is "eager"
    "llvm"       machine code, by llvmlite (the extra `fast`), in two threads, which share the batch, where that pays:
                 by a rule that `explain` states, with the same bits. "llvm:1" and "llvm:2" fix their number; of rows
                 that are shorter than 64 bytes LLVM may round a function such as tanh otherwise in two
    "numpy"      a program of NumPy's functions
    None         left to the environment variable TINYGRAD_GRU_COMPILED, which is one of these words; without it "llvm"
                 where llvmlite is installed, else "numpy"

    >>> with compiling(False):  # every step runs, and prints
    ...     scan(lambda h, x: print(x.item()) or h + x, Tensor(0.0), Tensor([1.0, 2.0]))[0].item()
    1.0
    2.0
    3.0
    """
    with setting(_compiling, None if on is None else runnable(_asked(on, "compiling({!r})"))):
        yield


def runnable(mode: Mode) -> Mode:
    """The mode, unless it cannot run here: Python does not run JavaScript, and LLVM needs llvmlite."""
    if mode.target == "javascript":
        raise ValueError(
            "compiled='javascript' is a program for Node.js or a page, which Python does not run: the script of a step "
            "is written by interop.javascript.scan_source(step, carry, xs), that of a text model by "
            "interop.javascript.source(model); explain(step, carry, xs, compiled='javascript') shows the program"
        )
    if mode.family == "llvm" and (problem := native.problem()):
        raise ImportError(f"{mode.reason} cannot run: {problem}")
    return mode
