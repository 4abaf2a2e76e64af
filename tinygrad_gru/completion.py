"""Leaves whose gradient is wanted in the middle of a backward walk: as soon as no record is left that leads to them.

So the gradients of the last layers can be on their way to other processes while those of the first are computed. A
leaf with hooks is left out: its hooks run at the end of the walk, as always, and may change the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

#: What backward calls with the complete gradient of a leaf, by the leaf, before it goes on; None for nothing.
watched: ContextVar[Mapping[Any, Callable[[Any], None]] | None] = ContextVar("watched", default=None)


class Completion:
    """The place in a list of records where the gradient of a leaf is complete: before the first that uses the leaf."""

    __slots__ = ("leaf", "number", "tell")
    op, parents, saved = None, (), ()  # as of a record that leads nowhere

    def __init__(self, leaf: Any, number: int, tell: Callable[[Any], None]) -> None:
        self.leaf, self.number, self.tell = frozenset((leaf,)), number, tell

    def told(self, gradients: dict[Any, Any]) -> dict[Any, Any]:
        """The gradient of the leaf, by the leaf, if it has one, after it was told."""
        for gradient in gradients.values():
            self.tell(gradient)
        return gradients


def with_completions(records: Any) -> Any:
    """Records in execution order, and between them the completions of the leaves that are watched."""
    waiting = {leaf: tell for leaf, tell in (watched.get() or {}).items() if not leaf.grad_state.hooks}
    found: list[Any] = []
    for position, record in enumerate(records):
        if not waiting:
            return found + records[position:]
        for parent in record.parents:
            if parent in waiting:
                found.append(Completion(parent, record.number, waiting.pop(parent)))
        found.append(record)
    return found
