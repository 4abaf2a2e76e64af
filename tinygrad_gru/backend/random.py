"""Random numbers for every backend from one seed.

A stream is a seed and the number of draws made so far, nothing else: it is saved as two integers, replayed by
setting it back, and goes on where it was on any backend.

A thread that was seeded has a stream of its own, and draws the same whatever others do. All that were not draw from
that of the main thread: a single such thread draws what the main thread would have drawn, several at once share the
draws by whoever comes first, and no two draw the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral
from threading import Lock, current_thread, main_thread
from typing import Any

from .arrays import astype
from .base import Backend
from .dtypes import dtype_name
from .select import resolve


class RandomStream:
    """Draw number `position` of `seed`; every call makes one draw."""

    def __init__(self, seed: int, position: int = 0):
        for name, value in (("seed", seed), ("position", position)):
            if not isinstance(value, Integral) or not 0 <= value < 2**63:
                raise ValueError(f"{name} must be an integer in 0 … 2**63 − 1, got {value!r}")
        self.seed = int(seed)
        self.position = int(position)

    def generator(self, device: str | Backend | None = None) -> Any:
        """The library's own generator for the next draw."""
        with _lock:  # no two threads may make one draw
            position = self.position
            self.position += 1
        return resolve(device).random(self.seed, position)

    def uniform(self, shape: tuple[int, ...], dtype: Any = "float32", device: str | Backend | None = None) -> Any:
        """Numbers evenly spread over [0, 1)."""
        return self._draw("random", shape, dtype, device)

    def normal(self, shape: tuple[int, ...], dtype: Any = "float32", device: str | Backend | None = None) -> Any:
        """Numbers of the standard normal distribution."""
        return self._draw("standard_normal", shape, dtype, device)

    def _draw(self, kind: str, shape: tuple[int, ...], dtype: Any, device: str | Backend | None) -> Any:
        # The libraries draw in 32 or 64 bits only.
        home, name = resolve(device), dtype_name(dtype)
        wide = "float64" if name == "float64" else "float32"
        numbers = getattr(self.generator(home), kind)(shape, dtype=wide)
        if name == wide:
            return numbers
        if kind == "random":  # rounding must not reach 1
            numbers = numbers * (1 - 2.0**-11)
        return astype(numbers, dtype)


_lock = Lock()
#: The stream of a thread (or of a task of asyncio) that was seeded.
_own: ContextVar[RandomStream | None] = ContextVar("random_stream", default=None)
#: The stream of the main thread, and of all others.
_shared = RandomStream(int.from_bytes(os.urandom(7), "big"))


def random_stream() -> RandomStream:
    """The stream from which layers and dropout draw; unseeded until `manual_seed`."""
    return _own.get() or _shared


def manual_seed(seed: int) -> None:
    """Start the random numbers again from this seed: the same program then draws the same numbers.

    It holds for the thread that calls it and, if that is the main thread, for all not seeded themselves. Threads
    that draw at the same time get numbers that do not depend on their timing if each is given a seed. A forked
    process goes on where its parent was.
    """
    _use(RandomStream(seed))


def random_state() -> dict[str, int]:
    """Where the random numbers stand: a seed and a position, ready for JSON."""
    stream = random_stream()
    return {"seed": stream.seed, "position": stream.position}


def set_random_state(state: dict[str, int]) -> None:
    """Go on from a state of `random_state`: the numbers that followed it are drawn again. Holds as `manual_seed`."""
    _use(RandomStream(state["seed"], state["position"]))


def _use(stream: RandomStream) -> None:
    global _shared
    _own.set(stream)
    if current_thread() is main_thread():
        _shared = stream


@contextmanager
def replayed_from(state: dict[str, int]) -> Iterator[None]:
    """In this block the numbers that followed a state are drawn again; afterwards all goes on as if it had not been."""
    token = _own.set(RandomStream(state["seed"], state["position"]))
    try:
        yield
    finally:
        _own.reset(token)
