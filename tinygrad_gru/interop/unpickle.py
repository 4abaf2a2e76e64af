"""The stack machine of pickles, as far as it makes data: it calls nothing and looks nothing up.

A pickle of a few hundred bytes can build a tuple that holds one tuple twice, which holds another twice, and so on for a
hundred levels; a list that holds itself; or a hundred thousand lists in one another. Nothing of that takes memory
until somebody looks at it. So the result is measured, before it is given away, by what it has if written out.
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
_NOTHING = {"PROTO", "FRAME", "STOP"}
_FREE = {"NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "MARK", *_VALUES, *_NOTHING}
_COST = 96  # bytes of a small container, of an entry of a dictionary or of the memo
_LONGEST = 16  # bytes of an integer
_DEEPEST = 64  # containers in one another
_PLAIN = (str, bytes, int, float, type(None), np.ndarray)  # bool is an int


class Name(NamedTuple):
    """A name of the file's program; nothing is looked up under it."""

    path: str


class Unpickler:
    """Runs the program of a pickle once.

    names    what a program may name
    advice   what else is known by name, and what to say of it
    persist  gives the value for a persistent id
    call     gives what the function of a name in `names` would give for arguments
    budget   pays for what is made
    """

    def __init__(
        self,
        names: frozenset[str],
        advice: Mapping[str, str],
        persist: Callable[[Any], Any],
        call: Callable[[str, tuple], Any],
        budget: Budget,
    ):
        self.names, self.advice, self.persist, self.call, self.budget = names, advice, persist, call, budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """What the program makes: dictionaries, lists and tuples of plain values and arrays."""
        for name, argument in _instructions(program):
            self._do(name, argument)
        if len(self.stack) != 1 or self.marks:
            raise InteropError("the file is damaged: the pickle does not end with one value")
        self._measure(self.stack[0])
        return self.stack[0]

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name not in _FREE:
            self.budget.spend(_COST, "what the pickle builds")
        if name in _VALUES:
            if type(argument) is int and argument.bit_length() >= 8 * _LONGEST:
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
                raise InteropError("the file is damaged: the pickle reads what it has not kept")
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._taken(None if name == "TUPLE" else int(name[-1]))))
        elif name in ("APPEND", "APPENDS"):
            items = self._taken(1 if name == "APPEND" else None)
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._taken(2 if name == "SETITEM" else None)
            self._set(self._top(dict), items)
        elif name == "GLOBAL":
            stack.append(self._known(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            module, function = self._taken(2)
            if type(module) is not str or type(function) is not str:
                raise InteropError("the file is damaged: the pickle names something by what is no string")
            stack.append(self._known(f"{module}.{function}"))
        elif name == "BINPERSID":
            stack.append(self.persist(*self._taken(1)))
        elif name == "REDUCE":
            called, arguments = self._taken(2)
            if type(called) is not Name or type(arguments) is not tuple:
                raise InteropError(
                    "the file is damaged: the pickle calls what is no function, or with what are no arguments"
                )
            stack.append(self.call(called.path, arguments))
        elif name == "BUILD":  # the versions of the modules, which a state_dict carries as an attribute
            self._taken(1)
            self._top(dict)
        elif name not in _NOTHING:
            raise InteropError(f"the pickle has an instruction {name}, which no state_dict needs")

    def _taken(self, count: int | None) -> list[Any]:
        """The last `count` values, or those since the last mark, taken off the stack."""
        start = len(self.stack) - count if count is not None else self.marks.pop() if self.marks else -1
        if start < 0 or start > len(self.stack):
            raise InteropError("the file is damaged: the pickle takes more from its stack than is there")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _top(self, kind: type = object) -> Any:
        """The last value on the stack, which must be of that kind."""
        if not self.stack or (kind is not object and type(self.stack[-1]) is not kind):
            raise InteropError(f"the file is damaged: the pickle puts something into what is no {kind.__name__}")
        return self.stack[-1]

    def _set(self, target: dict, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values) or not all(type(key) in (str, int) for key in keys):
            raise InteropError(
                "the file is damaged: keys of dictionaries must be strings or integers, each with a value"
            )
        self.budget.spend(_COST * len(keys), "a dictionary")
        target.update(zip(keys, values))

    def _known(self, path: str) -> Name:
        if path in self.advice:
            raise InteropError(f"it has {self.advice[path]}")
        if path not in self.names:
            raise InteropError(
                f"it asks for {path[:200]!r}, which would mean to run code from a file; only tensors in dictionaries "
                "and lists are read (a whole module was saved? save its state_dict() instead)"
            )
        return Name(path)

    def _measure(self, result: Any) -> None:
        """Pay for the result as if nothing in it were shared. InteropError if it has no end, or is not plain data."""
        known: dict[int, tuple[int, int] | None] = {}  # (values in all, levels) of a container; None while it is open
        waiting = [result]
        while waiting:
            value = waiting[-1]
            inside = _inside(value)
            if inside is None or known.get(id(value)) is not None:
                waiting.pop()
            elif id(value) not in known:
                known[id(value)] = None
                unknown = [item for item in inside if known.get(id(item)) is None and _inside(item) is not None]
                if any(id(item) in known for item in unknown):
                    raise InteropError("it has a list or a dictionary that holds itself")
                waiting += unknown
            else:
                measured = [known.get(id(item)) or (1, 0) for item in inside]
                levels = 1 + max((levels for _, levels in measured), default=0)
                if levels > _DEEPEST:
                    raise InteropError(f"it has more than {_DEEPEST} dictionaries, lists and tuples in one another")
                known[id(value)] = 1 + sum(total for total, _ in measured), levels
                waiting.pop()
        total, _ = known.get(id(result)) or (1, 0)
        self.budget.spend(8 * total, "what the pickle builds, written out")


def _instructions(program: bytes) -> Iterator[tuple[str, Any]]:
    """The instructions of a pickle with their arguments, up to the one that stops it."""
    try:
        for instruction, argument, _ in pickletools.genops(program):
            yield instruction.name, argument
    except ValueError as error:
        raise InteropError(f"the file is damaged: what should be a pickle is none ({error})") from error


def _inside(value: Any) -> Any:
    """The values in a container; None for a plain value. InteropError for what is neither."""
    if type(value) in (list, tuple):
        return value
    if type(value) is dict:
        return value.values()
    if not isinstance(value, _PLAIN):
        raise InteropError("it holds a storage or a function that is no part of a tensor")
    return None
