"""Random streams: counter-based random numbers, the same on every backend.

The state of a stream is its seed and the number of draws so far: two integers, which are saved, restored and continued
on any backend.

A thread that was seeded has a stream of its own. All others share that of the main thread: each draw is made once, by
the thread that comes first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral
from threading import Lock, current_thread, main_thread
from typing import Any

from ..contexts import setting
from .arrays import astype
from .base import Backend
from .dtypes import dtype_name
from .select import move, resolve


class RandomStream:
    """A sequence of draws of a seed, of which `position` is next; every call makes one draw."""

    def __init__(self, seed: int, position: int = 0):
        for name, value in (("seed", seed), ("position", position)):
            if not isinstance(value, Integral) or not 0 <= value < 2**63:
                raise ValueError(f"{name} must be an integer in 0 … 2**63 − 1, got {value!r}")
        self.seed = int(seed)
        self.position = int(position)

    def generator(self, device: str | Backend | None = None) -> Any:
        """The backend's generator for the next draw."""
        return resolve(device).random(self.seed, self.reserve(1))

    def reserve(self, count: int) -> int:
        """The position of the first of the next `count` draws, which the caller makes."""
        with _lock:  # two threads must not make the same draw
            position = self.position
            self.position += count
        return position

    def uniform(self, shape: tuple[int, ...], dtype: Any = "float32", device: str | Backend | None = None) -> Any:
        """Uniform random numbers in [0, 1)."""
        return self._draw("random", shape, dtype, device)

    def normal(self, shape: tuple[int, ...], dtype: Any = "float32", device: str | Backend | None = None) -> Any:
        """Random numbers of the standard normal distribution, drawn on the host: the same on every device."""
        return move(self._draw("standard_normal", shape, dtype, "numpy"), device)

    def _draw(self, distribution: str, shape: tuple[int, ...], dtype: Any, device: str | Backend | None) -> Any:
        # Generators draw float32 or float64 only.
        backend, name = resolve(device), dtype_name(dtype)
        draw_dtype = "float64" if name == "float64" else "float32"
        numbers = getattr(self.generator(backend), distribution)(shape, dtype=draw_dtype)
        if name == draw_dtype:
            return numbers
        if distribution == "random":  # so that rounding does not give 1
            numbers = numbers * (1 - 2.0 ** (-8 if name == "bfloat16" else -11))
        return astype(numbers, dtype)


_lock = Lock()
#: The stream of a thread (or asyncio task) that was seeded.
_thread_stream: ContextVar[RandomStream | None] = ContextVar("random_stream", default=None)
#: The stream of the main thread and of all that were not seeded.
_main_stream = RandomStream(int.from_bytes(os.urandom(7), "big"))


def random_stream() -> RandomStream:
    """The current stream, from which initialisers and dropout draw; its seed is random until `manual_seed`."""
    return _thread_stream.get() or _main_stream


def manual_seed(seed: int) -> None:
    """Seed the random numbers: the same program then draws the same numbers.

    It applies to the calling thread and, if that is the main thread, to all that were not seeded. Seed each of several
    threads for numbers that do not depend on timing. A forked process continues its parent's stream.

    >>> manual_seed(0)
    >>> x = rand(3)
    >>> manual_seed(0)
    >>> bool((rand(3) == x).all())
    True
    """
    _use(RandomStream(seed))


def random_state() -> dict[str, int]:
    """The state of the current stream, its seed and position, as JSON can store it.

    >>> manual_seed(7)
    >>> random_state()
    {'seed': 7, 'position': 0}
    """
    stream = random_stream()
    return {"seed": stream.seed, "position": stream.position}


def set_random_state(state: dict[str, int]) -> None:
    """Restore a state of `random_state`. It applies to the same threads as `manual_seed`.

    >>> state = random_state()
    >>> x = rand(3)
    >>> set_random_state(state)
    >>> bool((rand(3) == x).all())
    True
    """
    _use(RandomStream(state["seed"], state["position"]))


def _use(stream: RandomStream) -> None:
    global _main_stream
    _thread_stream.set(stream)
    if current_thread() is main_thread():
        _main_stream = stream


@contextmanager
def drawing_from(stream: RandomStream) -> Iterator[None]:
    """A block that draws from a stream; the one outside of it is unchanged.

    `drawing_from(RandomStream(**state))` draws the numbers after a state again.
    """
    with setting(_thread_stream, stream):
        yield
