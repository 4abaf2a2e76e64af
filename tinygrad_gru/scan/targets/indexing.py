"""Host functions of sources: `gather` and `scatter_add` of NumPy arrays, at one step or at the steps of a chunk.

At the steps of a chunk an operand has a first axis of time, or none if it is loop-invariant. Positions that are out of
bounds wrap around, so that no other memory is read until the scan, which checks them, raises. (`take` wraps them by
repeated subtraction, which takes minutes for a position such as 2⁴⁰.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import backend_of, resolve


def gather(x: np.ndarray, rows: np.ndarray, axis: int, out: np.ndarray) -> None:
    """out = x at the positions `rows` along an axis, whose axes take its place"""
    np.take(x, _wrapped(rows, x.shape[axis]), axis, out, "clip")


def gather_steps(x: np.ndarray, rows: np.ndarray, axis: int, out: np.ndarray, x_varies: bool, rows_vary: bool) -> None:
    """`gather` at each step."""
    rows = _wrapped(rows, x.shape[axis + x_varies])
    if not x_varies and axis == 0:
        np.take(x, rows, 0, out, "clip")
    elif not x_varies:
        out[...] = np.moveaxis(np.take(x, rows, axis, mode="clip"), axis, 0)
    elif not rows_vary:
        np.take(x, rows, axis + 1, out, "clip")
    else:
        for one, at, result in zip(x, rows, out):
            np.take(one, at, axis, result, "clip")


def _wrapped(rows: np.ndarray, size: int) -> np.ndarray:
    """Positions in 0 … size − 1, of which negative ones count from the end."""
    return np.remainder(rows, size)


def scatter_add(values: np.ndarray, rows: np.ndarray, axis: int, out: np.ndarray) -> None:
    """out = zeros to which values are added at the positions `rows` along an axis"""
    out.fill(0)
    add_at_rows(out, rows, values, axis)


def scatter_add_steps(
    values: np.ndarray, rows: np.ndarray, axis: int, out: np.ndarray, values_vary: bool, rows_vary: bool
) -> None:
    """`scatter_add` at each step."""
    for t, result in enumerate(out):
        scatter_add(values[t] if values_vary else values, rows[t] if rows_vary else rows, axis, result)


def add_at_rows(total: np.ndarray, rows: np.ndarray, values: np.ndarray, axis: int) -> None:
    """total += values, added at the positions `rows` along an axis: the axes of `rows` stand there in `values`"""
    values = np.moveaxis(values, range(axis, axis + rows.ndim), range(rows.ndim))
    resolve("numpy").scatter_add(np.moveaxis(total, axis, 0), _wrapped(rows, total.shape[axis]), values)


def add_at_rows_of_steps(
    total: np.ndarray, rows: np.ndarray, values: np.ndarray, axis: int, values_vary: bool, rows_vary: bool
) -> None:
    """total += the values of all steps, as one scatter-add"""
    count = len(values) if values_vary else len(rows)
    values = values if values_vary else np.broadcast_to(values, (count, *values.shape))
    rows = rows if rows_vary else np.broadcast_to(rows, (count, *rows.shape))
    if axis:  # time beside the axes of the positions
        values = np.moveaxis(values, 0, axis)
    add_at_rows(total, rows, values, axis)


def added_at_rows(values: Any, rows: Any, axis: int, shape: tuple[int, ...]) -> Any:
    """A new array, of any backend: zeros to which values are added at the positions `rows` along an axis."""
    backend = backend_of(values)
    return backend.scatter(shape, [(slice(None),) * axis + (rows,)], [values])


FUNCTIONS: dict[str, Any] = {
    function.__name__: function
    for function in (gather, gather_steps, scatter_add, scatter_add_steps, add_at_rows_of_steps, added_at_rows)
}
