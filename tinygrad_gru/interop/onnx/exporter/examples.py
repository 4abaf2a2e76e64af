"""Example inputs of an export, and a second example: other values, and other lengths of dynamic axes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from .... import nn
from ....backend import to_host
from ....ops.op import unwrap
from ....tensor import Tensor
from ...errors import InteropError


def map_arrays(function: Callable[[Any], Any], value: Any) -> Any:
    """Nested tuples and lists with `function` applied to their leaves, the arrays; None stays None."""
    if isinstance(value, (tuple, list)):
        return type(value)(map_arrays(function, part) for part in value)
    return None if value is None else function(value)


def named_leaves(module: nn.Module, inputs: tuple, names: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The arrays among the inputs, on the host, by their names in the graph."""
    found: list[tuple[str, np.ndarray]] = []

    def collect(name: str, value: Any) -> None:
        if isinstance(value, (tuple, list)):
            for k, part in enumerate(value):
                collect(f"{name}_{k}", part)
        elif value is not None:
            if not hasattr(unwrap(value), "dtype"):
                raise InteropError(f"example_inputs: {name} is a {type(value).__name__}, expected an array or a Tensor")
            found.append((name, to_host(unwrap(value))))

    parameters = [p for p in inspect.signature(module.forward).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    for k, value in enumerate(inputs):
        by_name = k < len(parameters) and parameters[k].kind is not inspect.Parameter.VAR_POSITIONAL
        collect(parameters[k].name if by_name else f"input_{k}", value)
    if names is not None:
        if len(names) != len(found):
            raise InteropError(f"input_names: expected {len(found)} different names, got {', '.join(names)}")
        found = [(name, array) for name, (_, array) in zip(names, found)]
    if len(dict(found)) != len(found) or "" in dict(found):
        listed = ", ".join(name for name, _ in found)
        raise InteropError(f"input_names: expected {len(found)} different names, got {listed}")
    return dict(found)


def axis_lengths(leaves: Mapping[str, np.ndarray], axes: Mapping[str, Sequence[str | None]]) -> dict[str, int]:
    """The length of each named axis in the example."""
    lengths: dict[str, int] = {}
    for name, names in axes.items():
        if name not in leaves:
            raise InteropError(f"axes: there is no input {name!r}, there are {', '.join(leaves)}")
        if len(names) != leaves[name].ndim:
            raise InteropError(f"axes: {name} has {leaves[name].ndim} axes in the example, got names for {len(names)}")
        for axis, length in zip(names, leaves[name].shape):
            if axis is not None and lengths.setdefault(axis, length) != length:
                raise InteropError(
                    f"axes: {axis!r} has length {lengths[axis]} in one input of the example and {length} in {name}: "
                    "axes that may differ need different names"
                )
    return lengths


def second_example(
    module: nn.Module, inputs: tuple, leaves: Mapping[str, np.ndarray], axes: Mapping[str, Sequence[str | None]],
    lengths: Mapping[str, int],
) -> dict[str, np.ndarray]:  # fmt: skip
    """A second example. Integers and booleans, whose values `forward` may use as numbers, get values of another sum and
    another range wherever the module accepts such.

    Raises InteropError where it accepts those of the example alone: what it computes from them could be constants.
    """
    longer = _other_lengths(lengths)
    example = {name: _with_other_lengths(leaf, axes.get(name, ()), longer) for name, leaf in leaves.items()}
    for name, array in example.items():
        if array.dtype.kind not in "iub" or not array.size:
            continue
        for candidate in _candidates(array):
            if _accepts(module, inputs, {**example, name: candidate}):
                example[name] = candidate
                break
        else:
            if array.min() == array.max():
                raise InteropError(
                    f"example_inputs: {name} has the value {array.flat[0]} alone, and `forward` accepts neither one "
                    "more nor one less: give an example that may have other values"
                )
    return example


def _other_lengths(lengths: Mapping[str, int]) -> dict[str, int]:
    """More than twice the length of each named axis, so that n // 2 is another number.

    Each grows by a number of its own, which has neither 2 nor 3 as a factor, so that n % 2 and n % 3 are others too.
    """
    added: dict[str, int] = {}
    for name, length in lengths.items():
        added[name] = next(n for n in count(length + 1) if n % 2 and n % 3 and n not in added.values())
    return {name: length + added[name] for name, length in lengths.items()}


def _with_other_lengths(array: np.ndarray, names: Sequence[str | None], longer: Mapping[str, int]) -> np.ndarray:
    """The values in another order, and more of them along named axes."""
    for axis, name in enumerate(names):
        if name is not None:
            array = np.take(array, np.arange(longer[name]) % max(1, array.shape[axis]), axis=axis)
    return np.roll(array.ravel(), 1).reshape(array.shape)


def _candidates(array: np.ndarray) -> Iterator[np.ndarray]:
    """Arrays of other values, those that most modules accept first."""
    if array.dtype.kind == "b":
        flipped = array.copy()
        flipped.flat[0] = not flipped.flat[0]
        yield from (~array, flipped) if array.all() or not array.any() else (array | True, array & False, flipped)
        return
    one, low, high = array.dtype.type(1), array.min(), array.max()
    with np.errstate(over="ignore"):
        yield array + one
        yield array - one
        if low < high:
            yield np.minimum(array, high - one)
            yield np.maximum(array, low + one)


def _accepts(module: nn.Module, inputs: tuple, leaves: Mapping[str, np.ndarray]) -> bool:
    arrays = iter(leaves.values())
    try:
        module(*map_arrays(lambda leaf: _like(leaf, next(arrays)), inputs))
    except Exception:
        return False
    return True


def _like(leaf: Any, array: np.ndarray) -> Any:
    """The array, as a Tensor where the leaf is one."""
    return Tensor(array, dtype=array.dtype) if isinstance(leaf, Tensor) else array
