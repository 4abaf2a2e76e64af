"""Memory layouts: the same values in arrays that are not contiguous, on which no formula or rule may depend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import Backend, to_host


def _fortran_order(values: np.ndarray) -> np.ndarray:
    return np.array(values, order="F")


def _permuted(values: np.ndarray) -> np.ndarray:
    """The last axis is outermost in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, -1, 0)), 0, -1) if values.ndim else values


def _strided(values: np.ndarray) -> np.ndarray:
    """Every second element of a larger array, whose others are NaN, so that reading them shows."""
    gaps = np.full((*values.shape, 2), np.nan if values.dtype.kind == "f" else 0, values.dtype)
    gaps[..., 0] = values
    return gaps[..., 0]


def _reversed(values: np.ndarray) -> np.ndarray:
    """Negative strides along every axis."""
    backwards: tuple[Any, ...] = (*(slice(None, None, -1),) * values.ndim, ...)
    return values[backwards].copy()[backwards]


def _repeated_rows(values: np.ndarray) -> np.ndarray:
    """Stride 0 along the first axis: the first row for all. Other values than given."""
    return np.broadcast_to(values[:1].copy(), values.shape) if values.ndim else values


def _repeated_element(values: np.ndarray) -> np.ndarray:
    """Stride 0 along all axes, as the cotangent of a sum has it. Other values than given."""
    return np.broadcast_to(values.reshape(-1)[:1].copy().reshape(()), values.shape) if values.size else values


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "in Fortran order": _fortran_order,
    "with permuted axes": _permuted,
    "strided": _strided,
    "with negative strides": _reversed,
    "broadcast along axis 0 (stride 0)": _repeated_rows,
    "broadcast along all axes (stride 0)": _repeated_element,
}


def with_layout(values: np.ndarray, layout: str) -> np.ndarray:
    """Values in that layout, read-only. Integers are never repeated, for ids could become invalid."""
    if values.dtype.kind not in "f" and "broadcast" in layout:
        layout = "strided"
    return read_only(LAYOUTS[layout](values))


def contiguous(array: Any, backend: Backend) -> Any:
    """A contiguous copy, read-only on NumPy."""
    return read_only(backend.asarray(np.array(to_host(array), order="C")))


def read_only(array: Any) -> Any:
    """A read-only view of a NumPy array; other arrays unchanged."""
    if isinstance(array, np.ndarray):
        array = array.view()
        array.flags.writeable = False
    return array
