"""Fingerprints of recordings: whether two are of one computation, whatever the numbers in their arrays.

Values alone do not tell: a setting that only a rule reads, another rule, or a hook changes gradients and no value.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from types import FunctionType
from typing import Any

from .tape import Node

#: How deep containers, and functions that functions close over, are looked into.
_DEPTH = 5
_PLAIN = (bool, int, float, complex, str, bytes, slice, type(None))


def fingerprint(records: Iterable[Node]) -> int:
    """A number that is another one if the records have other ops, rules, settings or hooks."""
    ops: dict[int, Hashable] = {}
    total = 0
    for record in records:
        if id(record.op) not in ops:
            ops[id(record.op)] = _of_op(record.op)
        hooks = tuple(map(_of_function, record.grad_state.hooks.values())) if record.grad_state is not None else ()
        total = hash((total, ops[id(record.op)], _of_value(record.saved), hooks))
    return total


def _of_op(op: Any) -> Hashable:
    if not hasattr(op, "formula"):  # an operation of its own at every call, such as a scan
        return type(op).__name__, getattr(op, "fingerprint", None)
    rules = tuple((name, rule and _of_function(rule)) for name, rule in (op.rules or {}).items())
    return op.__name__, _of_function(op.formula), rules


def _of_function(function: Any, depth: int = _DEPTH) -> Hashable:
    """The code, and the numbers and functions that it sees by its defaults, its closure and its globals."""
    code = getattr(function, "__code__", None)
    if code is None or not depth:
        return type(function).__name__
    cells = [_content(cell) for cell in function.__closure__ or ()]
    scope = [function.__globals__.get(name) for name in code.co_names]
    seen = (function.__defaults__, function.__kwdefaults__, cells, [x for x in scope if isinstance(x, _PLAIN)])
    return code, _of_value(seen, depth - 1)


def _of_value(value: Any, depth: int = _DEPTH) -> Hashable:
    """Numbers and texts, alone, in containers or seen by functions; of anything else, arrays above all, the type."""
    if isinstance(value, _PLAIN):
        return repr(value)  # for hash(-1) is hash(-2)
    if isinstance(value, FunctionType):
        return _of_function(value, depth)
    if depth and isinstance(value, (list, tuple)):
        return tuple([_of_value(part, depth - 1) for part in value])
    if depth and isinstance(value, dict):
        return tuple([(repr(key), _of_value(part, depth - 1)) for key, part in value.items()])
    return type(value).__name__


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty yet
        return None
