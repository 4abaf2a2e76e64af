"""Windows of series: the steps that a forecast is made from, and those that it is of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..keywords import answered
from .arrays import as_array
from .epochs import check_sizes
from .sharded import ShardedArray

_BLOCK = 2**18  # steps


@answered(
    {
        **dict.fromkeys(["window", "window_size", "sequence_length", "length"], "width"),
        **dict.fromkeys(["sequence_stride", "step", "sampling_rate"], "stride, from one window to the next"),
        "batch_size": "not here: train.fit(…, (x, y), batch_size=32)",
    }
)
def windows(
    series: Any, width: int, horizon: int = 1, stride: int = 1, targets: Any = None, *, nan: str = "refuse"
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, width, F) and targets (N, horizon, K) of all windows of a series (T,) or (T, F).

    Window n begins at step s = n · stride. Its inputs are the steps s … s + width − 1 of `series`, its targets the next
    ones, s + width … s + width + horizon − 1, of `targets` (T,) or (T, K), or of the series itself: no target is among
    its inputs. There are N = (T − width − horizon) // stride + 1; steps at the end that fill no window are left out.

    Windows overlap, so a random choice of them would put the same steps into training and test: split the series first
    (`split_by_time`) and take windows of each part.

    A list of arrays, of lists or of frames is several series: their windows are concatenated, and none spans two. For
    one series both arrays are views that cannot be written to, of an `np.memmap` too. Integers become float64.

    `nan` says what becomes of windows that have a NaN: "refuse" (a ValueError that counts them), "drop" (they are left
    out) or "keep". Raises ValueError if a series is too short.

    >>> x, y = data.windows(np.arange(6.0), width=3, horizon=2)
    >>> x[:, :, 0].tolist(), y[:, :, 0].tolist()
    ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [[3.0, 4.0], [4.0, 5.0]])
    """
    check_sizes(width=width, horizon=horizon, stride=stride)
    if nan not in ("refuse", "drop", "keep"):
        raise ValueError(f"nan must be 'refuse', 'drop' or 'keep', got {nan!r}")
    several = several_series("series", series)
    targets = several if targets is None else several_series("targets", targets)
    if len(targets) != len(several):
        raise ValueError(f"targets must be of the same {len(several)} series, got {len(targets)}")
    pairs = [_windows_of_one(*pair, width, horizon, stride) for pair in zip(several.items(), targets.values())]
    x, y = pairs[0] if len(pairs) == 1 else map(np.concatenate, zip(*pairs))
    if nan == "keep" or not any(_has_nan(array) for array in (*several.values(), *targets.values())):
        return x, y
    missing = np.isnan(x).any(axis=(1, 2)) | np.isnan(y).any(axis=(1, 2))
    if missing.any() and nan == "refuse":
        raise ValueError(
            f"{missing.sum()} of {len(x)} windows have a NaN (the first is window {missing.argmax()}): fill the "
            "missing values, or say nan='drop', which leaves these windows out, or nan='keep'"
        )
    return (x[~missing], y[~missing]) if missing.any() else (x, y)


def several_series(name: str, value: Any) -> dict[str, np.ndarray]:
    """The series (T, F) that `value` holds, by what they are called: it is one array, or a list of arrays or lists."""
    is_several = isinstance(value, (list, tuple)) and len(value) > 0 and hasattr(value[0], "__len__")
    values = {f"{name}[{number}]": one for number, one in enumerate(value)} if is_several else {name: value}
    arrays: dict[str, np.ndarray] = {}
    for called, one in values.items():
        if isinstance(one, ShardedArray):
            raise TypeError(
                f"{called}: windows are views of an array: np.load(path, mmap_mode='r') of each shard is one"
            )
        array = as_array(called, one, "give an array (T, F), or a list of arrays for several series")
        array = array.astype(float) if array.dtype.kind in "biu" else array
        array = array[:, np.newaxis] if array.ndim == 1 else array
        if array.ndim != 2 or array.shape[1:] != next(iter(arrays.values()), array).shape[1:]:
            raise ValueError(
                f"{called} must have the shape (T,) or (T, F), with the same F in all series, got {array.shape}"
            )
        arrays[called] = array
    return arrays


def _has_nan(array: np.ndarray) -> bool:
    """Whether there is a NaN; looked for by blocks, for an array may be larger than memory."""
    return any(bool(np.isnan(array[start : start + _BLOCK]).any()) for start in range(0, len(array), _BLOCK))


def _windows_of_one(
    named: tuple[str, np.ndarray], targets: np.ndarray, width: int, horizon: int, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    name, series = named
    if len(targets) != len(series):
        raise ValueError(f"{name} has {len(series)} steps, but its targets have {len(targets)}")
    if len(series) < width + horizon:
        raise ValueError(
            f"{name} has {len(series)} steps, but a window of width {width} and horizon {horizon} needs "
            f"{width + horizon}: use a longer series, or a smaller width or horizon"
        )
    x = np.lib.stride_tricks.sliding_window_view(series[: len(series) - horizon], width, axis=0)
    y = np.lib.stride_tricks.sliding_window_view(targets[width:], horizon, axis=0)
    return x[::stride].swapaxes(1, 2), y[::stride].swapaxes(1, 2)
