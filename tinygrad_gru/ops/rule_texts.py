"""The text of an op's rules: the code of a short one, else its equation in the op's docstring."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ..closures import is_library

#: A rule whose code is longer than this is shown as its equation.
_LONGEST = 22


class RuleTexts:
    """Reads the texts of rules; each source file is parsed once."""

    def __init__(self) -> None:
        self._of_ops: dict[tuple[Any, int], dict[str, str]] = {}  # by the op and when its rules were given
        self._lambdas: dict[str, dict[int, list[ast.Lambda]]] = {}  # by file and line

    def of(self, op: Any) -> dict[str, str]:
        """By input, the text of the op's rule: `{"a": "g * b", "b": "g * a"}`; "0" where an input has no gradient.

        It is the code of a rule that is a short lambda. Of another it is what the docstring of the op says if it is one
        of ours, `∂L/∂a = g bᵀ`. Of an op that says nothing, has been given other rules, or is a user's, whose docstring
        may say what its rule should do and does not, it is the first line of the rule's own docstring, its code, or its
        call, `rule(g, x)`.
        """
        rules = getattr(op, "rules", None) or {}
        key = (op, getattr(op, "redefined", 0))
        if rules and key not in self._of_ops:
            self._of_ops[key] = {
                name: "0" if rule is None else self._text(op, name, inspect.unwrap(rule))
                for name, rule in rules.items()
            }
        return self._of_ops.get(key, {})

    def _text(self, op: Any, name: str, rule: Callable) -> str:
        code = self._code(rule)
        if code and len(code) <= _LONGEST and not re.search(r"\b_", code):  # no helper of ours, which says nothing
            return code
        said = "" if rule.__name__ == "<lambda>" else (rule.__doc__ or "").partition("\n")[0]
        call = (
            "…" if rule.__name__ == "<lambda>" else f"{rule.__name__}({', '.join(inspect.signature(rule).parameters)})"
        )
        is_given = not op.redefined or rule.__module__ == op.__module__  # else other rules: after tests, those of ours
        is_as_documented = is_library(op.__module__) and is_given
        return (equation(op, name) if is_as_documented else "") or said or code or call

    def _code(self, rule: Callable) -> str:
        """The body of a lambda as it stands in the source; empty for another function, or without source."""
        code: Any = getattr(rule, "__code__", None)
        if code is None or code.co_name != "<lambda>":
            return ""
        parameters = list(inspect.signature(rule).parameters)
        on_line = self._in_file(code.co_filename).get(code.co_firstlineno, [])
        found = [one for one in on_line if [argument.arg for argument in one.args.args] == parameters]
        if len(found) > 1:
            found = [one for one in found if _instructions(one) == (code.co_code, code.co_names, code.co_consts)]
        return ast.unparse(found[0].body) if found else ""

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


def equation(op: Any, name: str) -> str:
    """What follows `∂L/∂name =` in the docstring of an op, or of the public function of its name; empty if nothing.

    >>> from tinygrad_gru.ops.rule_texts import equation
    >>> equation(ops.matmul, "b")
    'aᵀ g'
    """
    public = getattr(sys.modules.get(op.__module__), op.__name__, None)
    letter = name[:-1] if name == "xs" else name
    for function in (op, public):
        found = re.search(rf"∂L/∂{letter}[ᵢₜ]? = (.*?)(?=[,;.] +∂L/∂|[.;] |\.?$)", function.__doc__ or "", re.MULTILINE)
        if found:
            return re.sub(r" \(0 where .*?\)$", "", found[1])
    return ""


def interface_of(op: Any) -> Any:
    """The names of an op's inputs and settings (`codegen.Interface`); None for what `@op` has not made."""
    return getattr(getattr(getattr(op, "vjp", None), "__self__", None), "interface", None)


def names_of_inputs(op: Any, count: int) -> list[str]:
    """The names by which the rules of an op know its inputs; empty for what `@op` has not made."""
    interface = interface_of(op)
    if interface is None:
        return [""] * count
    return interface.inputs * count if interface.variadic else interface.inputs


def with_names(text: str, names: Mapping[str, str]) -> str:
    """The text of a rule with the names that its inputs have in a picture: `g * b` as `g * h`."""
    if not names or re.search("[ᵃᵇˣ]", text):  # which would need a name as an exponent
        return text
    pattern = rf"(?<![\w.])({'|'.join(map(re.escape, names))})(?![A-Za-z0-9_(])"
    return re.sub(pattern, lambda found: names[found[1]], text)
