"""Compiled mode of a recurrence: running a compiled step over time, as one op on the tape."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from itertools import compress
from operator import attrgetter, methodcaller
from typing import Any

from .. import ops
from ..backend import Backend, backend_of, is_on_cuda, record_launches, xp_of
from ..contexts import enable_grad
from ..ops.multi_output import record_multi_output
from ..tape import Node, Variable
from ..tensor import Tensor
from ..transforms import backward_through
from ..trees import flatten, with_leaves
from ..writes import tick
from .passes.symbolic_zeros import Nonlinear
from .plan_cache import CompiledStep, Workspaces, plan_of
from .replay import evaluate, replay
from .tracing.draws import drawn
from .tracing.trace import Trace
from .tracing.trace_cache import TraceCache
from .tracing.traced_array import NoTarget

_traces = TraceCache()
_array, _node, _copy = attrgetter("_data"), attrgetter("node"), methodcaller("copy")


def scan_compiled(
    step: Callable, carry: Any, xs: Any, length: int, reverse: bool, target: str, every: int | None
) -> tuple[Any, Any]:
    """`scan` by a compiled program. Raises Untraceable where the step cannot be compiled, before anything has run.

    every  k: keep only the carry after every k steps for backward, which recomputes; None: keep all residuals
    """
    state: Sequence[Tensor] = flatten(carry)
    x_leaves = flatten(xs)
    trace = _traces.trace(step, carry, xs, (state, x_leaves))
    target, device = _target(target, list(map(_array, (*state, *x_leaves))) + trace.constants)
    compiled = plan_of(trace, target, device)
    if trace.forward.draws:
        numbers = drawn(trace.forward.draws, length, reverse, backend_of(state[0].data))
        x_leaves += [Tensor.from_node(array, None) for array in numbers]

    def run(inputs: list[Tensor], steps: int) -> Sequence[Tensor]:
        return _run(trace, compiled, inputs, steps, reverse, recompute=every is not None)

    if every is None:
        outputs, count = run([*state, *x_leaves], length), len(state)
        state, ys = outputs[:count], outputs[count:]
    else:
        state, ys = in_segments(run, state, x_leaves, length, reverse, every)
    return with_leaves(carry, state), with_leaves(trace.forward.y, ys)


def in_segments(
    run: Callable[[list[Tensor], int], Sequence[Tensor]], state: Sequence[Tensor], xs: Sequence[Tensor],
    length: int, reverse: bool, size: int,
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:  # fmt: skip
    """The last carry and the stacked ys of a recurrence that is run in segments of `size` steps.

    run  from the carry and the xs of a segment, and its number of steps, to the next carry and the ys of the segment
    """
    begins, segments, count = range(0, length, size), [], len(state)
    for begin in reversed(begins) if reverse else begins:
        outputs = run([*state, *(x[begin : begin + size] for x in xs)], min(size, length - begin))
        state = outputs[:count]
        segments.append(outputs[count:])
    return state, [ops.concatenate(list(y)) for y in zip(*(reversed(segments) if reverse else segments))]


def _target(target: str, arrays: list[Any]) -> tuple[str, Backend | None]:
    """The target for these arrays, and the GPU on which they are."""
    if not is_on_cuda(arrays[0]):
        if target == "cuda":
            raise ValueError("compiled: 'cuda' is for arrays on a GPU, got NumPy arrays (`explain` shows its source)")
        threads = int(target.partition(":")[2] or 1)
        if threads > 1 and threads > (cores := os.cpu_count() or 1):  # counting them takes longer than all else here
            raise ValueError(f"compiled={target!r} asks for {threads} threads, and this machine has {cores} cores")
        return target, None
    backends = {backend_of(array).name for array in arrays}
    if len(backends) > 1:
        raise NoTarget(f"its arrays are on {' and '.join(sorted(backends))}")
    return "cuda", backend_of(arrays[0])


def _run(
    trace: Trace, compiled: CompiledStep, inputs: list[Tensor], length: int, reverse: bool, recompute: bool
) -> list[Tensor]:
    """The last carry and the stacked ys of `length` steps, recorded as one op if they require a gradient."""
    arrays, nodes = list(map(_array, inputs)), list(map(_node, inputs))
    handle = compiled.acquire(length, reverse)
    results = compiled.on_device(_run_forward, compiled, handle.workspaces, arrays, trace.constants)
    requires_grad = [False]
    if trace.xs_need_grad is not None:
        requires_grad = trace.forward.requires_grad([node is not None for node in nodes], length)
    if not any(requires_grad):
        return [Tensor.from_node(array, None) for array in results]
    saved = (None if recompute else handle, trace.constants, arrays, length)
    op = _CompiledScan(trace, compiled, reverse)
    outputs = record_multi_output(Tensor, op, (*nodes, *trace.forward.closed_over), saved, results)
    return [y if required else y.detach() for y, required in zip(outputs, requires_grad)]


def _run_forward(compiled: CompiledStep, workspaces: Workspaces, arrays: list[Any], constants: list[Any]) -> list[Any]:
    """Run the forward program on the carry and the xs in `arrays`; returns copies of the last carry and the ys."""
    work, initial, final = workspaces.forward
    for target, array in zip(initial, arrays):
        target[...] = array
    workspaces.put(arrays[len(initial) :])
    work.renew()
    compiled.forward.run(constants, work)
    for index, low, high, message in compiled.checks:
        found = workspaces.stored[index] if index in workspaces.stored else evaluate(index, {}, constants)
        backend_of(found).check_within(found, low, high, message)
    ys = zip(work.ys[: compiled.ys_count], compiled.forward.source.plan.program.ys)
    results = [*map(_copy, final), *(array if value in work.bound else array.copy() for array, value in ys)]
    record_launches(len(arrays) + len(results), "scan, copies of inputs and outputs")
    return results


class _CompiledScan:
    """The op of a compiled scan, whose vjp runs the backward program.

    If the vjp is to be recorded, the traced step is replayed op by op on the arrays that it had, and the gradients are
    those of the replay.

    step  the traced step if it is pure, for pictures of the tape: a step that holds its own outputs would be a cycle
    """

    __name__ = "scan"

    def __init__(self, trace: Trace, compiled: CompiledStep, reverse: bool):
        self.trace, self.compiled, self.reverse = trace, compiled, reverse
        step = trace.step()
        self.step = step if getattr(step, "is_pure", False) else None

    @property
    def redefined(self) -> int:
        """When one of the step's ops was last given other rules."""
        return max((getattr(call.op, "redefined", 0) for call in self.trace.forward.calls), default=0)

    @property
    def fingerprint(self) -> Hashable:
        """Equal for two scans of the same step, independent of the values in its arrays."""
        return self.trace.key

    def lift(self, tensor_type: type[Variable], record: Node) -> tuple:
        """What was saved, its arrays as Tensors: second derivatives reach inputs that the first ones leave out."""
        assert record.saved is not None
        handle, constants, arrays, length = record.saved
        return handle, constants, list(map(tensor_type.from_node, arrays, record.parents)), length

    def apply_vjp(self, parents: tuple, saved: tuple, cotangents: list, accumulate: Callable) -> None:
        self.compiled.on_device(self._apply_vjp, parents, saved, cotangents, accumulate)

    def _apply_vjp(self, parents: tuple, saved: tuple, cotangents: list, accumulate: Callable) -> None:
        create_graph = True in [isinstance(g, Variable) for g in cotangents]  # without a call for each
        if not create_graph:
            try:
                return self._run_backward(parents, saved, cotangents, accumulate)
            except Nonlinear:
                pass
        _, constants, arrays, length = saved
        inputs = [x if create_graph else Tensor.from_node(x, node) for x, node in zip(arrays, parents)]
        start, count = tick(), self.compiled.carry_count
        with enable_grad():
            results = replay(self.trace, constants, inputs[:count], inputs[count:], length, self.reverse)
        backward_through(results, cotangents, parents, accumulate, create_graph, start)

    def _run_backward(self, parents: tuple, saved: tuple, cotangents: list, accumulate: Callable) -> None:
        """Accumulate the gradients by backward programs, one for each set of cotangents that are symbolic zeros."""
        handle, constants, arrays, length = saved
        compiled, count = self.compiled, self.compiled.carry_count
        zeros = frozenset([value for value, g in zip(compiled.cotangents, cotangents) if g is None])
        over_time = compiled.zeros_over_time(zeros)  # raises Nonlinear
        if handle is None:
            handle = compiled.acquire(length, self.reverse)
            _run_forward(compiled, handle.workspaces, arrays, constants)
        of_ys = [(v, g) for v, g in zip(compiled.cotangents[count:], cotangents[count:]) if g is not None]
        carry, segments, sums, copies, done = cotangents[:count], [], [], 0, 0
        own = set[int]()  # the ids of arrays that are of this run alone
        with handle.workspaces.lock:
            for zeros, steps in over_time.steps(length):
                begin, end = (done, done + steps) if self.reverse else (length - done - steps, length - done)
                done += steps
                program = compiled.backward(zeros)
                assert program is not None
                work, initial, final = handle.workspaces.backward(program, begin, end)
                for part, g in zip(initial, carry):
                    part[...] = 0 if g is None else g
                for value, g in of_ys:
                    if value in work.xs:
                        work.put(value, g[begin:end])
                        copies += 1
                work.renew()
                sums.append(program.run(constants, work))
                copies += count
                carry = [g if v.op != "zeros" else None for g, v in zip(final, program.source.plan.program.new_carry)]
                segments.append(list(work.ys))
                own |= {id(y) for y, value in zip(work.ys, program.source.plan.program.ys) if value in work.bound}
            totals = sums[0] if len(sums) == 1 else [sum(parts) for parts in zip(*sums)]
            ys = zip(*(segments if self.reverse else reversed(segments)))
            xs = compress(parents[count : len(arrays)], compiled.xs_reached)
            closed_over = compress(parents[len(arrays) :], compiled.closed_over_reached)
            of_carry, of_xs, of_closed_over = over_time.outputs(length)
            for node, parts, present in zip((*parents[:count], *xs), (*zip(final), *ys), (*of_carry, *of_xs)):
                if node is not None and present:
                    accumulate(node, parts[0] if id(parts[0]) in own and len(parts) == 1 else _concatenated(parts))
                    copies += 1
            for node, total in zip(closed_over, compiled.closed_over_gradients(totals, of_closed_over)):
                if node is not None and total is not None:
                    accumulate(node, total)  # the leaf converts it to its dtype
        record_launches(copies, "scan, copies of inputs and outputs")


def _concatenated(parts: Sequence[Any]) -> Any:
    """The concatenation of the parts, always a copy."""
    return xp_of(*parts).concat(parts) if len(parts) > 1 else parts[0].copy()
