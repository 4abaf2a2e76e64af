"""Draws: the random numbers of a step, such as those of dropout. Compiled mode draws them before the loop, as xs.

Draw n of a seed gives the same numbers whenever it is made. A step of K draws makes the draws n + tK, n + tK + 1, …
when it runs for the t-th time. So both modes draw the same numbers, and leave the stream at the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ...backend import Backend, drawing_from, move, random_state, random_stream, resolve
from ...backend.random import RandomStream
from ..ir import Graph, Value
from .traced_array import TracedArray, Untraceable


class Draw(NamedTuple):
    """Random numbers that a step draws each time it runs.

    distribution  the method of a generator: "random" or "standard_normal"; normal ones are drawn on the host
    """

    distribution: str
    shape: tuple[int, ...]
    dtype: Any

    def numbers(self, seed: int, positions: Sequence[int], backend: Backend) -> Any:
        """The numbers of all steps (T, *shape): step t makes the draw `positions[t]`."""
        home = resolve("numpy") if self.distribution == "standard_normal" else backend
        steps = [getattr(home.random(seed, n), self.distribution)(self.shape, dtype=self.dtype) for n in positions]
        return move(home.xp.stack(steps), backend)


class TracedStream(RandomStream):
    """The random stream of a step that is being traced: what is drawn from it becomes an x.

    draws, values  what was drawn, and the values in the graph that stand for it
    """

    def __init__(self, graph: Graph, xs_count: int):
        super().__init__(**random_state())
        self.graph, self.xs_count = graph, xs_count
        self.draws: list[Draw] = []
        self.values: list[Value] = []

    def generator(self, device: Any = None) -> _TracedGenerator:
        place, own = resolve(device).name, self.graph.backend.name
        if place not in ("traced", own):
            raise Untraceable(f"it draws random numbers on {place!r}, and computes on {own!r}")
        return _TracedGenerator(self)

    def normal(self, shape: tuple[int, ...], dtype: Any = "float32", device: Any = None) -> Any:
        return self._draw("standard_normal", shape, dtype, device)

    def add(self, draw: Draw) -> TracedArray:
        self.position += 1
        value = self.graph.add("x", (), draw.shape, draw.dtype, position=self.xs_count + len(self.draws))
        self.draws.append(draw)
        self.values.append(value)
        return TracedArray(self.graph, value)


class _TracedGenerator:
    """The generator of one draw."""

    def __init__(self, stream: TracedStream):
        self.stream = stream

    def random(self, shape: Any, dtype: Any = "float64") -> TracedArray:
        return self._add("random", shape, dtype)

    def standard_normal(self, shape: Any, dtype: Any = "float64") -> TracedArray:
        return self._add("standard_normal", shape, dtype)

    def _add(self, distribution: str, shape: Any, dtype: Any) -> TracedArray:
        sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        return self.stream.add(Draw(distribution, sizes, np.dtype(dtype)))

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(
            f"it draws from the distribution {name!r} at every step",
            "compute it from `rand` or `randn`, or draw it before the scan, for all steps at once, and pass it in xs",
        )


@contextmanager
def drawing(graph: Graph, xs_count: int) -> Iterator[TracedStream]:
    """A block in which a step draws traced arrays. Raises Untraceable if it seeds the random numbers."""
    stream = TracedStream(graph, xs_count)
    with drawing_from(stream):
        yield stream
        if random_stream() is not stream:
            raise Untraceable("it seeds the random numbers at every step", "seed them before the scan")


def drawn(draws: Sequence[Draw], length: int, reverse: bool, backend: Backend) -> list[Any]:
    """The numbers of each draw for all steps (T, *shape), from the current stream, which moves on as in eager mode."""
    stream, count = random_stream(), len(draws)
    first = stream.reserve(length * count)
    times = range(length)[::-1] if reverse else range(length)
    return [draw.numbers(stream.seed, [first + t * count + k for t in times], backend) for k, draw in enumerate(draws)]
