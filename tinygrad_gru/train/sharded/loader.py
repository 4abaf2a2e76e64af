"""PyTorch's DataLoader on several ranks: each reads the items of its own rows."""

from __future__ import annotations

import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...parallel import ParallelError
from ...parallel.global_random import random_states
from ..batches import Passes, Source
from .cut import Cuttable

_COMPARED = 16  # items of the data set whose checksum the ranks compare at the start
_COPIED = ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "generator",
           "prefetch_factor", "persistent_workers", "pin_memory_device")  # fmt: skip


def own_rows(source: Source, choose: Callable[[int], slice]) -> Source:
    """`source`; or of a DataLoader, if it can read rows alone, passes over the rows that `choose(count)` says.

    It can of a map-style data set, with PyTorch's own `default_collate`: another one may depend on all rows.
    """
    torch: Any = sys.modules.get("torch.utils.data")
    loader: Any = source.batches if isinstance(source, Passes) else None
    if torch is None or type(loader) is not torch.DataLoader or loader.batch_sampler is None:
        return source
    can = loader.collate_fn is torch.default_collate and getattr(loader, "in_order", True)
    is_map = hasattr(loader.dataset, "__len__") and not isinstance(loader.dataset, torch.IterableDataset)
    return LoaderRows(loader, choose) if can and is_map else source


class LoaderRows(Passes):
    """Passes over a DataLoader, whose `next_batch` returns of a batch: the rows that were chosen, None if there are
    none; the number of all rows; and a checksum of the indices of all.

    The order is that of the loader's own sampler.
    """

    def __init__(self, loader: Any, choose: Callable[[int], slice]) -> None:
        self._items = _Items(loader.dataset, loader.collate_fn)
        super().__init__(_Rows(loader, self._items, choose))

    def checksum(self) -> str:
        """Of some items of the data set, and its length."""
        some = np.unique(np.linspace(0, len(self._items) - 1, _COMPARED).astype(int)).tolist()
        return f"{self._items.checksum(self._items.read_twice(some))} of {len(self._items)} items"


class _Rows:
    """Iterates (rows, count, checksum) of all batches of a loader."""

    def __init__(self, loader: Any, items: _Items, choose: Callable[[int], slice]) -> None:
        self._sampler = _Sampler(loader.batch_sampler, choose)
        copied = {name: getattr(loader, name) for name in _COPIED if getattr(loader, name, None) is not None}
        self._loader = type(loader)(items, batch_sampler=self._sampler, collate_fn=loader.collate_fn, **copied)

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        known = self._sampler.known
        known.clear()
        read, end = iter(self._loader), object()
        while True:
            rows = next(read, end)
            while known and not known[0][0]:
                yield (None, *known.popleft()[1:])
            if rows is end:
                return
            yield (rows, *known.popleft()[1:])


class _Sampler:
    """The chosen indices of each batch of a sampler, of those that have some; `known` has what it has given out."""

    def __init__(self, batches: Any, choose: Callable[[int], slice]) -> None:
        self.batches, self.choose = batches, choose
        self.known: deque[tuple[bool, int, int]] = deque()  # whether rows are chosen, the number of all, a checksum

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self.batches:
            indices = list(batch)
            chosen = indices[self.choose(len(indices))]
            self.known.append((bool(chosen), len(indices), zlib.crc32(repr(indices).encode())))
            if chosen:
                yield chosen


class _Items:
    """A data set, which must give the same item whenever it is read: who reads other items changes nothing then.

    Raises ParallelError if it draws random numbers of the generators that all share; or if it has others of its own,
    which shows in the first items, that are read twice.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self.dataset, self.collate = dataset, collate
        self._has_begun = False

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:  # PyTorch's name for it
        begins, self._has_begun = not self._has_begun, True
        return self.read_twice(indices) if begins else self._read(indices)

    def read_twice(self, indices: Sequence[Any]) -> list[Any]:
        items, again = self._read(indices), self._read(indices)
        if self.checksum(items) != self.checksum(again):
            raise self._error("gives another item when it is read again (random numbers of its own?)")
        return items

    def checksum(self, items: list[Any]) -> int:
        return Cuttable(self.collate(items)).checksum()

    def _read(self, indices: Sequence[Any]) -> list[Any]:
        several, before = getattr(self.dataset, "__getitems__", None), random_states()
        items = several(indices) if several else [self.dataset[index] for index in indices]
        for (name, state), then in zip(random_states().items(), before.values()):
            if state != then:
                raise self._error(f"draws random numbers from {name} while its items are read")
        return items

    def _error(self, what: str) -> ParallelError:
        return ParallelError(
            f"data: {type(self.dataset).__name__}, the data set of the DataLoader, {what}, and each rank reads its own "
            "rows alone, so that they would be other ones than in one process. Seed them by the index, "
            "np.random.default_rng((seed, index)); or give an object whose __iter__ returns iter(loader): of that "
            "every rank reads the whole batches"
        )
