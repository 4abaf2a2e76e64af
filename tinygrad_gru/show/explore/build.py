"""Explorer: builds the page from its parts, the models in JavaScript, and the text."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from ... import ops
from ...html import Markup, escape
from ...interop import javascript
from ...io import replacing
from ...nn import Cell, Module
from ...version import __version__
from .fresh import fresh_curves
from .text import Symbols

#: The parts of the page's script, in the order in which they are joined: each names only what stands before it when
#: it is loaded.
SCRIPTS = (
    "dom", "tokens", "changes", "session", "units", "colours", "lines", "page", "operands", "differences",
    "views/text", "views/map", "views/curves", "views/unit", "views/write", "views/change", "views/walk",
    "views/reach", "views/guide", "start",
)  # fmt: skip


@dataclass(frozen=True)
class Explorer:
    """A page of the explorer. In Jupyter it shows itself.

    html  the whole page

    >>> page = show.explorer(train.CharacterModel(2, 4, 8), data.CharacterVocabulary("ab"), text="abba")
    >>> page
    Explorer('GRU of 8 units', 0.2 MB)
    >>> page.save("page.html")
    """

    name: str
    html: str = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, which a double click opens."""
        with replacing(path) as file:
            file.write(self.html.encode("utf-8", "surrogatepass"))

    def __repr__(self) -> str:
        return f"Explorer({self.name!r}, {len(self.html) / 1e6:.1f} MB)"

    def _repr_html_(self) -> Markup:
        """The page in a frame of its own, that may run its script and nothing else."""
        style = "width:100%;height:900px;border:1px solid #ccc;border-radius:8px"
        title = escape(f"Explorer: {self.name}")
        return Markup(
            f'<iframe sandbox="allow-scripts" title="{title}" style="{style}" srcdoc="{escape(self.html)}"></iframe>'
        )


def explorer(
    model: Module,
    vocabulary: Any = None,
    *,
    text: str | None = None,
    path: str | os.PathLike[str] | None = None,
    beside: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Explorer:
    """A page for the browser in which a model of text is looked into and changed: one file, without a network.

    In it one types a text and sees every value of the cell's step by its name, over the characters and for every unit,
    and those of one unit as curves; what fed it, in the equations of the cell's docstring and in the lines of its step;
    what clamped gates, moved biases and scaled matrices do to the loss and to what it writes; the gradient of a loss
    record by record, beside finite differences; and how far back it reaches.

    model       a CharacterModel; or an nn.Sequential of Embedding, recurrent layers and Linear. Any cell whose step
                compiles, your own too; a model of numbers, without an Embedding, is refused
    vocabulary  a CharacterVocabulary, or a sequence of symbols; without it a text is a list of ids
    text        what the page reads first
    path        a file to write the page to
    beside      further models by name, to compare with: {name: model}, or {name: (model, vocabulary)}. Without it, a
                GRU, an LSTM and a tanh-RNN of the same size, as they are before training, are beside it in the picture
                of how far the gradient reaches
    name        what the page calls the model

    Raises InteropError if a model cannot be exported, and says why. Texts, names and symbols, possibly of untrusted
    checkpoints, are escaped, and the page's Content-Security-Policy lets it load nothing.

    >>> class Leaky(nn.Cell):
    ...     def __init__(self, input_size, hidden_size, **options):
    ...         super().__init__(input_size, hidden_size, **options)
    ...         self.W, self.U, self.b = self.new_W(), self.new_U(), self.new_b()
    ...
    ...     def step(self, h, x):
    ...         new = ops.tanh(x @ self.W + h @ self.U + self.b)
    ...         return 0.9 * h + 0.1 * new
    >>> vocabulary = data.CharacterVocabulary.from_text("to be or not to be")
    >>> model = train.CharacterModel(len(vocabulary), embedding=4, hidden=8, cell=Leaky)
    >>> show.explorer(model, vocabulary, text="to be", path="leaky.html")
    Explorer('Leaky of 8 units', 0.1 MB)
    """
    name = _name_of(model) if name is None else name
    models = {name: (model, vocabulary)}
    for other, given in (beside or {}).items():
        if other in models:
            raise ValueError(f"beside: {other!r} is the name of the model itself: give another")
        models[other] = given if isinstance(given, tuple) else (given, vocabulary)
    sources = [javascript.source(*given) for given in models.values()]
    symbols = Symbols.of(model, vocabulary)
    text = symbols.first_text() if text is None else re.sub(r"\r\n?", "\n", text)  # as a text field does
    ids = symbols.encode(text)
    if len(ids) < 2:
        what = f"{'characters' if symbols.is_text else 'ids'} of the {len(symbols.known)} that the model knows"
        raise ValueError(f"text: expected at least two {what}, got {text!r:.60}")
    about = {
        "text": text,
        "equations": _equations(),
        "fresh": fresh_curves(model, ids) if beside is None else [],
        "names": list(models),
        "cells": [_cell_equations(given) for given, _ in models.values()],
    }
    page = Explorer(name, _page(name, sources, about))
    if path is not None:
        page.save(path)
    return page


def _name_of(model: Module) -> str:
    """Such as "GRU of 192 units": the first recurrent layer of a model."""
    for layer in model.modules():
        if hasattr(layer, "hidden_size"):
            return f"{type(layer).__name__} of {layer.hidden_size} units"
    return type(model).__name__


def _equations() -> dict[str, dict[str, Any]]:
    """The rules of the ops as their docstrings write them, such as "∂L/∂x = g ⊙ (1 − y²)", and the names of inputs."""
    found = {name: (getattr(ops, name), re.search(r"∂L/∂.*", getattr(ops, name).__doc__ or "")) for name in ops.__all__}
    return {
        name: {"rule": " ".join(match[0].split()), "inputs": list(inspect.signature(op).parameters)}
        for name, (op, match) in found.items()
        if match and callable(op)
    }


def _cell_equations(model: Module) -> dict[str, list[list[str]]]:
    """Of every class of cells, the equations of its docstring and what stands beside them: {name: [[equation, note]]}.

    None of a cell with options: these change its equations.
    """
    found = {}
    for cell in model.modules():
        if isinstance(cell, Cell) and not getattr(cell, "has_options", False):
            block = re.search(r"^(?: *\S+ += .*\n?)+", type(cell).__doc__ or "", re.MULTILINE)
            lines = block[0].splitlines() if block else []
            found[type(cell).__name__] = [[*re.split(r" {3,}", line.strip(), maxsplit=1), ""][:2] for line in lines]
    return found


def _page(name: str, sources: list[str], about: Any) -> str:
    """The page: its parts in the places that page.html names."""
    folder = files(__package__) / "page"

    def read(part: str) -> str:
        return (folder / part).read_text(encoding="utf-8")

    scripts = "\n".join(read(f"script/{part}.js") for part in SCRIPTS)
    models = [f"tinygradModels.push((() => {{\n{source}\nreturn tinygradModel;\n}})());" for source in sources]
    parts = {
        "title": escape(name),
        "version": escape(__version__),
        "style": read("style.css"),
        "script": f'"use strict";\n(() => {{\n{scripts}\n}})();',
        "about": _in_script(json.dumps(about)),
        "models": "\n".join(f"<script>{_in_script(part)}</script>" for part in ("var tinygradModels = [];", *models)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], read("page.html"))


def _in_script(text: str) -> str:
    """JSON, or a script, in which neither strings nor comments can end or hide the element that holds it.

    `<!--` and `<script` are such too: after both of them, the end of the element is not seen.
    """
    text = re.sub(r"<(?=/script|script|!--)", r"\\u003c", text, flags=re.IGNORECASE)
    return text.replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")
