"""Values and functions as the Python text that makes them again."""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np


def source_of(function: Callable[..., Any]) -> str:
    """The source of a function or class, without its decorators."""
    text = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(text).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.ClassDef))
    return "\n".join(text.splitlines()[node.lineno - 1 :])


def without_bodies(source: str) -> str:
    """The source with `raise NotImplementedError` for the body of what has a docstring."""
    lines = source.splitlines()
    for node in reversed(list(ast.walk(ast.parse(source)))):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            end = node.body[0].end_lineno
            assert end is not None
            lines[end : node.end_lineno] = [" " * (node.col_offset + 4) + "raise NotImplementedError"]
    return "\n".join(lines)


def show_value(value: Any) -> str:
    """A value as Python text that makes it again, with `np`."""
    if isinstance(value, np.ndarray):
        return _show_array(value)
    if isinstance(value, np.generic):
        return show_value(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return "np.nan" if value != value else "np.inf" if value > 0 else "-np.inf"
    if isinstance(value, tuple):
        return _joined("(", list(map(show_value, value)), ",)" if len(value) == 1 else ")")
    if isinstance(value, list):
        return _joined("[", list(map(show_value, value)), "]")
    if isinstance(value, dict):
        return _joined("{", [f"{show_value(k)}: {show_value(v)}" for k, v in value.items()], "}")
    return repr(value)


def _show_array(array: np.ndarray) -> str:
    if array.size == 0:
        return f"np.zeros({array.shape}, dtype=np.{array.dtype})"
    text = np.array2string(array, separator=", ", prefix="np.array(", threshold=100)
    text = re.sub(r"\b(nan|inf)\b", r"np.\1", re.sub(r"\[ +", "[", text))
    one_line = re.sub(r"\s+", " ", text)
    text = one_line if len(one_line) <= 80 else re.sub(r"\n\s*\n", "\n", text)
    is_default = array.dtype in (np.float64, np.int64, np.bool_)
    return f"np.array({text})" if is_default else f"np.array({text}, dtype=np.{array.dtype})"


def _joined(opening: str, parts: list[str], closing: str) -> str:
    """The parts on one line, or on one each if that is too long."""
    line = f"{opening}{', '.join(parts)}{closing}"
    if len(line) <= 90:
        return line
    return f"{opening}\n" + "".join(f"    {part},\n" for part in parts) + closing.lstrip(",")
