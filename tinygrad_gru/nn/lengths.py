"""Variable-length batches: `lengths` and `mask` as booleans that say which steps are valid and which are padding.

A padding step leaves the state as it is and has zero gradients. Nothing is sorted or packed, and a mask may have any
pattern: padding on the right (`lengths`), on the left, holes.

Padding steps are computed like the others, and 0 · ∞ is NaN: so they are computed on a valid input of the batch, where
the derivatives of the cell are as finite as at the step that has it (`replace_padding`).
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from ..backend import as_array, backend_of, move, to_host, xp_of
from ..ops import expand_dims, moveaxis, reshape, select, where
from ..ops.op import unwrap
from ..tensor import Tensor

#: Named values of `past_end`: the output at padding; "hold" is the state there.
_FILL_VALUES = {"zero": 0.0, "hold": None, "nan": float("nan")}


def valid_steps(lengths: Any, mask: Any, x: Tensor, batch_first: bool) -> Tensor | None:
    """The mask of valid steps, booleans (T, B, 1) on the backend of x; None if all are.

    lengths  (B,) integers in 0 … T: the first lengths[b] steps of sequence b are valid
    mask     (T, B) booleans, (B, T) if `batch_first`
    x        (T, B, features)
    """
    if lengths is None and mask is None:
        return None
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask: give one of them (a mask can say all that lengths say)")
    steps, batch = x.shape[:2]
    backend = backend_of(unwrap(x))
    if mask is None:
        counts = _checked_lengths(to_host(unwrap(lengths)), steps, batch, batch_first)
        valid = backend.asarray(np.arange(steps)[:, None] < counts)
    else:
        valid = move(_checked_mask(mask, steps, batch, batch_first), backend)
    return expand_dims(Tensor.from_node(valid, None), axis=-1)


def _checked_lengths(lengths: np.ndarray, steps: int, batch: int, batch_first: bool) -> np.ndarray:
    if lengths.dtype == np.bool_:
        raise TypeError("lengths: expected integers, got booleans (give them as mask?)")
    if lengths.dtype.kind not in "iu" and lengths.size:  # an empty list comes as floats
        raise TypeError(f"lengths: expected integers, got {lengths.dtype}")
    if lengths.shape != (batch,):
        cause = "one number per sequence"
        if lengths.shape == (steps,):
            cause = f"one number per step: are the first two axes of x exchanged? batch_first={not batch_first}"
        elif lengths.ndim == 1:
            cause = "the lengths of another batch, such as a last, shorter one?"
        raise ValueError(f"lengths: expected (batch,) = ({batch},), got {lengths.shape} ({cause})")
    wrong = np.flatnonzero((lengths < 0) | (lengths > steps))
    if wrong.size:
        row = int(wrong[0])
        cause = (
            "" if lengths[row] < 0
            else f" (are the first two axes of x exchanged? batch_first={not batch_first})" if lengths.max() <= batch
            else " (the lengths of another batch, or from before it was cut?)"
        )  # fmt: skip
        raise ValueError(f"lengths: expected 0 … {steps}, the steps of x, got {lengths[row]} in row {row}{cause}")
    return lengths.astype(np.int64)


def _checked_mask(mask: Any, steps: int, batch: int, batch_first: bool) -> Any:
    """The mask as an array (T, B)."""
    array = unwrap(mask)
    array = as_array(array)
    xp = xp_of(array)
    layout, shape = ("(batch, time)", (batch, steps)) if batch_first else ("(time, batch)", (steps, batch))
    if tuple(array.shape) != shape:
        if tuple(array.shape) == (*shape, 1):
            cause = "without the last axis"
        elif tuple(array.shape) == shape[::-1]:
            cause = f"its axes are exchanged: the mask follows x, whose batch_first={batch_first}"
        else:
            cause = "the mask of another batch, such as a last, shorter one?"
        raise ValueError(f"mask: expected {layout} = {shape}, got {tuple(array.shape)} ({cause})")
    if not xp.isdtype(array.dtype, "bool"):
        raise TypeError(f"mask: expected booleans, True where there is a step, got {array.dtype} (mask != 0?)")
    return xp.permute_dims(array, (1, 0)) if batch_first else array


def fill_value_of(past_end: str | float) -> float | None:
    """The output at padding for a value of `past_end`; None if it is the state there."""
    if isinstance(past_end, str) and past_end in _FILL_VALUES:
        return _FILL_VALUES[past_end]
    if isinstance(past_end, Real) and not isinstance(past_end, bool):
        return float(past_end)
    raise ValueError(f"past_end: expected one of {', '.join(map(repr, _FILL_VALUES))}, or a number, got {past_end!r}")


#: The input at padding of a batch without any valid step: no usual activation is singular there.
PADDING_VALUE = 0.618


def replace_padding(x: Tensor, valid: Tensor) -> Tensor:
    """x (T, B, features) with padding replaced by the first valid input."""
    array, is_valid = x.data, valid.data
    if 0 in array.shape:
        return x
    xp = xp_of(array)
    first = xp.reshape(xp.argmax(xp.astype(xp.reshape(is_valid, (-1,)), xp.int8)), (1,))
    row = xp.take(xp.reshape(array, (-1, array.shape[-1])), first, axis=0)
    return select(valid, x, where(xp.any(is_valid), row, PADDING_VALUE))


def recorded_like_output(
    name: str, record: Tensor, batch: int, valid: Tensor | None, fill_value: float | None, batch_first: bool
) -> Tensor:
    """A record (T, B, …) of a step in the layout of a layer's output, with the fill value at padding.

    What keeps the state at padding, such as the next state `h'`, is not filled with `past_end="hold"` (None).
    """
    if len(record.shape) < 2 or record.shape[1] != batch:
        raise ValueError(
            f"record: {name!r} has the shape {record.shape[1:]} at a step, without the axis of the batch, {batch}: "
            "`scan` over the step records it"
        )
    if valid is not None and not (fill_value is None and name.endswith("'")):
        valid = reshape(valid, (*valid.shape[:2], *[1] * (len(record.shape) - 2)))
        record = where(valid, record, fill_value or False)  # False is the zero of every dtype
    return moveaxis(record, source=0, destination=1) if batch_first else record
