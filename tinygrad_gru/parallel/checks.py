"""Checksums of what the ranks of a job must have in common."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from itertools import islice
from math import prod
from typing import Any

import numpy as np

from ..backend import to_host
from ..native.blas import threads_of_numpy
from ..version import __version__

#: Bytes of an array up to which all of it counts; of a larger one as many, in evenly spaced blocks.
_WHOLE, _BLOCK = 2**26, 2**16
#: What sets the threads of a BLAS, whose products may have other bits with other threads.
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")


def versions() -> dict[str, str]:
    """The versions on which the bits of a step depend, and the threads of BLAS where it has more than one.

    >>> sorted(parallel.checks.versions())[-3:]
    ['numpy', 'python', 'tinygrad_gru']
    """
    found = {"tinygrad_gru": __version__, "python": platform.python_version(), "numpy": np.__version__}
    if threads_of_numpy() is None:  # otherwise each product has one thread (see native/blas.py)
        found |= {name: os.environ[name] for name in _THREADS if name in os.environ}
    return found


def checksum(arrays: Iterable[Any]) -> str:
    """A SHA-256 of arrays: their dtypes, shapes and values. Of one above 64 MB evenly spaced blocks count.

    >>> parallel.checksum([np.arange(3)])[:8]
    'd72e1a73'
    """
    digest = hashlib.sha256()
    for array in arrays:
        array = array if hasattr(array, "shape") and hasattr(array, "dtype") else np.asarray(array)
        shape = tuple(array.shape)
        digest.update(f"{array.dtype} {shape} ".encode())
        size, parts = prod(shape) * array.dtype.itemsize, iter([array])
        if size > _WHOLE:  # what is on the disk is read by parts
            rows = max(1, _BLOCK * shape[0] // size)
            starts = np.linspace(0, shape[0] - rows, _WHOLE // _BLOCK).astype(int).tolist()
            parts = (array[start : start + rows] for start in starts)
        for part in parts:
            digest.update(np.ascontiguousarray(to_host(part)).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def source_checksum(source: Any) -> str:
    """A checksum of the batches of a source: of its position and order, and of the arrays that it holds.

    A source whose data are not in memory defines `checksum()`, which returns one. What only iteration shows, as of a
    generator, is not in it: there a step compares the batches.

    >>> batches = data.ArrayBatches(np.arange(6), batch_size=2, seed=0)
    >>> before = parallel.source_checksum(batches)
    >>> before == parallel.source_checksum(data.ArrayBatches(np.arange(6), batch_size=2, seed=1))
    False
    """
    position = source.state_dict()
    own = source.checksum() if hasattr(source, "checksum") else checksum(islice(_arrays_in(vars(source)), 10_000))
    return f"{type(source).__name__} {json.dumps(position, sort_keys=True, default=str)} {own}"


def _arrays_in(value: Any, depth: int = 4) -> Iterator[Any]:
    """The arrays in the attributes of a source, in lists, tuples and dictionaries; of them those that begin with _ are
    of a moment."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        yield getattr(value, "data", value) if not isinstance(value, np.ndarray) else value
    elif isinstance(value, dict) and depth:
        for name, item in value.items():
            if not str(name).startswith("_"):
                yield from _arrays_in(item, depth - 1)
    elif isinstance(value, (list, tuple)) and depth:
        for item in value:
            yield from _arrays_in(item, depth - 1)
