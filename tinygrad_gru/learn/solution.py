"""The learner's file: imported under a name of its own, with errors that say what and where."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ..hints import did_you_mean
from .exercise import Exercise
from .running import TimeUp, attempt, line_of

SECONDS_TO_IMPORT = 1.0


class SolutionError(Exception):
    """The learner's file cannot be run, or does not define what it should; the text says why, and in which line."""


@contextmanager
def load(path: Path, exercise: Exercise) -> Iterator[Any]:
    """What the file defines under the name of the exercise; it is a module of its own while the block runs.

    >>> from pathlib import Path
    >>> _ = Path("1.py").write_text("def product_gradient(a, b, g): return g * b, g * a")
    >>> with learn.load(Path("1.py"), learn.EXERCISES[0]) as solution:
    ...     learn.grade(learn.EXERCISES[0], solution).passed
    True
    """
    module = ModuleType(f"solution_of_exercise_{exercise.number}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look there
    stdin, sys.stdin = sys.stdin, io.StringIO()  # input() ends rather than waits
    try:
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
    finally:
        sys.stdin = stdin
        del sys.modules[module.__name__]


def _execute(path: Path, module: ModuleType) -> None:
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except SyntaxError as error:
        place = f"\n    line {error.lineno}: {(error.text or '').strip()}" if error.lineno else ""
        raise SolutionError(f"{path.name} is not Python: {error.msg}{place}") from error
    except ValueError as error:  # null bytes
        raise SolutionError(f"{path.name} is not Python: {error}") from error
    raised = attempt(lambda: exec(code, vars(module)), (), SECONDS_TO_IMPORT).raised
    if isinstance(raised, TimeUp):
        where = line_of(raised, str(path))
        raise SolutionError(f"{path.name} itself did not end within {SECONDS_TO_IMPORT:g} second{where}")
    if raised is not None:
        what = "".join(traceback.format_exception_only(raised)).rstrip()
        raise SolutionError(f"{path.name} cannot be imported: {what}{line_of(raised, str(path))}") from raised
