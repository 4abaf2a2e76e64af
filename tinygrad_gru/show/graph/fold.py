"""Folding over time: what a recurrence has repeated in a tape is found, and shown once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .collect import Item

#: The longest step that is looked for, and the fewest records in all that are folded.
_LONGEST, _FEWEST = 400, 6


@dataclass(eq=False, repr=False)
class Block:
    """Steps that are alike.

    items    those of the last step, each with `steps`, itself at every step
    count    how many steps
    carried  of an item and the position of an argument that the step before computed: that item, in this step
    initial  what stands for a carried item at the first step
    """

    items: list[Item]
    count: int
    carried: dict[tuple[Item, int], Item]
    initial: dict[Item, Any]

    def __repr__(self) -> str:
        return f"× {self.count} steps of {len(self.items)} records"


def folded(items: Sequence[Item]) -> list[Item | Block]:
    """The items, with each run of repeated steps replaced by a block; arguments refer to its last step."""
    records = [item for item in items if not item.is_leaf]
    index = {item: i for i, item in enumerate(records)}
    shape = [(item.op, item.shape, len(item.arguments)) for item in records]
    result: list[Item | Block] = [item for item in items if item.is_leaf]
    replaced: dict[Item, Item] = {}
    at = 0
    while at < len(records):
        period, count = _repetition(records, index, shape, at)
        if count > 1:
            block = _block(records[at : at + period * count], period, count, index, at)
            replaced |= {one: item for item in block.items for one in item.steps}
            result.append(block)
            at += period * count
        else:
            result.append(records[at])
            at += 1
    for one in result:
        if isinstance(one, Block):
            one.initial = {item: replaced.get(a, a) if isinstance(a, Item) else a for item, a in one.initial.items()}
        for item in one.items if isinstance(one, Block) else [one]:
            item.arguments = [replaced.get(a, a) if isinstance(a, Item) else a for a in item.arguments]
    return result


def _repetition(records: list[Item], index: dict[Item, int], shape: list, start: int) -> tuple[int, int]:
    """The period of the steps that begin at `start`, the shortest that covers most, and how often they repeat."""
    best = (1, 1)
    for period in range(1, min(_LONGEST, (len(records) - start) // 2) + 1):
        if shape[start] != shape[start + period]:
            continue
        end = start + period
        while end < len(records) and _is_repeated(records, index, shape, start, end - period, period):
            end += 1
        count = (end - start) // period
        is_better = count > 1 and period * count >= _FEWEST and period * count > best[0] * best[1]
        if is_better and _is_closed(records, index, start, period, count):
            best = (period, count)
    return best


def _is_repeated(records: list[Item], index: dict, shape: list, start: int, k: int, period: int) -> bool:
    """Whether record k + period does at the next step what record k does."""
    if shape[k] != shape[k + period]:
        return False
    for a, b in zip(records[k].arguments, records[k + period].arguments):
        i, j = index.get(a, -1), index.get(b, -1)
        is_initial = k < start + period and i < start and start <= j < start + period  # the step before begins the loop
        is_input = (isinstance(a, str) and a == b) or a is b  # a weight, or a constant
        is_slice = max(i, j) < start and isinstance(a, Item) and isinstance(b, Item) and not a.is_leaf and _alike(a, b)
        if not (is_initial or is_input or is_slice or (i >= start and j - i == period)):
            return False
    return True


def _alike(a: Item, b: Item) -> bool:
    return (a.op, a.shape) == (b.op, b.shape)


def _is_closed(records: list[Item], index: dict, start: int, period: int, count: int) -> bool:
    """Whether the steps are those of a recurrence: one that has nothing of the step before it is not folded."""
    last = range(start + period * (count - 1), start + period * count)
    return any(
        last.start - period <= index.get(a, -1) < last.start
        for i in last
        for a in records[i].arguments
        if isinstance(a, Item)
    )


def _block(records: list[Item], period: int, count: int, index: dict[Item, int], start: int) -> Block:
    last = records[-period:]
    carried: dict[tuple[Item, int], Item] = {}
    initial: dict[Item, Any] = {}
    for k, item in enumerate(last):
        item.steps = records[k::period]
        item.name = next((one.name for one in reversed(item.steps) if one.name), "")  # h, as the next step calls it
        for position, argument in enumerate(item.arguments):
            i: Any = index.get(argument, -1) if isinstance(argument, Item) else -1
            if start <= i < start + period * (count - 1):
                source = carried[item, position] = last[(i - start) % period]
                initial[source] = item.steps[0].arguments[position]
    return Block(last, count, carried, initial)
