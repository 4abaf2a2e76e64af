"""Sequences of different lengths in one padded array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .arrays import as_array


def pad_sequence(sequences: Iterable[Any], batch_first: bool = False, padding_value: float = 0) -> np.ndarray:
    """The sequences, arrays (T_i, ...), padded at the end in one array (T, B, ...); with `batch_first`, (B, T, ...).

    T is the greatest length. The dtype is the one that holds the values of all sequences. Raises ValueError if there
    is no sequence, if shapes differ beyond the first axis, and if the dtype cannot hold `padding_value`.

    >>> data.pad_sequence([[1, 2, 3], [4]], batch_first=True, padding_value=-1)
    array([[ 1,  2,  3],
           [ 4, -1, -1]])
    """
    arrays = arrays_of_steps("sequences", sequences)
    padded = pad(arrays, padding_value, max(map(len, arrays)))
    return np.ascontiguousarray(padded.swapaxes(0, 1)) if batch_first else padded


def arrays_of_steps(name: str, values: Iterable[Any]) -> list[np.ndarray]:
    """The values as arrays. Raises an error unless these have the shapes (T_i, ...), which differ in T_i alone."""
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes, Mapping)):
        raise TypeError(f"{name} must be a list of lists or arrays, got {values!r:.80}")
    if_ragged = "are its steps of different sizes?"
    arrays = [as_array(f"{name}[{number}]", value, if_ragged) for number, value in enumerate(values)]
    if not arrays:
        raise ValueError(f"{name} is empty: there is nothing to batch")
    for number, array in enumerate(arrays):
        if array.ndim == 0:
            raise ValueError(f"{name}[{number}] is the single number {array}: a list of sequences is expected")
        if array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"{name} must have the same shape beyond their first axis, the steps, but {name}[{number}] has the "
                f"shape {array.shape} and {name}[0] {arrays[0].shape}"
            )
    return arrays


def pad(arrays: list[np.ndarray], value: float, steps: int) -> np.ndarray:
    """Checked sequences in one array (steps, B, ...), with `value` beyond the end of each."""
    dtype = np.result_type(*{array.dtype for array in arrays})
    with np.errstate(invalid="ignore"):
        if dtype.kind not in "fc" and np.asarray(value).astype(dtype) != value:
            raise ValueError(f"the padding value {value} is no value of the sequences' dtype {dtype}")
    padded = np.full((steps, len(arrays), *arrays[0].shape[1:]), value, dtype=dtype)
    for column, array in enumerate(arrays):
        padded[: len(array), column] = array
    return padded
