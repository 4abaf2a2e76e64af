"""Proofs that a step which makes no promise is pure: that its trace depends on nothing but what `Dependencies` compare.

A step computes the same again if all that its code can do, call and read is known: instructions that leave nothing
behind, functions that give the same for the same (those of this package's ops, of `math`, and so on, and functions of
the user's own of which the same is proved), and objects of which every part is compared. What a step reads of the
*values* of its closed-over tensors, as `if w > 0` does, cannot be compared: the tracer notes it, and
integers and booleans, which ops may look at, are not tracked. Whatever is not on the lists here is no proof.
"""

from __future__ import annotations

import builtins
import dis
import functools
import gc
import itertools
import math
import operator
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache, partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...backend import is_floating
from ...closures import is_library
from ...ops.op import is_op
from ...tape import Variable
from ...tensor import Tensor
from ...tensor.in_place import InPlace
from ...tensor.operators import Operators
from ...tensor.protocols import Protocols
from ...trees import kind_of
from .dependencies import ANCHOR, Dependencies, Root, Untrackable, function_of

#: Instructions that leave something behind, or read attributes whose names are not in the code.
_EFFECTS = {
    "IMPORT_NAME": "it imports", "LOAD_BUILD_CLASS": "it defines a class", "MATCH_CLASS": "it matches a class",
    "GET_AWAITABLE": "it waits",
    **dict.fromkeys(("STORE_GLOBAL", "DELETE_GLOBAL"), "it sets a global variable"),
    **dict.fromkeys(("STORE_ATTR", "DELETE_ATTR"), "it sets an attribute"),
    **dict.fromkeys(("SETUP_WITH", "BEFORE_WITH", "SETUP_ASYNC_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL"),
                    "it has a `with`"),
}  # fmt: skip
_BUILTINS = frozenset(
    "abs all any bool complex dict divmod enumerate filter float frozenset int isinstance issubclass iter len list map "
    "max min next pow range reversed round slice sorted str sum super tuple zip Ellipsis NotImplemented".split()
)
_TYPES = frozenset({
    Tensor, np.dtype, functools.partial,
    *(getattr(builtins, name) for name in _BUILTINS if isinstance(getattr(builtins, name), type)),
    *(thing for thing in vars(itertools).values() if isinstance(thing, type)),
    *(thing for thing in vars(builtins).values() if isinstance(thing, type) and issubclass(thing, Exception)),
})  # fmt: skip
_FUNCTIONS = frozenset({
    *(thing for thing in vars(math).values() if callable(thing)),
    *(thing for thing in vars(operator).values() if isinstance(thing, BuiltinFunctionType)),
    *(getattr(builtins, name) for name in _BUILTINS), functools.reduce,
})  # fmt: skip

_OWN = vars(Tensor).keys() | vars(InPlace).keys() | vars(Protocols).keys() | vars(Variable).keys()
#: Attributes of Tensors that are more than their shape and ops on them: their values, their place on the tape.
_OF_TENSORS = frozenset(
    name for name in _OWN if name not in ("shape", "dtype", "ndim", "device", "detach") and not name.startswith("__")
)
_OPERATORS = [
    name for cls in (Operators, InPlace, Protocols) for name, thing in vars(cls).items()
    if name.startswith("__") and isinstance(thing, FunctionType)
]  # fmt: skip


def _attributes_of(cls: type) -> dict[str, Any]:
    return {name: thing for base in reversed(cls.__mro__) for name, thing in vars(base).items()}


#: What Tensors have.
_TENSOR = _attributes_of(Tensor)
#: What a step may use of a layer or a cell of this package.
_OF_MODULES = frozenset({"forward", "step", "training"})
#: Names through which code reaches frames, or attributes by their names.
_OPAQUE = frozenset({"format", "format_map", "gi_frame", "gi_code", "cr_frame", "ag_frame", "tb_frame"})

#: Where the base class of modules is, whose own methods call none but `forward`.
_MODULE = "tinygrad_gru.nn.module"
#: The most objects that are searched for references to the object of a step.
_OBJECTS = 10_000
_SCALARS = (bool, int, float, complex, str, bytes)
_NAMEDTUPLE_FIELD = type(NamedTuple("_Pair", [("first", Any)]).first)  # type: ignore[attr-defined]


class Uses(NamedTuple):
    """What code and the functions inside it look up, and what they do that is no proof, or ""."""

    globals: frozenset[str]
    attributes: frozenset[str]
    effect: str


@lru_cache(maxsize=1024)
def uses_of(code: CodeType) -> Uses:
    """What code uses."""
    found = [uses_of(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    scope, attributes, effects = set[str](), set[str](), [inner.effect for inner in found]
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name in ("LOAD_GLOBAL", "LOAD_NAME"):
            scope.add(instruction.argval)
        elif name in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            attributes.add(instruction.argval)
        elif name in _EFFECTS:
            effects.append(_EFFECTS[name])
        elif name in ("STORE_DEREF", "DELETE_DEREF") and instruction.argval in code.co_freevars:
            effects.append(f"it sets the variable {instruction.argval!r} outside of it")
    for attribute in sorted(attributes):
        if attribute in _OF_TENSORS or attribute in _OPAQUE or attribute.startswith("__"):
            effects.append(f"it uses `.{attribute}`")
    effect = next(filter(None, effects), "")
    scope.update(*(inner.globals for inner in found))
    attributes.update(*(inner.attributes for inner in found))
    return Uses(frozenset(scope), frozenset(attributes), effect)


class Proof(Dependencies):
    """The dependencies of a step that makes no promise. Raises Untrackable, with the reason, where that is no proof.

    skips_forward  whether it holds only if the step does not call the module that it closes over
    arguments  the carry and the xs, whose classes may have methods that the step calls
    """

    def __init__(self, root: Root, arguments: Any):
        self._root, self._arguments = root, arguments
        self._attributes_used: set[str] = set()
        self._modules: list[dict] = []
        self.skips_forward = False
        self._pending: list[tuple[str, Any]] = []
        self._library_classes: list[type] = []
        super().__init__(root)
        del self._root, self._arguments, self._pending, self._modules  # a cache must not keep them alive

    def _walk_root(self, root: Root) -> None:
        if isinstance(root.anchor, (FunctionType, partial)):
            self._owners.append(root.anchor)
        else:
            self._walk_object(root.anchor)
        self._walk_code(root.function)
        if root.parts:
            for part in root.parts[1:]:
                if part is not ANCHOR:
                    self._walk(part)
        else:
            self._walk_parts(root.function)
        self._walk_tree(self._arguments)
        self._walk_used()
        self._check_classes()
        if _refer_to(root.anchor, [value for _, value in self._pending]):
            raise Untrackable("its object refers to itself")  # so would the cache, and keep it alive

    def _check_classes(self) -> None:
        """Of the classes of this package: that only the methods that are known are used, and that they are its own."""
        names = self._attributes_used
        for cls in self._library_classes:
            for name in sorted(names & vars(cls).keys()):
                if name not in _OF_MODULES:
                    raise Untrackable(f"it uses `.{name}`, which {cls.__name__} has")
            for name, thing in vars(cls).items():  # those that no code names are called by others
                if not _is_of_library(thing):
                    raise Untrackable(f"it may call {cls.__name__}.{name} of a user's own")
        current = _attributes_of(Tensor)
        for name in (*_OPERATORS, *sorted(names)):
            if current.get(name) is not _TENSOR.get(name):
                raise Untrackable(f"it may use Tensor.{name} of a user's own")
            with suppress(AttributeError):  # which some raise to say what to use instead
                self._read(Tensor, name)

    def _walk_tree(self, tree: Any) -> None:
        """The classes of the containers of a tree."""
        if kind_of(type(tree)) is None:
            return
        if type(tree) not in (tuple, list, dict):
            self._walk_named_tuple(type(tree))
        for part in tree.values() if type(tree) is dict else tree:
            self._walk_tree(part)

    def _walk_used(self) -> None:
        """What code may look up in the modules and classes that it reaches, by any name that it uses."""
        done: set[tuple[int, str]] = set()
        while True:
            names = sorted(self._attributes_used)
            new = [(scope, name) for scope in self._modules for name in names if (id(scope), name) not in done]
            done.update((id(scope), name) for scope, name in new)
            found = [value for scope, name in new for value in self._look_up(scope, (name,))]
            found += [value for name, value in self._pending if name in self._attributes_used]
            self._pending = [(name, value) for name, value in self._pending if name not in self._attributes_used]
            if not new and not found:
                return
            for value in found:
                self._walk(value)

    def _walk(self, value: Any) -> None:
        if value is self._root.anchor:
            raise Untrackable("it refers to itself")
        if isinstance(value, _SCALARS) and type(value) not in _SCALARS:
            raise Untrackable(f"it uses a {type(value).__name__}")
        if isinstance(value, Variable):
            if not is_library(type(value).__module__) or not is_floating(value._data.dtype):
                raise Untrackable(f"it closes over a {type(value).__name__} of {value._data.dtype}")  # type: ignore[union-attr]
            super()._walk(value)
        elif isinstance(value, ModuleType):
            if type(value) is not ModuleType or (hasattr(value, "__getattr__") and not is_library(value.__name__)):
                raise Untrackable(f"it uses {value.__name__}")
            if self._is_new("module", id(value)):
                self._modules.append(vars(value))
        elif isinstance(value, MethodType):
            self._walk_object(value.__self__)
            self._walk(value.__func__)
        elif isinstance(value, type):
            if value not in _TYPES and not (issubclass(value, np.generic) and value.__module__ == "numpy"):
                self._walk_named_tuple(value)
        elif isinstance(value, BuiltinFunctionType):
            if value not in _FUNCTIONS:
                raise Untrackable(f"it may call `{value.__qualname__}`")
        elif isinstance(value, np.ufunc):
            if getattr(np, value.__name__, None) is not value:
                raise Untrackable(f"it may call `{value.__name__}`")
        elif type(value) is dict:
            if set(map(type, value)) - {str}:
                raise Untrackable("it closes over a dictionary whose keys are no strings")
            if self._is_new(id(value)):
                self._dicts.append(value)
                for part in value.values():
                    self._walk(part)
        elif type(value) is partial:
            self._dicts.append(value.keywords)
            for part in (value.func, *value.args, *value.keywords.values()):
                self._walk(part)
        elif isinstance(value, tuple) and type(value) is not tuple:
            self._walk_named_tuple(type(value))
            for part in value:
                self._walk(part)
        elif isinstance(value, _NAMEDTUPLE_FIELD):
            pass
        else:
            try:
                super()._walk(value)
            except Untrackable as reason:
                raise Untrackable(*reason.args or (f"it uses a {type(value).__name__}",)) from None

    def _walk_object(self, owner: Any) -> None:
        """The attributes of an object and of its classes: those that are used, if only its own methods use them."""
        is_anchor = owner is self._root.anchor
        if is_anchor and self._owners:
            raise Untrackable("it refers to itself")
        cls = type(owner)
        if not hasattr(cls, "named_tensors") or type(cls) is not type:
            raise Untrackable(f"it uses a {cls.__name__}")
        if not self._is_new(id(owner)):
            return
        self._owners.append(owner)
        bases = self._walk_bases(cls)
        items = [item for base in (*bases, owner) for item in vars(base).items()]
        of_module = next((base.__mro__ for base in cls.__mro__ if base.__module__ == _MODULE), ())
        is_plain = {*bases, *of_module, object}.issuperset(cls.__mro__)
        for name, value in items:
            is_dunder = name.startswith("__") and name.endswith("__")
            if name in ("__init__", "__new__") or (is_dunder and not callable(value)):
                continue
            value = function_of(value)
            is_called = is_dunder or (name == "forward" and not is_anchor)  # by no name
            self.skips_forward |= name == "forward" and is_anchor and is_plain
            if is_called or not is_plain:
                self._walk(value)
            else:
                self._pending.append((name, value))

    def _walk_bases(self, cls: type) -> list[type]:
        """Depend on all attributes of a class and of its bases; returns those that are not of libraries."""
        bases = self._bases(cls)
        self._owners += [base for base in bases if self._is_new(id(base))]
        self._library_classes += [base for base in bases if is_library(base.__module__)]
        return [base for base in bases if not is_library(base.__module__)]

    def _walk_named_tuple(self, cls: type) -> None:
        """The class of a named tuple, whose methods are generated, but for the user's own."""
        if cls.__bases__ != (tuple,) or not hasattr(cls, "_fields") or type(cls) is not type:
            raise Untrackable(f"it uses the class {cls.__name__}")
        if not self._is_new(id(cls)):
            return
        self._owners.append(cls)
        for name, value in vars(cls).items():
            function = function_of(value)
            if isinstance(function, FunctionType):
                module = function.__globals__.get("__name__", "")
                if module != "collections" and not module.startswith("namedtuple_"):
                    self._walk_function(function)
            elif not name.startswith("__"):
                self._walk(value)

    def _walk_function(self, function: FunctionType) -> None:
        if function is self._root.function and self._root.parts:
            raise Untrackable("it refers to itself")
        if function is self._root.function or not self._is_new(id(function)):
            return
        if is_op(function):
            if function.redefined or not is_library(function.formula.__module__):  # type: ignore[attr-defined]
                raise Untrackable(f"it may call the op {function.__name__} of a user's own")
            return
        self._walk_code(function)
        if not is_library(function.__globals__.get("__name__", "")):
            self._walk_parts(function)

    def _walk_code(self, function: FunctionType) -> None:
        """What the code of a function does, and the globals that it names."""
        module = function.__globals__.get("__name__", "")
        if is_library(module):
            if not module.startswith("tinygrad_gru.ops.") or module == "tinygrad_gru.ops.sampling":
                raise Untrackable(f"it may call `{function.__qualname__}` of {module}")
            return
        uses = uses_of(function.__code__)
        if uses.effect:
            raise Untrackable(uses.effect)
        if function.__builtins__ is not vars(builtins):  # type: ignore[attr-defined]
            raise Untrackable("it has builtins of its own")
        self._attributes_used |= uses.attributes
        scope = function.__globals__
        of_builtins = uses.globals - scope.keys()
        for name in sorted(of_builtins - vars(builtins).keys()):
            raise Untrackable(f"it may call `{name}`")
        for value in (*self._look_up(scope, uses.globals), *self._look_up(vars(builtins), sorted(of_builtins))):
            self._walk(value)

    def _walk_parts(self, function: FunctionType) -> None:
        """The defaults of a function, and the variables that it closes over."""
        self._read(function, "__code__")
        self._walk(self._read(function, "__defaults__"))
        keywords = self._read(function, "__kwdefaults__") or {}
        self._dicts.append(keywords)
        self._owners.append(function)
        parts: Iterable[Any] = (*keywords.values(), *vars(function).values())
        for value in parts:
            self._walk(value)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                value = self._read(cell, "cell_contents")
            except ValueError:
                raise Untrackable(f"the variable {name!r} is not assigned yet") from None
            self._walk_bases(value) if name == "__class__" else self._walk(value)


def _is_of_library(value: Any) -> bool:
    """Whether what a class has is data, or a function of a library."""
    function = function_of(value)
    function = function.__func__ if isinstance(function, MethodType) else function
    module = function.__module__ if isinstance(function, FunctionType) else type(function).__module__
    return is_library(module) and module != functools.__name__  # whose objects call functions of anyone


def _refer_to(one: Any, things: list[Any]) -> bool:
    """Whether one of the things may refer to that object, at any depth."""
    seen: dict[int, Any] = {}
    while things and len(seen) < _OBJECTS:
        thing = things.pop()
        if thing is one:
            return True
        if id(thing) not in seen and not isinstance(thing, (type, ModuleType)):
            seen[id(thing)] = thing
            is_function = isinstance(thing, FunctionType)  # whose globals outlive it
            things += [thing.__closure__, thing.__defaults__] if is_function else gc.get_referents(thing)
    return bool(things)
