"""Device settings: memory report and limit, and the precision of float32 products."""

from __future__ import annotations

from numbers import Integral, Real

from .base import Backend
from .memory import MemoryReport
from .select import resolve


def memory_report(device: str | Backend | None = None) -> MemoryReport:
    """A report of the memory of a GPU, or of the host as "numpy": a named tuple that prints as a sentence. Workspaces
    that recurrences keep for their next pass are its `idle` bytes.

    Raises BackendError for a backend that has no memory of its own.

    >>> memory_report("numpy").idle >= 0
    True
    """
    return _device(device).memory()


def memory_limit(limit: int | float | None, device: str | Backend | None = None) -> None:
    """Limit the memory of arrays on a GPU to `limit` bytes or, as a float up to 1.0, to that share of it.

    None removes the limit. Beyond it allocations raise OutOfMemoryError. Raises BackendError as `memory_report` does.

    >>> memory_limit(0.8, "cupy")                                 # doctest: +SKIP
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

    Operands are rounded to 10 bits of mantissa instead of 23 and accumulated in float32; tensor cores compute such
    products several times as fast. Off by default; the environment variable TINYGRAD_GRU_TF32=1 (or CuPy's CUPY_TF32=1)
    turns it on. It applies to the whole process, as CuPy's setting does. Raises BackendError without a GPU that has
    TF32.

    >>> with tf32():                                              # doctest: +SKIP
    ...     model(x)
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
    """Whether float32 products may be computed in TF32 on that device; never on NumPy.

    >>> tf32_allowed("numpy")
    False
    """
    return resolve(device).allows_tf32


def _device(device: str | Backend | None) -> Backend:
    """The backend of that name; for None the default one if it is a GPU's, else the first GPU."""
    backend = resolve(device)
    return resolve("cupy") if device is None and backend.is_host else backend
