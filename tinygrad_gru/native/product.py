"""Matrix products with a packed right operand.

BLAS packs the right operand at every call, which dominates small products with the same one at all steps. Each block of
the result, a few rows by a panel, is accumulated in vector registers over all of the inner dimension.
"""

from __future__ import annotations

from typing import Any

from .builder import Builder, Value, size_of, vector, vector_type

#: By whether the processor has 32 registers of 64 bytes: the rows and the bytes of a block of the result at most, which
#: is accumulated in registers, and the bytes of its rows where there are many.
_BLOCKS = {False: (6, 384, 64), True: (24, 1792, 128)}


#: From this many bytes on a right operand is not in the L2 cache when the next step reads it again.
_LARGE = 2**20
#: How many bytes ahead it is then prefetched, which processors do by themselves, but not far enough.
_AHEAD = 2**13


def panel_width(rows: int, inner: int, columns: int, item: int, is_wide: bool) -> int:
    """How many columns a panel has, a power of two: with fewer rows more, to keep the processor's pipelines full."""
    most_rows, most_bytes, in_bytes = _BLOCKS[is_wide]
    in_bytes = min(256, in_bytes * (1 if rows > 3 else 2 if rows > 1 else 4))
    if inner * columns * item >= _LARGE and most_bytes // in_bytes < rows <= most_rows:
        in_bytes //= 2  # all rows are one block, so that the operand is read once
    width = 1 << (min(in_bytes // item, columns).bit_length() - 1)
    # The last panel overlaps the one before, unless widths divide; panels half as wide may overlap by less.
    half = max(1, width // 2)
    return half if 1.1 * -(-columns // half) * half < -(-columns // width) * width else width


def product(
    builder: Builder, m: int, k: int, n: int, a: Value, a_start: Any, a_row: int, a_column: int, b: Value, b_start: Any,
    width: int, c: Value, c_start: Any, c_row: int,
) -> None:  # fmt: skip
    """c = a b, (m, n) = (m, k) (k, n), with b packed in panels of a width. Starts and strides count elements; sizes and
    strides are numbers."""
    lane, item = c.element, size_of(c.element)
    most_rows, most_bytes, _ = _BLOCKS[builder.is_wide]
    blocks = -(-m // min(most_rows, max(1, most_bytes // (width * item))))
    height, taller = divmod(m, blocks)  # that many blocks have one more row

    def block(row: Any, panel: Any, column: Any, height: int) -> None:
        type_ = vector_type(lane, width)
        totals = [builder.variable(type_) for _ in range(height)]
        for total in totals:
            builder.emit(f"store {type_} zeroinitializer, ptr {total}")
        with builder.loop(0, k) as step:
            place = builder.offset(b, panel * (k * width) + step * width + b_start)
            right = builder.load(place, 0, width)
            if k * n * item >= _LARGE:
                for line in range(max(1, width * item // 64)):
                    builder.prefetch(place, _AHEAD // item + line * (64 // item))
            first = builder.offset(a, row * a_row + step * a_column + a_start)
            for i, total in enumerate(totals):
                left = builder.load(first, i * a_row)
                term = vector(builder, left, width) * right
                so_far = builder.instruction(type_, f"load {type_}, ptr {total}", lane=lane)
                builder.emit(f"store {so_far + term}, ptr {total}")
        for i, total in enumerate(totals):
            found = builder.instruction(type_, f"load {type_}, ptr {total}", lane=lane)
            builder.store(found, c, (row + i) * c_row + column + c_start)

    wraps, builder.wraps = builder.wraps, False
    with builder.loop(0, -(-n // width)) as panel:
        column = panel * width
        column = builder.select(column < n - width, column, n - width)
        if taller:
            with builder.loop(0, taller) as some:
                block(some * (height + 1), panel, column, height + 1)
        if blocks > taller:
            with builder.loop(0, blocks - taller) as some:
                block(some * height + taller * (height + 1), panel, column, height)
    builder.wraps = wraps
