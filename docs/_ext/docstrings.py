"""Docstrings and signatures of the package as Markdown: prose, equations and tables as they are, examples that ran."""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

import tinygrad_gru

_SPECIAL = re.compile(r"([\\*_<>$\[\]{}|~^#])")
_ROW = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)  +(\S.*)")  # a name, and what it is
_COLUMNS = re.compile(r"\S {3,}\S|^ {2,}", re.M)  # aligned by hand


def sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join(inspect.cleandoc(docstring or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", paragraph)[0].rstrip(":")


def prose(text: str) -> str:
    """Text whose only markup is `code`, as Markdown."""
    pieces = re.split(r"(`[^`\n]+`)", text)
    return "".join(p if p.startswith("`") else _SPECIAL.sub(r"\\\1", p) for p in pieces)


def fenced(text: str, info: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{info}\n{text.rstrip()}\n{fence}\n"


def markdown(docstring: str | None, outputs: Callable[[str], str] = str) -> str:
    """A docstring as Markdown. `outputs` may replace the text of an example, as `ran` does."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring or ""))
    parts: list[tuple[str, str]] = []
    for paragraph in filter(None, paragraphs):
        kind = "pycon" if ">>>" in paragraph else "text" if _COLUMNS.search(paragraph) or _ROW.match(paragraph) else ""
        if parts and kind and parts[-1][0] == kind:
            parts[-1] = (kind, f"{parts[-1][1]}\n\n{paragraph}")
        else:
            parts.append((kind, paragraph))
    written = {"pycon": lambda text: fenced(outputs(text), "pycon"), "text": _aligned}
    return "\n".join(written.get(kind, lambda t: prose(t) + "\n")(text) for kind, text in parts)


def _aligned(text: str) -> str:
    """What is aligned by hand: names with what they are as a table; equations and all else as it is."""
    text = inspect.cleandoc("\n" + text)
    rows: list[list[str]] = []
    for line in text.splitlines():
        if match := _ROW.match(line):
            rows.append([match[1], match[2]])
        elif rows and line.startswith("    "):
            rows[-1][1] += " " + line.strip()
        else:
            return fenced(text, "text")
    lines = [f"| {', '.join(f'`{n}`' for n in name.split(', '))} | {prose(said)} |" for name, said in rows]
    return "\n".join([":::{table}", ":class: arguments", "", "| | |", "| --- | --- |", *lines, ":::", ""])


def ran(text: str) -> str:
    """An example with the output that it has now, run with the names that the tests of docstrings offer."""
    names: dict[str, Any] = {"np": np, **{n: getattr(tinygrad_gru, n) for n in tinygrad_gru.__all__}}
    names |= {
        n: import_module(f"tinygrad_gru.{n}") for n in ("ops", "data", "train", "testing", "show", "io", "interop")
    }
    tinygrad_gru.manual_seed(0)
    lines = []
    for example in doctest.DocTestParser().get_examples(text):
        first, *more = example.source.rstrip("\n").split("\n")
        lines += [f">>> {first}", *(f"... {line}" for line in more)]
        if example.options.get(doctest.SKIP):
            continue
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(example.source, "<example>", "single"), names)
        lines += output.getvalue().splitlines()
    return "\n".join(lines)


class _Word:
    """A default value that `repr` would show as an address."""

    def __init__(self, value: Any):
        self.value = value

    def __repr__(self) -> str:
        return getattr(self.value, "__name__", type(self.value).__name__)


def signature(value: Any) -> str:
    """`(x, *, axis=None)`, without types; nothing for what has no signature."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = []
    for p in found.parameters.values():
        is_odd = p.default is not p.empty and repr(p.default).startswith("<")
        parameters.append(p.replace(annotation=p.empty, default=_Word(p.default) if is_odd else p.default))
    return str(found.replace(parameters=parameters, return_annotation=found.empty))
