"""Packing: operands of native loops, each put together from matrices in the layout in which the loop reads it.

An operand (inner, columns) is stored in panels of `width` adjacent columns, one after the other; the last panel ends
with the operand, and may overlap the one before. A single panel is the matrix itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_TEXT = """\
def loop(steps):
    for n in range(steps[0]):
        piece(pointer_{dtype}(steps[12 * n + 1]), pointer_{dtype}(steps[12 * n + 2]), {numbers})

def piece(source, out, row, column, rows, columns, row_stride, column_stride, inner, all_columns, width, panels):
    for p in range(panels):
        start = min(p * width, all_columns - width)
        begin, end = max(start, column), min(start + width, column + columns)
        if begin < end:
            if column_stride == 1:
                for i in range(rows):
                    for j in range(begin, end):
                        out[(p * inner + row + i) * width + j - start] = source[i * row_stride + j - column]
            else:
                for first in range(0, rows, 16):
                    for j in range(begin, end):
                        for i in range(first, min(first + 16, rows)):
                            out[(p * inner + row + i) * width + j - start] = source[i + (j - column) * column_stride]
"""
_NUMBERS = ", ".join(f"steps[12 * n + {i}]" for i in range(3, 13))


def packing_text(dtype: str) -> str:
    """The text of a function that copies pieces, whose array is made by `arguments`."""
    return _TEXT.format(dtype=dtype, numbers=_NUMBERS)


class Piece(NamedTuple):
    """A part of an operand: a contiguous matrix, or its transpose, of which the strides count elements.

    source  which one, a number of the caller's
    """

    source: int
    row: int
    column: int
    rows: int
    columns: int
    row_stride: int
    column_stride: int


def arguments(operands: Iterable[tuple[int, tuple[int, int], int, list[Piece]]]) -> tuple[np.ndarray, list[int]]:
    """The array for these operands, and the source of each piece, whose address is to be put at 1, 13, 25, … .

    operands  of each the address, (inner, columns), the width of a panel, and its pieces
    """
    numbers, sources = list[int](), list[int]()
    for place, (inner, columns), width, pieces in operands:
        for piece in pieces:
            numbers += [0, place, *piece[1:], inner, columns, width, -(-columns // width)]
            sources.append(piece.source)
    return np.array([len(sources), *numbers], np.int64), sources
