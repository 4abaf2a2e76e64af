"""Records with several outputs.

The record itself has no value; every output is a small record of its own whose only parent it is. The cotangents
of the outputs meet at the record as the pieces of a `Sparse`, and reach its op as one list, None where nothing came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cotangents import Sparse
from ..tape import Node, Variable
from ..writes import tick


class _Output:
    """The op of one output: it hands its cotangent on, and says which output it was."""

    __name__ = "output"

    def __init__(self, position: int, count: int):
        self.position = position
        self.count = count

    def apply_vjp(self, parents: tuple, saved: tuple, g: Any, accumulate: Any) -> None:
        if parents[0] is not None:
            accumulate(parents[0], Sparse((), [(self.position, g)], self._gather))

    def lift(self, kind: type[Variable], record: Node) -> tuple:
        return ()

    def _gather(self, shape: tuple, pieces: Sequence[tuple[int, Any]]) -> list:
        cotangents: list = [None] * self.count
        for position, g in pieces:
            cotangents[position] = g if cotangents[position] is None else cotangents[position] + g
        return cotangents


def record_multi_output(
    kind: type[Variable], op: Any, parents: tuple, saved: tuple, arrays: Sequence[Any]
) -> list[Any]:
    """The Variables of a record whose op gave several `arrays`; `op.pull` will get their cotangents as a list."""
    record = Node(tick(), op, parents, saved, ())
    return [
        kind.from_node(array, Node(tick(), _Output(i, len(arrays)), (record,), (), array.shape))
        for i, array in enumerate(arrays)
    ]
