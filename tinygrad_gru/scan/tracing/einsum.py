"""einsum in a step: transposes, sums, and one product of matrices or of elements, which every target compiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...backend import is_floating
from ...backend.duck_array import DuckNamespace


def contraction(xp: DuckNamespace, subscripts: str, arrays: Sequence[Any]) -> Any:
    """The einsum of one array of floats, or of two; None of others, and of subscripts that are not written out.

    Neither an operand nor the output has a letter twice; an axis of length 1 is broadcast over that of the other array.
    """
    inputs, _, output = subscripts.partition("->")
    letters = inputs.split(",")
    if not _is_written_out(letters, output, arrays):
        return None
    dtype = np.result_type(*(x.dtype for x in arrays))  # NumPy, too, sums after the conversion
    operands = [(text, x.astype(dtype)) for text, x in zip(letters, arrays)]
    if len(operands) == 1:
        return _arranged(xp, *_summed(xp, *operands[0], output), output)
    a, b = (_without_broadcast(xp, *operands[k], *operands[1 - k]) for k in range(2))
    return _product(xp, _summed(xp, *a, output + b[0]), _summed(xp, *b, output + a[0]), output)


def _is_written_out(letters: Sequence[str], output: str, arrays: Sequence[Any]) -> bool:
    """Whether `contraction` knows these operands, and NumPy would accept them."""
    if len(arrays) > 2 or [len(text) for text in letters] != [x.ndim for x in arrays]:
        return False
    if not all(is_floating(x.dtype) for x in arrays) or not set(output) <= set("".join(letters)):
        return False
    lengths: dict[str, set[int]] = {}
    for c, n in ((c, n) for text, x in zip(letters, arrays) for c, n in zip(text, x.shape)):
        lengths.setdefault(c, set()).add(n)
    return (
        all(text.isalpha() for text in [*letters, output] if text)
        and all(len(set(text)) == len(text) for text in [*letters, output])
        and all(len(found - {1}) <= 1 for found in lengths.values())
    )


def _without_broadcast(xp: DuckNamespace, text: str, x: Any, other: str, y: Any) -> tuple[str, Any]:
    """x without its axes of length 1 that are broadcast over those of y."""
    longer = {c for c, n in zip(other, y.shape) if n != 1}
    axes = tuple(axis for axis, c in enumerate(text) if x.shape[axis] == 1 and c in longer)
    return "".join(c for axis, c in enumerate(text) if axis not in axes), xp.squeeze(x, axes)


def _summed(xp: DuckNamespace, text: str, x: Any, known: str) -> tuple[str, Any]:
    """x summed over the letters that neither the output nor the other operand has."""
    axes = tuple(axis for axis, c in enumerate(text) if c not in known)
    return "".join(c for c in text if c in known), xp.sum(x, axes) if axes else x


def _product(xp: DuckNamespace, a: tuple[str, Any], b: tuple[str, Any], output: str) -> Any:
    shared = [c for c in a[0] if c in b[0] and c not in output]
    batch, own = ([c for c in output if (c in a[0] and c in b[0]) is both] for both in (True, False))
    if own and own[0] in b[0]:  # so that most often the product has the axes in the order of the output
        a, b = b, a
    if not shared or not own:
        aligned = [_aligned(xp, text, x, [*output, *shared]) for text, x in (a, b)]
        y = xp.multiply(*aligned)
        return xp.sum(y, tuple(range(len(output), y.ndim))) if shared else y
    length = {c: n for text, x in (a, b) for c, n in zip(text, x.shape)}
    rows, columns = ([c for c in own if c in text] for text, _ in (a, b))

    def sizes(*groups: Sequence[str]) -> list[int]:
        return [math.prod(length[c] for c in group) for group in groups]

    left = xp.reshape(_arranged(xp, *a, [*batch, *rows, *shared]), tuple(sizes(*batch, rows, shared)))
    right = xp.reshape(_arranged(xp, *b, [*batch, *shared, *columns]), tuple(sizes(*batch, shared, columns)))
    found = [*batch, *rows, *columns]
    y = xp.reshape(left @ right, tuple(sizes(*found)))
    return _arranged(xp, "".join(found), y, output)


def _arranged(xp: DuckNamespace, text: str, x: Any, order: Sequence[str]) -> Any:
    """x with its axes, which the letters of text name, in this order."""
    return xp.permute_dims(x, tuple(text.index(c) for c in order))


def _aligned(xp: DuckNamespace, text: str, x: Any, order: Sequence[str]) -> Any:
    """x with its axes in this order, and one of length 1 for each letter that it lacks."""
    x = _arranged(xp, text, x, [c for c in order if c in text])
    lengths = iter(x.shape)
    return xp.reshape(x, tuple(next(lengths) if c in text else 1 for c in order))
