"""Inspectors: observers of every op that runs and of every rule that is applied, for debugging tools and tracing."""

from __future__ import annotations

import contextlib
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from .tape import Node

#: Beginnings of the names of files that are no part of a user's program.
_OURS = (str(Path(__file__).parent), "<op ", contextlib.__file__)


class Inspector:
    """Sees every op that runs and every cotangent that is pulled back while it is the tape's `inspector`.

    A subclass says what it does with them: `forward(op, inputs, result)`, `backward(record, cotangent)`, and
    `arrived(node, gradient)` for the gradients of leaves.
    """

    #: Whether it must see the ops of every step, so that recurrences run plainly while it looks.
    every_step = True
    #: Whether checkpoints recompute while it looks; else they only run what they are given.
    recomputes = True

    def __init__(self) -> None:
        self.path: list[str] = []
        self.owners: list[Any] = []  # the modules that run, outermost first

    @contextmanager
    def inside(self, name: str, owner: Any = None) -> Iterator[None]:
        """Name the part of the program that runs: a time step, or a module (`owner`)."""
        self.path.append(name)
        if owner is not None:
            self.owners.append(owner)
        try:
            yield
        finally:
            self.path.pop()
            if owner is not None:
                self.owners.pop()

    def place(self) -> str:
        """Where the program is: the module path, and the innermost line of the program that is not ours."""
        inside = f"in {'.'.join(self.path) or 'the program'}"
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_filename.startswith(_OURS):
            frame = frame.f_back
        if frame is None:
            return inside
        filename, line = frame.f_code.co_filename, frame.f_lineno
        return f"{inside}, at {filename}:{line}: {linecache.getline(filename, line).strip()}"

    def run(self, op: Any, inputs: tuple, settings: dict[str, Any]) -> Any:
        """What an op's formula gives."""
        return op.formula(*inputs, **settings)

    def apply_vjp(self, record: Node, parents: tuple, saved: tuple, cotangent: Any, accumulate: Callable) -> None:
        """Pull a cotangent back through a record (see `tape.walk`)."""
        record.op.apply_vjp(parents, saved, cotangent, accumulate)

    def added(self, previous: Any, gradient: Any) -> None:
        """A gradient is added to what came to its node before."""

    def arrived(self, node: Node, gradient: Any) -> None:
        """The whole gradient of a leaf has come, and its hooks have seen it."""
