"""Side effects of a step: detected, and undone after a trace.

A step is traced by running it once on traced arrays. Where it counts its calls, appends to a list or draws
from a generator of its own, it may do something else at every step: then its effects are undone, and the step runs
eagerly. Tracked are the closure of the step, the globals that it and the functions it calls name, its object, and their
contents to a small depth; not files, nor what it prints. Large arrays are read-only meanwhile, so that a write into one
is an error. While other threads run nothing is restored, nor read-only, for the change could be theirs. What is not
tracked is found by `repeated`, if it changes what the step computes.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...backend import random_state, set_random_state
from ...closures import cell_contents, is_library, names_in
from ...ops.op import is_op
from ...tensor import Tensor
from ..protocol import StepWrapper
from .traced_array import Untraceable

#: The limits of what is tracked: references from the step and from the functions that it calls (to their objects, the
#: attributes, the items of these), objects, items at the end of a list, and bytes of an array (counters are small).
_DEPTH, _OBJECTS, _ITEMS, _BYTES = 4, 500, 200, 256

_EMPTY, _GENERATOR = object(), "a random generator"

#: Immutable, or never looked into.
_OPAQUE = (bool, int, float, complex, str, bytes, ModuleType, np.generic, np.dtype, type(None))


@contextmanager
def rollback(step: Callable) -> Iterator[Callable[[], None]]:
    """Run the block and undo its side effects. Yields a function that raises Untraceable if there are any."""
    step = step.step if isinstance(step, StepWrapper) else step
    before, random_before, clean = _Snapshot(step), random_state(), False

    def check() -> None:
        nonlocal clean
        if changes := before.changes():
            name = changes[0].name
            advice = "a value of every step is returned as y, and one that the next step needs is a part of the carry"
            if name in ("the state of `random`", "the state of `numpy.random`"):
                advice = "`randn` and `rand` of tinygrad_gru draw at every step, or numbers drawn before are an x"
            raise Untraceable(f"it has side effects: it changes {name} outside of it", advice)
        clean = True

    try:
        with _read_only(before.large if threading.active_count() == 1 else ()):
            yield check
    finally:
        if not clean:
            if threading.active_count() == 1:
                for location in before.changes():
                    location.write(location.content)
            if random_state() != random_before:
                set_random_state(random_before)


@contextmanager
def _read_only(arrays: Iterable[np.ndarray]) -> Iterator[None]:
    """Let writes into these arrays be errors in the block, which turn into Untraceable."""
    locked = [array for array in arrays if array.flags.writeable and _is_writeable(array.base)]
    try:
        for array in locked:
            array.flags.writeable = False
        yield
    finally:
        for array in sorted(locked, key=lambda array: array.base is not None):  # views after what they are views of
            array.flags.writeable = True


def _is_writeable(base: Any) -> bool:
    return not isinstance(base, np.ndarray) or base.flags.writeable


class _Location(NamedTuple):
    """Something that can be written.

    name          what it is, in words
    read          gives a key that is equal as long as nothing was written, and the content
    key, content  the initial ones
    write         restores the content
    """

    name: str
    read: Callable[[], tuple[Any, Any]]
    key: Any
    content: Any
    write: Callable[[Any], Any]


class _Snapshot:
    """The locations that a step can write, and their contents; and large arrays, of which no copy is made."""

    def __init__(self, step: Callable):
        self.locations: list[_Location] = []
        self.large: list[np.ndarray] = []
        self._seen: dict[int, Any] = {}  # keeps them alive, so that no new object gets the identity of one of them
        level: list[Any] = [step]
        for _ in range(_DEPTH):
            next_level: list[Any] = []
            for one in level:  # which grows meanwhile: functions that functions call are no deeper
                if not isinstance(one, _OPAQUE) and id(one) not in self._seen and len(self._seen) < _OBJECTS:
                    self._seen[id(one)] = one
                    for part in self._references(one):
                        (level if isinstance(part, FunctionType) else next_level).append(part)
            level = next_level

    def changes(self) -> list[_Location]:
        return [location for location in self.locations if location.read()[0] != location.key]

    def _track(self, name: str, read: Callable[[], tuple[Any, Any]], write: Callable[[Any], Any]) -> Any:
        key, content = read()
        self.locations.append(_Location(name, read, key, content, write))
        return content

    def _references(self, one: Any) -> Iterable[Any]:
        """The objects that an object refers to; those that can be written are tracked."""
        if isinstance(one, FunctionType):
            return self._of_function(one)
        if isinstance(one, MethodType):
            return one.__self__, one.__func__
        if isinstance(one, partial):
            return one.func, *one.args, *one.keywords.values()
        if isinstance(one, tuple):
            return one
        if isinstance(one, (list, deque)):
            return self._track("a list", lambda: _list_key(one), partial(_refill, one.clear, one.extend))
        if isinstance(one, set):
            return self._track("a set", lambda: _by_identity(one), partial(_refill, one.clear, one.update))
        if isinstance(one, dict):
            return self._of_dict(one, "a dictionary")
        if isinstance(one, np.ndarray):
            if one.nbytes <= _BYTES and one.dtype != object:
                self._track("an array", lambda: (one.tobytes(), one.copy()), lambda old: one.__setitem__(..., old))
            else:
                self.large.append(one)
            return ()
        if isinstance(one, Tensor):
            data, _ = self._track("a Tensor", partial(_tensor_key, one), partial(_reset, one))
            return (data,)
        if isinstance(one, (np.random.Generator, np.random.BitGenerator)):
            bits: Any = getattr(one, "bit_generator", one)
            self._track(_GENERATOR, lambda: (repr(bits.state), bits.state), lambda old: setattr(bits, "state", old))
            return ()
        if isinstance(one, np.random.RandomState):
            self._track(_GENERATOR, partial(_state_of, one), one.set_state)
            return ()
        if isinstance(one, random.Random):
            self._track(_GENERATOR, lambda: (one.getstate(),) * 2, one.setstate)
            return ()
        if isinstance(one, type):
            if not is_library(one.__module__):
                name = f"an attribute of the class {one.__name__}"
                self._track(name, partial(_read_class, one), partial(_write_attributes, one))
            return ()
        if hasattr(one, "__next__"):
            raise Untraceable("it may advance an iterator", "pass what it gives in xs")
        owner = getattr(one, "__self__", None)
        if owner is not None:  # a method in C, such as `generator.random` and `items.pop`
            return (owner,)
        # The definition of an op, which its first call completes; a logger, which notes for which levels it was asked.
        if type(one).__module__ in (is_op.__module__, "logging"):
            return ()
        attributes, name = getattr(one, "__dict__", None), f"an attribute of a {type(one).__name__}"
        content = list(self._of_dict(attributes, name)) if isinstance(attributes, dict) else []
        if slots := _slots_of(type(one)):
            content += self._track(name, partial(_read_slots, one, slots), partial(_write_attributes, one)).values()
        return type(one), *content

    def _of_dict(self, one: dict, name: str) -> Iterable[Any]:
        def read() -> tuple[Any, dict]:
            return (_by_identity(one)[0], _by_identity(one.values())[0]), dict(one)

        return self._track(name, read, partial(_refill, one.clear, one.update)).values()

    def _of_function(self, one: FunctionType) -> Iterator[Any]:
        if is_op(one):
            return
        yield from (*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values(), vars(one))
        # Not the names that pytest, which rewrites assertions, reads: "@pytest_ar" leads to all of its state.
        scope, names = one.__globals__, set(filter(str.isidentifier, names_in(one.__code__)))
        found = [
            self._track(f"the variable {name!r}", partial(_read_cell, cell), partial(_write_cell, cell))
            for name, cell in zip(one.__code__.co_freevars, one.__closure__ or ())
        ]
        if is_library(scope.get("__name__")):
            yield from found
            return
        found += [self._of_global(scope, name) for name in names]
        for content in found:
            yield content
            if isinstance(content, ModuleType) and not is_library(content.__name__):
                yield from [self._of_global(vars(content), name) for name in names & vars(content).keys()]
        if "random" in names:  # Python's own and NumPy's own
            self._track("the state of `random`", lambda: (random.getstate(),) * 2, random.setstate)
            self._track("the state of `numpy.random`", partial(_state_of, np.random), np.random.set_state)

    def _of_global(self, scope: dict, name: str) -> Any:
        read, write = partial(_read_global, scope, name), partial(_write_global, scope, name)
        return self._track(f"the variable {name!r}", read, write)


def _by_identity(parts: Iterable[Any]) -> tuple[Any, list]:
    content = list(parts)
    return list(map(id, content)), content


def _list_key(one: Any) -> tuple[Any, list]:
    """Of a long list, the key is its length and its end."""
    content = list(one)
    return (len(content), list(map(id, content[-_ITEMS:]))), content


def _refill(clear: Callable[[], Any], fill: Callable[[Any], Any], content: Any) -> None:
    clear()
    fill(content)


def _read_cell(cell: Any) -> tuple[int, Any]:
    content = cell_contents(cell, _EMPTY)
    return id(content), content


def _write_cell(cell: Any, content: Any) -> None:
    if content is _EMPTY:
        del cell.cell_contents
    else:
        cell.cell_contents = content


def _read_global(scope: dict, name: str) -> tuple[int, Any]:
    content = scope.get(name, _EMPTY)
    return id(content), content


def _write_global(scope: dict, name: str, content: Any) -> None:
    if content is _EMPTY:
        scope.pop(name, None)
    else:
        scope[name] = content


def _read_class(cls: type) -> tuple[Any, dict]:
    content = {name: value for name, value in vars(cls).items() if not name.startswith("__")}
    return (list(content), _by_identity(content.values())[0]), content


def _slots_of(cls: type) -> list[str]:
    """The slots of a class and its bases but for those of libraries, by the names with which they are read."""
    bases = [base for base in cls.__mro__ if not is_library(base.__module__)]
    return [name for base in bases for name, slot in vars(base).items() if isinstance(slot, MemberDescriptorType)]


def _read_slots(one: Any, slots: list[str]) -> tuple[Any, dict]:
    content = {name: getattr(one, name) for name in slots if hasattr(one, name)}
    return (list(content), _by_identity(content.values())[0]), content


def _write_attributes(one: Any, content: dict) -> None:
    present = _read_class(one)[1] if isinstance(one, type) else _read_slots(one, list(content))[1]
    for name in present.keys() - content.keys():
        delattr(one, name)
    for name, value in content.items():
        if present.get(name, _EMPTY) is not value:
            setattr(one, name, value)


def _state_of(generator: Any) -> tuple[Any, Any]:
    """That of a `RandomState`, or of the one in `numpy.random`."""
    state: Any = generator.get_state()
    return (*state[2:], state[1].tobytes()), state


def _tensor_key(tensor: Tensor) -> tuple[Any, Any]:
    return (id(tensor.data), id(tensor.node)), (tensor.data, tensor.node)


def _reset(tensor: Tensor, content: tuple[Any, Any]) -> None:
    tensor._data, tensor.node = content
