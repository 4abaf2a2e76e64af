"""Eager mode of a recurrence: a loop in which every op of every step is recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from operator import itemgetter
from typing import Any

from .. import ops
from ..backend import backend_of
from ..contexts import no_grad, recording
from ..ops.op import unwrap
from ..tape import inspector
from ..tensor import Tensor
from ..trees import map_leaves, with_leaves
from .protocol import check_carry_type, scan_length, split_output, y_leaves
from .tracing.effects import rollback


def scan_eager(
    step: Callable[[Any, Any], Any], carry: Any, xs: Any = None, *, length: int | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """`scan` by running `step` at every time step: carryₜ, yₜ = step(carryₜ₋₁, xₜ) for t = 1 … T.

    Arguments and results are those of `scan`; xs are Tensors.
    """
    length = scan_length(xs, length)
    times = range(length)[::-1] if reverse else range(length)
    observer = inspector.get()
    ys: list[Any] = [None] * length
    for t in times:
        with nullcontext() if observer is None else observer.scope(f"step {t}"):
            x = map_leaves(itemgetter((t, ...)), xs)
            new, ys[t] = split_output(step(map_leaves(_same_values, carry), x), carry)
            check_carry_type(carry, new, t, step)
            carry = new
    return carry, _stacked(ys) if length else _no_outputs(step, carry, xs)


def _same_values(carry: Any) -> Any:
    """A state in a Tensor of its own, so that a step may write `h += …`: former states are outputs, or the user's."""
    if type(carry) is not Tensor:
        return carry
    if carry.node is not None and carry.node.op is None and recording.get():
        return ops.reshape(carry, carry.shape)  # a record, for a leaf could not be changed
    return Tensor.from_node(carry._data, carry.node if recording.get() else None)


def _stacked(ys: list) -> Any:
    return with_leaves(ys[0], (ops.stack(list(part)) for part in zip(*y_leaves(ys))))


def _no_outputs(step: Callable, carry: Any, xs: Any) -> Any:
    """The ys of T = 0 steps: empty, with the shapes that a step on zeros would give."""

    def zeros(x: Any) -> Tensor:
        return Tensor(backend_of(unwrap(x)).zeros(x.shape[1:], x.dtype))

    def empty(y: Any) -> Any:
        return Tensor(backend_of(unwrap(y)).zeros((0, *y.shape), y.dtype))

    with rollback(step), no_grad():
        y = split_output(step(map_leaves(_same_values, carry), map_leaves(zeros, xs)), carry)[1]
    return map_leaves(empty, y)
