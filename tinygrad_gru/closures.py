"""Closures: the free variables, globals and attributes that the code of a function refers to."""

from __future__ import annotations

import dis
import inspect
import linecache
import sys
from functools import lru_cache
from types import CodeType
from typing import Any

_LIBRARIES = frozenset({__name__.partition(".")[0], "numpy", "builtins", *sys.stdlib_module_names})


def is_library(module: Any) -> bool:
    """Whether a module of that name is assumed not to change: this package, NumPy and Python's standard library."""
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


@lru_cache(maxsize=1024)
def names_in(code: CodeType) -> frozenset[str]:
    """All global and attribute names that the code and functions inside it look up; `__import__` if it imports."""
    imports = any(instruction.opname == "IMPORT_NAME" for instruction in dis.get_instructions(code))
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner, ("__import__",) if imports else ())


def cell_contents(cell: Any, default: Any = None) -> Any:
    """The variable in a cell of a closure; the default while it is not assigned."""
    try:
        return cell.cell_contents
    except ValueError:
        return default


def source_line(filename: str, line: int) -> str:
    """A line of source with the place where it is: "model.py:12: return h * 2"."""
    text = linecache.getline(filename, line).strip()
    return f"{filename}:{line}: {text}" if text else f"{filename}:{line}"


def first_line(code: CodeType) -> int:
    """The number of the line with `def` or `lambda`, after decorators, with which the definition begins."""
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    if lines and lines[0].lstrip().startswith("@"):
        after = [k for k, line in enumerate(lines) if line.lstrip().startswith(("def ", "async def "))]
        return code.co_firstlineno + after[0] if after else code.co_firstlineno
    return code.co_firstlineno


def definition_line(function: Any) -> str:
    """The line with which the definition of a function, or of the one it wraps, begins, with its place; nothing for one
    without source."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else source_line(code.co_filename, first_line(code))
