"""The compiled mode of a recurrence: running a plan, and its place on the tape."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from .. import ops
from ..backend import Backend, backend_of, is_on_cuda, record_launches, xp_of
from ..contexts import enable_grad
from ..ops.multi_output import record_multi_output
from ..tape import Node, Variable
from ..tensor import Tensor
from ..transforms import backward_through
from ..writes import tick
from .passes.symbolic_zeros import Nonlinear, ZerosOverTime
from .plan_cache import CompiledStep, WorkspaceHandle, Workspaces, plan_of
from .protocol import tree_leaves, tree_structure, tree_unflatten
from .replay import replay
from .tracing.trace_cache import TraceCache
from .tracing.traced_array import Untraceable
from .tracing.tracer import Trace

_traces = TraceCache()


def scan_compiled(
    step: Callable, carry: Any, xs: Any, length: int, reverse: bool, emitter: str = "numpy", every: int | None = None
) -> tuple[Any, Any]:
    """`scan` by a compiled program. Raises Untraceable where the step cannot be compiled, before anything has run.

    every  after how many steps the carry is kept for backward, which runs the program again from there; None: never
    """
    trace = _traces.trace(step, carry, xs)
    state, reads = list(tree_leaves(carry)), tree_leaves(xs)
    emitter, device = _target(emitter, [x.data for x in (*state, *reads)] + trace.constants)
    compiled = plan_of(trace, emitter, device)
    if every is None:
        outputs = _run(trace, compiled, [*state, *reads], length, reverse, recompute=False)
        state, ys = outputs[: len(state)], outputs[len(state) :]
    else:
        begins, pieces = range(0, length, every), []
        for begin in reversed(begins) if reverse else begins:
            part = [x[begin : begin + every] for x in reads]
            count = min(every, length - begin)
            outputs = _run(trace, compiled, [*state, *part], count, reverse, recompute=True)
            state = outputs[: len(state)]
            pieces.append(outputs[len(state) :])
        ys = [ops.concatenate(list(part)) for part in zip(*(reversed(pieces) if reverse else pieces))]
    return tree_unflatten(tree_structure(carry), state), tree_unflatten(trace.forward.y_structure, ys)


def _run(
    trace: Trace, compiled: CompiledStep, inputs: list[Tensor], length: int, reverse: bool, recompute: bool
) -> list[Tensor]:
    """The last carry and the ys of that many steps, recorded as one op if gradients are wanted."""
    arrays = [x.data for x in inputs]
    handle = WorkspaceHandle(compiled, compiled.acquire(length, reverse))
    results = _forward(compiled, handle.workspaces, arrays, trace.constants)
    if trace.xs_wanted is None:
        return [Tensor.from_node(array, None) for array in results]
    wanted = trace.forward.requires_grad([x.requires_grad for x in inputs], length)
    if not any(wanted):
        return [Tensor.from_node(array, None) for array in results]
    parents = (*(x.node for x in inputs), *trace.forward.closed_over)
    saved = (None if recompute else handle, trace.constants, arrays, length)
    outputs = record_multi_output(Tensor, _CompiledScan(trace, compiled, reverse), parents, saved, results)
    return [y if yes else y.detach() for y, yes in zip(outputs, wanted)]


def _forward(compiled: CompiledStep, workspaces: Workspaces, arrays: list[Any], constants: list[Any]) -> list[Any]:
    """Run the forward program; returns copies of the last carry and the ys."""
    work = workspaces.forward
    with compiled.device_context:
        for part, array in zip(work.at_moment(workspaces.first), arrays):
            part[...] = array
        for stack, array in zip(work.xs.values(), arrays[compiled.carry_count :]):
            stack[...] = array
        compiled.forward.run(constants, work)
        results = [part.copy() for part in work.at_moment(workspaces.last)]
        results += [stack.copy() for stack in work.ys[: compiled.ys_count]]
    record_launches(len(arrays) + len(results), "scan, what enters and leaves")
    return results


def _target(emitter: str, arrays: list[Any]) -> tuple[str, Backend | None]:
    """The emitter for these arrays, and the GPU on which they are."""
    if not is_on_cuda(arrays[0]):
        if emitter == "cuda":
            raise ValueError("compiled: 'cuda' is for arrays on a GPU, got NumPy arrays (`explain` shows its source)")
        return emitter, None
    homes = {backend_of(array).name for array in arrays}
    if len(homes) > 1:
        raise Untraceable(f"its arrays are on {' and '.join(sorted(homes))}")
    return "cuda", backend_of(arrays[0])


class _CompiledScan:
    """The op of a compiled scan.

    Its pull-back runs the backward program. If that is to be recorded, the traced step is replayed op by op on the
    arrays that it had, and gradients are taken of that.
    """

    __name__ = "scan"

    def __init__(self, trace: Trace, compiled: CompiledStep, reverse: bool):
        self.trace, self.compiled, self.reverse = trace, compiled, reverse

    @property
    def redefined(self) -> int:
        """When one of the step's ops was last given other rules."""
        return max((getattr(call.op, "redefined", 0) for call in self.trace.forward.calls), default=0)

    @property
    def fingerprint(self) -> Hashable:
        """What two scans have in common whose steps are the same but for the numbers in their arrays."""
        return self.trace.key

    def lift(self, kind: type[Variable], record: Node) -> tuple:
        assert record.saved is not None
        return record.saved

    def apply_vjp(self, parents: tuple, saved: tuple, cotangents: list, accumulate: Callable) -> None:
        with self.compiled.device_context:
            try:
                if any(isinstance(g, Variable) for g in cotangents):
                    raise Nonlinear
                self._pull(parents, saved, cotangents, accumulate)
            except Nonlinear:
                self._replay(parents, saved, cotangents, accumulate)

    def _pull(self, parents: tuple, saved: tuple, cotangents: list, accumulate: Callable) -> None:
        handle, constants, arrays, length = saved
        compiled = self.compiled
        given = dict(zip(compiled.cotangents, cotangents))
        absence = compiled.absence(frozenset(value for value, cotangent in given.items() if cotangent is None))
        if handle is None:
            handle = WorkspaceHandle(compiled, compiled.acquire(length, self.reverse))
            _forward(compiled, handle.workspaces, arrays, constants)
        with handle.workspaces.lock:
            self._run_backward(handle.workspaces, absence, given, parents, saved, accumulate)

    def _run_backward(
        self, workspaces: Workspaces, absence: ZerosOverTime, given: dict, parents: tuple, saved: tuple, accumulate: Callable
    ) -> None:
        _, constants, arrays, length = saved
        compiled, count = self.compiled, self.compiled.carry_count
        carry, pieces, sums, left, copied = [*given.values()][:count], [], [], (0, length), 0
        for absent, steps in absence.steps(length):
            begin, end = (left[0], left[0] + steps) if self.reverse else (left[1] - steps, left[1])
            left = (end, left[1]) if self.reverse else (left[0], begin)
            program = compiled.backward(absent)
            assert program is not None
            work = workspaces.backward(program, begin, end)
            first, last = (steps, 0) if self.reverse else (0, steps)
            for part, cotangent in zip(work.at_moment(last), carry):
                part[...] = 0 if cotangent is None else cotangent
            for value in work.xs:
                if value in given:
                    work.xs[value][...] = given[value][begin:end]
                    copied += 1
            sums.append(program.run(constants, work))
            copied += count
            carry = [
                part if value.op != "zeros" else None
                for part, value in zip(work.at_moment(first), program.plan.program.new_carry)
            ]
            pieces.append(work.ys)
        if not self.reverse:
            pieces.reverse()
        of_carry, of_each, of_sums = absence.outputs(length)
        reached_xs = [parent for parent, reached in zip(parents[count:], compiled.xs_reached) if reached]
        for parent, part, yes in zip(parents, carry, of_carry):
            if parent is not None and yes:
                accumulate(parent, part.copy())
                copied += 1
        for parent, parts, yes in zip(reached_xs, zip(*pieces), of_each):
            if parent is not None and yes:
                accumulate(parent, xp_of(*parts).concat(parts) if len(parts) > 1 else parts[0].copy())
                copied += 1
        record_launches(copied, "scan, what enters and leaves")
        reached = [parent for parent, reached in zip(parents[len(arrays) :], compiled.closed_over_reached) if reached]
        totals = sums[0] if len(sums) == 1 else [sum(parts) for parts in zip(*sums)]
        for parent, total, yes in zip(reached, totals, of_sums):
            if parent is not None and yes:
                accumulate(parent, total)  # in its own dtype once it arrives

    def _replay(self, parents: tuple, saved: tuple, cotangents: list, accumulate: Callable) -> None:
        _, constants, arrays, length = saved
        inputs = [Tensor.from_node(array, node) for array, node in zip(arrays, parents)]
        start, count = tick(), self.compiled.carry_count
        with enable_grad():
            results = replay(self.trace, constants, inputs[:count], inputs[count:], length, self.reverse)
        create_graph = any(isinstance(g, Variable) for g in cotangents)
        backward_through(results, cotangents, parents, accumulate, create_graph, start)
