"""The text of an op's rules, as it stands in the source."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Callable
from typing import Any


class RuleTexts:
    """Reads the texts of rules; each source file is parsed once."""

    def __init__(self) -> None:
        self._lambdas: dict[str, dict[int, list[ast.Lambda]]] = {}  # by file and line

    def of(self, op: Any) -> dict[str, str]:
        """By input, the text of the op's rule: `{"a": "g * b", "b": "g * a"}`; "0" where an input has no gradient.

        A rule that is a function with a name is its call, `rule(g, x)`.
        """
        rules = getattr(op, "rules", None) or {}
        return {name: "0" if rule is None else self._text(inspect.unwrap(rule)) for name, rule in rules.items()}

    def _text(self, rule: Callable) -> str:
        code: Any = getattr(rule, "__code__", None)
        parameters = list(inspect.signature(rule).parameters)
        if code is None or code.co_name != "<lambda>":
            return f"{getattr(rule, '__name__', 'rule')}({', '.join(parameters)})"
        on_line = self._in_file(code.co_filename).get(code.co_firstlineno, [])
        found = [one for one in on_line if [argument.arg for argument in one.args.args] == parameters]
        if len(found) > 1:
            found = [one for one in found if _instructions(one) == (code.co_code, code.co_names, code.co_consts)]
        return ast.unparse(found[0].body) if found else "…"

    def _in_file(self, filename: str) -> dict[int, list[ast.Lambda]]:
        if filename not in self._lambdas:
            found = self._lambdas[filename] = {}
            try:
                tree = ast.parse("".join(linecache.getlines(filename)))
            except SyntaxError:  # not Python's alone, as a notebook's cell with a magic
                return found
            for node in ast.walk(tree):
                if isinstance(node, ast.Lambda):
                    found.setdefault(node.lineno, []).append(node)
        return self._lambdas[filename]


def _instructions(function: ast.Lambda) -> tuple:
    code = compile(ast.Expression(function), "<rule>", "eval").co_consts[0]
    return code.co_code, code.co_names, code.co_consts
