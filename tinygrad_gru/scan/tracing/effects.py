"""Side effects: what a step changes outside of itself, which a trace must not do in its stead.

A step is traced by running it once on arrays without numbers. Where it counts its calls, appends to a list or draws
from a generator of its own, it may do something else at every step: then everything is put back as it was before the
trace, and the step runs eagerly. Seen is what the step holds by its closure, the globals that it names and its object,
and what these hold; not what lies deeper, nor files, or what it prints. While other threads run nothing is put back,
for it could be theirs.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...backend import random_state, set_random_state
from ...ops.op import is_op
from ...tensor import Tensor
from .dependencies import is_library, names_in
from .traced_array import Untraceable

#: How far from the step is looked (its object, say; what that has; what a list among these holds), of how long a list
#: all parts, and of how many bytes an array the numbers: counters are small.
_DEPTH, _PARTS, _BYTES = 3, 200, 256

_EMPTY = object()

#: What holds nothing that a step would change, or is never looked into.
_PLAIN = (bool, int, float, complex, str, bytes, type, ModuleType, np.generic, np.dtype, type(None))


@contextmanager
def undone(step: Callable) -> Iterator[Callable[[], None]]:
    """Run the block and put everything back that the step holds. Gives a function that raises Untraceable if there is
    anything to put back.
    """
    before, drawn, clean = _Snapshot(step), random_state(), False

    def check() -> None:
        nonlocal clean
        if before.changes():
            raise Untraceable("it changes what is outside of it")
        if random_state() != drawn:
            raise Untraceable("it draws random numbers at every step")
        clean = True

    try:
        yield check
    finally:
        if not clean:
            if threading.active_count() == 1:
                for place in before.changes():
                    place.write(place.content)
            if random_state() != drawn:
                set_random_state(drawn)


class _Place(NamedTuple):
    """Something that can be written: how it is read, as (what tells whether it has changed, content), what it held when
    it was read first, and how it is put back."""

    read: Callable[[], tuple[Any, Any]]
    key: Any
    content: Any
    write: Callable[[Any], Any]


class _Snapshot:
    """What a step holds, and what that held."""

    def __init__(self, step: Callable):
        self.places: list[_Place] = []
        seen: dict[int, Any] = {}  # and kept, so that nothing new gets the identity of one of them
        near: list[Any] = [step]
        for _ in range(_DEPTH):
            further: list[Any] = []
            for one in near:
                if not isinstance(one, _PLAIN) and id(one) not in seen:
                    seen[id(one)] = one
                    further += self._parts(one)
            near = further
        self._kept = seen

    def changes(self) -> list[_Place]:
        return [place for place in self.places if place.read()[0] != place.key]

    def _hold(self, read: Callable[[], tuple[Any, Any]], write: Callable[[Any], Any]) -> Any:
        key, content = read()
        self.places.append(_Place(read, key, content, write))
        return content

    def _parts(self, one: Any) -> Iterable[Any]:
        """What a thing holds."""
        if isinstance(one, FunctionType):
            return self._of_function(one)
        if isinstance(one, MethodType):
            return one.__self__, one.__func__
        if isinstance(one, partial):
            return one.func, *one.args, *one.keywords.values()
        if isinstance(one, tuple):
            return one
        if isinstance(one, (list, deque)):
            return self._hold(lambda: _of_list(one), partial(_refill, one.clear, one.extend))
        if isinstance(one, set):
            return self._hold(lambda: _by_identity(one), partial(_refill, one.clear, one.update))
        if isinstance(one, dict):
            return self._of_dict(one)
        if isinstance(one, np.ndarray):
            if one.nbytes <= _BYTES and one.dtype != object:
                self._hold(lambda: (one.tobytes(), one.copy()), lambda old: one.__setitem__(..., old))
            return ()
        if isinstance(one, Tensor):
            return (self._hold(lambda: (id(one.data), one.data), lambda old: setattr(one, "_data", old)),)
        if isinstance(one, np.random.Generator):
            bits = one.bit_generator
            self._hold(lambda: (repr(bits.state), bits.state), lambda old: setattr(bits, "state", old))
            return ()
        if hasattr(one, "__next__"):
            raise Untraceable("it can take from an iterator")
        attributes = getattr(one, "__dict__", None)
        return self._of_dict(attributes) if isinstance(attributes, dict) else ()

    def _of_dict(self, one: dict) -> Iterable[Any]:
        def read() -> tuple[Any, dict]:
            return (_by_identity(one)[0], _by_identity(one.values())[0]), dict(one)

        return self._hold(read, partial(_refill, one.clear, one.update)).values()

    def _of_function(self, one: FunctionType) -> Iterator[Any]:
        if is_op(one):
            return
        yield from (*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values(), vars(one))
        for cell in one.__closure__ or ():
            yield self._hold(partial(_in_cell, cell), partial(_fill_cell, cell))
        scope, names = one.__globals__, names_in(one.__code__)
        if is_library(scope.get("__name__")):
            return
        for name in names:
            yield self._hold(partial(_in_scope, scope, name), partial(_put_in_scope, scope, name))
        if "random" in names:  # Python's own and NumPy's own
            self._hold(lambda: (random.getstate(),) * 2, random.setstate)
            self._hold(_of_numpy, np.random.set_state)


def _by_identity(parts: Iterable[Any]) -> tuple[Any, list]:
    content = list(parts)
    return list(map(id, content)), content


def _of_list(one: Any) -> tuple[Any, list]:
    """Of a long one the length and the end."""
    content = list(one)
    return (len(content), list(map(id, content[-_PARTS:]))), content


def _refill(clear: Callable[[], Any], fill: Callable[[Any], Any], content: Any) -> None:
    clear()
    fill(content)


def _in_cell(cell: Any) -> tuple[int, Any]:
    try:
        return id(cell.cell_contents), cell.cell_contents
    except ValueError:
        return 0, _EMPTY


def _fill_cell(cell: Any, content: Any) -> None:
    if content is _EMPTY:
        del cell.cell_contents
    else:
        cell.cell_contents = content


def _in_scope(scope: dict, name: str) -> tuple[int, Any]:
    content = scope.get(name, _EMPTY)
    return id(content), content


def _put_in_scope(scope: dict, name: str, content: Any) -> None:
    if content is _EMPTY:
        scope.pop(name, None)
    else:
        scope[name] = content


def _of_numpy() -> tuple[Any, Any]:
    state: Any = np.random.get_state()
    return (state[2], state[1].tobytes()), state
