"""Unpickler for data: the stack machine of pickles without calls and imports.

A pickle of a few hundred bytes can build a tuple that contains one tuple twice, which contains another twice, and so on
for a hundred levels; a list that contains itself; or a hundred thousand nested lists. None of that takes memory until
it is traversed. So the size of the result is counted as if nothing in it were shared, before it is returned.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..io import Budget
from .errors import InteropError

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict,
}  # fmt: skip
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_NO_OPS = {"PROTO", "FRAME", "STOP"}
_FREE = {"NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "MARK", *_VALUES, *_NO_OPS}
_COST = 96  # bytes of a small container, of an entry of a dictionary or of the memo
_MAX_INTEGER_BYTES = 16
_MAX_DEPTH = 64  # of nested containers
_SCALAR_TYPES = (str, bytes, int, float, type(None), np.ndarray)  # bool is an int


class Name(NamedTuple):
    """A name in the program, which is never imported."""

    path: str


class Unpickler:
    """Runs the program of a pickle once.

    names         that a program may use
    alternatives  messages for other known names: what to save instead
    persist       returns the value of a persistent id
    call          returns the result of the function of a name in `names` for arguments
    budget        of memory for what is built
    """

    def __init__(
        self,
        names: frozenset[str],
        alternatives: Mapping[str, str],
        persist: Callable[[Any], Any],
        call: Callable[[str, tuple], Any],
        budget: Budget,
    ):
        self.names, self.alternatives, self.persist, self.call, self.budget = names, alternatives, persist, call, budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """The result of the program: dictionaries, lists and tuples of scalars, strings and arrays."""
        for name, argument in _instructions(program):
            self._execute(name, argument)
        if len(self.stack) != 1 or self.marks:
            raise InteropError("the file is damaged: the pickle does not end with one value")
        self._measure(self.stack[0])
        return self.stack[0]

    def _execute(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name not in _FREE:
            self.budget.spend(_COST, "what the pickle builds")
        if name in _VALUES:
            if type(argument) is int and argument.bit_length() >= 8 * _MAX_INTEGER_BYTES:
                raise InteropError(f"an integer of {argument.bit_length():,} bits, which no state_dict needs")
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top()
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self._top()
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise InteropError("the file is damaged: the pickle reads a memo entry that it has not written")
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._pop(None if name == "TUPLE" else int(name[-1]))))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1 if name == "APPEND" else None)
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2 if name == "SETITEM" else None)
            self._set(self._top(dict), items)
        elif name == "GLOBAL":
            stack.append(self._lookup(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            module, function = self._pop(2)
            if type(module) is not str or type(function) is not str:
                raise InteropError("the file is damaged: a name in the pickle is not a string")
            stack.append(self._lookup(f"{module}.{function}"))
        elif name == "BINPERSID":
            stack.append(self.persist(*self._pop(1)))
        elif name == "REDUCE":
            called, arguments = self._pop(2)
            if type(called) is not Name or type(arguments) is not tuple:
                raise InteropError(
                    "the file is damaged: the pickle calls something that is not a function, or with invalid arguments"
                )
            stack.append(self.call(called.path, arguments))
        elif name == "BUILD":  # the versions of the modules, which a state_dict carries as an attribute
            self._pop(1)
            self._top(dict)
        elif name not in _NO_OPS:
            raise InteropError(f"the pickle has an instruction {name}, which no state_dict needs")

    def _pop(self, count: int | None) -> list[Any]:
        """Pop the last `count` values, or those since the last mark."""
        start = len(self.stack) - count if count is not None else self.marks.pop() if self.marks else -1
        if start < 0 or start > len(self.stack):
            raise InteropError("the file is damaged: the pickle pops from an empty stack")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self, expected: type = object) -> Any:
        """The last value on the stack, which must be of that type."""
        if not self.stack or (expected is not object and type(self.stack[-1]) is not expected):
            raise InteropError(f"the file is damaged: the pickle adds items to what is not a {expected.__name__}")
        return self.stack[-1]

    def _set(self, target: dict, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values) or not all(type(key) in (str, int) for key in keys):
            raise InteropError(
                "the file is damaged: keys of dictionaries must be strings or integers, each with a value"
            )
        self.budget.spend(_COST * len(keys), "a dictionary")
        target.update(zip(keys, values))

    def _lookup(self, path: str) -> Name:
        if path in self.alternatives:
            raise InteropError(f"it has {self.alternatives[path]}")
        if path not in self.names:
            raise InteropError(
                f"it names {path[:200]!r}, which would run code of the file; only tensors in dictionaries "
                "and lists are read (a whole module was saved? save its state_dict() instead)"
            )
        return Name(path)

    def _measure(self, result: Any) -> None:
        """Spend the budget on the result as if nothing were shared. InteropError if it is cyclic or more than data."""
        sizes: dict[int, tuple[int, int] | None] = {}  # by container: (values, depth); None while it is open
        pending = [result]
        while pending:
            value = pending[-1]
            items = _items(value)
            if items is None or sizes.get(id(value)) is not None:
                pending.pop()
            elif id(value) not in sizes:
                sizes[id(value)] = None
                unknown = [item for item in items if sizes.get(id(item)) is None and _items(item) is not None]
                if any(id(item) in sizes for item in unknown):
                    raise InteropError("it has a list or a dictionary that holds itself")
                pending += unknown
            else:
                measured = [sizes.get(id(item)) or (1, 0) for item in items]
                levels = 1 + max((levels for _, levels in measured), default=0)
                if levels > _MAX_DEPTH:
                    raise InteropError(f"it has dictionaries, lists and tuples nested more than {_MAX_DEPTH} deep")
                sizes[id(value)] = 1 + sum(total for total, _ in measured), levels
                pending.pop()
        total, _ = sizes.get(id(result)) or (1, 0)
        self.budget.spend(8 * total, "what the pickle builds, written out")


def _instructions(program: bytes) -> Iterator[tuple[str, Any]]:
    """The instructions of a pickle with their arguments, up to STOP."""
    try:
        for instruction, argument, _ in pickletools.genops(program):
            yield instruction.name, argument
    except ValueError as error:
        raise InteropError(f"the file is damaged: invalid pickle ({error})") from error


def _items(value: Any) -> Any:
    """The values in a container; None for a scalar, a string or an array. InteropError for anything else."""
    if type(value) in (list, tuple):
        return value
    if type(value) is dict:
        return value.values()
    if not isinstance(value, _SCALAR_TYPES):
        raise InteropError("it holds a storage or a function that is not part of a tensor")
    return None
