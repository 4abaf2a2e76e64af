"""The drawing of a tape as an SVG element."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...html import Markup, escape
from .collect import Item
from .fold import Block
from .layout import Layout, Point

_LETTER, _LINE, _PADDING, _MARGIN = 6.7, 15.0, 9.0, 26.0
#: Rules are written beside the edges of a picture with at most that many; else they are in the boxes' titles.
_MOST_RULES = 14
_BLUE, _ORANGE = "#3b82c4", "#d97706"  # readable on white and on black


class _Before:
    """The box of what a block's step takes from the step before: where a step begins."""

    def __init__(self, item: Item):
        self.item = item


def draw(picture: Any) -> str:
    """The SVG of a `TapePicture`."""
    items = list(picture.items())
    blocks = [entry for entry in picture.entries if isinstance(entry, Block)]
    block_of = {item: block for block in blocks for item in block.items}
    befores = {item: _Before(item) for block in blocks for item in block.carried.values()}
    boxes: dict[Any, list[str]] = {}
    groups: dict[Block, list[Any]] = {
        block: [*map(befores.get, dict.fromkeys(block.carried.values()))] for block in blocks
    }
    for item in items:
        block = block_of.get(item)
        if block is not None and item is block.items[0]:
            boxes |= {before: [f"{picture.name(before.item)}[t-1]"] for before in groups[block]}
            groups[block] += block.items
        boxes[item] = _lines(picture, item)
    edges = {
        (befores[argument] if is_carried else argument, item): rule
        for item in items
        for (argument, is_carried), rule in picture.edges(item).items()
        if argument in boxes
    }
    edges |= {(start, befores[item]): "" for block in blocks for item, start in block.initial.items() if start in boxes}
    layout = Layout({box: _size(lines) for box, lines in boxes.items()}, list(edges), list(groups.values()))
    has_rules, inputs = len(edges) <= _MOST_RULES, Counter(box for _, box in edges)
    frames = {block: _frame(layout, group) for block, group in groups.items()}
    parts = [_drawn_frame(block, frame) for block, frame in frames.items()]
    for edge, rule in edges.items():
        points = layout.line(edge)
        parts.append(f'<path d="{_curve(points)}" fill="none" stroke="currentColor" opacity="0.55" {_ARROW}/>')
        if has_rules and rule:
            (ax, ay), (bx, by) = points[-2:]
            x, y = bx + 0.4 * (ax - bx), by + 0.4 * (ay - by)
            text = rule if len(rule) <= 26 else rule[:25] + "…"
            is_right = (ax >= bx) == (inputs[edge[1]] > 1)  # away from the edges that begin or end at the same box
            side, shift = ("start", 5) if is_right else ("end", -5)
            parts.append(_text(x + shift, y + 4, text, side, f' font-style="italic" fill="{_ORANGE}" font-size="10"'))
    for block, frame in frames.items():
        for k, before in enumerate(groups[block][: -len(block.items)]):
            parts.append(_carried(layout, before, frame[2] + 14 + 12 * k, frame[1] - 8 - 8 * k))
    parts += [_box(picture, layout, box, block_of.get(box), lines) for box, lines in boxes.items()]
    right = max([layout.width, *(frame[2] + 40 for frame in frames.values())])
    left = min([0.0, *(frame[0] for frame in frames.values())])
    top = min([0.0, *(frame[1] - 22 for frame in frames.values())])
    width, height = right - left + 2 * _MARGIN, layout.height - top + 2 * _MARGIN
    described = f"The tape of {len(items)} values. {picture}"
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{left - _MARGIN:.0f} {top - _MARGIN:.0f} {width:.0f} {height:.0f}" font-size="11" '
        'font-family="ui-monospace, monospace" fill="currentColor">'
        f"<title>A tape</title><desc>{escape(described)}</desc>"
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>{"".join(parts)}</svg>'
    )


_ARROW = 'marker-end="url(#arrow)"'


def _lines(picture: Any, item: Item) -> list[str]:
    """The lines in a box: what it is, its shape and value, its cotangent."""
    shape = picture.shape(item) if item.shape else ""
    lines = [
        picture.title(item), " · ".join(part for part in (shape, picture.value(item)) if part), picture.cotangent(item)
    ]  # fmt: skip
    return [line if len(line) <= 34 else line[:33] + "…" for line in lines if line]


def _size(lines: list[str]) -> Point:
    return max(map(len, lines)) * _LETTER + 2 * _PADDING, len(lines) * _LINE + _PADDING


def _box(picture: Any, layout: Layout, box: Any, block: Block | None, lines: list[str]) -> str:
    (x, y), (width, height) = layout.centers[box], layout.sizes[box]
    everything, stroke, fill, round_by = "", _BLUE, f'fill="{_BLUE}" fill-opacity="0.13"', height / 2
    if isinstance(box, _Before):
        fill = 'fill="none" stroke-dasharray="4 3"'
    else:
        place = "" if box.place is None else str(box.place)
        everything = "\n".join([picture.definition(box), *picture.rules(box), place]).strip()
        if not box.is_leaf:
            stroke, fill, round_by = "currentColor", 'fill="currentColor" fill-opacity="0.05"', 4
    shape = (
        f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{round_by:.1f}" stroke="{stroke}" {fill}/>'
    )
    texts = []
    for k, line in enumerate(lines):
        style = ' font-weight="bold"' if k == 0 else f' fill="{_ORANGE}"' if "∂L" in line else ' opacity="0.75"'
        texts.append(_text(x, y - height / 2 + _PADDING / 2 + (k + 0.75) * _LINE, line, "middle", style))
    return f"<g><title>{escape(everything)}</title>{shape}{''.join(texts)}</g>"


def _frame(layout: Layout, group: list[Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the frame around a block, and all that is drawn in its layers."""
    top = min(layout.centers[box][1] - layout.sizes[box][1] / 2 for box in group)
    bottom = max(layout.centers[box][1] + layout.sizes[box][1] / 2 for box in group)
    inside = [box for box, (_, y) in layout.centers.items() if top <= y <= bottom]
    left = min(layout.centers[box][0] - layout.sizes[box][0] / 2 for box in inside)
    right = max(layout.centers[box][0] + layout.sizes[box][0] / 2 for box in inside)
    return left - 12, top - 18, right + 24, bottom + 12


def _drawn_frame(block: Block, frame: tuple[float, float, float, float]) -> str:
    left, top, right, bottom = frame
    rectangle = (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" rx="8" fill="none" '
        'stroke="currentColor" stroke-dasharray="5 4" opacity="0.6"/>'
    )
    return rectangle + _text(left + 4, top - 6, f"× {block.count} steps", "start", ' font-weight="bold"')


def _carried(layout: Layout, before: _Before, right: float, top: float) -> str:
    """The dashed edge around the right side, from the end of a step to where the next begins."""
    (x1, y1), (w1, _) = layout.centers[before.item], layout.sizes[before.item]
    (x2, y2), (_, h2) = layout.centers[before], layout.sizes[before]
    return (
        f'<path d="M{x1 + w1 / 2:.1f} {y1:.1f}H{right - 8:.1f}Q{right:.1f} {y1:.1f} {right:.1f} {y1 - 8:.1f}'
        f"V{top + 8:.1f}Q{right:.1f} {top:.1f} {right - 8:.1f} {top:.1f}H{x2 + 8:.1f}"
        f'Q{x2:.1f} {top:.1f} {x2:.1f} {top + 8:.1f}V{y2 - h2 / 2:.1f}" fill="none" '
        f'stroke="{_BLUE}" stroke-dasharray="4 3" {_ARROW}/>'
    )


def _curve(points: list[Point]) -> str:
    """A smooth path downwards through the points, without those in the middle of a straight line."""
    bends = [p for a, p, b in zip(points, points[1:], points[2:]) if abs(a[0] - p[0]) > 1 or abs(p[0] - b[0]) > 1]
    (x, y), *rest = points[0], *bends, points[-1]
    path = f"M{x:.1f} {y:.1f}"
    for to_x, to_y in rest:
        middle = (y + to_y) / 2
        path += f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    return path


def _text(x: float, y: float, text: str, anchor: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'
