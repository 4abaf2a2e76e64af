"""Multi-output records: the records of an op with several outputs.

Its record has no value; every output is a record of its own, whose only parent it is. The cotangents of the outputs are
accumulated at the op's record as the pieces of a `Sparse`, and reach its vjp as one list, None for an unused output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cotangents import Sparse
from ..tape import Node, Variable


class _OutputOp:
    """The op of one output's record: its vjp passes the cotangent on, labelled with the position of the output."""

    __name__ = "output"

    def __init__(self, position: int, count: int):
        self.position = position
        self.count = count

    def apply_vjp(self, parents: tuple, saved: tuple, g: Any, accumulate: Any) -> None:
        if parents[0] is not None:
            accumulate(parents[0], Sparse((), [(self.position, g)], self._cotangents_by_position))

    def lift(self, tensor_type: type[Variable], record: Node) -> tuple:
        return ()

    def _cotangents_by_position(self, shape: tuple, pieces: Sequence[tuple[int, Any]], base: None) -> list:
        cotangents: list = [None] * self.count
        for position, g in pieces:
            cotangents[position] = g if cotangents[position] is None else cotangents[position] + g
        return cotangents


def record_multi_output(
    tensor_type: type[Variable], op: Any, parents: tuple, saved: tuple, arrays: Sequence[Any]
) -> list[Any]:
    """One record for an op with several outputs, `arrays`; returns them as Variables."""
    record = Node.of(op, parents, saved, ())
    return [
        tensor_type.from_node(array, Node.of(_OutputOp(i, len(arrays)), (record,), (), array.shape))
        for i, array in enumerate(arrays)
    ]
