"""Trace cache: the traces of pure steps, each used again as long as nothing on which it depends has changed.

A step is traced at every call of `scan`, for it may close over anything. A method that is `pure` depends on its
arguments and on what its code names alone: it is traced again when one of these is another. What cannot be compared,
such as a dictionary, makes it traced at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from threading import RLock
from types import MethodType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakMethod, ref

from ...contexts import recording
from ...tensor import Tensor
from ...trees import flatten, structure
from ..protocol import StepWrapper
from .dependencies import Dependencies, Untrackable
from .trace import Trace
from .tracer import trace_forward

_redefined_at = attrgetter("op.redefined")

Method = TypeVar("Method", bound=Callable)

#: The most traces that are kept per object, such as for several shapes.
TRACES = 8


def pure(method: Method) -> Method:
    """Promise that a method depends on its arguments and on what its code names: attributes of its object above all.

    It takes no scalars out of its tensors (`item()`), and reads nothing else that may change, such as a file. What
    overrides the method makes no such promise unless it says so itself.
    """
    method.is_pure = True  # type: ignore[attr-defined]
    return method


class _Entry(NamedTuple):
    """A trace and what it depends on.

    signature     the properties of the arguments that it depends on
    dependencies  everything else
    aliases       which tensors of the dependencies share one array
    positions     of each constant of the trace, the tensor whose array it is
    redefined     when each op of the trace was last given other rules
    """

    signature: list[Any]
    dependencies: Dependencies
    aliases: list[int]
    positions: list[int]
    trace: Trace
    redefined: list[int]

    def current(self, owner: Any) -> Trace | None:
        """The trace with the arrays that its tensors have now; None if something else has changed."""
        arrays = self.dependencies.current_arrays(owner)
        if arrays is None or _aliases(arrays) != self.aliases or _redefined(self.trace) != self.redefined:
            return None
        return self.trace.with_constants([arrays[i] for i in self.positions])


class TraceCache:
    """The traces of pure steps, kept as long as their objects live."""

    def __init__(self) -> None:
        self._entries: WeakKeyDictionary[Any, list[_Entry]] = WeakKeyDictionary()
        self._lock = RLock()

    def trace(self, step: Callable, carry: Any, xs: Any, leaves: Iterable[Sequence[Tensor]]) -> Trace:
        """The trace of the step with these arguments: a cached one if nothing has changed, else a new one.

        leaves  those of the carry, and those of the xs
        """
        owner = getattr(step, "__self__", None)
        if owner is None or not getattr(step, "is_pure", False):
            return _new_trace(step, carry, xs)
        signature = _signature(step, carry, xs, leaves)
        try:
            with self._lock:
                entries = self._entries.get(owner, [])
        except TypeError:  # no hash, or no weak references
            return _new_trace(step, carry, xs)
        for entry in reversed(entries):
            trace = entry.current(owner) if entry.signature == signature else None
            if trace is not None:
                return trace
        try:
            dependencies = Dependencies(step)
        except Untrackable:
            return _new_trace(step, carry, xs)
        trace = _new_trace(step, carry, xs)
        new_entry = _entry(signature, dependencies, owner, trace)
        if new_entry is not None:
            with self._lock:
                self._entries[owner] = [*self._entries.get(owner, [])[1 - TRACES :], new_entry]
        return trace


def _new_trace(step: Callable, carry: Any, xs: Any) -> Trace:
    forward = trace_forward(step, carry, xs)
    needs_grad = [x.requires_grad for x in (*flatten(carry), *flatten(xs))] + [False for _ in forward.draws]
    differentiable = recording.get() and (any(needs_grad) or bool(forward.closed_over))
    trace = Trace.of(forward, needs_grad[len(forward.carry) :] if differentiable else None)
    trace.step = _weak_reference(step.step if isinstance(step, StepWrapper) else step)
    return trace


def _weak_reference(step: Callable) -> Callable[[], Any]:
    """A weak reference to a step; of a method, to its object."""
    try:
        return WeakMethod(step) if isinstance(step, MethodType) else ref(step)
    except TypeError:  # an object that cannot have one
        return lambda: None


def _signature(step: Any, carry: Any, xs: Any, leaves: Iterable[Sequence[Tensor]]) -> list[Any]:
    """All of the arguments that a trace depends on: the structures, types, shapes and dtypes."""
    signature = [step.__func__, recording.get(), structure(carry), structure(xs)]
    for skip, tensors in enumerate(leaves):
        for tensor in tensors:
            array = tensor._data
            signature += (type(array), tensor.node is None, array.shape[skip:], array.dtype)
    return signature


def _entry(signature: list[Any], dependencies: Dependencies, owner: Any, trace: Trace) -> _Entry | None:
    """The cache entry of a trace; None if it has constants that no tensor of the dependencies holds."""
    arrays = dependencies.current_arrays(owner)
    if arrays is None:
        return None
    positions = {id(array): i for i, array in enumerate(arrays)}
    nodes = {tensor.node for tensor in dependencies.tensors}
    if not all(id(array) in positions for array in trace.constants) or not nodes.issuperset(trace.forward.closed_over):
        return None
    used = [positions[id(array)] for array in trace.constants]
    return _Entry(signature, dependencies, _aliases(arrays), used, trace.with_constants([]), _redefined(trace))


def _redefined(trace: Trace) -> list[int]:
    return list(map(_redefined_at, trace.forward.calls))


def _aliases(arrays: list[Any]) -> list[int]:
    """For each array the last position at which it occurs."""
    identities = list(map(id, arrays))
    last = dict(zip(identities, range(len(identities))))
    return list(map(last.__getitem__, identities))
