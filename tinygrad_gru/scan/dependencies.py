"""Dependencies: what the trace of a pure step depends on, read anew at every call and compared with what it was.

That is what its code can see: the attributes of its object and of its classes, and of every function that it may call
the code, defaults, closure and the globals that the code names. What is inside of this package, NumPy or Python's own
library is taken for unchanging, but for attributes of classes.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ..tensor import Tensor

#: What does not change: another one is another object.
_PLAIN = (bool, int, float, complex, str, bytes, np.generic, np.dtype, np.ufunc, CodeType, type(None), type(Ellipsis))

_OURS = __name__.partition(".")[0]
_LIBRARIES = frozenset({_OURS, "numpy", "builtins", *sys.stdlib_module_names})

#: Names through which code sees more than it names.
_OPAQUE = frozenset({"eval", "exec", "globals", "__import__"})


class Unclear(Exception):
    """Something may change without being set anew."""


def dependencies(step: Any) -> list[Any]:
    """Everything on which a bound method depends besides its arguments, in an order of its own. Raises Unclear."""
    reader = _Reader()
    return [step.__func__, *reader.attributes(step.__self__)]


def are_same(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(map(_is_same, old, new))


def _is_same(old: Any, new: Any) -> bool:
    return old is new or (type(old) is type(new) and type(old) in (tuple, int, str) and old == new)


class _Reader:
    """Reads things; one that it meets again it passes over."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def attributes(self, owner: Any) -> Iterator[Any]:
        """What an object and its classes have."""
        if id(owner) in self.seen:
            return
        self.seen.add(id(owner))
        for kind in type(owner).__mro__[:-1]:
            yield from self.kind(kind)
        for name, value in vars(owner).items():
            yield name
            yield from self.value(value)

    def kind(self, kind: type) -> Iterator[Any]:
        """What a class has of its own."""
        if id(kind) in self.seen:
            return
        self.seen.add(id(kind))
        values = tuple(vars(kind).values())
        yield kind
        yield from values
        if not _is_library(kind.__module__):
            for name, value in vars(kind).items():
                function = getattr(value, "fget", None) or getattr(value, "__func__", value)
                if isinstance(function, FunctionType):
                    yield from self.function(function) if name not in ("__init__", "__new__", "__repr__") else ()
                elif not (name.startswith("__") and name.endswith("__")) and not hasattr(value, "__get__"):
                    yield from self.value(value)

    def value(self, value: Any) -> Iterator[Any]:
        """Something that code sees by a name."""
        if isinstance(value, Tensor):
            yield from (value, value.node, type(value.data), value.shape, value.dtype)
        elif isinstance(value, _PLAIN):
            yield value
        elif isinstance(value, FunctionType):
            yield from self.function(value)
        elif (isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, (ModuleType, type(None)))) or (
            isinstance(value, type) and _is_library(value.__module__)
        ):
            yield value
        elif type(value) in (list, tuple):
            yield type(value)
            yield len(value)
            for part in value:
                yield from self.value(part)
        elif hasattr(value, "named_tensors"):  # a module inside
            yield value
            yield from self.attributes(value)
        else:
            raise Unclear

    def function(self, function: Any) -> Iterator[Any]:
        """What a function is, and what its code sees."""
        yield function
        if id(function) in self.seen:
            return
        self.seen.add(id(function))
        if hasattr(function, "formula"):  # an op
            yield function.rules
            for part in (function.formula, *(function.rules or {}).values()):
                yield from self.function(part) if part is not None else ()
            return
        code, scope = function.__code__, function.__globals__
        yield code
        if _is_library(scope.get("__name__", "")):
            return
        names = _names(code)
        if not names.isdisjoint(_OPAQUE):
            raise Unclear
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            yield from self.value(value)
        for cell in function.__closure__ or ():
            try:
                yield from self.value(cell.cell_contents)
            except ValueError:  # it is empty yet
                yield cell
        for value in vars(function).values():
            yield from self.value(value)
        for name in names:
            if name in scope:
                yield name
                yield from (
                    self.module(scope[name], names) if isinstance(scope[name], ModuleType) else self.value(scope[name])
                )

    def module(self, module: ModuleType, names: frozenset[str]) -> Iterator[Any]:
        """What code with these names may see in a module."""
        yield module
        if id(module) in self.seen:
            return
        self.seen.add(id(module))
        for name in names:
            if name in vars(module):
                value = vars(module)[name]
                yield name
                if isinstance(value, ModuleType):
                    yield from self.module(value, names)
                elif _is_library(module.__name__):
                    yield value
                else:
                    yield from self.value(value)


def _is_library(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


@lru_cache(maxsize=1024)
def _names(code: CodeType) -> frozenset[str]:
    """All names that the code looks up, of globals and of attributes."""
    if any(instruction.opname == "IMPORT_NAME" for instruction in dis.get_instructions(code)):
        return _OPAQUE
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)
