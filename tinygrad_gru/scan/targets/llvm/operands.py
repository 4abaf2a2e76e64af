"""Operands of the loop that are put together from pieces of constants: joined, transposed, in panels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from operator import is_
from typing import Any
from weakref import ref

import numpy as np

from .... import native
from ....native.packing import Piece, arguments, packing_text
from ...ir import Value
from ...passes.storage import Plan
from ..source import Names
from ..workspace import Workspace


def operands_of(plan: Plan) -> dict[Value, list[Piece]]:
    """The operands of the loop that are put together from pieces of constants."""
    found = {}
    for value in plan.program.values():
        if value.op in ("packed", "materialized") and plan.levels.get(value) == "invariant":
            with suppress(_NoPieces):
                found[value] = list(_pieces(value.inputs[0], is_column=value.op == "packed"))
    return found


class _NoPieces(Exception):
    """A value is not put together from constants of its dtype."""


def _pieces(value: Value, row: int = 0, column: int = 0, transposed: bool = False, is_column: bool = False) -> Iterator:
    """The pieces of a matrix, or of its transpose, from this row and column on; a vector is a row, or a column."""
    if len(value.shape) > 2:
        raise _NoPieces
    if value.op == "transpose" and value["axes"] == (1, 0):
        yield from _pieces(value.inputs[0], row, column, not transposed)
    elif value.op == "concat" and all(i.dtype == value.dtype for i in value.inputs):
        along_rows = (value["axis"] == 0) != transposed if len(value.shape) == 2 else is_column
        for part in value.inputs:
            yield from _pieces(part, row, column, transposed, is_column)
            size = part.shape[value["axis"]]
            row, column = (row + size, column) if along_rows else (row, column + size)
    elif value.op == "constant":
        rows, columns = value.shape if len(value.shape) == 2 else (1, math.prod(value.shape))
        if transposed or (is_column and len(value.shape) < 2):
            yield Piece(value["position"], row, column, columns, rows, 1, columns)
        else:
            yield Piece(value["position"], row, column, rows, columns, columns, 1)
    else:
        raise _NoPieces


class Preparation:
    """Puts the operands of a loop together, from the constants of a run and in the arrays of a workspace.

    A workspace keeps where they are, and weak references to the arrays: the same ones are found there again.
    """

    def __init__(self, operands: Mapping[Value, list[Piece]]):
        self.operands = defaultdict[str, list](list)  # by dtype
        for value, pieces in operands.items():
            self.operands[np.dtype(value.dtype).name].append((value, pieces))
        self.functions = {dtype: native.function(packing_text(dtype)) for dtype in self.operands}

    def __call__(self, constants: Sequence[Any], workspace: Workspace) -> None:
        if workspace.graphs is None:
            workspace.graphs = {dtype: (*arguments(self._placed(dtype, workspace)), []) for dtype in self.operands}
        for dtype, (steps, sources, known) in workspace.graphs.items():
            arrays = [constants[position] for position in sources]
            if len(known) != len(arrays) or not all(map(is_, [reference() for reference in known], arrays)):
                given, arrays = arrays, list(map(np.ascontiguousarray, arrays))  # kept until they are copied
                known.clear()
                steps[1::12] = list(map(native.address, arrays))
                known[:] = map(ref, given) if all(map(is_, given, arrays)) else ()
            self.functions[dtype](steps)

    def _placed(self, dtype: str, workspace: Workspace) -> Iterator[tuple]:
        for value, pieces in self.operands[dtype]:
            out = workspace.view(Names(workspace.source.plan).at_step(value), 0)
            assert out.flags.c_contiguous, value
            if value.op == "packed":
                _, inner, width = out.shape
                columns = max(piece.column + piece.columns for piece in pieces)
            else:
                columns = width = out.shape[-1] if out.ndim else 1
                inner = out.size // max(width, 1)
            yield native.address(out), (inner, columns), width, pieces


def pack(matrix: np.ndarray, panels: np.ndarray) -> None:
    """Copy a matrix (k, n) that was computed into panels (-, k, width); see `native.packing`."""
    rows, columns = matrix.shape
    width = panels.shape[2]
    full, rest = divmod(columns, width)
    panels[:full] = matrix[:, : full * width].reshape(rows, full, width).transpose(1, 0, 2)
    if rest:
        panels[full] = matrix[:, columns - width :]
