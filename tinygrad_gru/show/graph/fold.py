"""Folding over time: what a recurrence has repeated in a tape is found, and shown once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .collect import Constant, Item

#: The longest step that is looked for, and the fewest records in all that are folded.
_LONGEST, _FEWEST = 400, 6
#: After so many comparisons of records nothing more is folded, so that every tape has its picture within seconds.
_MOST_CHECKS = 2_000_000


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
    repetitions = _Repetitions(records)
    result: list[Item | Block] = [item for item in items if item.is_leaf]
    replaced: dict[Item, Item] = {}
    at = 0
    while at < len(records):
        period, count = repetitions.beginning(at)
        if count > 1:
            block = _block(records[at : at + period * count], period, count, repetitions.index, at)
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


class _Repetitions:
    """Finds the steps that repeat in records.

    index  of each record
    runs   (begin, end, period): from `begin` to `end` each record has the op and the shape of the one a period later
    """

    def __init__(self, records: list[Item]):
        self.records, self.index = records, {item: i for i, item in enumerate(records)}
        kinds: dict[Any, int] = {}
        numbers = [kinds.setdefault((item.op, item.shape, len(item.arguments)), len(kinds)) for item in records]
        self.runs = sorted(_runs(np.array(numbers, int)), reverse=True)  # the first one last
        self.current: list[tuple[int, int, int]] = []
        self.checks = 0

    def beginning(self, start: int) -> tuple[int, int]:
        """The period of the steps that begin at `start`, the shortest that covers most, and how often they repeat.

        To be asked for each start after the one before."""
        while self.runs and self.runs[-1][0] <= start:
            self.current.append(self.runs.pop())
        self.current = [run for run in self.current if run[1] - start >= max(run[2], _FEWEST - run[2])]
        best = (1, 1)
        for _, last, period in sorted(self.current, key=lambda run: run[2]):
            if (last + period - start) // period * period <= best[0] * best[1] or self.checks > _MOST_CHECKS:
                continue
            end = start
            while end < last and self._is_repeated(start, end, period):
                end += 1
            count = (end + period - start) // period
            is_better = count > 1 and period * count >= _FEWEST and period * count > best[0] * best[1]
            if is_better and self._is_closed(start, period, count):
                best = (period, count)
        return best

    def _is_repeated(self, start: int, k: int, period: int) -> bool:
        """Whether record k + period, of the op of record k, does at the next step what that does."""
        self.checks += 1
        for a, b in zip(self.records[k].arguments, self.records[k + period].arguments):
            i, j = self.index.get(a, -1), self.index.get(b, -1)
            begins = k < start + period and i < start and start <= j < start + period  # from before the loop
            is_input = (isinstance(a, Constant) and a == b) or a is b  # a weight, or a constant
            is_slice = min(i, j) >= 0 and max(i, j) < start and (a.op, a.shape) == (b.op, b.shape)
            if not (begins or is_input or is_slice or (i >= start and j - i == period)):
                return False
        return True

    def _is_closed(self, start: int, period: int, count: int) -> bool:
        """Whether the steps are those of a recurrence: one that has nothing of the step before it is not folded."""
        last = range(start + period * (count - 1), start + period * count)
        return any(
            last.start - period <= self.index.get(a, -1) < last.start for i in last for a in self.records[i].arguments
        )


def _runs(kinds: np.ndarray) -> list[tuple[int, int, int]]:
    """Where numbers are those a period later, for long enough that a step is repeated: (begin, end, period)."""
    found = []
    for period in range(1, min(_LONGEST, len(kinds) // 2) + 1):
        differs = np.concatenate([[-1], np.flatnonzero(kinds[:-period] != kinds[period:]), [len(kinds) - period]])
        is_long = np.diff(differs) > max(period, _FEWEST - period)
        found += [(b + 1, e, period) for b, e in zip(differs[:-1][is_long].tolist(), differs[1:][is_long].tolist())]
    return found


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
    states = {*carried.values()}
    if len(states) == 1:
        (state,) = states
        state.name = state.name or "h"
    for state in states:
        state.name = state.name.removesuffix("'")  # h' is the h of the next step
    return Block(last, count, carried, initial)
