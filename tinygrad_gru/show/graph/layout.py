"""Layered layout (Sugiyama, Tagawa & Toda 1981): boxes in layers along their edges, few crossings, no overlaps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

_GAP, _LAYER_GAP, _DUMMY = 22.0, 46.0, 10.0
_SWEEPS = 12

Edge = tuple[Hashable, Hashable]
Point = tuple[float, float]


class Layout:
    """Where boxes and edges are drawn.

    sizes   of each box (width, height), in an order in which every edge leads forwards
    edges   from box to box
    groups  of boxes that have the layers between the first and the last of them to themselves, but for what leads there

    centers  of each box; width and height are those of the picture
    """

    def __init__(self, sizes: Mapping[Hashable, Point], edges: Sequence[Edge], groups: Sequence[Sequence[Hashable]]):
        self.sizes: dict[Hashable, Point] = dict(sizes)
        self.paths: dict[Edge, list[Hashable]] = {}
        layer = _layers(list(sizes), edges, groups)
        rows: dict[int, list[Hashable]] = defaultdict(list)
        for box in self.sizes:
            rows[layer[box]].append(box)
        links: list[Edge] = []
        for a, b in dict.fromkeys(edges):
            path = [a]
            for i in range(layer[a] + 1, layer[b]):  # a long edge runs through a point in every layer
                dummy = ("through", a, i)
                if dummy not in self.sizes:
                    self.sizes[dummy] = (_DUMMY, 0.0)
                    rows[i].append(dummy)
                path.append(dummy)
            self.paths[a, b] = [*path, b]
            links += zip(self.paths[a, b], self.paths[a, b][1:])
        self.rows = [rows[i] for i in range(max(rows, default=-1) + 1)]
        self._links = list(dict.fromkeys(links))
        self._order()
        self._place()

    def _order(self) -> None:
        """Order each layer by the mean position of the neighbours, downwards and upwards in turn."""
        above, below = defaultdict(list), defaultdict(list)
        for a, b in self._links:
            above[b].append(a)
            below[a].append(b)
        best, best_crossings = self.rows, self._crossings(self.rows)
        rows = self.rows
        for sweep in range(_SWEEPS):
            neighbours = below if sweep % 2 else above
            rows = [list(row) for row in rows]
            for row in rows[::-1] if sweep % 2 else rows:
                position = {box: k for one in rows for k, box in enumerate(one)}
                keys = {box: _mean([position[n] for n in neighbours[box]], position[box]) for box in row}
                row.sort(key=keys.__getitem__)
            if (crossings := self._crossings(rows)) < best_crossings:
                best, best_crossings = rows, crossings
        self.rows, self._above, self._below = best, above, below

    def _crossings(self, rows: list[list[Hashable]]) -> int:
        position = {box: k for row in rows for k, box in enumerate(row)}
        layer = {box: i for i, row in enumerate(rows) for box in row}
        by_layer: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for a, b in self._links:
            by_layer[layer[a]].append((position[a], position[b]))
        return sum(
            (a - c) * (b - d) < 0 for links in by_layer.values() for k, (a, b) in enumerate(links) for c, d in links[:k]
        )

    def _place(self) -> None:
        """x by moving each box towards its neighbours, as far as those beside it let it; y by layers."""
        x: dict[Hashable, float] = {}
        for row in self.rows:
            at = 0.0
            for box in row:
                x[box] = at + self.sizes[box][0] / 2
                at += self.sizes[box][0] + _GAP
        for sweep in range(3 * _SWEEPS):
            for row in self.rows[::-1] if sweep % 2 else self.rows:
                wanted = [_mean([x[n] for n in (*self._above[b], *self._below[b])], x[b]) for b in row]
                for box, place in zip(row, self._separated(row, wanted)):
                    x[box] = place
        left = min((x[box] - self.sizes[box][0] / 2 for box in x), default=0.0)
        y, self.centers = 0.0, dict[Hashable, Point]()
        for row in self.rows:
            height = max((self.sizes[box][1] for box in row), default=0.0)
            for box in row:
                self.centers[box] = (x[box] - left, y + height / 2)
            y += height + _LAYER_GAP
        self.height = max(y - _LAYER_GAP, 0.0)
        self.width = max((c[0] + self.sizes[box][0] / 2 for box, c in self.centers.items()), default=0.0)

    def _separated(self, row: Sequence[Hashable], wanted: Sequence[float]) -> list[float]:
        """Places near the wanted ones (their order is given) at which nothing overlaps: pools of touching boxes, each
        at the mean of what its boxes want (isotonic regression)."""
        offsets, at = [], 0.0
        for k, box in enumerate(row):
            at += (self.sizes[box][0] / 2 + self.sizes[row[k - 1]][0] / 2 + _GAP) if k else 0.0
            offsets.append(at)
        pools: list[tuple[float, int]] = []  # sum, count
        for place, offset in zip(wanted, offsets):
            total, count = place - offset, 1
            while pools and pools[-1][0] / pools[-1][1] > total / count:
                before, more = pools.pop()
                total, count = total + before, count + more
            pools.append((total, count))
        starts = [total / count for total, count in pools for _ in range(count)]
        return [start + offset for start, offset in zip(starts, offsets)]

    def line(self, edge: Edge) -> list[Point]:
        """The points of an edge: below its first box, through the layers, above its last."""
        a, *through, b = self.paths[edge]
        (ax, ay), (bx, by) = self.centers[a], self.centers[b]
        return [
            (ax, ay + self.sizes[a][1] / 2),
            *map(self.centers.__getitem__, through),
            (bx, by - self.sizes[b][1] / 2),
        ]


def _layers(boxes: list, edges: Sequence[Edge], groups: Sequence[Sequence[Hashable]]) -> dict[Hashable, int]:
    """The layer of each box: below all that lead to it; sources directly above the first that they lead to."""
    group = {box: k for k, boxes in enumerate(groups) for box in boxes}
    inputs, outputs = defaultdict(list), defaultdict(list)
    for a, b in edges:
        inputs[b].append(a)
        outputs[a].append(b)
    layer: dict[Hashable, int] = {}
    floor, current = 0, None  # what comes after a group is below it, as a whole
    for box in boxes:
        if not inputs[box]:
            continue
        if group.get(box) != current:
            lowest = max(layer.values(), default=0)
            if current is not None or box in group:
                floor = lowest + 1
            current = group.get(box)
        layer[box] = max([floor, *(layer[a] + 1 for a in inputs[box] if a in layer), 1])
    for box in reversed(boxes):
        if box not in layer:
            layer[box] = min((layer[b] for b in outputs[box]), default=1) - 1
    return layer


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
