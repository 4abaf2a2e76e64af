"""Anomaly mode: where did the first value that is not finite come from, and was a saved value written?

    with detect_anomaly():
        loss = model(x)
        loss.backward()

Nothing of this costs anything outside of the block.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from ..backend import immediate_checks, is_floating, to_host, xp_of
from ..contexts import block
from ..cotangents import Sparse
from ..inspector import Inspector
from ..tape import Node, Variable, inspector
from ..writes import arrays_in


class AnomalyError(FloatingPointError):
    """A value is not finite, or one that backward needs was overwritten."""


class Anomaly(Inspector):
    """What looks for values that are not finite, inside a `detect_anomaly` block."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[str, list[int]]] = {}  # by the number of the record

    def forward(self, op: Any, inputs: tuple, result: Variable) -> None:
        """Raise AnomalyError if the result is not finite, naming op, place and the ranges of the operands."""
        value = result._data
        where = self.place()
        if not _finite(value):
            guilty = [i for i, x in enumerate(inputs) if not _finite(x)]
            origin = f"it came in through input {guilty[0]}" if guilty else "its inputs were finite"
            ranges = "; ".join(f"input {i}: {_range(x)}" for i, x in enumerate(inputs))
            raise AnomalyError(
                f"{op.__name__} gave a value that is not finite, {origin}; {where}\n  {ranges}; result: {_range(value)}"
            )
        if result.node is not None:
            self.made[result.node.number] = (where, _checksums(result.node))

    def backward(self, record: Node, cotangent: Any) -> None:
        """Raise AnomalyError if a cotangent is not finite, or if what the record saved is no longer what it was."""
        where, checksums = self._made(record)
        if checksums is not None and checksums != _checksums(record):
            raise AnomalyError(f"an array that {record!r} had saved was written before backward; {where}")
        for g in cotangent if isinstance(cotangent, list) else [cotangent]:
            if g is not None and not _finite(g):
                raise AnomalyError(f"the gradient that reaches {record!r} is not finite ({_range(g)}); {where}")

    def apply_vjp(self, record: Node, parents: tuple, saved: tuple, cotangent: Any, accumulate: Callable) -> None:
        """Raise AnomalyError at the first rule whose gradient is not finite, naming its op and input."""

        def checked(node: Node, gradient: Any) -> None:
            for piece in [value for _, value in gradient.pieces] if isinstance(gradient, Sparse) else [gradient]:
                if piece is not None and not _finite(piece):
                    raise AnomalyError(
                        f"the gradient that {record.op.__name__} gives to its input {parents.index(node)} is not "
                        f"finite ({_range(piece)}), and what reached {record!r} was; {self._made(record)[0]}"
                    )
            accumulate(node, gradient)

        super().apply_vjp(record, parents, saved, cotangent, checked)
        self.made.pop(record.number, None)

    def arrived(self, node: Node, gradient: Any) -> None:
        """Raise AnomalyError if the gradient of a leaf is not finite, as a sum or a hook's result may be."""
        if not _finite(gradient):
            raise AnomalyError(
                f"the gradient that arrives at {node!r} is not finite ({_range(gradient)}), though what each op gave "
                "it was: a sum of them that overflows, a dtype that is too narrow, or a hook"
            )

    def _made(self, record: Node) -> tuple[str, list[int] | None]:
        return self.made.get(record.number, ("recorded before anomaly mode began", None))


@block
def detect_anomaly() -> Iterator[Anomaly]:
    """In this block raise AnomalyError at the first op that gives a NaN or an infinity, forward or backward.

    The error names the module, the time step, the op, the line of the program and the ranges of the operands. Arrays
    that were saved for backward and then written, also behind our back through NumPy, are found as well.
    """
    anomaly = Anomaly()
    token = inspector.set(anomaly)
    try:
        with immediate_checks():
            yield anomaly
    finally:
        inspector.reset(token)


def _array(x: Any) -> Any:
    return x._data if isinstance(x, Variable) else x


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and is_floating(x.dtype)


def _finite(x: Any) -> bool:
    x = _array(x)
    if isinstance(x, float):
        return x - x == 0
    return not _is_float(x) or bool(xp_of(x).all(xp_of(x).isfinite(x)))


def _range(x: Any) -> str:
    x = _array(x)
    if not _is_float(x):
        return repr(x) if not hasattr(x, "shape") else f"{x.shape} {x.dtype}"
    host = to_host(x)
    known = host[host == host]
    spread = f"{known.min():.4g} … {known.max():.4g}" if known.size else "empty"
    return f"{host.shape} {host.dtype}, {spread}, {host.size - known.size} NaN"


def _checksums(record: Node) -> list[int]:
    return [zlib.crc32(to_host(array).tobytes()) for array in arrays_in(record.saved)]
