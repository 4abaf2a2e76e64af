"""Cotangents in a backward walk: their sums by node, and sparse ones, which are made dense once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .backend import copy_of


class Sparse:
    """A cotangent that is zero outside a few elements: a sum of (index, value) pieces, made dense once.

    So the backward of T slices of one tensor costs T small pieces and one dense array, not T dense arrays.
    `assemble(shape, pieces, base)` makes the dense array; `base` is a dense part of the sum, or None.
    """

    __slots__ = ("assemble", "base", "pieces", "shape")
    __array_ufunc__ = None  # so that NumPy leaves array + Sparse to __radd__

    def __init__(self, shape: tuple[int, ...], pieces: list[tuple[Any, Any]], assemble: Callable, base: Any = None):
        self.shape = shape
        self.pieces = pieces
        self.assemble = assemble
        self.base = base

    def __add__(self, other: Any) -> Sparse:
        total = Sparse(self.shape, list(self.pieces), self.assemble, self.base)
        total += other
        return total

    __radd__ = __add__

    def __iadd__(self, other: Any) -> Sparse:
        if isinstance(other, Sparse):
            self.pieces += other.pieces
            other = other.base
        if other is not None:
            self.base = other if self.base is None else self.base + other
        return self

    def dense(self) -> Any:
        return self.assemble(self.shape, self.pieces, self.base)


class Cotangents:
    """The accumulator of a backward walk: `sums` are the cotangents that have reached each node so far.

    A rule may return one array for two inputs, so a sum is added to in place only if this accumulator made it: its
    node is then in `owned`. Recorded sums (`create_graph`) are never written.
    """

    __slots__ = ("create_graph", "observer", "owned", "sums")

    def __init__(self, start: Mapping[Any, Any], create_graph: bool, observer: Any = None):
        self.sums = dict(start)
        self.owned: set[Any] = set()
        self.create_graph = create_graph
        self.observer = observer

    def accumulate(self, node: Any, cotangent: Any) -> None:
        """Add a cotangent to the sum at `node`."""
        sums, previous = self.sums, self.sums.get(node)
        if previous is None:
            sums[node] = cotangent
            return
        if self.observer is not None:
            self.observer.accumulating(previous, cotangent)
        if type(cotangent) is Sparse:  # on the left, for neither arrays nor Variables know how to add one
            if type(previous) is Sparse and node in self.owned:
                previous += cotangent
            else:
                sums[node] = cotangent + previous
                self.owned.add(node)
        elif node in self.owned:
            previous += cotangent
            sums[node] = previous
        else:
            sums[node] = previous + cotangent
            if not self.create_graph or type(previous) is Sparse:
                self.owned.add(node)


def summed_by_node(cotangents: Iterable[tuple[Any, Any]], create_graph: bool = False) -> dict[Any, Any]:
    """The sums of cotangents by node, with which a backward walk starts, of pairs (node, cotangent)."""
    sums = Cotangents({}, create_graph)
    for node, cotangent in cotangents:
        sums.accumulate(node, cotangent)
    return sums.sums


def own_copy(tensor_type: Any, cotangent: Any, create_graph: bool) -> Any:
    """A gradient in an array of its own: a rule may return one array for two inputs, and users write into gradients."""
    return tensor_type.from_node(copy_of(cotangent._data), cotangent.node) if create_graph else copy_of(cotangent)
