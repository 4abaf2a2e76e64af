"""What can be asked of a device, and set on it, from outside: its memory, and how exact its products are."""

from __future__ import annotations

from numbers import Integral, Real

from .base import Backend
from .memory import MemoryReport
from .select import resolve


def memory_report(device: str | Backend | None = None) -> MemoryReport:
    """How much memory arrays use on a GPU, or as "numpy" on the host, and how much there is: print it, or read its
    numbers. What recurrences keep for their next pass is `idle` there.

    Raises BackendError for a backend that has no memory of its own.
    """
    return _device(device).memory()


def memory_limit(limit: int | float | None, device: str | Backend | None = None) -> None:
    """Let arrays take no more of a GPU's memory than `limit` bytes, or, as a float up to 1.0, than that share of it.

    None takes the limit away. What is over it is an OutOfMemoryError. Raises BackendError as `memory_report` does.
    """
    if isinstance(limit, bool) or not isinstance(limit, (Real, type(None))):
        raise TypeError(f"limit: expected bytes as an int, a share as a float, or None, got {limit!r}")
    if limit is not None:
        limit = int(limit) if isinstance(limit, Integral) else float(limit)
    if limit is not None and not 0 < limit <= (1 if isinstance(limit, float) else limit):
        raise ValueError(f"limit: expected a positive number of bytes, or a share in (0.0, 1.0], got {limit!r}")
    _device(device).limit_memory(limit)


class tf32:  # noqa: N801  (reads as a verb: `tf32(True)`)
    """Allow or forbid float32 products in TF32: `tf32(True)` from here on, `with tf32():` for a block.

    They read their operands with 10 bits after the point in place of 23 and add up in float32; tensor cores make them
    several times as fast. Off, unless the environment variable TINYGRAD_GRU_TF32=1 (or CuPy's own, CUPY_TF32=1) says
    otherwise. It holds for the whole process, as CuPy has it. Raises BackendError for a GPU that has no TF32, or none.
    """

    def __init__(self, on: bool = True, device: str | Backend | None = None):
        self._backend = _device(device)
        self._before = self._backend.allows_tf32
        self._backend.allow_tf32(on)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._backend.allow_tf32(self._before)


def tf32_allowed(device: str | Backend | None = None) -> bool:
    """Whether float32 products may be made in TF32 there; never on NumPy."""
    return resolve(device).allows_tf32


def _device(device: str | Backend | None) -> Backend:
    """The backend that is meant: the default one if it is a GPU's, else the first GPU."""
    home = resolve(device)
    return resolve("cupy") if device is None and home.is_host else home
