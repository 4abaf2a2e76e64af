"""A page for every op: equation, example, plot, formula, rules, the code that runs, specs and mutants."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from docstrings import fenced, markdown, prose, ran, signature
from matplotlib import rc_context
from repository import ROOT

from tinygrad_gru import Tensor, ops, show
from tinygrad_gru.hints import OPS
from tinygrad_gru.ops.op import is_op
from tinygrad_gru.testing.op_specs import CHECKED_BY, OP_SPECS

NAMES = [name for name in ops.__all__ if name not in ("Op", "op")]


class Source:
    """The top-level statements of a module by the name that they define, and of each op its rules."""

    def __init__(self, module: ModuleType):
        self.path = Path(str(module.__file__))
        self.text = self.path.read_text(encoding="utf-8").splitlines()
        self.defined: dict[str, ast.stmt] = {}
        self.rules: dict[str, ast.stmt] = {}
        for statement in ast.parse("\n".join(self.text)).body:
            if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                self.defined[statement.name] = statement
            for target in getattr(statement, "targets", []):
                if isinstance(target, ast.Name):
                    self.defined[target.id] = statement
            match statement:
                case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "vjp"))):
                    self.rules[name] = statement

    def with_helpers(self, statement: ast.stmt, seen: set[str]) -> Iterator[ast.stmt]:
        """A statement, and the private ones that it names, and so on; `seen` gets their names."""
        yield statement
        for node in ast.walk(statement):
            if (
                isinstance(node, ast.Name)
                and node.id.startswith("_")
                and node.id in self.defined
                and node.id not in seen
            ):
                seen.add(node.id)
                yield from self.with_helpers(self.defined[node.id], seen)

    def show(self, statements: Iterable[ast.stmt]) -> str:
        """The text of statements, without the docstrings of functions."""
        return fenced("\n\n".join(map(self._text, statements)), "python")

    def _text(self, statement: ast.stmt) -> str:
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
        lines = dict(enumerate(self.text[first - 1 : statement.end_lineno], first))
        if isinstance(statement, ast.FunctionDef) and ast.get_docstring(statement) is not None:
            docstring = statement.body[0]
            for number in range(docstring.lineno, (docstring.end_lineno or 0) + 1):
                del lines[number]
        return "\n".join(lines.values()).replace("  # fmt: skip", "")


@cache
def _source(module: ModuleType) -> Source:
    return Source(module)


def definition(function: Any) -> tuple[Source, str]:
    """Where a function is defined, and by which name."""
    inner = inspect.unwrap(function)
    module = inspect.getmodule(inner)
    assert module is not None
    return _source(module), inner.__name__


@cache
def _mutants() -> dict[str, str]:
    """The scores of the last run of `benchmarks.mutants`, by op."""
    text = (ROOT / "benchmarks" / "results" / "mutants.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| (\w+) \| (\d+ of \d+) \|", text, re.M))


@cache
def _specs() -> dict[str, str]:
    """The specs of each op, as they are written."""
    text = (ROOT / "tinygrad_gru" / "testing" / "op_specs.py").read_text(encoding="utf-8")
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "OP_SPECS":
            table = statement.value
            assert isinstance(table, ast.Dict)
            return {
                key.value: ast.get_source_segment(text, value) or ""
                for key, value in zip(table.keys, table.values)
                if isinstance(key, ast.Constant)
            }
    raise LookupError("op_specs.py has no OP_SPECS")


def equation(name: str) -> str:
    """The first line of an op's docstring."""
    return (getattr(ops, name).__doc__ or "").partition("\n")[0]


def page(name: str, folder: Path) -> str:
    function = getattr(ops, name)
    source, defined = definition(function)
    statement = source.defined[defined]
    y, _, gradient = equation(name).partition("        ")
    rest = inspect.cleandoc(function.__doc__ or "").partition("\n")[2]
    place = source.path.relative_to(ROOT).as_posix()
    seen = {defined}
    formula = source.show(source.with_helpers(statement, seen))
    parts = [
        f"# {prose(name)}\n",
        f"````{{py:function}} tinygrad_gru.ops.{name}{signature(function)}\n````\n",
        fenced("\n".join(filter(None, (y, gradient.strip()))), "{code-block} text\n:class: equation-of-op\n"),
        _alias(name, function),
        markdown(rest, ran),
        _plot(name, folder),
        f"## Formula\n\n[{place}](source:{place}#L{statement.lineno})\n",
        formula,
        _rules(source, seen),
        _records(function) if is_op(function) else "",
        _checks(name),
        _elsewhere(name),
    ]
    return "\n".join(parts)


def _alias(name: str, function: Any) -> str:
    return "" if function.__name__ == name else f"An alias of [{function.__name__}]({function.__name__}.md).\n"


def _rules(source: Source, names: set[str]) -> str:
    """The rules of these ops, or of the ops that a function is made of."""
    found = [source.rules[name] for name in sorted(names) if name in source.rules]
    if not found:
        return "## Rules\n\nIt is made of other ops, and their rules give its gradient.\n"
    return "## Rules\n\n" + source.show(part for rule in found for part in source.with_helpers(rule, names))


def _records(function: Any) -> str:
    """What a record keeps for the rules, and the code that was generated."""
    kept = []
    for name, rule in function.rules.items():
        if rule is None:
            kept.append(f"{prose(name)} has no gradient")
        else:
            needed = [f"`{p}`" for p in inspect.signature(rule).parameters if p not in ("g", "i")]
            kept.append(f"∂L/∂{prose(name)} needs {' and '.join(needed) or 'nothing but `g`'}")
    generated = fenced(function.source(), "python")
    return (
        f"A record keeps what the rules name: {'; '.join(kept)}.\n\n"
        f"::::{{dropdown}} The function that `@op` generates from formula and rules\n{generated}::::\n"
    )


def _plot(name: str, folder: Path) -> str:
    """The plot of an elementwise op of one or two inputs, drawn anew if its code has changed."""
    cases = [case for case in OP_SPECS[name] if case.elementwise and case.function is None]
    if not cases or len(cases[0].shapes) > 2:
        return ""
    path = folder / "plots" / f"{name}.svg"
    made_of = [definition(getattr(ops, name))[0].path, *map(Path, (show.__file__, show.figures.__file__, __file__))]
    if not path.exists() or path.stat().st_mtime < max(p.stat().st_mtime for p in made_of):
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = {key: value for key, value in cases[0].settings.items() if isinstance(value, (int, float))}
        with rc_context({"svg.fonttype": "path", "svg.hashsalt": name, "font.size": 11}):
            figure = show.plot_op(getattr(ops, name), **settings)
            figure.set_size_inches(5.5 * len(figure.axes), 3.4)
            figure.savefig(path, metadata={"Date": None})
    return f"![{name} and its derivative](plots/{name}.svg)\n"


def _checks(name: str) -> str:
    cases = OP_SPECS[name]
    dtypes = sorted({dtype for case in cases for dtype in case.dtypes})
    said = ["values against an oracle that is not its own formula"]
    if any(case.differentiable for case in cases):
        said.append("first and second derivatives against finite differences")
    said.append(f"in float64, {', '.join(dtypes)}")
    if any(case.elementwise for case in cases):
        said.append("also for arrays that are 0-d, of size 0 and 1, and that broadcast")
    inner = {name, getattr(ops, name).__name__, *(k.lstrip("_") for k, public in CHECKED_BY.items() if public == name)}
    scores = [f"{score} mutants of `{op}`" for op, score in _mutants().items() if op in inner]
    killed = f"\n\nKilled: {', '.join(scores)} ([all](../results/mutants.md))." if scores else ""
    return (
        f"## How it is checked\n\n`testing.check_op`, in {len(cases)} {'case' if len(cases) == 1 else 'cases'}: "
        f"{'; '.join(said)}.{killed}\n\n{fenced(inspect.cleandoc(_specs()[name]), 'python')}"
    )


def _elsewhere(name: str) -> str:
    """Its other names: a Tensor's method, NumPy's function, and what others call it."""
    found = []
    if callable(getattr(Tensor, name, None)):
        found.append(f"`x.{name}(…)` of a Tensor")
    if hasattr(np, name):
        found.append(f"NumPy's `np.{name}`")
    theirs = [
        foreign for foreign, ours in OPS.items() if re.match(rf"ops\.{name}\b", ours) and not hasattr(np, foreign)
    ]
    if theirs:
        found.append(f"PyTorch, Keras or JAX say {', '.join(f'`{foreign}`' for foreign in theirs)}")
    return f"## Other names\n\n{'; '.join(found)}.\n" if found else ""


def index() -> str:
    """The ops by family, each with its equation."""
    families: dict[str, list[str]] = {}
    for name in NAMES:
        module = inspect.getmodule(inspect.unwrap(getattr(ops, name)))
        assert module is not None
        is_core = module.__name__ == "tinygrad_gru.ops.op"  # whose docstring is not about its two ops
        families.setdefault("Broadcasting" if is_core else str(module.__doc__).partition("\n")[0], []).append(name)
    parts = [
        f"# Ops\n\n{len(NAMES)} differentiable functions of arrays, in families. `from tinygrad_gru import ops`.\n"
    ]
    for title, names in families.items():
        parts += [f"## {prose(re.split(r'[.:]', title)[0])}\n", "| op | y | ∂L/∂ |\n| --- | --- | --- |"]
        for name in names:
            y, _, gradient = equation(name).partition("        ")
            parts.append(f"| [{name}]({name}.md) | {prose(y)} | {prose(gradient.strip())} |")
        parts.append("")
    return "\n".join([*parts, "```{toctree}\n:hidden:\n", *sorted(NAMES), "```\n"])
