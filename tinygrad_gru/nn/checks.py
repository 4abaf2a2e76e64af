"""Argument checks of layers: errors name the argument, the expected layout, what was given, and the likely cause.

`Module.__call__` appends the path of the submodule that raised the error.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from ..backend import bfloat16, is_floating
from ..tensor import Tensor

#: By `dtype.kind`; one can be converted to another of the same or a higher rank.
_CONVERSION_RANK = {"b": 0, "i": 1, "u": 1, "f": 2}


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless every size is a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"{name}: expected a positive integer, got {size!r}")


def check_probability(**probabilities: float) -> None:
    """Raise ValueError unless each is in [0, 1)."""
    for name, p in probabilities.items():
        if not isinstance(p, Real) or not 0 <= p < 1:
            raise ValueError(f"{name}: expected a probability in [0, 1), got {p!r}")


def check_input(layer: str, x: Any, layout: tuple[str, ...], size: int, dtype: Any) -> None:
    """Raise unless x has the axes of `layout`, the last of that size, and the dtype of the weights."""
    try:
        shape = tuple(x.shape)
    except AttributeError:
        raise TypeError(f"{layer}: x must be a Tensor or an array, got {type(x).__name__}") from None
    if len(shape) != len(layout) or shape[-1] != size:
        raise ValueError(
            f"{layer}: expected x ({', '.join(layout)}) with input_size {size}, got shape {shape}"
            f"{_cause_of_input(shape, layout, size)}"
        )
    if x.dtype != dtype:
        raise TypeError(
            f"{layer}: x is {x.dtype}, the weights are {dtype}: convert x (token ids need an Embedding first), or "
            "make the layer with that dtype"
        )


def _cause_of_input(shape: tuple[int, ...], layout: tuple[str, ...], size: int) -> str:
    """The likely cause of a wrong shape, in brackets; empty if there is none."""
    missing = len(layout) - len(shape)
    if missing == 1 and shape[-1:] == (size,):
        axes = " or ".join(f"{name} (x[{index}])" for name, index in zip(layout, ("None", ":, None")[: len(shape)]))
        return f" (an axis is missing: {axes}?)"
    if missing == 1 and len(layout) == 3:
        return " (token ids need an Embedding first)"
    if missing == 0 and size in shape:
        return f" (axis {shape.index(size)} has that size: are the axes in another order?)"
    if missing == 0 and shape[-1] == 2 * size:
        return " (twice the size: both directions of a layer before it, joined?)"
    if missing == 0 and 2 * shape[-1] == size:
        return " (half the size: one direction of a layer before it, where two were expected?)"
    return ""


def state_parts(layer: str, names: tuple[str, ...], state: Any) -> tuple[Tensor, ...]:
    """The tensors of a state: a Tensor if it has one name, else a tuple with a Tensor for each name. Or TypeError."""
    parts = state if len(names) > 1 else (state,)
    if isinstance(parts, tuple) and len(parts) == len(names) and all(hasattr(part, "shape") for part in parts):
        return parts
    expected = f"the tuple ({', '.join(names)})" if len(names) > 1 else "a tensor"
    inside = f" of {', '.join(type(part).__name__ for part in state)}" if isinstance(state, (tuple, list)) else ""
    raise TypeError(f"state: {layer} needs {expected}, got {type(state).__name__}{inside}")


def check_state_part(name: str, part: Tensor, shape: tuple[int, ...], layout: str, dtype: Any, cause: str) -> None:
    """Raise unless a tensor of a state has that shape (it is never broadcast) and the dtype of the weights."""
    if tuple(part.shape) != shape:
        raise ValueError(f"state {name}: expected {layout} = {shape}, got {tuple(part.shape)} ({cause})")
    if part.dtype != dtype:
        raise TypeError(f"state {name}: expected {dtype}, as the weights are, got {part.dtype}: convert it")


def convert(name: str, array: Any, dtype: Any) -> np.ndarray:
    """A host array in another dtype. ValueError if that changes its values by more than rounding."""
    array, dtype = np.asarray(array), bfloat16() if str(dtype) == "bfloat16" else np.dtype(dtype)
    ranks = [_CONVERSION_RANK.get("f" if is_floating(t) else t.kind) for t in (array.dtype, dtype)]
    if None in ranks or ranks[0] > ranks[1]:  # type: ignore[operator]
        raise ValueError(f"{name}: expected {dtype}, got {array.dtype}, which cannot be converted to it")
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    lost = np.isfinite(array) & ~np.isfinite(result) if is_floating(dtype) else result != array
    if lost.any():
        raise ValueError(
            f"{name}: expected {dtype}, got {array.dtype} with {array[lost][0]}, which is out of its range"
        )
    return result
