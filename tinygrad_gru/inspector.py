"""Inspectors: observers of every op that runs and of every rule that is applied, for debugging tools and tracing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .closures import source_line
from .tape import Node, Variable

#: Prefixes of the names of files that are not part of a user's program.
_OURS = (os.path.dirname(__file__), "<op ", contextlib.__file__)


class Inspector:
    """An observer of every op and every cotangent, while it is the tape's `inspector`.

    A subclass overrides the events that it needs: `forward`, `backward`, `accumulating`, `leaf_gradient`; or wraps
    what runs: `run` the formula of an op, `apply_vjp` its rules.
    """

    #: Whether it must see the ops of every time step, so that recurrences run in eager mode.
    every_step = True
    #: Whether `remat` recomputes while it observes; else it only runs its function.
    recomputes = True

    def __init__(self) -> None:
        self.path: list[str] = []
        self.modules: list[Any] = []  # that are running, outermost first

    @contextmanager
    def scope(self, name: str, module: Any = None) -> Iterator[None]:
        """Name the part of the program that runs in this block: a module, or a time step."""
        self.path.append(name)
        if module is not None:
            self.modules.append(module)
        try:
            yield
        finally:
            self.path.pop()
            if module is not None:
                self.modules.pop()

    def location(self) -> str:
        """The running module's path, and the innermost source line that is not this package's."""
        scope = f"in {'.'.join(self.path) or 'the program'}"
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_filename.startswith(_OURS):
            frame = frame.f_back
        if frame is None:
            return scope
        return f"{scope}, at {source_line(frame.f_code.co_filename, frame.f_lineno)}"

    def run(self, op: Any, inputs: tuple, settings: dict[str, Any]) -> Any:
        """Run the formula of an op and return its result."""
        return op.formula(*inputs, **settings)

    def forward(self, op: Any, inputs: tuple, result: Variable) -> None:
        """An op has run."""

    def backward(self, record: Node, cotangent: Any) -> None:
        """The cotangent of a record is complete, and its rules are about to be applied."""

    def apply_vjp(self, record: Node, parents: tuple, saved: tuple, cotangent: Any, accumulate: Callable) -> None:
        """Apply the rules of a record's op (see `tape.walk`)."""
        record.op.apply_vjp(parents, saved, cotangent, accumulate)

    def reading(self, array: Any) -> None:
        """The values of a tensor's array are about to leave the tape: `item()`, `numpy()`, `if tensor`, `print`."""

    def asking(self, tensor: Variable) -> None:
        """The program asks whether a tensor requires a gradient, or is a leaf."""

    def refusing(self, reason: Exception) -> None:
        """A step that is traced has asked for what has no place in a graph, which is an error."""

    def accumulating(self, previous: Any, cotangent: Any) -> None:
        """A cotangent is about to be added to the sum at its node."""

    def leaf_gradient(self, node: Node, gradient: Any) -> None:
        """The gradient of a leaf is complete, and its hooks have run."""
