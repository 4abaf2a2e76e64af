"""Argument checks of layers: errors name the argument, the expected layout, what was given, and the likely cause.

`Module.__call__` appends the path of the submodule that raised the error.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from ..backend import astype, backend_of, bfloat16, copy_of, dtype_name, is_floating, move
from ..contexts import recording
from ..tensor import Tensor

#: By `dtype.kind`; one can be converted to another of the same or a higher rank.
_CONVERSION_RANK = {"b": 0, "i": 1, "u": 1, "f": 2}


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless every size is a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name}: expected a positive integer, got {size!r}")


def check_probability(**probabilities: float) -> None:
    """Raise ValueError unless each is in [0, 1)."""
    for name, p in probabilities.items():
        if not isinstance(p, Real) or not 0 <= p < 1:
            raise ValueError(f"{name}: expected a probability in [0, 1), got {p!r}")


def as_input(layer: str, x: Any, weight: Tensor, name: str = "x") -> Tensor:
    """The argument `name` of a layer as a Tensor: arrays and lists of numbers are data, converted to the dtype and to
    the device of a weight (float64 is NumPy's default, not a wish), but for integers in an array.

    A Tensor is returned as it is: TypeError if it has another floating dtype than the weight.
    """
    if not isinstance(x, Tensor):
        return _data_as_tensor(layer, x, weight, name)
    if x.dtype != weight.dtype and is_floating(x.dtype):
        theirs, ours = dtype_name(x.dtype), dtype_name(weight.dtype)
        raise TypeError(
            f"{layer}: {name} is a Tensor of {theirs}, the weights are {ours}: write "
            f"{name.rpartition(' ')[2]}.astype({ours!r}), or make the layer with dtype={theirs!r}"
        )
    return x


def _data_as_tensor(layer: str, x: Any, weight: Tensor, name: str) -> Tensor:
    array = x
    if isinstance(x, (list, tuple)):
        if hasattr(x, "batch_sizes"):
            raise TypeError(f"{layer}: {name} is a packed sequence: give the padded batch and lengths=, in any order")
        if any(isinstance(part, Tensor) for part in x):
            advice = (
                "a recurrent layer returns two things: write output, state = layer(x), and go on with output, or put "
                "both layers in a Sequential" if isinstance(x, tuple) else "join them: ops.stack(x), or concatenate"
            )  # fmt: skip
            parts = ", ".join(type(part).__name__ for part in x[:5])
            raise TypeError(f"{layer}: {name} is a {type(x).__name__} of {parts}; {advice}")
        try:
            array = np.asarray(x)
        except ValueError:
            raise ValueError(
                f"{layer}: {name} is a {type(x).__name__} of arrays of different shapes; sequences of different "
                "lengths are padded: data.pad_sequence(x), and lengths=[len(part) for part in x] for a recurrent "
                "layer (data.SequenceBatches gives batches of both)"
            ) from None
        array = array if array.dtype.kind not in "iu" else array.astype(float)  # without a dtype, ints are numbers
    backend = backend_of(array)
    if backend.name == "numpy":
        array = backend.asarray(array)
        if not is_floating(array.dtype) and array.dtype.kind not in "iub":
            raise TypeError(f"{layer}: {name} must be a Tensor or an array of numbers, got {_described(x, array)}")
        array = move(array, backend_of(weight.data))
    result = astype(array, weight.dtype) if is_floating(array.dtype) else array
    if result is array and recording.get():  # backward may need it, whatever is written into the caller's array
        result = copy_of(array)
    return Tensor.from_node(result, None)


def _described(x: Any, array: np.ndarray) -> str:
    return type(x).__name__ if array.dtype == object else f"{type(x).__name__} ({array.dtype})"


def check_input(layer: str, x: Any, layout: tuple[str, ...], size: int, weight: Tensor) -> Tensor:
    """`as_input`, which must have the axes of `layout`, the last of that size, and the dtype of the weights."""
    if not isinstance(x, Tensor) or x.dtype != weight.dtype:
        x, given = as_input(layer, x, weight), x
        if isinstance(given, list) and layout[0] == "time" and getattr(given[0] if given else None, "ndim", 0) == 2:
            raise ValueError(
                f"{layer}: x is a list of arrays: if they are sequences write np.stack(x, axis=1), for (time, batch, "
                "features), and if they are time steps np.stack(x)"
            )
        if x.dtype != weight.dtype and x.ndim == len(layout):
            raise TypeError(
                f"{layer}: x is {x.dtype}, the weights are {weight.dtype}: write "
                f"x.astype({dtype_name(weight.dtype)!r}) (token ids need an Embedding first)"
            )
    shape = tuple(x.shape)
    if len(shape) != len(layout) or shape[-1] != size:
        raise ValueError(
            f"{layer}: expected x ({', '.join(layout)}) with input_size {size}, got shape {shape}"
            f"{_cause_of_input(shape, layout, size)}"
        )
    return x


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
