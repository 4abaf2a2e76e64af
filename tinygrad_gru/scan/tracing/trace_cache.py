"""Trace cache: the traces of pure steps, each used again as long as nothing on which it depends has changed.

A step may close over anything. One that is `pure`, by promise or by proof (`proofs`), depends on its arguments and on
what its code can refer to alone: it is traced again when one of these is another. What cannot be compared, or proved,
is traced at every call of `scan`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from threading import RLock
from types import MethodType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakMethod, ref

from ...contexts import recording
from ...tape import inspector
from ...tensor import Tensor
from ...trees import flatten, structure
from ..protocol import StepWrapper, users_function
from .dependencies import Dependencies, Root, Untrackable, root_of
from .proofs import Proof
from .repeated import Repetition
from .trace import Trace
from .tracer import trace_forward

_redefined_at = attrgetter("op.redefined")

Method = TypeVar("Method", bound=Callable)

#: The most traces that are kept per step, such as for several shapes.
TRACES = 8
#: The most steps that make no promise of which traces are kept.
PROVED = 64
#: How often a step that makes no promise is proved pure for nothing before it is traced at every call.
MISSES = 16


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

    def current(self, root: Root) -> Trace | None:
        """The trace with the arrays that its tensors have now; None if something else has changed."""
        arrays = self.dependencies.current_arrays(root)
        if arrays is None or _aliases(arrays) != self.aliases or _redefined(self.trace) != self.redefined:
            return None
        return self.trace.with_constants([arrays[i] for i in self.positions])


class _Kept:
    """The traces of one step.

    misses  how often no trace could be used again since one was
    """

    __slots__ = ("__weakref__", "entries", "misses")

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.misses = 0


class TraceCache:
    """The traces of pure steps, kept as long as their objects live."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Any, dict[Any, _Kept]] = WeakKeyDictionary()
        self._proved: deque[ref[_Kept]] = deque()
        self._lock = RLock()
        self._repetition = Repetition()

    def trace(self, step: Callable, carry: Any, xs: Any, leaves: Iterable[Sequence[Tensor]]) -> Trace:
        """The trace of the step with these arguments: a cached one if nothing has changed, else a new one.

        leaves  those of the carry, and those of the xs
        """
        root = root_of(step)
        if root is None:
            return self._repeated(step, carry, xs)
        promised = _is_promised(step, root)
        try:
            with self._lock:
                kept = self._kept.setdefault(root.anchor, {})
        except TypeError:  # no hash, or no weak references
            return self._repeated(step, carry, xs, promised)
        own = kept.get(root.key)
        if not promised and (own is None or own.misses > MISSES or inspector.get() is not None):
            # Most functions are called once, or close over other arrays at each call: a proof would be for nothing.
            kept.setdefault(root.key, _Kept())
            return self._repeated(step, carry, xs)
        own = own or kept.setdefault(root.key, _Kept())
        signature = _signature(carry, xs, leaves)
        for entry in reversed(own.entries):
            trace = entry.current(root) if entry.signature == signature else None
            if trace is not None:
                own.misses = 0
                return trace
        own.misses += 1
        try:
            dependencies = Dependencies(root) if promised else Proof(root, (carry, xs))
        except Untrackable:
            return self._repeated(step, carry, xs, promised)
        trace = _new_trace(step, carry, xs)
        if promised or _is_proved(dependencies, root, trace):
            new_entry = _entry(signature, dependencies, root, trace)
            if new_entry is not None:
                with self._lock:
                    if not promised and not own.entries:
                        self._limit(own)
                    own.entries = [*own.entries[1 - TRACES :], new_entry]
        trace.forward.called.clear()  # a cache keeps no model alive
        return trace

    def _repeated(self, step: Callable, carry: Any, xs: Any, promised: bool = False) -> Trace:
        """A new trace; of a step that promises nothing it must be the same when it is traced again (`Repetition`)."""
        trace = _new_trace(step, carry, xs)
        if not promised:
            code = getattr(users_function(step), "__code__", None)
            self._repetition.check(code, trace, step, carry, xs)
        return trace

    def _limit(self, kept: _Kept) -> None:
        """Forget the traces of the step that was proved first, if there are too many: what they hold may be its own."""
        self._proved.append(ref(kept))
        while len(self._proved) > PROVED:
            if (oldest := self._proved.popleft()()) is not None:
                oldest.entries = []


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


def _signature(carry: Any, xs: Any, leaves: Iterable[Sequence[Tensor]]) -> list[Any]:
    """All of the arguments that a trace depends on: the structures, types, shapes and dtypes."""
    signature: list[Any] = [recording.get(), structure(carry), structure(xs)]
    for skip, tensors in enumerate(leaves):
        for tensor in tensors:
            array = tensor._data
            signature += (type(array), tensor.node is None, array.shape[skip:], array.dtype)
    return signature


def why_traced_anew(step: Callable, carry: Any, xs: Any, trace: Trace) -> str:
    """Why a step is traced at every call of `scan`; "" if its trace is used again."""
    root = root_of(step)
    if root is None:
        return f"it is neither a function nor a method, but a {type(step).__name__}"
    promised = _is_promised(step, root)
    try:
        dependencies = Dependencies(root) if promised else Proof(root, (carry, xs))
    except Untrackable as reason:
        return str(reason) or "not everything that it refers to can be compared"
    if not promised and not _is_proved(dependencies, root, trace):
        return "it reads values of tensors that it closes over, or computes of them alone"
    return "" if _entry([], dependencies, root, trace) else "it makes arrays, or computes of closed-over tensors alone"


def _is_promised(step: Callable, root: Root) -> bool:
    """Whether it is a `pure` method."""
    return not root.parts and getattr(step, "is_pure", False)


def _is_proved(proof: Any, root: Root, trace: Trace) -> bool:
    """Whether a step was found to do what a proof leaves open."""
    calls_anchor = any(module is root.anchor for module in trace.forward.called)
    return not (trace.forward.reads or (calls_anchor and proof.skips_forward))


def _entry(signature: list[Any], dependencies: Dependencies, root: Root, trace: Trace) -> _Entry | None:
    """The cache entry of a trace; None if it has constants that no tensor of the dependencies holds."""
    arrays = dependencies.current_arrays(root)
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
