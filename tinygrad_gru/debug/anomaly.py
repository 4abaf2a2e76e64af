"""Anomaly mode: find the first value that is not finite, and saved values that were overwritten.

    with detect_anomaly():
        loss = model(x)
        loss.backward()

It costs nothing outside of the block.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

from ..backend import immediate_checks, is_floating, to_host, xp_of
from ..contexts import block, setting
from ..cotangents import Sparse
from ..inspector import Inspector
from ..ops.op import unwrap
from ..ops.rule_texts import RuleTexts, names_of_inputs
from ..tape import Node, Variable, inspector
from ..writes import arrays_in


class AnomalyError(FloatingPointError):
    """A value is not finite, or one that backward needs was overwritten."""


class Anomaly(Inspector):
    """The inspector that checks all values inside a `detect_anomaly` block."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: dict[int, tuple[str, list[int]]] = {}  # location and checksums of what was saved, by number

    def forward(self, op: Any, inputs: tuple, result: Variable) -> None:
        """Raise AnomalyError if the result is not finite, naming the op, its location and the operands' ranges."""
        value = result._data
        location = self.location()
        if not _finite(value):
            non_finite = [i for i, x in enumerate(inputs) if not _finite(x)]
            cause = f"it came in through input {non_finite[0]}" if non_finite else "its inputs were finite"
            ranges = "; ".join(f"input {i}: {_range(x)}" for i, x in enumerate(inputs))
            raise AnomalyError(
                f"{op.__name__} gave a value that is not finite, {cause}; {location}\n"
                f"  {ranges}; result: {_range(value)}"
            )
        if result.node is not None:
            self.recorded[result.node.number] = (location, _checksums(result.node))

    def backward(self, record: Node, cotangent: Any) -> None:
        """Raise AnomalyError if a cotangent is not finite, or if what the record saved was overwritten."""
        location, checksums = self._recorded_at(record)
        if checksums is not None and checksums != _checksums(record):
            raise AnomalyError(f"an array that {record!r} had saved was written before backward; {location}")
        for g in cotangent if isinstance(cotangent, list) else [cotangent]:
            if g is not None and not _finite(g):
                raise AnomalyError(f"the gradient that reaches {record!r} is not finite ({_range(g)}); {location}")

    def apply_vjp(self, record: Node, parents: tuple, saved: tuple, cotangent: Any, accumulate: Callable) -> None:
        """Raise AnomalyError at the first rule whose result is not finite, naming its op and input."""

        def checked(node: Node, gradient: Any) -> None:
            for piece in [value for _, value in gradient.pieces] if isinstance(gradient, Sparse) else [gradient]:
                if piece is not None and not _finite(piece):
                    name = names_of_inputs(record.op, len(parents))[parents.index(node)]
                    rule = f"∂{name} = {RuleTexts().of(record.op)[name]}; " if name else ""
                    raise AnomalyError(
                        f"the gradient that {record.op.__name__} gives to its input {parents.index(node)} is not "
                        f"finite ({_range(piece)}), and what reached {record!r} was; {rule}"
                        f"{self._recorded_at(record)[0]}"
                    )
            accumulate(node, gradient)

        super().apply_vjp(record, parents, saved, cotangent, checked)
        self.recorded.pop(record.number, None)

    def leaf_gradient(self, node: Node, gradient: Any) -> None:
        """Raise AnomalyError if the gradient of a leaf is not finite, as a sum or a hook's result may be."""
        if not _finite(gradient):
            raise AnomalyError(
                f"the gradient of {node!r} is not finite ({_range(gradient)}), though what each op gave it was: a sum "
                "of them that overflows, a dtype of too small a range, or a hook"
            )

    def _recorded_at(self, record: Node) -> tuple[str, list[int] | None]:
        return self.recorded.get(record.number, ("recorded before anomaly mode began", None))


@block
def detect_anomaly() -> Iterator[Anomaly]:
    """A block or decorator that raises AnomalyError at the first op that gives a NaN or an infinity, in either pass.

    The error names the module, the time step, the op, the source line and the ranges of the operands. Arrays that were
    saved for backward and then overwritten are found as well, also those written through NumPy.

    >>> try:
    ...     with detect_anomaly():
    ...         loss = (Tensor([1.0], requires_grad=True) * np.inf).sum()
    ... except AnomalyError as error:
    ...     print("hadamard" in str(error))
    True
    """
    anomaly = Anomaly()
    with setting(inspector, anomaly), immediate_checks():
        yield anomaly


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and is_floating(x.dtype)


def _finite(x: Any) -> bool:
    x = unwrap(x)
    if isinstance(x, float):
        return x - x == 0
    return not _is_float(x) or bool(xp_of(x).all(xp_of(x).isfinite(x)))


def _range(x: Any) -> str:
    x = unwrap(x)
    if not _is_float(x):
        return repr(x) if not hasattr(x, "shape") else f"{x.shape} {x.dtype}"
    host = to_host(x)
    numbers = host[host == host]
    span = f"{numbers.min():.4g} … {numbers.max():.4g}" if numbers.size else "empty"
    return f"{host.shape} {host.dtype}, {span}, {host.size - numbers.size} NaN"


def _checksums(record: Node) -> list[int]:
    return [zlib.crc32(to_host(array).tobytes()) for array in arrays_in(record.saved)]
