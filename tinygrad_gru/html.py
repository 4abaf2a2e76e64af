"""HTML for notebooks: escaped tables and figures, of which `_repr_html_` methods are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from typing import Any

from .backend.memory import format_bytes

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
#: Rows of a table that are shown; of more than that the first and the last.
_MOST_ROWS = 60


class Markup(str):
    """A text that is HTML already, so that it is not escaped again."""

    __slots__ = ()


def escape(value: Any) -> Markup:
    """The text of a value as HTML; Markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(str(value).translate(_ESCAPES))


def table(title: Any, rows: Sequence[Sequence[Any]], columns: Sequence[Any] = (), note: Any = "") -> Markup:
    """A table with a title above it and a note below it.

    Cells are texts, numbers (right-aligned; floats with four digits), None (empty) or Markup, such as another table.
    Of a long table the rows in the middle are left out, and it says how many.
    """
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in columns)
    lines = [f"<tr>{head}</tr>"] if columns else []
    half, left_out = _MOST_ROWS // 2, len(rows) - _MOST_ROWS
    if left_out > 0:
        span = max(map(len, rows))
        lines += map(_row, rows[:half])
        lines += [f'<tr><td colspan="{span}" style="text-align:center">… {left_out:,} more …</td></tr>']
        rows = rows[-half:]
    lines += map(_row, rows)
    return Markup(f"<div>{_line(title, 'b')}<table>{''.join(lines)}</table>{_line(note, 'small')}</div>")


def figure(caption: Any, picture: Markup) -> Markup:
    """A picture, such as an SVG element, with a caption below it."""
    return Markup(
        f'<figure style="margin:0.5em 0">{escape(picture)}<figcaption>{escape(caption)}</figcaption></figure>'
    )


def text(value: Any) -> Markup:
    """A text of several lines, in a font of fixed width."""
    return Markup(f'<pre style="margin:0">{escape(value)}</pre>')


def _line(value: Any, element: str) -> str:
    return f"<div><{element}>{escape(value)}</{element}></div>" if value else ""


def _row(cells: Sequence[Any]) -> str:
    return f"<tr>{''.join(map(_cell, cells))}</tr>"


def _cell(value: Any) -> str:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if value is None:
        value = ""
    elif is_number:
        value = f"{value:,}" if isinstance(value, Integral) else f"{value:.4g}"
    return f'<td style="text-align:{"right" if is_number else "left"}">{escape(value)}</td>'


# -- what the engine shows -------------------------------------------------------------------------------------


def tensor_html(tensor: Any, values: str) -> Markup:
    """What a Tensor shows in a notebook: a row of its properties, and its values, abbreviated."""
    node = tensor.node
    origin = "a constant" if node is None else "a leaf, requires_grad" if node.op is None else node.op.__name__
    memory = format_bytes(getattr(tensor.data, "nbytes", 0))
    row = (tensor.name, str(tensor.shape), tensor.dtype, tensor.device, memory, origin)
    columns = ("name", "shape", "dtype", "device", "memory", "from")
    start = 0 if tensor.name else 1
    return Markup(table("Tensor", [row[start:]], columns[start:]) + text(values))


def tape_html(records: Sequence[Any], name_of: Callable[[Any], str]) -> Markup:
    """What the records of a tape show in a notebook: a row for each, with what it keeps in memory for backward."""
    rows: list[tuple] = []
    counted: dict[int, int] = {}
    for record in records:
        sizes = {id(part): part.nbytes for part in _parts(record.saved)}
        counted.update(sizes)
        inputs = ", ".join(name_of(p) if p is None else f"{name_of(p)} {p.shape}" for p in record.parents)
        keeps = "freed" if record.saved is None else format_bytes(sum(sizes.values()))
        rows.append((name_of(record), record.op.__name__, str(record.shape), inputs, keeps))
    note = f"{len(rows):,} records keep {format_bytes(sum(counted.values()))} for backward, shared arrays counted once"
    return table("Tape", rows, ("record", "op", "shape", "from", "keeps"), note)


def _parts(saved: Any) -> Iterator[Any]:
    """What takes memory in the residuals of a record, alone or in tuples, lists and dictionaries."""
    if isinstance(saved, (tuple, list, dict)):
        for part in saved.values() if isinstance(saved, dict) else saved:
            yield from _parts(part)
    elif hasattr(saved, "nbytes"):
        yield saved
