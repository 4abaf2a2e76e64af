"""Dependencies of the trace of a pure step besides its arguments, read again and compared at every call.

They are what its code can refer to: the attributes of its object and of the object's classes, and of every function
that it may call the code, defaults, closure, and the globals that the code names. This package, NumPy and Python's own
library are assumed not to change, except for the attributes of classes. `proofs` finds those of a step that makes no
promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, repeat
from operator import attrgetter, is_, methodcaller
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...closures import is_library, names_in
from ...ops.op import is_op
from ...tensor import Tensor

#: Immutable values: another value is another object.
_IMMUTABLE = (
    bool, int, float, complex, str, bytes, np.number, np.bool_, np.character, np.dtype, np.ufunc, CodeType, type(None),
    type(...),
)  # fmt: skip

#: Names through which code can refer to anything.
_OPAQUE = frozenset({"eval", "exec", "globals", "__import__"})

#: Packages whose classes keep all that they have in attributes, unlike `list`.
_WITHOUT_ITEMS = (__name__.partition(".")[0], "abc", "typing")

_MISSING, ANCHOR = object(), object()
_array, _shape, _dtype, _values = attrgetter("_data"), attrgetter("shape"), attrgetter("dtype"), methodcaller("values")


class Untrackable(Exception):
    """A dependency of the step may change undetected."""


class Root(NamedTuple):
    """A step taken apart.

    anchor    its traces are kept as long as this lives: the object of a method, a module that a function closes over,
              or the step itself
    function  what runs
    parts     of a function all that another one of the same code may differ in: its globals, its defaults, the
              variables that it closes over, and the arguments of a `partial`
    """

    anchor: Any
    function: Any
    parts: list[Any]

    @property
    def key(self) -> Any:
        """What it shares with those of its anchor that can have the same trace."""
        return self.function.__code__ if self.parts else self.function


def root_of(step: Callable) -> Root | None:
    """A step taken apart; None where that is not possible."""
    if isinstance(step, MethodType):
        return Root(step.__self__, step.__func__, []) if isinstance(step.__func__, FunctionType) else None
    function, given = step, []
    if type(step) is partial:
        function, given = step.func, [len(step.args), *step.args, *step.keywords, *step.keywords.values()]
    if not isinstance(function, FunctionType):
        return None
    defaults, keywords = function.__defaults__ or (), function.__kwdefaults__ or {}
    try:
        closure = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # one is still empty
        return None
    anchor = next((part for part in closure if hasattr(type(part), "named_tensors")), step)
    if anchor is not step:
        closure = [ANCHOR if part is anchor else part for part in closure]
    counts = len(defaults), len(keywords)
    return Root(
        anchor, function, [function.__globals__, *counts, *defaults, *keywords, *keywords.values(), *closure, *given]
    )


class Dependencies:
    """The dependencies of a step: where to read them, and what was read there. Raises Untrackable.

    Code, attributes and globals are walked once, which gives flat lists of locations to read. `current_arrays` reads
    these again with a few calls of C functions, for it runs at every call of a scan, and compares by identity; of the
    arrays in tensors it compares type, shape and dtype.
    """

    def __init__(self, root: Root):
        self._objects: list[Any] = []  # getattr(object, name) was attribute
        self._names: list[str] = []
        self._attributes: list[Any] = []
        self._scopes: list[dict] = []  # scope.get(key) was entry
        self._keys: list[str] = []
        self._entries: list[Any] = []
        self._owners: list[Any] = []  # objects all of whose attributes are compared, but for the method's own object
        self._dicts: list[dict] = []  # containers all of whose items are compared
        self._lists: list[list] = []
        self.tensors: list[Tensor] = []
        self._seen: set[Any] = set()
        self._parts = root.parts
        self._walk_root(root)
        del self._owners[0]  # the anchor itself: a cache must not keep it alive
        self._types = list(map(type, (root.anchor, *self._owners)))
        namespaces = self._namespaces(root.anchor)
        self._dict_sizes, self._dict_keys = list(map(len, namespaces)), list(chain.from_iterable(namespaces))
        self._dict_values = list(chain.from_iterable(map(_values, namespaces)))
        self._list_sizes, self._list_items = list(map(len, self._lists)), list(chain.from_iterable(self._lists))
        self._types_of_arrays = _array_types(map(_array, self.tensors))

    def current_arrays(self, root: Root) -> list[Any] | None:
        """The arrays of `tensors`, if everything else is as it was."""
        try:
            arrays, namespaces = list(map(_array, self.tensors)), self._namespaces(root.anchor)
            if (
                len(root.parts) == len(self._parts)
                and (all(map(is_, root.parts, self._parts)) or all(map(_is_same, root.parts, self._parts)))
                and all(map(is_, map(type, (root.anchor, *self._owners)), self._types))
                and all(map(is_, map(getattr, self._objects, self._names), self._attributes))
                and all(map(is_, map(dict.get, self._scopes, self._keys, repeat(_MISSING)), self._entries))
                and self._dict_sizes == list(map(len, namespaces))
                and self._dict_keys == list(chain.from_iterable(namespaces))
                and all(map(is_, chain.from_iterable(map(_values, namespaces)), self._dict_values))
                and self._list_sizes == list(map(len, self._lists))
                and all(map(is_, chain.from_iterable(self._lists), self._list_items))
                and self._types_of_arrays == _array_types(arrays)
            ):
                return arrays
        except (AttributeError, ValueError, RuntimeError):  # deleted, a cell that is empty now, or changed meanwhile
            pass
        return None

    def _walk_root(self, root: Root) -> None:
        """All that a step may refer to."""
        self._walk_object(root.anchor)
        self._walk(root.function)

    def _namespaces(self, owner: Any) -> list[Any]:
        return [vars(owner), *map(vars, self._owners), *self._dicts]

    def _is_new(self, *key: Any) -> bool:
        seen = key in self._seen
        self._seen.add(key)
        return not seen

    def _read(self, thing: Any, name: str) -> Any:
        """Depend on an attribute, whose value is returned."""
        value = getattr(thing, name)
        self._objects.append(thing)
        self._names.append(name)
        self._attributes.append(value)
        return value

    def _look_up(self, scope: dict, names: Iterable[str]) -> list[Any]:
        """Depend on global names; returns the values of those that exist."""
        for name in names:
            self._scopes.append(scope)
            self._keys.append(name)
            self._entries.append(scope.get(name, _MISSING))
        return [scope[name] for name in names if name in scope]

    def _walk_object(self, owner: Any) -> None:
        """All attributes of an object and of its classes."""
        if not self._is_new(id(owner)):
            return
        if not hasattr(owner, "__dict__"):
            raise Untrackable
        self._owners.append(owner)
        self._walk_classes(type(owner), except_for=("__init__", "__new__", "__repr__"))
        for value in vars(owner).values():
            self._walk(value)

    def _bases(self, cls: type) -> tuple[type, ...]:
        """Depend on which classes are the bases of a class; returns it and them, but for `object`."""
        bases = self._read(cls, "__mro__")[:-1]
        for base in bases:
            if is_library(base.__module__) and base.__module__.partition(".")[0] not in _WITHOUT_ITEMS:
                raise Untrackable(f"it uses a {cls.__name__}, which is a {base.__name__}")
        return bases

    def _walk_classes(self, cls: type, except_for: tuple[str, ...] = ()) -> None:
        """All attributes of a class and of its bases, but for methods of some names."""
        for base in self._bases(cls):
            if not self._is_new(id(base), except_for):
                continue
            self._owners.append(base)
            if is_library(base.__module__):
                continue
            for name, value in vars(base).items():
                function = function_of(value)
                if isinstance(function, FunctionType):
                    if name not in except_for:
                        self._walk_function(function)
                elif not (name.startswith("__") and name.endswith("__")):
                    self._walk(value)

    def _walk(self, value: Any) -> None:
        """The contents of a value whose identity is compared already."""
        if _is_immutable(value):
            return
        if isinstance(value, Tensor):
            if self._is_new(id(value)):
                self.tensors.append(value)
                self._read(value, "node")
        elif isinstance(value, FunctionType):
            self._walk_function(value)
        elif type(value) in (list, tuple):
            if type(value) is list:
                self._lists.append(value)
            for part in value:
                self._walk(part)
        elif hasattr(value, "named_tensors"):  # a module inside, or the class that `super()` is called in
            (self._walk_classes if isinstance(value, type) else self._walk_object)(value)
        else:
            raise Untrackable

    def _walk_function(self, function: FunctionType) -> None:
        """A function: its code, defaults and closure, and the globals that it names."""
        if not self._is_new(id(function)):
            return
        if is_op(function):  # whose code is generated
            self._walk(self._read(function, "formula"))
            for rule in (self._read(function, "rules") or {}).values():
                self._walk(rule)
            return
        code, scope = self._read(function, "__code__"), function.__globals__
        if is_library(scope.get("__name__", "")):
            return
        names = names_in(code)
        if not names.isdisjoint(_OPAQUE):
            raise Untrackable
        self._walk(self._read(function, "__defaults__"))
        keyword_defaults = self._read(function, "__kwdefaults__") or {}
        self._dicts.append(keyword_defaults)
        self._owners.append(function)
        for value in (*keyword_defaults.values(), *vars(function).values()):
            self._walk(value)
        for cell in function.__closure__ or ():
            try:
                self._walk(self._read(cell, "cell_contents"))
            except ValueError as error:  # still empty
                raise Untrackable from error
        self._walk_globals(scope, names)

    def _walk_globals(self, scope: dict, names: frozenset[str]) -> None:
        """The globals that code with these names may refer to."""
        library = is_library(scope.get("__name__", ""))
        for value in self._look_up(scope, names):
            if isinstance(value, ModuleType):
                if self._is_new(id(value), names):
                    self._walk_globals(vars(value), names)
            elif not library:
                self._walk(value)


def function_of(value: Any) -> Any:
    """The function of a property, class method or static method; anything else, such as a descriptor of the user's own,
    as it is."""
    if type(value) is property:
        return value.fget
    return value.__func__ if type(value) in (classmethod, staticmethod) else value


def _is_same(a: Any, b: Any) -> bool:
    """Whether they are one object, or equal scalars; 0.0 and −0.0 are not."""
    return a is b or (type(a) is type(b) and type(a) in (bool, int, float, str) and repr(a) == repr(b))


def _array_types(arrays: Iterable[Any]) -> list[tuple]:
    arrays = list(arrays)
    return list(zip(map(type, arrays), map(_shape, arrays), map(_dtype, arrays)))


def _is_immutable(value: Any) -> bool:
    """Whether nothing in a value can be reassigned, so that comparing its identity is enough."""
    if isinstance(value, BuiltinFunctionType):
        return isinstance(value.__self__, (ModuleType, type(None)))
    return isinstance(value, _IMMUTABLE) or (isinstance(value, type) and is_library(value.__module__))
