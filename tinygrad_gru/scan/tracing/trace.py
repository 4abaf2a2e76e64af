"""Trace: a traced step, its constants, and a key by which traces of one program are equal and share a compiled plan.

Of the forward pass the key has the whole graph; of the backward pass the graph too or, where all ops are ours, what
determines it: the ops, their residuals, and the edges between them. Whatever changes the program, such as another op
or rule, a setting that only a rule reads, frozen weights, or tensors that share an array, is in the key by its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...closures import is_library
from ..ir import Value
from .traced_array import TracedArray, Untraceable
from .tracer import Backward, Forward, as_traced, trace_backward


class Key:
    """A long key whose hash is computed once."""

    __slots__ = ("hash", "parts")

    def __init__(self, parts: Hashable):
        self.parts, self.hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.parts == other.parts


@dataclass(eq=False, repr=False)
class Trace:
    """A traced step.

    xs_need_grad  which xs require a gradient; None if nothing does
    constants     the closed-over arrays, in the order of the graph
    key           equal for traces of one program
    step          gives the step, or None if it is gone: a trace keeps no model alive
    """

    forward: Forward
    xs_need_grad: Sequence[bool] | None
    constants: list[Any]
    key: Key
    _backward: Backward | None = None
    step: Callable[[], Callable | None] = lambda: None

    def with_constants(self, constants: list[Any]) -> Trace:
        """The same trace with other arrays as its constants."""
        return Trace(self.forward, self.xs_need_grad, constants, self.key, self._backward, self.step)

    @classmethod
    def of(cls, forward: Forward, xs_need_grad: Sequence[bool] | None) -> Trace:
        graph, parts, backward = forward.graph, [], None
        if xs_need_grad is not None:
            for record in forward.records:
                # The rules see weights as traced arrays too, so that what they compute from them is in the graph.
                record.saved = tuple([as_traced(graph, x) for x in record.saved or ()])
            try:
                parts.append(_tape_key(forward, xs_need_grad))
            except _UserOp:  # only the backward graph says what its rules do
                backward = trace_backward(forward, xs_need_grad)
                parts.append(_numbers_of(*backward.cotangents, *backward.carry, *backward.xs, *backward.closed_over))
        graph.closed = True
        values = _numbers_of(*forward.carry, *forward.xs, *forward.new_carry, *forward.ys)
        parts.append(tuple([(check.value.number, *check[1:]) for check in forward.checks]))
        parts += [len(forward.carry), len(forward.xs), len(forward.ys), forward.size, values, graph.key()]
        return cls(forward, xs_need_grad, list(graph.constants), Key(tuple(parts)), backward)

    def backward(self) -> Backward | None:
        """The backward pass of the step, in the same graph; None if nothing requires a gradient."""
        if self.xs_need_grad is None or self._backward is not None:
            return self._backward
        graph = self.forward.graph
        graph.closed, count = False, len(graph.constants)
        try:
            self._backward = trace_backward(self.forward, self.xs_need_grad)
        finally:
            graph.closed = True
        if len(graph.constants) > count:
            raise Untraceable("its backward uses arrays that its forward does not")
        return self._backward


class _UserOp(Exception):
    """An op that is not ours: what its rules do is not determined by its identity and its residuals."""


def _tape_key(forward: Forward, xs_need_grad: Sequence[bool]) -> Hashable:
    """The key of the backward pass if all ops are ours: the ops, their residuals, and the edges of the tape."""
    names: dict[Any, Any] = {None: None} | {node: ("closed_over", i) for i, node in enumerate(forward.closed_over)}
    names |= {t.node: ("input", i) for i, t in enumerate(forward.inputs) if t.node is not None}
    rows: list[Hashable] = [tuple(xs_need_grad)]
    for i, record in enumerate(forward.records):
        if record.op.redefined or not is_library(record.op.formula.__module__):
            raise _UserOp
        names[record] = i
        rows.append((record.op, tuple([names.get(parent) for parent in record.parents]), _comparable(record.saved)))
    return (*rows, tuple([names.get(t.node) for t in forward.outputs]))


def _comparable(x: Any) -> Hashable:
    """A residual as a hashable, equal for residuals with which a rule does the same."""
    if isinstance(x, TracedArray):
        return ("value", x.value.number)
    if isinstance(x, (tuple, list)):
        return tuple([_comparable(part) for part in x])
    if x is None or isinstance(x, (bool, int, float, str, slice, type(...), np.dtype, np.generic)):
        return (type(x), repr(x))
    raise _UserOp


def _numbers_of(*values: Value | None) -> Hashable:
    return tuple([None if v is None else v.number for v in values])
