"""Matrix products: one with a packed right operand, and one of many rows that adds to its result.

BLAS packs operands at every call, which dominates small products. Each block of a result, a few rows by a panel of a
few columns, is accumulated in vector registers over the inner dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .builder import Builder, Value, size_of, vector, vector_type

#: By whether the processor has 32 registers of 64 bytes: the rows and the bytes of a block of the result at most, which
#: is accumulated in registers, and the bytes of its rows where there are many.
_BLOCKS = {False: (6, 384, 64), True: (24, 1792, 128)}


#: From this many bytes on a right operand is not in the L2 cache when the next step reads it again.
_LARGE = 2**20
#: How many bytes ahead it is then prefetched, which processors do by themselves, but not far enough.
_AHEAD = 2**13
#: How many rows of the inner dimension `add_product` takes at once, and how many ahead it prefetches.
_INNER, _ROWS_AHEAD = 256, 8


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
    item = size_of(c.element)

    def block(row: Any, panel: Any, column: Any, height: int) -> None:
        def terms(step: Value) -> Iterable[Value]:
            place = builder.offset(b, panel * (k * width) + step * width + b_start)
            right = builder.load(place, 0, width)
            if k * n * item >= _LARGE:
                _prefetch(builder, place, _AHEAD // item, width)
            first = builder.offset(a, row * a_row + step * a_column + a_start)
            for i in range(height):
                yield vector(builder, builder.load(first, i * a_row), width) * right

        for i, found in enumerate(_sums(builder, k, height, vector_type(c.element, width), terms)):
            builder.store(found, c, (row + i) * c_row + column + c_start)

    wraps, builder.wraps = builder.wraps, False
    with builder.loop(0, -(-n // width)) as panel:
        column = panel * width
        column = builder.select(column < n - width, column, n - width)
        _in_blocks(builder, m, width * item, lambda row, height: block(row, panel, column, height))
    builder.wraps = wraps


def add_product(
    builder: Builder, m: int, k: Any, n: int, a: Value | None, a_start: Any, a_row: int, b: Value, b_start: Any,
    b_row: int, c: Value, c_start: Any, c_row: int,
) -> None:  # fmt: skip
    """c += aᵀ b, (m, n) += (k, m)ᵀ (k, n), where k may be a value; c += Σ b over the rows, if there is no a."""
    item = size_of(c.element)
    width = panel_width(m, 1, n, item, builder.is_wide)

    def block(begin: Value, count: Value, row: Any, column: Any, height: int, new: int) -> None:
        def of(array: Value, start: Any, stride: int) -> list[Value]:
            return [builder.offset(array, start), builder.cast(stride, "i64")]

        arguments = [
            count,
            *of(c, row * c_row + column + c_start, c_row),
            *of(b, begin * b_row + column + b_start, b_row),
            *(of(a, begin * a_row + row + a_start, a_row) if a is not None else ()),
        ]
        name = f"add_{'rows' if a is None else 'product'}.{c.element}.{height}.{width}.{new}"
        builder.call_shared(name, arguments, partial(_add_block, height, width, new))

    wraps, builder.wraps = builder.wraps, False
    with builder.loop(0, k, _INNER) as begin:
        rest = k - begin
        count = builder.select(rest < _INNER, rest, _INNER)

        def panel(column: Any, new: int) -> None:
            _in_blocks(builder, m, width * item, lambda row, height: block(begin, count, row, column, height, new))

        with builder.loop(0, n // width) as index:
            panel(index * width, width)
        if n % width:  # that panel overlaps the one before, whose columns are added to once
            panel(n - width, n % width)
    builder.wraps = wraps


def _add_block(
    height: int, width: int, new: int,
    builder: Builder, count: Value, c: Value, c_row: Value, b: Value, b_row: Value, a: Any = None, a_row: Any = None,
) -> None:  # fmt: skip
    """A block of `add_product`: over `count` rows of a and b. Of its columns the last `new` ones are added to."""
    type_ = vector_type(c.element, width)

    def terms(step: Value) -> Iterable[Value]:
        place = builder.offset(b, step * b_row)
        right = builder.load(place, 0, width)
        _prefetch(builder, place, b_row * _ROWS_AHEAD, width)
        if a is None:
            yield right
            return
        first = builder.offset(a, step * a_row)
        _prefetch(builder, first, a_row * _ROWS_AHEAD)
        for i in range(height):
            yield vector(builder, builder.load(first, i), width) * right

    for i, found in enumerate(_sums(builder, count, height, type_, terms)):
        if new < width:
            lanes = ", ".join([f"i1 {int(lane >= width - new)}" for lane in range(width)])
            text = f"select <{width} x i1> <{lanes}>, {found}, {type_} zeroinitializer"
            found = builder.instruction(type_, text, lane=c.element)
        place = builder.offset(c, c_row * i)
        builder.store(builder.load(place, 0, width) + found, place, 0)


def add_rows(builder: Builder, k: Any, n: int, b: Value, b_start: Any, b_row: int, c: Value, c_start: Any) -> None:
    """c += Σ b over the rows, (n,) += (k, n), where k may be a value."""
    add_product(builder, 1, k, n, None, 0, 0, b, b_start, b_row, c, c_start, n)


def _in_blocks(builder: Builder, rows: int, width: int, block: Callable[[Any, int], None]) -> None:
    """A block, of a first row and a height, for all rows of a panel that is as many bytes wide."""
    most_rows, most_bytes, _ = _BLOCKS[builder.is_wide]
    blocks = -(-rows // min(most_rows, max(1, most_bytes // width)))
    height, taller = divmod(rows, blocks)  # that many blocks have one more row
    if taller:
        with builder.loop(0, taller) as some:
            block(some * (height + 1), height + 1)
    if blocks > taller:
        with builder.loop(0, blocks - taller) as some:
            block(some * height + taller * (height + 1), height)


def _sums(
    builder: Builder, count: Any, height: int, type_: str, terms: Callable[[Value], Iterable[Value]]
) -> list[Value]:  # fmt: skip
    """The sums of as many vectors as `terms` gives for each of `count` steps, in registers."""
    totals = [builder.variable(type_) for _ in range(height)]

    def so_far(total: str) -> Value:
        return builder.instruction(type_, f"load {type_}, ptr {total}", lane=lane)

    lane = type_.partition(" x ")[2].rstrip(">") or type_
    for total in totals:
        builder.emit(f"store {type_} zeroinitializer, ptr {total}")
    with builder.loop(0, count) as step:
        for total, term in zip(totals, terms(step)):
            builder.emit(f"store {so_far(total) + term}, ptr {total}")
    return [so_far(total) for total in totals]


def _prefetch(builder: Builder, place: Value, ahead: Any, width: int = 1) -> None:
    """Load the cache lines of a vector that is that many elements ahead."""
    item = size_of(place.element)
    for line in range(max(1, width * item // 64)):
        builder.prefetch(place, ahead + line * (64 // item))


#: By the names in texts.
FUNCTIONS: dict[str, Callable[..., None]] = {"product": product, "add_product": add_product, "add_rows": add_rows}
