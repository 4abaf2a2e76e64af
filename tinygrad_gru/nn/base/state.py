"""Loading of a state dictionary: which of its values fit which tensors, and what is wrong with the others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ...backend import dtype_name, to_host
from ...ops.op import unwrap
from ...tensor import Tensor
from ..checks import convert

#: Names of weights in other libraries: a pattern, and what reads them.
_FOREIGN = (
    (r"(weight|bias)_(ih|hh|hr)(_l\d+(_reverse)?)?|weight|bias", "PyTorch's: interop.torch.load(model, state)"),
    (r"(recurrent_)?kernel(:0)?|embeddings(:0)?", "Keras's: interop.keras.load(model, path)"),
)


class LoadedKeys(NamedTuple):
    """What `load_state_dict(state, strict=False)` has left alone, by the names that PyTorch uses.

    missing_keys     tensors of the module for which the state had no value
    unexpected_keys  entries of the state that are no tensors of the module
    """

    missing_keys: list[str]
    unexpected_keys: list[str]


def fitting_values(
    owner: str, tensors: Mapping[str, Tensor], tied: Mapping[str, str], state: Mapping[str, Any], strict: bool
) -> tuple[dict[str, np.ndarray], LoadedKeys]:
    """The values of a state by the path of their tensor, in its dtype, on the host.

    tensors  all tensors by their first path
    tied     further paths, each with the first

    Raises ValueError that lists all that does not fit; with `strict` also what is missing or unknown.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected arrays by name, as state_dict() gives, got {type(state).__name__}")
    values: dict[str, np.ndarray] = {}
    unexpected, problems = [], []
    for name, value in state.items():
        path = tied.get(name, name)
        if path not in tensors:
            unexpected.append(name)
            continue
        try:
            array = _fitting(name, value, tensors[path])
        except ValueError as error:
            problems.append(str(error))
            continue
        if not np.array_equal(array, values.setdefault(path, array), equal_nan=True):
            problems.append(f"{name} is tied to {path} here, but they differ in the state")
    given = {tied.get(name, name) for name in state}
    keys = LoadedKeys([name for name in tensors if name not in given], unexpected)
    if strict:
        problems = [
            *(f"missing: {name} {tuple(tensors[name].shape)}" for name in keys.missing_keys),
            *(f"unknown: {name} {_shape(state[name])}" for name in unexpected),
            *problems,
        ]
    if problems:
        raise ValueError(f"state does not fit {owner}{_likely_cause(unexpected)}:\n  " + "\n  ".join(problems))
    return values, keys


def _fitting(name: str, value: Any, tensor: Tensor) -> np.ndarray:
    """A value as a host array in the dtype of the tensor. ValueError unless it fits."""
    array = to_host(unwrap(value))
    if array.shape != tuple(tensor.shape):
        raise ValueError(f"{name}: expected shape {tuple(tensor.shape)}, got {array.shape}")
    return convert(name, array, dtype_name(tensor.dtype))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if hasattr(value, "shape") else np.shape(value)


def _likely_cause(unexpected: list[str]) -> str:
    """Whose names the unexpected ones are, in brackets; empty if that cannot be told."""
    endings = [str(name).rpartition(".")[2].rpartition("/")[2] for name in unexpected]
    for pattern, answer in _FOREIGN:
        if any(re.fullmatch(pattern, ending) for ending in endings):
            return f" (names such as {unexpected[0]} are {answer})"
    return ""
