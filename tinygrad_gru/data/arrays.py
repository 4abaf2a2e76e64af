"""Batches of arrays whose first axis counts the examples."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from .epochs import Epochs, check_sizes, checked_seed, order_of_epoch
from .sharded import ShardedArray
from .tables.columns import as_column, unmasked
from .tables.table import Table


class ArrayBatch(NamedTuple):
    """A batch of `inputs` and `targets`, arrays (B, ...) or tuples or dicts of them; without targets these are None.

    >>> inputs, targets = data.ArrayBatches(np.arange(6).reshape(3, 2), [0, 1, 1]).next_batch()
    >>> inputs.shape, targets.tolist()
    ((3, 2), [0, 1, 1])
    """

    inputs: Any
    targets: Any


class ArrayBatches(Epochs[ArrayBatch]):
    """Batches of at most `batch_size` examples of arrays `x` (N, ...) and `y` (N, ...), along their first axis.

    `x` and `y` are each an array, or a tuple or dict of arrays with the same N: the inputs of `model(*inputs)` or
    `model(**inputs)`. Whatever `np.asarray` takes is an array: nested lists, PyTorch's tensors, frames of numbers. A
    list is one array. Dtypes stay as they are; without `y`, targets are None.

    An epoch has every example once, so its last batch may be smaller. With a `seed` every epoch is shuffled anew; with
    None the order is the given one, and batches are views. Of an `np.memmap` and of a `ShardedArray`, which may be
    larger than memory, each batch reads its own rows; the order of an epoch takes 8 bytes an example.

    Raises ValueError if the arrays differ in N, are empty or ragged, and TypeError if they do not hold numbers.

    >>> batches = data.ArrayBatches(np.arange(10).reshape(5, 2), [0, 1, 0, 1, 1], batch_size=2)
    >>> [(batch.inputs.shape, batch.targets.tolist()) for batch in batches]
    [((2, 2), [0, 1]), ((2, 2), [0, 1]), ((1, 2), [1])]
    """

    def __init__(self, x: Any, y: Any = None, batch_size: int = 32, seed: int | None = None) -> None:
        check_sizes(batch_size=batch_size)
        self.inputs = _map(as_array, "x", x)
        self.targets = _map(as_array, "y", y)
        self.batch_size, self.seed = batch_size, checked_seed(seed)
        self._examples = self._common_length()
        super().__init__(-(-self._examples // batch_size))

    def _common_length(self) -> int:
        """The number of examples, the same in all arrays."""
        lengths = {}
        for name, arrays in (("x", self.inputs), ("y", self.targets)):
            for place, array in _arrays(name, arrays):
                if array.ndim == 0:
                    raise ValueError(f"{place} is the single number {array}, but an array of examples is expected")
                lengths[place] = len(array)
        if not lengths or 0 in lengths.values():
            raise ValueError(f"there are no examples to batch: {_listed(lengths) or 'x holds no array'}")
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"all arrays must have the same number of examples (their first axis), got {_listed(lengths)}; "
                "several inputs are a tuple or a dict, for a list is one array"
            )
        return next(iter(lengths.values()))

    def _prepare(self, epoch: int) -> None:
        self._order = order_of_epoch(self._examples, self.seed, epoch)

    def _count(self, index: int) -> int:
        return min(self.batch_size, self._examples - index * self.batch_size)

    def _part(self, index: int, rows: slice) -> ArrayBatch:
        start = index * self.batch_size
        rows = slice(start + rows.start, start + rows.stop)
        chosen = rows if self.seed is None else self._order[rows]
        inputs, targets = (
            _map(lambda _, array: np.asarray(array[chosen]), "", part) for part in (self.inputs, self.targets)
        )
        return ArrayBatch(inputs, targets)

    def _arrangement(self) -> dict[str, Any]:
        return {"examples": self._examples, "batch_size": self.batch_size, "seed": self.seed}


def as_array(name: str, value: Any, if_ragged: str = "data.SequenceBatches takes such lists") -> Any:
    """`value` as an array of numbers, a ShardedArray as it is, or an error that calls it `name`."""
    if hasattr(value, "columns"):
        table = Table.from_frame(value)
        columns = [table[column] for column in table.columns]
        return np.stack(columns, 1) if all(column.dtype.kind in "iu" for column in columns) else table.array()
    if isinstance(value, ShardedArray):
        return value
    try:
        array = unmasked(name, value)
    except ValueError as error:
        raise ValueError(f"{name} is not one array, for its lists have different lengths: {if_ragged}") from error
    if array.dtype.kind == "O" and hasattr(value, "to_numpy") and array.ndim == 1:  # a frame's column
        array = as_column(name, value)
    kind = array.dtype.kind
    beyond = kind == "O" and array.size and all(isinstance(value, Integral) for value in array.flat)
    if beyond or (array.dtype == np.uint64 and array.size and array.max() > _LARGEST):
        raise ValueError(f"{name} has integers beyond int64, which ends at {_LARGEST}")
    if kind not in "biuf":
        words, remedy = _NOT_NUMBERS.get(kind, (str(array.dtype), "give one array of numbers"))
        example = "".join(f", such as {value!r:.40}" for value in array.reshape(-1)[:1].tolist())
        raise TypeError(f"{name} must hold numbers, but holds {words}{example}: {remedy}")
    return array


_LARGEST = np.iinfo(np.int64).max
_NOT_NUMBERS = {
    "c": ("complex ones", "give the real and imaginary parts as two features"),
    "U": (
        "strings",
        "np.unique(strings, return_inverse=True) makes ids of them, data.CharacterVocabulary of characters",
    ),
    "S": ("bytes", "np.frombuffer(value, np.uint8) makes numbers of them"),
    "O": ("objects", "where a value is missing, write np.nan"),
    "M": ("dates", "(dates - dates[0]) / np.timedelta64(1, 's') are seconds"),
    "m": ("time spans", "spans / np.timedelta64(1, 's') are seconds"),
}


def with_features(array: np.ndarray) -> np.ndarray:
    """Integers (T,) are ids and stay as they are; other numbers (T,) are a series of one feature, (T, 1)."""
    return array[:, np.newaxis] if array.ndim == 1 and array.dtype.kind not in "iu" else array


def _map(function: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    """`function(name, array)` of an array, or of each in a tuple or dict; None stays None."""
    if isinstance(value, dict):
        return {key: function(f"{name}[{key!r}]", part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(function(f"{name}[{number}]", part) for number, part in enumerate(value))
    return None if value is None else function(name, value)


def _arrays(name: str, value: Any) -> list[tuple[str, np.ndarray]]:
    """The arrays of a structure with what they are called."""
    pairs: list[tuple[str, np.ndarray]] = []
    _map(lambda place, array: pairs.append((place, array)), name, value)
    return pairs


def _listed(lengths: dict[str, int]) -> str:
    return ", ".join(f"{length} in {place}" for place, length in lengths.items())
