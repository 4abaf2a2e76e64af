"""Batches cut into micro-shards, along the axis of their rows."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...backend import to_host
from ...ops.op import unwrap
from ...parallel import ParallelError
from ..batches import are_collated, inputs_and_targets


class Part(NamedTuple):
    """Some rows of a batch, as `read_batch` takes it."""

    inputs: Any
    targets: Any
    lengths: Any
    starts: Any
    per_step: bool


class Cuttable:
    """A batch with its number of `rows`; `part(rows)` has only these.

    The rows are along `axis`: the first one, of batches that are time-major (`lengths` or `per_step`) the second.
    """

    def __init__(self, batch: Any) -> None:
        self.inputs, self.targets = inputs_and_targets(batch)
        self.lengths, self.starts = getattr(batch, "lengths", None), getattr(batch, "starts", None)
        self.per_step = bool(getattr(batch, "per_step", False))
        self.axis = int(self.per_step or self.lengths is not None)
        sizes = {"lengths": len(self.lengths)} if self.lengths is not None else {}
        _map(partial(_add_size, sizes, self.axis), "inputs", self.inputs)
        _map(partial(_add_size, sizes, int(self.per_step)), "targets", self.targets)
        if len(set(sizes.values())) != 1:
            listed = ", ".join(f"{size} in {name}" for name, size in sizes.items())
            raise ValueError(
                f"a batch is cut into shards by its rows, of which all arrays must have as many, got {listed} "
                f"(along axis {self.axis} of inputs)"
            )
        (self.rows,) = set(sizes.values())

    def part(self, rows: slice) -> Part:
        inputs = _map(lambda _, array: _taken(array, rows, self.axis), "", self.inputs)
        targets = _map(lambda _, array: _taken(array, rows, int(self.per_step)), "", self.targets)
        lengths = None if self.lengths is None else self.lengths[rows]
        return Part(inputs, targets, lengths, self.starts, self.per_step)

    def arrays(self) -> list[np.ndarray]:
        """All its arrays, on the host."""
        found: list[Any] = [] if self.lengths is None else [np.asarray(self.lengths)]
        for part in (self.inputs, self.targets):
            _map(lambda _, array: found.append(np.asarray(to_host(unwrap(array)))), "", part)
        return found

    def checksum(self) -> int:
        """Of the bytes of all its arrays."""
        return zlib.crc32(b"".join(array.tobytes() for array in self.arrays()))


def _add_size(sizes: dict[str, int], axis: int, name: str, array: Any) -> None:
    shape = tuple(getattr(array, "shape", ())) or np.shape(array)
    if len(shape) <= axis:
        raise ValueError(f"{name}: an array of shape {shape} has no axis {axis}, along which its batch is cut")
    sizes[name] = shape[axis]


def _taken(array: Any, rows: slice, axis: int) -> Any:
    array = array if hasattr(array, "shape") else np.asarray(array)
    return array[:, rows] if axis else array[rows]


def _map(function: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    """`function(name, array)` of an array, or of each in a dictionary, a tuple, or a list of a DataLoader's tensors."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: function(f"{name}[{key!r}]", part) for key, part in value.items()}
    if isinstance(value, tuple) or are_collated(value):
        return tuple(function(f"{name}[{k}]", part) for k, part in enumerate(value))
    return function(name, value)


def check_rows(source: Any, shards: int) -> None:
    """Raise ParallelError if the batches of a source are known to have fewer rows than there are shards."""
    rows = getattr(source, "batch_size", None)
    if isinstance(rows, int) and rows < shards:
        most = 2 ** (rows.bit_length() - 1)
        raise ParallelError(
            f"parallel: batches of {rows} row{'s' if rows > 1 else ''} cannot be cut into {shards} shards: a larger "
            f"batch, or shards={most} on at most {most} ranks"
        )
