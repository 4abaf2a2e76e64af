"""`scan`: a step, run over time, in one of two readings that agree to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..tape import inspector
from ..tensor import Tensor
from .compiled import scan_compiled
from .plain import check_carry, length_of, scan_plainly
from .symbols import Untraceable

_compiling: ContextVar[bool] = ContextVar("compiling", default=True)


def scan(
    step: Callable[[Any, Any], Any],
    carry: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    compiled: bool | None = None,
) -> tuple[Any, Any]:
    """Run `step` over time: carryₜ, yₜ = step(carryₜ₋₁, xₜ) for t = 1 … T; return carry_T and all y stacked.

    step      a pure function of the carry and of one x. It returns the next carry, or (carry, y); without a y the
              carry itself is the output, or the first of its parts
    carry     where to start: a Tensor, or a tuple of Tensors (an LSTM's is (h, c)); every step keeps its shapes
    xs        what is read: a Tensor or an array (T, …), a tuple of them, or None if there is nothing to read
    length    T, needed where xs is None
    reverse   go from the last x to the first; y stands where its x stood
    compiled  False: run every op at every step and record it. By default the step is run once on symbols, and what it
              does is run as a program; its Python, a print say, so runs once. A step that cannot be compiled
              (`explain` says why) is run plainly
    Returns (carry, ys): ys is a Tensor (T, …), or a tuple of them if y is a tuple. Gradients flow to the carry, to xs
    and to whatever tensors the step uses, to any order.
    """
    xs = tuple(map(_tensor, xs)) if isinstance(xs, tuple) else _tensor(xs)
    steps = length_of(xs, length)
    check_carry(carry)
    wanted = _compiling.get() if compiled is None else compiled
    if wanted and steps and inspector.get() is None:  # anomaly mode names the step, so it must see every one
        try:
            return scan_compiled(step, carry, xs, steps, reverse)
        except Untraceable:
            pass
    return scan_plainly(step, carry, xs, length=steps, reverse=reverse)


def _tensor(x: Any) -> Any:
    """An array as a constant Tensor."""
    return Tensor.at(x, None) if hasattr(x, "dtype") and not isinstance(x, Tensor) else x


@contextmanager
def compiling(on: bool = True) -> Iterator[None]:
    """In this block recurrences run compiled, or with False plainly, unless a scan says otherwise."""
    token = _compiling.set(on)
    try:
        yield
    finally:
        _compiling.reset(token)
