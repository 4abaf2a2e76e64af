"""TapePicture: a tape as text, SVG, Mermaid and HTML."""

from __future__ import annotations

import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np

from ...html import Markup, figure, text
from ...io import replacing
from ...ops.rule_texts import with_names
from .collect import Constant, Item, describe, to_numpy
from .drawing import draw
from .fold import Block

#: The widest line of text, the widest cell of a row, the most records that are shown, and the most arguments of one.
_WIDTH, _CELL, _RECORDS, _ARGUMENTS = 120, 50, 300, 4
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class TapePicture:
    """The picture of a tape: `print` shows it as text, a notebook as a drawing.

    entries  items and blocks, in the order of execution; of a long tape the first and the last ones
    hidden   how many items there are in the middle of a long tape

    >>> x, w = Tensor(2.0, requires_grad=True), Tensor(3.0, requires_grad=True)
    >>> print(show.tape(x * w).mermaid())
    flowchart TD
        n1(["x<br/>()<br/>2"])
        n2(["w<br/>()<br/>3"])
        n3["hadamard<br/>()<br/>6"]
        n1 -->|"g * w"| n3
        n2 -->|"g * x"| n3
    """

    def __init__(self, entries: list[Item | Block]):
        numbers = {item: f"#{k}" for k, item in enumerate(_items(entries), 1)}
        middle = entries[_RECORDS // 4 : -3 * _RECORDS // 4]
        self.entries = [*entries[: _RECORDS // 4], *entries[-3 * _RECORDS // 4 :]] if middle else entries
        self.hidden = len(list(_items(middle)))
        for item in self.items():  # copies, for what is written in place later is not of this tape
            item.value, item.cotangent = to_numpy(item.value), to_numpy(item.cotangent)
        self._names = numbers | _short_names(_items(self.entries))
        self._blocks = {item: one for one in self.entries if isinstance(one, Block) for item in one.items}

    def items(self) -> Iterator[Item]:
        """All leaves and records that are shown."""
        return _items(self.entries)

    def name(self, item: Item) -> str:
        """Its name in the source or of the parameter, with a number where several have it; else its number."""
        return self._names[item]

    def shape(self, item: Item) -> str:
        """The shape; empty for an op with several outputs."""
        return "" if item.shape is None else str(item.shape)

    def value(self, item: Item) -> str:
        """The value, or its range; empty if it is not known."""
        return "" if item.value is None else describe(item.value)

    def cotangent(self, item: Item) -> str:
        """What backward brought: ∂L/∂ of the item; in a block its norm, from the last step to the first."""
        if item.cotangent is None:
            return ""
        if len(item.steps) > 1:
            known = [one.cotangent for one in item.steps if one.cotangent is not None]
            last, first = (f"{np.linalg.norm(to_numpy(one)):.3g}" for one in (known[-1], known[0]))
            return f"|∂L|: {last} … {first}" if len(known) > 1 else f"|∂L|: {last}"
        return f"∂L: {describe(item.cotangent)}"

    def definition(self, item: Item) -> str:
        """`leaf`, or the op and its arguments; several that are one are given once, and of many the first."""
        if item.is_leaf:
            return "leaf"
        names = [self.argument(item, position) for position in range(len(item.arguments))]
        if len(names) > 2:
            runs = [(name, len(list(run))) for name, run in groupby(names)]
            names = [name if count == 1 else f"{name} × {count}" for name, count in runs]
        if len(names) > _ARGUMENTS:
            names[1:] = [f"… {len(names) - 1} more"]
        return f"{item.op}({', '.join(names)})"

    def argument(self, item: Item, position: int) -> str:
        """The name of an argument; `h[t-1]` for the h of the step before; the name of a constant, or its text, after
        the name by which rules know it."""
        argument = item.arguments[position]
        if isinstance(argument, Constant):
            known = item.inputs.count(item.inputs[position]) == 1 and not argument.is_short
            return f"{item.inputs[position]}: {argument}" if known else argument.name or argument
        before = self._before(item, position)
        return self.name(argument) if before is None else f"{self.name(before)}[t-1]"

    def _before(self, item: Item, position: int) -> Item | None:
        """What an argument is in the step before, if it is computed there."""
        block = self._blocks.get(item)
        return None if block is None else block.carried.get((item, position))

    def edges(self, item: Item) -> dict[tuple[Item, bool], str]:
        """The rule for every argument that is an item, and of the step before or not: what is added to its cotangent.

        g is the cotangent of the item, y its value; an argument that is given twice has the sum of two rules.
        """
        names = {
            name: self.argument(item, position)
            for position, name in enumerate(item.inputs)
            if name and (isinstance(item.arguments[position], Item) or item.arguments[position].is_short)
        }
        own = {"g": f"∂{self.name(item)}", "y": self.name(item)}  # where an argument has that name, as the g of an LSTM
        names |= {symbol: name for symbol, name in own.items() if symbol in names.values()}
        found: dict[tuple[Item, bool], list[str]] = {}
        for position, argument in enumerate(item.arguments):
            if isinstance(argument, Item):
                before = self._before(item, position)
                rule = with_names(item.rules.get(position, ""), names)
                found.setdefault((before or argument, before is not None), []).append(rule)
        return {
            key: " + ".join(rules) if len({*item.inputs}) > 1 else rules[0]  # a stack is no sum
            for key, rules in found.items()
        }

    def rules(self, item: Item) -> list[str]:
        """`∂a = g * b` for every argument; `∂a = ∂b = g` where it is the same."""
        if item.note:
            return [item.note]
        by_rule: dict[str, str] = {}
        for (argument, is_before), rule in self.edges(item).items():
            if rule:
                name = f"∂{self.name(argument)}{'[t-1]' if is_before else ''}"
                by_rule[rule] = f"{by_rule[rule]} = {name}" if rule in by_rule else name
        return [f"{names} = {rule}" for rule, names in by_rule.items()]

    # -- text ----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        rows: list[list[str] | str] = []
        place = None
        for number, entry in enumerate(self.entries):
            if self.hidden and number == _RECORDS // 4:
                rows.append(f"… {self.hidden:,} more …")
            block = entry if isinstance(entry, Block) else None
            rows += [] if block is None else self._headline(block)
            indent = "" if block is None else "    "
            for item in entry.items if isinstance(entry, Block) else [entry]:
                if item.place is not None and item.place[:2] != place:
                    place = item.place[:2]
                    rows.append(_shortened(f"{indent}{item.place._replace(columns=None)}", _WIDTH))
                cells = [f"{self.name(item)} = {self.definition(item)}", self.shape(item), self.value(item)]
                cells = [_shortened(cell, _CELL) for cell in (*cells, self.cotangent(item))]
                rows.append([indent + cells[0], *cells[1:], *self.rules(item)])
        return "\n".join(_aligned(rows, 4))

    __repr__ = __str__

    def _headline(self, block: Block) -> list[str]:
        """What is said of a block before its last step."""
        states = [
            f"{self.name(item)}[t-1] is the {self.name(item)} of the step before (at first "
            f"{self.name(start) if isinstance(start, Item) else start})"
            for item, start in block.initial.items()
        ]
        said = f"× {block.count} steps, which are alike. The last one, where {', '.join(states)}"
        if any(item.cotangent is not None for item in block.items):
            said += "; |∂L| from the last step to the first"
        return textwrap.wrap(said, _WIDTH, subsequent_indent="  ")

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
                parts = [self.title(item), self.shape(item), self.value(item), self.cotangent(item)]
                label = "<br/>".join(_mermaid(part) for part in parts if part)
                left, right = ("([", "])") if item.is_leaf else ("[", "]")
                lines.append(f'    {"    " if block else ""}{ids[item]}{left}"{label}"{right}')
                for (argument, is_before), rule in self.edges(item).items():
                    arrow = "-.->" if is_before else "-->"
                    label = f'|"{_mermaid(rule)}"|' if rule else ""
                    start = block.initial[argument] if block is not None and is_before else None
                    edges += [f"    {ids[argument]} {arrow}{label} {ids[item]}"] if argument in ids else []
                    edges += [f'    {ids[start]} -->|"first step"| {ids[item]}'] if start in ids else []
            if block is not None:
                lines.append("    end")
        return "\n".join([*lines, *edges]) + "\n"

    def title(self, item: Item) -> str:
        """What stands in a box: `name = op`, with the constants among the arguments."""
        if item.is_leaf:
            return self.name(item)
        names = [
            "·" if isinstance(a, Item) else self.argument(item, position) for position, a in enumerate(item.arguments)
        ]
        given = "" if set(names) <= {"·"} or len(names) > _ARGUMENTS else f"({', '.join(names)})"
        name = self.name(item)
        return f"{item.op}{given}" if name.startswith("#") else f"{name} = {item.op}{given}"

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


def _items(entries: Iterable[Item | Block]) -> Iterator[Item]:
    for entry in entries:
        yield from entry.items if isinstance(entry, Block) else [entry]


def _short_names(items: Iterable[Item]) -> dict[Item, str]:
    """Of the items that have names, the last part of a parameter's, W of Linear.W; if others have it, too, the whole
    name; and if that is another's, too, W₁ and W₂."""
    named = [item for item in items if item.name]
    short = [one.name.rpartition(".")[2] if re.fullmatch(r"[\w.]+", one.name) else one.name for one in named]
    of_short, of_whole, seen = Counter(short), Counter(item.name for item in named), Counter[str]()
    names = {}
    for item, name in zip(named, short):
        seen[name] += 1
        number = str(seen[name]).translate(_SUBSCRIPTS)
        is_whole = "." in item.name and of_whole[item.name] == 1
        names[item] = name if of_short[name] == 1 else item.name if is_whole else name + number
    return names


def _aligned(rows: list[list[str] | str], columns: int) -> Iterator[str]:
    """The rows as lines in columns, the last of them of any number of cells, which go on in the next line."""
    widths = [max((len(row[k]) for row in rows if not isinstance(row, str)), default=0) for k in range(columns)]
    for row in rows:
        if isinstance(row, str):
            yield row
            continue
        line = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths) if width)
        indent, is_first = " " * len(line), True
        for cell in row[columns:]:
            if not is_first and len(line) + 2 + len(cell) > _WIDTH:
                yield line
                line, is_first = indent, True
            line, is_first = line + ("" if is_first else ", ") + cell, False
        yield _shortened(line.rstrip(), _WIDTH)


def _shortened(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
