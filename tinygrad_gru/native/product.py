"""Matrix products with a packed right operand.

BLAS packs the right operand at every call, which dominates small products with the same one at all steps. Each block of
the result, a few rows by a panel, is accumulated in vector registers over all of the inner dimension.
"""

from __future__ import annotations

from typing import Any

from .builder import Builder, Value, vector, vector_type

#: Rows and bytes of a block of the result at most, which is accumulated in registers.
_HEIGHT, _BYTES = 6, 384


def product(
    builder: Builder, m: int, k: int, n: int, a: Value, a_start: Any, a_row: int, a_column: int, b: Value, b_start: Any,
    width: int, c: Value, c_start: Any, c_row: int,
) -> None:  # fmt: skip
    """c = a b, (m, n) = (m, k) (k, n), with b packed in panels of a width. Starts and strides count elements; sizes and
    strides are numbers."""
    lane = c.element
    item = 4 if lane == "float" else 8
    blocks = -(-m // min(_HEIGHT, max(1, _BYTES // (width * item))))
    height, taller = divmod(m, blocks)  # that many blocks have one more row

    def block(row: Any, panel: Any, column: Any, height: int) -> None:
        type_ = vector_type(lane, width)
        totals = [builder.variable(type_) for _ in range(height)]
        for total in totals:
            builder.emit(f"store {type_} zeroinitializer, ptr {total}")
        with builder.loop(0, k) as step:
            right = builder.load(b, panel * (k * width) + step * width + b_start, width)
            for i, total in enumerate(totals):
                left = builder.load(a, (row + i) * a_row + step * a_column + a_start)
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
