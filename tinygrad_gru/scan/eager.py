"""The plain reading of a recurrence: a loop in which every op is recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from .. import ops
from ..backend import backend_of
from ..contexts import no_grad
from ..ops.op import unwrap
from ..tape import inspector
from ..tensor import Tensor
from .tracing.effects import undone


def scan_eager(
    step: Callable[[Any, Any], Any], carry: Any, xs: Any = None, *, length: int | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """Run `step` over time: carryₜ, yₜ = step(carryₜ₋₁, xₜ) for t = 1 … T; return carry_T and all y stacked.

    step     a pure function of the carry and of one x. It returns the next carry, or (carry, y); without a y the
             carry itself is the output, or the first of its parts
    carry    where to start: a Tensor, or a tuple of Tensors (an LSTM's is (h, c)); every step keeps its shapes
    xs       what is read: a Tensor (T, …), a tuple of them, or None if there is nothing to read
    length   T, needed where xs is None
    reverse  go from the last x to the first; y stands where its x stood
    Returns (carry, ys): ys is a Tensor (T, …), or a tuple of them if y is a tuple. Gradients flow to the carry, to xs
    and to whatever tensors the step uses.
    """
    length = length_of(xs, length)
    places = range(length)[::-1] if reverse else range(length)
    anomaly = inspector.get()
    ys: list[Any] = [None] * length
    for t in places:
        with nullcontext() if anomaly is None else anomaly.inside(f"step {t}"):
            new, ys[t] = split_result(step(carry, _at(xs, t)), carry)
            _check_carry(carry, new, t)
            carry = new
    return carry, _stacked(ys) if length else _nothing(step, carry, xs)


def split_result(result: Any, carry: Any) -> tuple[Any, Any]:
    """What a step returned as (carry, y), whichever of the two forms it took."""
    if isinstance(carry, tuple):
        pair = isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], tuple)
        if pair:
            return result  # type: ignore[return-value]
        return result, None if isinstance(result, tuple) and not result else result[0]
    if not isinstance(result, tuple):
        return result, result
    if len(result) != 2:
        raise ValueError(f"scan: step must return carry or (carry, y), got a tuple of {len(result)} (a tuple of y?)")
    return result


def length_of(xs: Any, length: int | None) -> int:
    lengths = {len(x) for x in (xs if isinstance(xs, tuple) else () if xs is None else (xs,))}
    if length is not None:
        lengths.add(length)
        if length < 0:
            raise ValueError(f"scan: length must not be negative, got {length}")
    if len(lengths) != 1:
        raise ValueError(
            "scan: nothing says how long to run; give xs or length" if not lengths
            else f"scan: xs and length must agree on the number of steps, got {sorted(lengths)}"
        )  # fmt: skip
    return lengths.pop()


def _at(xs: Any, t: int) -> Any:
    return tuple(x[t, ...] for x in xs) if isinstance(xs, tuple) else None if xs is None else xs[t, ...]


def in_form(ys: list, form: tuple[bool, ...] | None) -> Any:
    """The ys as the step returns them: one, none, or a tuple in which some may be None."""
    if form is None:
        return ys[0] if ys else None
    there = iter(ys)
    return tuple(next(there) if is_there else None for is_there in form)


def parts_of(carry: Any) -> tuple:
    return carry if isinstance(carry, tuple) else (carry,)


def check_carry(carry: Any) -> None:
    """Raise TypeError unless it is a Tensor or a tuple of Tensors."""
    if not all(isinstance(part, Tensor) for part in parts_of(carry)):
        raise TypeError(f"scan: carry must be a Tensor or a tuple of Tensors, got {_described(carry)}")


def _check_carry(old: Any, new: Any, t: int) -> None:
    kept = isinstance(old, tuple) == isinstance(new, tuple)
    if not kept or list(map(_form, parts_of(old))) != list(map(_form, parts_of(new))):
        raise ValueError(
            f"scan: the carry must keep its parts, shapes and dtypes; step {t} was given {_described(old)} and "
            f"returned {_described(new)} (a state without the batch axis, or broadcast? an x of another dtype?)"
        )


def _form(part: Any) -> Any:
    return (part.shape, part.dtype) if isinstance(part, Tensor) else type(part)


def _described(carry: Any) -> str:
    parts = (f"{tuple(c.shape)} {c.dtype}" if isinstance(c, Tensor) else type(c).__name__ for c in parts_of(carry))
    return f"({', '.join(parts)})" if isinstance(carry, tuple) else next(parts)


def _stacked(ys: list) -> Any:
    if isinstance(ys[0], tuple):
        return tuple(None if part[0] is None else ops.stack(list(part)) for part in zip(*ys))
    return None if ys[0] is None else ops.stack(ys)


def _nothing(step: Callable, carry: Any, xs: Any) -> Any:
    """The outputs of no steps: empty, with the shapes that a step on zeros would give."""

    def zeros(x: Any) -> Tensor:
        return Tensor(backend_of(unwrap(x)).zeros(x.shape[1:], x.dtype))

    def empty(y: Any) -> Any:
        return None if y is None else Tensor(backend_of(unwrap(y)).zeros((0, *y.shape), y.dtype))

    with undone(step), no_grad():
        x = tuple(map(zeros, xs)) if isinstance(xs, tuple) else None if xs is None else zeros(xs)
        y = split_result(step(carry, x), carry)[1]
    return tuple(map(empty, y)) if isinstance(y, tuple) else empty(y)
