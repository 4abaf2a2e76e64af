"""Programs in Markdown: the fenced blocks of a page, and how they are run."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,}|:{3,})\s*(.*?)\s*$")
_OPTIONS = re.compile(r"---\n.*?^---\n|(?::[\w-]+:[^\n]*\n)+\n?", re.S | re.M)  # of a directive, above its text


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind its fence, the number of its first line in the page, and its text."""

    info: str
    line: int
    text: str

    @property
    def is_cell(self) -> bool:
        return self.info.startswith("{code-cell}")

    def split(self) -> tuple[str, Block]:
        """The options of a directive, and the block without them."""
        options = match[0] if (match := _OPTIONS.match(self.text)) else ""
        return options, Block(self.info, self.line + options.count("\n"), self.text[len(options) :])


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order. A block within a block is a part of its text."""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if opening := _FENCE.match(line):
            fence, info = opening.groups()
            inside = []
            for _, line in lines:
                if (closing := _FENCE.match(line)) and closing[1].startswith(fence) and not closing[2]:
                    break
                inside.append(line + "\n")
            yield Block(info, number + 1, "".join(inside))


def run(programs: Sequence[Block], path: Path, namespace: dict[str, Any]) -> None:
    """Run blocks of a page in one namespace, as a notebook would: the value of a last expression is shown.

    Line numbers in a traceback are those of the page, and `inspect` finds the source of what is defined here.
    A block with the tag raises-exception must raise.
    """
    cells = [block.split() for block in programs]
    lines: list[str] = []
    for _, cell in cells:  # what is not code is blank
        lines += ["\n"] * (cell.line - 1 - len(lines)) + cell.text.splitlines(keepends=True)
    linecache.cache[str(path)] = (len(lines), None, lines, str(path))
    for options, cell in cells:
        if "raises-exception" not in options:
            _run(cell, path, namespace)
            continue
        try:
            _run(cell, path, namespace)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
        else:
            raise AssertionError(f"{path}, line {cell.line}: this cell should raise")


def _run(cell: Block, path: Path, namespace: dict[str, Any]) -> None:
    body = ast.parse("\n" * (cell.line - 1) + cell.text, str(path)).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), str(path), "exec"), namespace)
    if isinstance(last, ast.Expr):
        _show(eval(compile(ast.Expression(last.value), str(path), "eval"), namespace))


def _show(value: Any) -> None:
    for method in ("_repr_html_", "_repr_svg_", "_repr_png_"):
        if hasattr(type(value), method) and getattr(value, method)() is not None:
            return
    if value is not None:
        print(repr(value))
