"""Dependencies: what the trace of a pure step depends on, read anew at every call and compared with what it was.

That is what its code can see: the attributes of its object and of its classes, and of every function that it may call
the code, defaults, closure and the globals that the code names. What is inside of this package, NumPy or Python's own
library is taken for unchanging, but for attributes of classes.
"""

from __future__ import annotations

import dis
import sys
from functools import lru_cache
from operator import is_
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ...tensor import Tensor

#: What does not change: another one is another object.
_PLAIN = (bool, int, float, complex, str, bytes, np.generic, np.dtype, np.ufunc, CodeType, type(None), type(Ellipsis))

_OURS = __name__.partition(".")[0]
_LIBRARIES = frozenset({_OURS, "numpy", "builtins", *sys.stdlib_module_names})

#: Names through which code sees more than it names.
_OPAQUE = frozenset({"eval", "exec", "globals", "__import__"})


class Unclear(Exception):
    """Something may change without being set anew."""


class Dependencies:
    """What the trace of a pure step depends on: things that must be the same, and shapes, numbers and words that must
    be equal.

    Some things are read once only: those that are met again are passed over.
    """

    def __init__(self, *things: Any):
        self.things: list[Any] = [*things]
        self.forms: list[Any] = []
        self._seen: set[int] = set()

    def are_those_of(self, other: Dependencies) -> bool:
        same = len(self.things) == len(other.things) and all(map(is_, self.things, other.things))
        return same and self.forms == other.forms

    def of_step(self, step: Any) -> None:
        """Everything on which a bound method depends besides its arguments. Raises Unclear."""
        self.things.append(step.__func__)
        self._attributes(step.__self__)

    def _is_new(self, thing: Any) -> bool:
        seen = id(thing) in self._seen
        self._seen.add(id(thing))
        return not seen

    def _attributes(self, owner: Any) -> None:
        """What an object and its classes have."""
        if not self._is_new(owner):
            return
        for kind in type(owner).__mro__[:-1]:
            self._class(kind)
        for name, value in vars(owner).items():
            self.things.append(name)
            self._value(value)

    def _class(self, kind: type) -> None:
        """What a class has of its own."""
        if not self._is_new(kind):
            return
        self.things.append(kind)
        self.things += vars(kind).values()
        if is_library(kind.__module__):
            return
        for name, value in vars(kind).items():
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(function, FunctionType):
                if name not in ("__init__", "__new__", "__repr__"):
                    self._function(function)
            elif not (name.startswith("__") and name.endswith("__")) and not hasattr(value, "__get__"):
                self._value(value)

    def _value(self, value: Any) -> None:
        """Something that code sees by a name."""
        if isinstance(value, Tensor):
            array = value.data
            self.things += (value, value.node, type(array))
            self.forms += (array.shape, array.dtype)
        elif type(value) in (int, str):
            self.forms.append(value)
        elif isinstance(value, _PLAIN):
            self.things.append(value)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif (isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, (ModuleType, type(None)))) or (
            isinstance(value, type) and is_library(value.__module__)
        ):
            self.things.append(value)
        elif type(value) in (list, tuple):
            self.forms += (type(value), len(value))
            for part in value:
                self._value(part)
        elif hasattr(value, "named_tensors"):  # a module inside
            self.things.append(value)
            self._attributes(value)
        else:
            raise Unclear

    def _function(self, function: Any) -> None:
        """What a function is, and what its code sees."""
        self.things.append(function)
        if not self._is_new(function):
            return
        if hasattr(function, "formula"):  # an op
            self.things.append(function.rules)
            for part in (function.formula, *(function.rules or {}).values()):
                if part is not None:
                    self._function(part)
            return
        code, scope = function.__code__, function.__globals__
        self.things.append(code)
        if is_library(scope.get("__name__", "")):
            return
        names = names_in(code)
        if not names.isdisjoint(_OPAQUE):
            raise Unclear
        for value in (
            *(function.__defaults__ or ()),
            *(function.__kwdefaults__ or {}).values(),
            *vars(function).values(),
        ):
            self._value(value)
        for cell in function.__closure__ or ():
            try:
                self._value(cell.cell_contents)
            except ValueError:  # it is empty yet
                self.things.append(cell)
        for name in names:
            if name in scope:
                value = scope[name]
                self.things.append(name)
                if isinstance(value, ModuleType):
                    self._module(value, names)
                else:
                    self._value(value)

    def _module(self, module: ModuleType, names: frozenset[str]) -> None:
        """What code with these names may see in a module."""
        self.things.append(module)
        if not self._is_new(module):
            return
        for name in names:
            if name in vars(module):
                value = vars(module)[name]
                self.things.append(name)
                if isinstance(value, ModuleType):
                    self._module(value, names)
                elif is_library(module.__name__):
                    self.things.append(value)
                else:
                    self._value(value)


def is_library(module: Any) -> bool:
    """Whether a module of that name is taken for unchanging."""
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


@lru_cache(maxsize=1024)
def names_in(code: CodeType) -> frozenset[str]:
    """All names that the code looks up, of globals and of attributes; `__import__` too if it imports."""
    imports = any(instruction.opname == "IMPORT_NAME" for instruction in dis.get_instructions(code))
    inner = [names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner, ("__import__",) if imports else ())
