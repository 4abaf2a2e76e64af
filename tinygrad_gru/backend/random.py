"""Random numbers for every backend from one seed.

A stream is a seed and the number of draws made so far, nothing else: it is saved as two integers, replayed by
setting it back, and goes on where it was on any backend.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Any

from .arrays import astype
from .base import Backend
from .dtypes import dtype_name
from .select import resolve


class RandomStream:
    """Draw number `position` of `seed`; every call makes one draw."""

    def __init__(self, seed: int, position: int = 0):
        for name, value in (("seed", seed), ("position", position)):
            if not isinstance(value, int) or not 0 <= value < 2**63:
                raise ValueError(f"{name} must be an integer in 0 … 2**63 − 1, got {value!r}")
        self.seed = seed
        self.position = position

    def generator(self, device: str | Backend | None = None) -> Any:
        """The library's own generator for the next draw."""
        generator = resolve(device).random(self.seed, self.position)
        self.position += 1
        return generator

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


_stream: ContextVar[RandomStream | None] = ContextVar("random_stream", default=None)


def random_stream() -> RandomStream:
    """The stream from which layers and dropout draw; unseeded until `manual_seed`."""
    stream = _stream.get()
    if stream is None:
        stream = RandomStream(int.from_bytes(os.urandom(7), "big"))
        _stream.set(stream)
    return stream


def manual_seed(seed: int) -> None:
    """Start the random numbers again from this seed: the same program then draws the same numbers."""
    _stream.set(RandomStream(seed))


def random_state() -> dict[str, int]:
    """Where the random numbers stand: a seed and a position, ready for JSON."""
    stream = random_stream()
    return {"seed": stream.seed, "position": stream.position}


def set_random_state(state: dict[str, int]) -> None:
    """Go on from a state of `random_state`: the numbers that followed it are drawn again."""
    _stream.set(RandomStream(state["seed"], state["position"]))
