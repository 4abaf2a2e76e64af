"""Fingerprints of recordings and digests of arrays, to compare a recomputation with the original.

Values alone do not tell: a setting that only a rule reads, another rule, or a hook changes gradients and no value.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from types import FunctionType
from typing import Any, NamedTuple

from .backend import astype, backend_of, dtype_name, xp_of
from .closures import cell_contents, names_in
from .ops.op import is_op
from .tape import Node

#: The depth to which containers, and functions that functions close over, are searched.
_DEPTH = 5
_SCALARS = (bool, int, float, complex, str, bytes, slice, type(None))
#: The rounding that two computations of the same values may differ by, relative to the sum of their sizes.
_ROUNDING = {"float64": 1e-14, "float32": 1e-5}


class Digest(NamedTuple):
    """A checksum for each row of an array that tolerates rounding: a dot product with numbers without a pattern.

    It takes a small part of the memory of the array. `sizes` are those of the absolute values, and bound the rounding.
    """

    sums: Any
    sizes: Any

    @classmethod
    def of(cls, array: Any) -> Digest:
        backend = backend_of(array)
        n = array.shape[-1] if array.shape else 1
        dtype = "float64" if dtype_name(array.dtype) in ("float64", "int64") else "float32"
        array, irregular = astype(array, dtype), 1.5 + backend.xp.cos(astype(backend.arange(n), dtype))
        rows = backend.xp.reshape(array, (math.prod(array.shape[:-1]), n))
        return cls(rows @ irregular, backend.xp.abs(rows) @ irregular)

    def matches(self, array: Any) -> bool:
        """Whether the array is that of the digest, but for rounding in the last places."""
        other = Digest.of(array)
        if other.sums.shape != self.sums.shape:
            return False
        xp, rounding = xp_of(other.sums), _ROUNDING.get(dtype_name(array.dtype), 2e-3)
        return not bool(xp.any(xp.abs(other.sums - self.sums) > rounding * other.sizes))


def fingerprint(records: Iterable[Node]) -> int:
    """A hash of the ops, rules, settings and hooks of these records, independent of the values in their arrays."""
    ops: dict[int, Hashable] = {}
    total = 0
    for record in records:
        if id(record.op) not in ops:
            ops[id(record.op)] = _of_op(record.op)
        hooks = tuple(map(_of_function, record.grad_state.hooks.values())) if record.grad_state is not None else ()
        total = hash((total, ops[id(record.op)], _of_value(record.saved), hooks))
    return total


def _of_op(op: Any, depth: int = _DEPTH) -> Hashable:
    if not hasattr(op, "formula"):  # an op that is constructed at every call, such as a scan
        return type(op).__name__, getattr(op, "fingerprint", None)
    rules = tuple((name, rule and _of_function(rule, depth)) for name, rule in (op.rules or {}).items())
    return op.__name__, _of_function(op.formula, depth), rules


def _of_function(function: Any, depth: int = _DEPTH) -> Hashable:
    """The code, and the scalars and functions that it reads from its defaults, its closure and its globals."""
    code = getattr(function, "__code__", None)
    if code is None or not depth:
        return type(function).__name__
    if is_op(function):  # whose code is generated at its first call
        return _of_op(function, depth - 1)
    cells = list(map(cell_contents, function.__closure__ or ()))
    scope = [function.__globals__.get(name) for name in sorted(names_in(code))]
    scalars = [value for value in scope if isinstance(value, _SCALARS)]
    return code, _of_value((function.__defaults__, function.__kwdefaults__, cells, scalars), depth - 1)


def _of_value(value: Any, depth: int = _DEPTH) -> Hashable:
    """Scalars and strings, alone, in containers or read by functions; of anything else, such as an array, the type."""
    if isinstance(value, _SCALARS):
        return repr(value)  # for hash(-1) is hash(-2)
    if isinstance(value, FunctionType):
        return _of_function(value, depth)
    if depth and isinstance(value, (list, tuple)):
        return tuple([_of_value(part, depth - 1) for part in value])
    if depth and isinstance(value, dict):
        return tuple([(repr(key), _of_value(part, depth - 1)) for key, part in value.items()])
    return type(value).__name__
