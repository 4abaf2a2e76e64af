"""Transport: the collective operations that data-parallel training needs, and those of a single process.

There is one implementation on MPI (`mpi.py`). One on NCCL, for arrays on GPUs, would be a third class here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from ..io.checkpoint import from_bytes, to_bytes


class ParallelError(RuntimeError):
    """A parallel job cannot start, or cannot go on: a rank has failed, does not answer, or differs from the others.

    >>> parallel.init("nccl")
    Traceback (most recent call last):
    tinygrad_gru.parallel.transport.ParallelError: parallel: 'nccl' is not there yet: ...
    """


class Transport(Protocol):
    """Collective operations on arrays of NumPy. All ranks call the same ones in the same order; only `sum` may come
    earlier on some than on others, between other operations, for which those are in an order of their own."""

    name: str
    about: str  # which process each rank is, as a launcher names one that was killed
    rank: int
    size: int
    hosts: int  # how many machines these are
    timeout: float  # seconds that a wait for another rank may take

    def gather(self, values: np.ndarray) -> np.ndarray:
        """The vectors (n,) of all ranks: (size, n)."""

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """The bytes of all ranks, of any length."""

    def sum(self, values: np.ndarray, exact: bool) -> Callable[[], np.ndarray]:
        """Begin the sum of the vectors of all ranks, and return a function that waits for it; until then the vector
        stays as it is. Its length is a multiple of `size`.

        exact   in a binary tree over the ranks, a power of two; otherwise in an order of the transport's own
        """

    def advance(self) -> None:
        """Go on with the sums that have begun, as far as it takes no waiting."""

    def failed(self, error: BaseException) -> bool:
        """Tell the other ranks that this one ends with an error. Returns whether this one is to report it."""

    def started(self) -> None:
        """Declare the checks at the start to be over: from now on every rank reports an error that ends the job."""


class Single:
    """The transport of a single process: what it sends is what it gets."""

    name, about, rank, size, hosts, timeout = "one process", "", 0, 1, 1, 0.0

    def gather(self, values: np.ndarray) -> np.ndarray:
        return values[None]

    def gather_bytes(self, content: bytes) -> list[bytes]:
        return [content]

    def sum(self, values: np.ndarray, exact: bool) -> Callable[[], np.ndarray]:
        return lambda: values

    def advance(self) -> None:
        pass

    def failed(self, error: BaseException) -> bool:
        return True

    def started(self) -> None:
        pass


def gather_states(transport: Transport, state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states of all ranks: trees of host arrays and JSON values, as a checkpoint holds them."""
    return [from_bytes(content) for content in transport.gather_bytes(to_bytes(state))]
