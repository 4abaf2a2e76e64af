"""A page for every layer and cell: equations, arguments, parameters with their shapes and count, the step's source."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import Any

from docstrings import fenced, markdown, prose, ran, sentence, signature
from repository import ROOT

from tinygrad_gru import explain, manual_seed, nn, randn, show, zeros
from tinygrad_gru.trees import flatten

NAMES = [name for name in nn.__all__ if name != "init"]
#: Sizes that are told apart in the shape of a parameter.
_SIZES = (7, 11)


def _is(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def page(name: str, folder: Path) -> str:
    value = getattr(nn, name)
    path = Path(inspect.getsourcefile(value) or "").relative_to(ROOT).as_posix()
    line = inspect.getsourcelines(value)[1]
    kind = "class" if isinstance(value, type) else "function"
    return "\n".join([
        f"# {prose(name)}\n",
        f"````{{py:{kind}}} tinygrad_gru.nn.{name}{signature(value)}\n````\n",
        markdown(value.__doc__, ran),
        _parameters(value),
        _step(value, folder),
        f"Source: [{path}](source:{path}#L{line})\n",
    ])  # fmt: skip


def _model(value: Any) -> tuple[Any, dict[int, str]]:
    """An instance whose sizes can be told apart, and the names of its sizes; None where it has no parameters."""
    if not _is(value, nn.Module) or inspect.isabstract(value):
        return None, {}
    required = [p.name for p in inspect.signature(value).parameters.values() if p.default is p.empty]
    sizes = dict(zip(_SIZES, (n for n in required if n.endswith(("size", "features", "embeddings", "dim")))))
    if not sizes or len(sizes) < len(required):
        return None, {}
    model = value(*sizes) if value not in (nn.Cell, nn.Recurrent, nn.VariedCell) else None
    return model, sizes


def _parameters(value: Any) -> str:
    model, sizes = _model(value)
    if model is None:
        return ""
    rows, count = [], Counter[str]()
    for name, parameter in model.named_parameters():
        words = [sizes.get(n, str(n)) for n in parameter.shape]
        rows.append(f"| `{name}` | `({', '.join(words)}{',' if len(words) == 1 else ''})` |")
        count[_product(words)] += 1
    total = " + ".join(f"{n} · {product}" if n > 1 else product for product, n in count.items())
    example = type(model)(*(128, 256)[: len(sizes)])
    call = f"{type(model).__name__}({', '.join(map(str, (128, 256)[: len(sizes)]))})"
    return (
        "## Parameters\n\n| name | shape |\n| --- | --- |\n" + "\n".join(rows) + f"\n\nTogether `{total}` numbers: "
        f"`nn.{call}` has {sum(p.size for p in example.parameters()):,}.\n"
    )


def _product(words: list[str]) -> str:
    return f"{words[0]}²" if len(words) == 2 and words[0] == words[1] else " · ".join(words)


def _step(value: Any, folder: Path) -> str:
    """The source of a cell's step, the picture of its tape, and the program that it is compiled to."""
    cell_type = getattr(value, "cell_type", value)
    if not _is(cell_type, nn.Cell) or cell_type in (nn.Cell, nn.VariedCell):
        return ""
    cell = cell_type(3, 8)
    step = inspect.cleandoc("\n" + inspect.getsource(cell_type.step))
    if cell_type is not value:
        more = f"More: [{cell_type.__name__}]({cell_type.__name__}.md).\n"
        return f"## The step of its cell\n\n{fenced(step, 'python')}\n{more}"
    tape = (
        f"`show.tape(cell.step, state, x)`\n\n![The tape of one step of {value.__name__}]({_picture(cell, folder)})\n"
    )
    explained = "`print(explain(cell.step, cell.initial_state(4), zeros(100, 4, 3)))`\n\n"
    program = fenced(explain(cell.step, cell.initial_state(4), zeros(100, 4, 3)), "text")
    return (
        f"## The step\n\n{fenced(step, 'python')}\nGradients follow from the ops of these lines; no backward pass is "
        f"written by hand.\n\n::::{{dropdown}} Its tape\n{tape}::::\n\n"
        f"::::{{dropdown}} The program that it is compiled to\n{explained}{program}::::\n"
    )


def _picture(cell: Any, folder: Path) -> str:
    """The picture of one step from random states, by its path."""
    manual_seed(0)
    x, *states = (randn(4, size, requires_grad=True) for size in (cell.input_size, *cell.state_sizes))
    for tensor, name in zip((x, *states), ("x", *cell.states)):
        tensor.name = name
    path = folder / "pictures" / f"{type(cell).__name__}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = tuple(states) if len(states) > 1 else states[0]
    outputs = flatten(cell.step(state, x))  # of an LRU a state of two parts, and y
    show.tape(tuple(outputs) if len(outputs) > 1 else outputs[0]).save(path)
    return f"pictures/{path.name}"


def index() -> str:
    groups: dict[str, list[str]] = {
        "Recurrent layers": [n for n in NAMES if _is(getattr(nn, n), nn.Recurrent)],
        "Cells": [n for n in NAMES if _is(getattr(nn, n), nn.Cell)],
    }
    known = {n for names in groups.values() for n in names}
    for name in NAMES:
        if name not in known:
            module = inspect.getmodule(getattr(nn, name))
            groups.setdefault(sentence(module.__doc__), []).append(name)
    parts = ["# Layers and cells\n\n`from tinygrad_gru import nn`.\n"]
    for title, names in groups.items():
        parts += [f"## {prose(title.partition(':')[0].rstrip('.'))}\n", "| | |\n| --- | --- |"]
        for name in names:
            parts.append(f"| [{name}]({name}.md) | {prose(sentence(getattr(nn, name).__doc__))} |")
        parts.append("")
    return "\n".join([*parts, "```{toctree}\n:hidden:\n", *NAMES, "```\n"])
