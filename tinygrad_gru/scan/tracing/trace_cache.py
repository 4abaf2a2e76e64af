"""Pure steps: a promise that saves the trace.

A step is traced at every call of `scan`, for it may close over anything. A method that is `pure` depends on its
arguments and on what its code names alone: it is traced again when one of these is another. What cannot be compared,
such as a dictionary, is traced at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ...contexts import recording
from ...tensor import Tensor
from ..protocol import tree_leaves
from .dependencies import Dependencies, Unclear
from .tracer import Trace, trace_forward

Method = TypeVar("Method", bound=Callable)

#: How many traces are kept of one object: for other shapes, say.
TRACES = 8


def pure(method: Method) -> Method:
    """Promise that a method depends on its arguments and on what its code names: attributes of its object above all.

    It takes no numbers out of its tensors (`item()`), and reads nothing else that may change, such as a file. What
    overrides the method makes no such promise unless it says so itself.
    """
    method.is_pure = True  # type: ignore[attr-defined]
    return method


@dataclass
class _Kept:
    """An old trace, what it depends on, and the tensors whose arrays it has from outside.

    One array may be that of several tensors; the trace holds as long as it is.
    """

    depends_on: Dependencies
    sources: list[Tensor]
    others: list[tuple[Tensor, Tensor]]  # two of one array
    trace: Trace

    def now(self) -> Trace | None:
        """The trace with the arrays of today; None if what was one array is no longer, or the reverse."""
        constants = [source.data for source in self.sources]
        if any(one.data is not other.data for one, other in self.others) or len(set(map(id, constants))) < len(
            constants
        ):
            return None
        return self.trace.with_arrays(constants)


class Traces:
    """The traces of pure steps, kept as long as their objects live."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Any, list[_Kept]] = WeakKeyDictionary()
        self._lock = RLock()

    def trace(self, step: Callable, carry: Any, xs: Any) -> Trace:
        """What a trace of the step with these arguments gives: a new one, or an old one if nothing has changed."""
        owner = getattr(step, "__self__", None)
        depends_on: Dependencies | None = None
        if owner is not None and getattr(step, "is_pure", False):
            depends_on = _all_that_counts(step, carry, xs)
        if depends_on is not None:
            with self._lock:
                for kept in self._of.get(owner, ()):
                    found = kept.now() if depends_on.are_those_of(kept.depends_on) else None
                    if found is not None:
                        return found
        forward = trace_forward(step, carry, xs)
        wanted = [x.requires_grad for x in (*tree_leaves(carry), *tree_leaves(xs))]
        differentiable = recording.get() and (any(wanted) or bool(forward.closed_over))
        trace = Trace.of(forward, wanted[len(forward.carry) :] if differentiable else None)
        sources = _sources(trace, depends_on) if depends_on is not None else None
        if depends_on is not None and sources is not None:
            first = [source[0] for source in sources]
            others = [(source[0], other) for source in sources for other in source[1:]]
            kept = _Kept(depends_on, first, others, trace.with_arrays([]))
            with self._lock:
                self._of[owner] = [*self._of.get(owner, [])[1 - TRACES :], kept]
        return trace


def _all_that_counts(step: Any, carry: Any, xs: Any) -> Dependencies | None:
    """Everything on which the trace of a pure step depends; None if something may change without being set."""
    found = Dependencies(recording.get())
    for skip, argument in enumerate((carry, xs)):  # not the numbers of an argument, but what a symbol in its place has
        found.things.append(isinstance(argument, tuple))
        for part in tree_leaves(argument):
            array = part.data
            found.things += (type(array), part.requires_grad)
            found.forms += (array.shape[skip:], array.dtype)
    try:
        found.of_step(step)
    except Unclear:
        return None
    return found


def _sources(trace: Trace, depends_on: Dependencies) -> list[list[Tensor]] | None:
    """For every array that the trace has from outside the tensors whose it is; None if it has anything else."""
    tensors = {id(value): value for value in depends_on.things if isinstance(value, Tensor)}.values()
    sources = [[tensor for tensor in tensors if tensor.data is array] for array in trace.constants]
    if not all(sources) or not {tensor.node for tensor in tensors}.issuperset(trace.forward.closed_over):
        return None
    return sources
