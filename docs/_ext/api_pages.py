"""A page for every other package: its public names with their signatures and docstrings, classes with their methods."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from docstrings import markdown, prose, sentence, signature
from repository import ROOT

from tinygrad_gru import Tensor, ops

#: Packages, and which names of theirs have a page of their own elsewhere.
PACKAGES = (
    "tinygrad_gru", "tinygrad_gru.Tensor", "nn.init", "optim", "data", "train", "io", "interop", "interop.torch",
    "interop.keras", "interop.onnx", "interop.javascript", "debug", "show", "testing", "learn",
    "parallel", "reproduce",
)  # fmt: skip


def _names(module: ModuleType) -> list[tuple[str, Any]]:
    """The public names: those of `__all__`, or else the functions that a module defines."""
    own = [n for n, v in vars(module).items() if n[0] != "_" and getattr(v, "__module__", "") == module.__name__]
    found = ((name, getattr(module, name)) for name in getattr(module, "__all__", own))
    return [(n, v) for n, v in found if not isinstance(v, (ModuleType, str)) and n != "Tensor"]


def page(package: str) -> str:
    if package == "tinygrad_gru.Tensor":
        return f"# Tensor\n\n{_methods_that_are_ops()}\n{_entry('tinygrad_gru', 'Tensor', Tensor)}"
    name = package if package == "tinygrad_gru" else f"tinygrad_gru.{package}"
    module = import_module(name)
    heading = "The package" if package == "tinygrad_gru" else package
    entries = [_entry(name, n, value) for n, value in _names(module)]
    return "\n".join([f"# {prose(heading)}\n", markdown(module.__doc__), *entries])


def _methods_that_are_ops() -> str:
    names = [name for name in ops.__all__ if callable(getattr(Tensor, name, None))]
    links = ", ".join(f"[{name}](../ops/{name}.md)" for name in names)
    return f"These ops are methods too, as in `x.tanh()`, besides the operators of Python and NumPy: {links}.\n"


def _entry(module: str, name: str, value: Any) -> str:
    if not callable(value):
        return f"````{{py:data}} {module}.{name}\nA {type(value).__name__}.\n````\n"
    kind = "class" if isinstance(value, type) else "function"
    if kind == "class" and issubclass(value, Exception):
        kind = "exception"
    body = [_source(value), markdown(value.__doc__)]
    if kind == "class":
        body += [_member(n, getattr(value, n)) for n in _methods(value)]
    return f"``````{{py:{kind}}} {module}.{name}{_signature(value)}\n" + "\n".join(body) + "\n``````\n"


def _methods(value: type) -> list[str]:
    """The public methods and properties that a class itself documents, in their order."""
    kinds = (FunctionType, classmethod, staticmethod, property)
    return [n for n, m in vars(value).items() if n[0] != "_" and isinstance(m, kinds) and _function(m).__doc__]


def _function(member: Any) -> Any:
    return getattr(member, "__func__", getattr(member, "fget", member))


def _member(name: str, member: Any) -> str:
    kind = "method" if callable(member) else "property"
    shown = _signature(member).replace("(self, ", "(").replace("(self)", "()") if callable(member) else ""
    return f"`````{{py:{kind}}} {name}{shown}\n{markdown(getattr(_function(member), '__doc__', ''))}\n`````\n"


def _signature(value: Any) -> str:
    return "" if isinstance(value, type) and issubclass(value, Exception) else signature(value)


def _source(value: Any) -> str:
    inner = inspect.unwrap(value)
    try:
        path, line = Path(inspect.getsourcefile(inner) or ""), inspect.getsourcelines(inner)[1]
        place = path.relative_to(ROOT).as_posix()
    except (TypeError, OSError, ValueError):  # made by code, or not ours
        return ""
    return f"[source](source:{place}#L{line})\n"


def index() -> str:
    rows = []
    for package in PACKAGES:
        name = package if package.startswith("tinygrad_gru") else f"tinygrad_gru.{package}"
        documented = import_module(name) if not name.endswith(".Tensor") else Tensor
        rows.append(f"| [{prose(package)}]({package}.md) | {prose(sentence(documented.__doc__))} |")
    elsewhere = "[Ops](../ops/index.md) and [layers](../nn/index.md) have pages of their own."
    return "\n".join([
        f"# Packages\n\nThe public names of every package. {elsewhere}\n",
        "| | |\n| --- | --- |", *rows, "\n```{toctree}\n:hidden:\n", *PACKAGES, "```\n",
    ])  # fmt: skip
