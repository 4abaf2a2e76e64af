"""`scan`: a step function run over time, in eager or in compiled mode, which agree to rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from typing import Any

from ..contexts import no_grad
from ..tape import inspector
from ..tensor import Tensor
from ..transforms import remat
from ..trees import flatten, map_leaves, with_leaves
from .eager import scan_eager
from .fallback import NotCompiledError, Remark
from .modes import mode_of, runnable
from .names import RecordedStep, record_names
from .protocol import check_carry, check_step, checked_xs, constant, scan_length
from .run import in_segments, scan_compiled
from .tracing.effects import rollback
from .tracing.traced_array import NoTarget, Untraceable


def scan(
    step: Callable[[Any, Any], Any],
    carry: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    compiled: bool | str | None = None,
    checkpoint_every: int | None = None,
    record: str | Sequence[str] | None = None,
) -> tuple[Any, ...]:
    """Run `step` over time: carryₜ, yₜ = step(carryₜ₋₁, xₜ) for t = 1 … T; return carry_T and all y stacked.

    step      a pure function of the carry and of one x. It returns the next carry, or (carry, y); without a y the
              carry itself is the output, or its first leaf
    carry     the initial carry: a Tensor, or a tree of Tensors: nested tuples, lists, dictionaries, named tuples and
              dataclasses, with None where there is nothing. An LSTM's is (h, c). Every step keeps its structure and
              shapes; the keys of a dictionary may come in any order
    xs        the inputs: a Tensor or an array (T, …), a tree of them, or None for a step without inputs
    length    T, required where xs is None
    reverse   run from the last x to the first; each y is stacked at the position of its x
    compiled  False is eager mode: every op of every step is executed and recorded. In compiled mode, the default, the
              step is traced and compiled: it runs on traced arrays without values, twice if it is new or makes
              arrays, to see whether it does the same again, and never for its values; a print in it prints once.
              A step that cannot be compiled, or that has side effects, runs eagerly; the effects of its trace are
              undone, except for prints, and a NotCompiledWarning says so, once, with the line and the reason. With True
              such a step is a NotCompiledError. It is compiled to machine code where llvmlite is installed (the extra
              `fast`), which is kept on disk for other processes, else to a program of NumPy's functions; "llvm",
              "llvm:2" (in two threads) and "numpy" name one of them. `compiling` says how to change the default, and
              `explain` what runs and why. (Anomaly mode sees every step, so it is always eager.)
    checkpoint_every  k: keep only the carry after every k steps for backward, which recomputes k steps at a time.
              Memory for T/k carries and k steps instead of T steps, least at k = √T, for the time of one more forward
              pass
    record    names of local variables of the step: the values that they have when it returns, at every step, are
              returned too. Of one that is a tree a part is `carry[0]` or `state['h']`; the next state of h is `h'`.
              Gradients flow through them as through ys
    Returns (carry, ys): ys is a Tensor (T, …), or a tree of them in the structure of y; with `record` (carry, ys,
    records), a dictionary with a Tensor (T, …) for each name. Gradients flow to the carry, to xs and to all tensors
    that the step closes over, to any order.

    >>> last, sums = scan(lambda total, x: total + x, Tensor(0.0), Tensor([1.0, 2.0, 3.0]))
    >>> last.item(), sums.tolist()
    (6.0, [1.0, 3.0, 6.0])
    >>> counts = {"sum": Tensor(0.0), "max": Tensor(0.0)}
    >>> last, _ = scan(lambda c, x: {"sum": c["sum"] + x, "max": ops.maximum(c["max"], x)}, counts, Tensor([2.0, 1.0]))
    >>> last["sum"].item(), last["max"].item()
    (3.0, 2.0)
    >>> def step(h, x):
    ...     change = 2 * x
    ...     return h + change
    >>> last, sums, records = scan(step, Tensor(0.0), Tensor([1.0, 2.0]), record=("change", "h"))
    >>> {name: record.tolist() for name, record in records.items()}
    {'change': [2.0, 4.0], 'h': [0.0, 2.0]}
    """
    if record is not None:
        check_step(step, "scan")
        recorded = RecordedStep(step, record_names(record))
        carry, ys = scan(
            recorded, carry, xs, length=length, reverse=reverse, compiled=compiled, checkpoint_every=checkpoint_every
        )
        return carry, *ys
    check_step(step, "scan")
    check_carry(carry)
    xs = checked_xs(xs)
    steps = scan_length(xs, length)
    mode = runnable(mode_of(compiled))
    if checkpoint_every is not None and (not isinstance(checkpoint_every, Integral) or checkpoint_every < 1):
        raise ValueError(f"scan: checkpoint_every must be a number of steps, 1 or more, got {checkpoint_every!r}")
    every = checkpoint_every if checkpoint_every is not None and checkpoint_every < steps else None
    observer = inspector.get()  # anomaly mode names the time step, so it must see every one
    remark = None
    if mode.target and steps and not (observer is not None and observer.every_step):
        try:
            return scan_compiled(step, carry, xs, steps, reverse, mode.target, every)
        except Untraceable as reason:  # which must not outlive this block: its traceback holds the arrays of the step
            if mode.strict and not isinstance(reason, NoTarget):
                _raise_not_compiled(step, carry, xs, reason)
            if not isinstance(reason, NoTarget):
                remark = Remark.of(step, reason)
    if every is not None:
        results = _scan_in_segments(step, carry, xs, steps, reverse, every)
    else:
        results = scan_eager(step, carry, xs, length=steps, reverse=reverse)
    if remark is not None:
        remark.warn()  # after the step has run, for its own errors come first
    return results


def _raise_not_compiled(step: Callable, carry: Any, xs: Any, reason: Untraceable) -> None:
    """Raise the error of the step itself, if it has one in eager mode, else NotCompiledError."""
    with rollback(step), no_grad():
        scan_eager(step, carry, map_leaves(lambda x: x[:1], xs), length=1)
    raise NotCompiledError(f"compiled=True, but {Remark.of(step, reason).text}") from reason


def _scan_in_segments(step: Callable, carry: Any, xs: Any, length: int, reverse: bool, size: int) -> tuple[Any, Any]:
    """`scan_eager` in segments of `size` steps, each under `remat`."""
    state = flatten(carry)
    count = len(state)
    y_trees: list[Any] = []  # of one segment, for all have the same

    def segment(steps: int, *inputs: Any) -> tuple:
        tensors = tuple(map(constant, inputs))
        last, ys = scan_eager(
            step, with_leaves(carry, tensors[:count]), with_leaves(xs, tensors[count:]), length=steps, reverse=reverse
        )
        y_trees[:] = [map_leaves(lambda _: 0, ys)]
        return (*flatten(last), *flatten(ys))

    def run(inputs: list[Tensor], steps: int) -> Sequence[Tensor]:
        return remat(partial(segment, steps), *inputs)

    last, ys = in_segments(run, state, flatten(xs), length, reverse, size)
    return with_leaves(carry, last), with_leaves(y_trees[0], ys)
