"""The learner's file: imported under a name of its own, with errors that say what and where."""

from __future__ import annotations

import builtins
import codecs
import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from ..hints import did_you_mean
from .exercise import Exercise
from .running import TimeUp, attempt, line_of

SECONDS_TO_IMPORT = 10.0  # other libraries are slow to import


class SolutionError(Exception):
    """The learner's file cannot be run, or does not define what it should; the text says why, and in which line."""


@contextmanager
def load(path: Path, exercise: Exercise) -> Iterator[Any]:
    """What the file defines under the name of the exercise; it is a module of its own while the block runs.

    As when the file is run, modules beside it are found. What its code changes of the process is undone at the end:
    the working directory, the path of modules, Python's own functions; and `os._exit` raises SystemExit.

    >>> from pathlib import Path
    >>> _ = Path("1.py").write_text("def product_gradient(a, b, g): return g * b, g * a")
    >>> with learn.load(Path("1.py"), learn.EXERCISES[0]) as solution:
    ...     learn.grade(learn.EXERCISES[0], solution).passed
    True
    """
    module = ModuleType(f"solution_of_exercise_{exercise.number}")
    module.__file__ = str(path)
    with _modules_kept(path.absolute().parent), _process_kept(path.absolute().parent):
        sys.modules[module.__name__] = module  # dataclasses look there
        _execute(path, module)
        if not hasattr(module, exercise.name):
            like = did_you_mean(exercise.name, vars(module))
            raise SolutionError(f"{path.name} defines no `{exercise.name}`{like}")
        solution = getattr(module, exercise.name)
        if not callable(solution):
            raise SolutionError(
                f"{path.name}: `{exercise.name}` should be a function or a class, and is {solution!r:.80}"
            )
        yield solution


@contextmanager
def _process_kept(folder: Path) -> Iterator[None]:
    """Undo what code in the folder changes of the process; without a standard input, and without `os._exit`."""
    stdin, paths, at, leave, process = sys.stdin, list(sys.path), os.getcwd(), os._exit, os.getpid()
    functions = dict(vars(builtins))

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:  # in a child it ends the child
            leave(status)
        raise SystemExit(status)

    sys.stdin = io.StringIO()  # input() ends rather than waits
    sys.path.insert(0, str(folder))
    os._exit = refuse
    try:
        yield
    finally:
        builtins.__dict__.update(functions)  # first, since all else needs them
        sys.stdin, sys.path[:], os._exit = stdin, paths, leave
        os.chdir(at)


@contextmanager
def _modules_kept(folder: Path) -> Iterator[None]:
    """Forget the solution at the end, and the modules beside it, which may change until the next check."""
    before = dict(sys.modules)
    try:
        yield
    finally:
        for name in set(sys.modules) - set(before):
            file = getattr(sys.modules[name], "__file__", None)
            if isinstance(file, str) and Path(file).absolute().parent == folder:
                del sys.modules[name]
        sys.modules.update({name: module for name, module in before.items() if name.startswith("solution_of_")})


def _execute(path: Path, module: ModuleType) -> None:
    written = path.read_bytes()
    try:
        code = compile(written, str(path), "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        words = getattr(error, "msg", str(error))
        if written.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or "utf-8" in words:
            raise SolutionError(f"{path.name} is not written in UTF-8: save it as UTF-8 in your editor") from error
        line, text = getattr(error, "lineno", None), getattr(error, "text", None) or ""
        place = f"\n    line {line}: {text.strip()}" if line else ""
        raise SolutionError(f"{path.name} is not Python: {words}{place}") from error
    raised = attempt(lambda: exec(code, vars(module)), (), SECONDS_TO_IMPORT).raised
    if isinstance(raised, TimeUp):
        where = line_of(raised, str(path))
        cause = "does it call what it should only define?"
        if where.split(": ")[-1].startswith(("import ", "from ")):
            cause = "an import in it is slow; a second check may be faster"
        raise SolutionError(f"{path.name} itself did not end within {SECONDS_TO_IMPORT:g} seconds: {cause}{where}")
    if raised is not None:
        what = "".join(traceback.format_exception_only(raised)).rstrip()
        raise SolutionError(f"{path.name} cannot be imported: {what}{line_of(raised, str(path))}") from raised
