"""Pure steps: a promise that saves the trace.

A step is traced at every call of `scan`, for it may close over anything. A method that is `pure` depends on its
arguments and on the attributes of its object alone: it is traced again when one of those was set anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from threading import RLock
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from ..tape import Node
from ..tensor import Tensor
from .plain import parts_of
from .trace import Forward, trace_forward

Method = TypeVar("Method", bound=Callable)

#: How many traces are kept of one object: for other shapes, say.
TRACES = 8


def pure(method: Method) -> Method:
    """Promise that a method depends on nothing but its arguments and the attributes of its object.

    It takes no numbers out of its tensors (`item()`), and reads nothing else that may change, such as globals. What
    overrides the method makes no such promise unless it says so itself.
    """
    method.is_pure = True  # type: ignore[attr-defined]
    return method


@dataclass
class Traced:
    """What a call needs to know of a trace.

    key       what equal traces have in common
    fixed     the arrays from outside
    captured  the nodes of the tensors from outside that want gradients
    single_y  whether there is one output, or a tuple of them
    forward   the trace itself, unless it is an old one
    """

    key: Hashable
    fixed: list[Any]
    captured: list[Node]
    single_y: bool
    forward: Forward | None = None


class _Kept:
    """An old trace, what it depends on, and the tensors whose arrays it has from outside."""

    def __init__(self, depends_on: list[Any], sources: list[Tensor], forward: Forward):
        self.depends_on, self.sources = depends_on, sources
        self.key, self.captured, self.single_y = forward.key, forward.captured, forward.single_y

    def is_for(self, depends_on: list[Any]) -> bool:
        kept = self.depends_on
        return len(kept) == len(depends_on) and all(map(_is_same, kept, depends_on))

    def now(self) -> Traced:
        return Traced(self.key, [source.data for source in self.sources], self.captured, self.single_y)


class Traces:
    """The traces of pure steps, kept as long as their objects live."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Any, list[_Kept]] = WeakKeyDictionary()
        self._lock = RLock()

    def trace(self, step: Callable, carry: Any, xs: Any) -> Traced:
        """What a trace of the step with these arguments gives: a new one, or an old one if nothing has changed."""
        owner = getattr(step, "__self__", None)
        depends_on: list[Any] = []
        if owner is not None and getattr(step, "is_pure", False):
            depends_on = _all_that_counts(step, carry, xs, owner)
            with self._lock:
                for kept in self._of.get(owner, ()) if depends_on else ():
                    if kept.is_for(depends_on):
                        return kept.now()
        forward = trace_forward(step, carry, xs)
        sources = _sources(forward, depends_on) if depends_on else None
        if sources is not None:
            with self._lock:
                self._of[owner] = [*self._of.get(owner, [])[1 - TRACES :], _Kept(depends_on, sources, forward)]
        return Traced(forward.key, list(forward.listing.fixed), forward.captured, forward.single_y, forward)


def _all_that_counts(step: Any, carry: Any, xs: Any, owner: Any) -> list[Any]:
    """Everything on which the trace of a pure step depends; nothing if an attribute may change without being set."""
    try:
        return [step.__func__, *_form(carry), *_form(xs, skip=1), *_attributes(owner)]
    except _Unclear:
        return []


class _Unclear(Exception):
    pass


def _form(argument: Any, skip: int = 0) -> Iterator[Any]:
    """Of an argument not its numbers, but what a symbol in its place has; without its first `skip` axes."""
    yield isinstance(argument, tuple)
    for part in parts_of(argument) if argument is not None else ():
        yield from (type(part.data), part.shape[skip:], part.dtype)


def _attributes(owner: Any) -> Iterator[Any]:
    for name, value in vars(owner).items():
        yield name
        yield from _contents(value)


def _contents(value: Any) -> Iterable[Any]:
    if isinstance(value, Tensor):
        return (value, value.node, type(value.data), value.shape, value.dtype)
    if value is None or isinstance(value, _PLAIN):
        return (value,)
    if isinstance(value, (list, tuple)):
        return [len(value), *(part for item in value for part in _contents(item))]
    if hasattr(value, "named_tensors"):  # a module inside
        return [type(value), *_attributes(value)]
    raise _Unclear


#: What does not change: another one is another object.
_PLAIN = (bool, int, float, str, type, np.dtype, FunctionType, BuiltinFunctionType)


def _is_same(old: Any, new: Any) -> bool:
    return old is new or (type(old) is type(new) and type(old) in (tuple, int) and old == new)


def _sources(forward: Forward, depends_on: list[Any]) -> list[Tensor] | None:
    """The tensors whose arrays the trace has from outside, in its order; None if it has anything else."""
    tensors = [value for value in depends_on if isinstance(value, Tensor)]
    by_array, nodes = {id(tensor.data): tensor for tensor in tensors}, {tensor.node for tensor in tensors}
    if not all(id(array) in by_array for array in forward.listing.fixed) or not nodes.issuperset(forward.captured):
        return None
    return [by_array[id(array)] for array in forward.listing.fixed]
