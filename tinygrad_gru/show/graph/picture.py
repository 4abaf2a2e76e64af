"""TapePicture: a tape as text, SVG, Mermaid and HTML."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...html import Markup, figure, text
from ...io import replacing
from .collect import Item, describe
from .drawing import draw
from .fold import Block


class TapePicture:
    """The picture of a tape: `print` shows it as text, a notebook as a drawing.

    entries  items and blocks, in the order of execution

    >>> x = Tensor(2.0, requires_grad=True)
    >>> print(show.tape(x * x).mermaid())
    flowchart TD
        n1(["x<br/>()"])
        n2["hadamard<br/>()"]
        n1 -->|"g * b"| n2
    """

    def __init__(self, entries: list[Item | Block]):
        self.entries = entries
        self._numbers = {item: f"#{k}" for k, item in enumerate(self.items(), 1)}

    def items(self) -> Iterator[Item]:
        """All leaves and records that are shown."""
        for entry in self.entries:
            yield from entry.items if isinstance(entry, Block) else [entry]

    def name(self, item: Item) -> str:
        """Its name in the source or of the parameter, else its number in this picture."""
        return item.name or self._numbers[item]

    # -- text ----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        rows: list[list[str] | str] = []
        for entry in self.entries:
            if isinstance(entry, Block):
                starts = [
                    f"{self.name(i)} = {a if isinstance(a, str) else self.name(a)}" for i, a in entry.initial.items()
                ]
                before = f"before the first {', '.join(starts)}; " if starts else ""
                rows.append(f"× {entry.count} steps, which are alike; {before}the last one (and |∂L| … of the first):")
                rows += [self._row(item, entry, "    ") for item in entry.items]
            else:
                rows.append(self._row(entry))
        cells = [row for row in rows if not isinstance(row, str)]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = [
            row if isinstance(row, str)
            else "  ".join(f"{cell:<{n}}" for cell, n in zip(row, widths) if n).rstrip()
            for row in rows
        ]  # fmt: skip
        return "\n".join(lines)

    __repr__ = __str__

    def _row(self, item: Item, block: Block | None = None, indent: str = "") -> list[str]:
        value = "" if item.value is None else describe(item.value)
        return [
            f"{indent}{self.name(item)} = {self.definition(item, block)}", str(item.shape), value,
            self.cotangent(item), ", ".join(self.rules(item, block)), "" if item.place is None else str(item.place),
        ]  # fmt: skip

    def definition(self, item: Item, block: Block | None = None) -> str:
        """`leaf`, or the op and its arguments; several that are one are given once."""
        if item.is_leaf:
            return "leaf"
        arguments: list[str] = []
        counts: list[int] = []
        for position, argument in enumerate(item.arguments):
            before = self._before(item, position, block)
            known = argument if isinstance(argument, str) else self.name(before or argument)
            known += " of the step before" if before is not None else ""
            if arguments and arguments[-1] == known and len(item.arguments) > 2:
                counts[-1] += 1
            else:
                arguments.append(known)
                counts.append(1)
        return f"{item.op}({', '.join(a if n == 1 else f'{a} × {n}' for a, n in zip(arguments, counts))})"

    @staticmethod
    def _before(item: Item, position: int, block: Block | None) -> Item | None:
        return None if block is None else block.carried.get((item, position))

    def rules(self, item: Item, block: Block | None = None) -> list[str]:
        """`∂a = g * b` for every argument; g is the cotangent of the item, y its value."""
        found: dict[str, None] = {}
        for position, rule in item.rules.items():
            argument = item.arguments[position]
            if rule and isinstance(argument, Item):
                found[f"∂{self.name(self._before(item, position, block) or argument)} = {rule}"] = None
        return list(found)

    def cotangent(self, item: Item) -> str:
        """What backward brought: ∂L/∂ of the item; in a block its norm, from the last step to the first."""
        if item.cotangent is None:
            return ""
        if len(item.steps) > 1:
            norms = [np.linalg.norm(one.cotangent) for one in reversed(item.steps) if one.cotangent is not None]
            return f"|∂L|: {norms[0]:.3g}" + (f" … {norms[-1]:.3g}" if len(norms) > 1 else "")
        return f"∂L: {describe(item.cotangent)}"

    # -- other forms ---------------------------------------------------------------------------------------------

    def svg(self) -> str:
        """An SVG element, in the colour of the page's text; boxes show everything when the pointer is on them."""
        return draw(self)

    def mermaid(self) -> str:
        """A Mermaid flowchart, as GitHub and many editors draw it."""
        lines, ids = ["flowchart TD"], {item: f"n{k}" for k, item in enumerate(self.items(), 1)}
        edges: list[str] = []
        for number, entry in enumerate(self.entries):
            block = entry if isinstance(entry, Block) else None
            if block is not None:
                lines.append(f'    subgraph b{number}["× {block.count} steps"]')
            for item in entry.items if isinstance(entry, Block) else [entry]:
                parts = [self.title(item), str(item.shape), self.cotangent(item)]
                label = "<br/>".join(_mermaid(part) for part in parts if part)
                left, right = ("([", "])") if item.is_leaf else ("[", "]")
                lines.append(f'    {"    " if block else ""}{ids[item]}{left}"{label}"{right}')
                for argument, rule, is_carried in self.edges(item, block):
                    arrow = "-.->" if is_carried else "-->"
                    label = f'|"{_mermaid(rule)}"|' if rule else ""
                    edges.append(f"    {ids[argument]} {arrow}{label} {ids[item]}")
                    start = block.initial[argument] if block is not None and is_carried else None
                    if isinstance(start, Item):
                        edges.append(f'    {ids[start]} -->|"first step"| {ids[item]}')
            if block is not None:
                lines.append("    end")
        return "\n".join([*lines, *edges]) + "\n"

    def title(self, item: Item) -> str:
        """What stands in a box: `name = op`, with the constants among the arguments."""
        if item.is_leaf:
            return self.name(item)
        constants = [a for a in item.arguments if isinstance(a, str)]
        given = f"({', '.join('·' if isinstance(a, Item) else a for a in item.arguments)})" if constants else ""
        return f"{item.name} = {item.op}{given}" if item.name else f"{item.op}{given}"

    def edges(self, item: Item, block: Block | None) -> list[tuple[Item, str, bool]]:
        """(argument, text of the rule, whether it is of the step before) for every argument that is an item."""
        found: dict[tuple[Item, bool], str] = {}
        for position, argument in enumerate(item.arguments):
            before = self._before(item, position, block)
            if isinstance(argument, Item):
                found.setdefault((before or argument, before is not None), item.rules.get(position, ""))
        return [(argument, rule, is_carried) for (argument, is_carried), rule in found.items()]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, in the form that the ending says: .svg, .mmd (Mermaid) or .txt."""
        ending = os.path.splitext(path)[1].lower()
        forms: dict[str, Any] = {".svg": self.svg, ".mmd": self.mermaid, ".txt": lambda: f"{self}\n"}
        if ending not in forms:
            raise ValueError(f"path: expected a file that ends in {', '.join(forms)}, got {os.fspath(path)!r}")
        with replacing(path) as file:
            file.write(forms[ending]().encode())

    def _repr_html_(self) -> str:
        return figure(text(self), Markup(f'<div style="overflow-x:auto">{self.svg()}</div>'))


def _mermaid(label: str) -> str:
    """A text in a quoted label of Mermaid: what means something there as the number of the character."""
    return re.sub(r"""[#"<>&`$;]""", lambda found: f"#{ord(found[0])};", label)
