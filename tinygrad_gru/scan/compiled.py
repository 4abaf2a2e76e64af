"""The compiled reading of a recurrence: plans, kept by what they depend on, and their place on the tape."""

from __future__ import annotations

import importlib
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import Any

from ..backend import Backend, backend_of, is_on_cuda, note_launches, random_state
from ..ops.op import raw
from ..ops.several import record_several
from ..tape import Node, Variable, recording
from ..tensor import Tensor
from ..transforms import Recomputation
from . import emit_cuda
from .emit import Emitted
from .listing import Value
from .merge import merge_lanes, merge_sums
from .plain import parts_of, scan_plainly
from .plan import plan
from .program import Program, stored_values
from .simplify import collect, interpolate, overwrite, reassociate, without
from .symbols import Untraceable
from .trace import Forward, trace_backward, trace_forward
from .traces import Traces
from .workspace import Workspace

#: How many plans are kept; of one plan, how many idle workspaces, and how many bytes of them unless it is the only one.
PLANS, WORKSPACES, IDLE_BYTES = 64, 4, 2**28


#: What is done to a program before it is planned, in this order.
FORWARD_PASSES: tuple[Callable[[Program], Program], ...] = (
    reassociate, interpolate, overwrite, merge_lanes, merge_sums,
)  # fmt: skip
BACKWARD_PASSES: tuple[Callable[[Program], Program], ...] = (collect, merge_lanes, merge_sums)


def emitter(compiled: bool | str) -> str:
    """The emitter that is asked for: "numpy" by True, others by their names. Raises where it is not there."""
    if compiled is True or compiled == "numpy":
        return "numpy"
    if not isinstance(compiled, str) or not re.fullmatch("cuda|numba(:[1-9][0-9]*)?", compiled):
        raise ValueError(
            f"compiled: expected True, False, 'cuda', 'numba' or 'numba:2' (for two threads), got {compiled!r}"
        )
    if compiled != "cuda":
        _numba()
    return compiled


def _numba() -> Any:
    """The emitter for numba, which imports it."""
    try:
        return importlib.import_module(".emit_numba", __package__)
    except ImportError as error:
        raise ImportError(f"compiled='numba' needs numba: pip install tinygrad_gru[numba] ({error})") from error


def emitted(
    program: Program, passes: tuple[Callable[[Program], Program], ...], name: str, kept: Collection[Value] = ()
) -> Emitted:
    stages = [program]
    for improve in passes:
        stages.append(improve(stages[-1]))
    return Emitted(plan(stages[-1], kept), name, list(zip(("trace", *(p.__name__ for p in passes)), stages)))


class CompiledStep:
    """A step compiled for arrays of certain shapes: a forward program and, if gradients are wanted, a backward one.

    home     the GPU on which it is to run; without one its programs for CUDA can only be read
    refused  why its programs are emitted for NumPy, where another emitter was asked for
    """

    def __init__(
        self, forward: Forward, xs_wanted: tuple[bool, ...] | None, emitter: str = "numpy", home: Backend | None = None
    ):
        listing, size = forward.listing, len(forward.listing.values)
        self.traced = size
        self.carry_count, self.ys_count = len(forward.new), len(forward.ys)
        self.listing, self.stored = listing, []
        self.lock = RLock()  # taken again where memory is freed while it is held
        self.emitter, self.refused, self.home = emitter, "", home
        self._backward: Program | None = None
        self._backwards: dict[frozenset[Value], Emitted] = {}
        given = [*forward.carry, *forward.xs]
        if xs_wanted is not None:
            pulled = trace_backward(forward, xs_wanted)
            new = [g if g is not None else listing.zeros(v) for g, v in zip(pulled.carry, forward.carry)]
            each = [g for g in pulled.xs if g is not None]
            sums = [g for g in pulled.captured if g is not None]
            self.xs_reached = [g is not None for g in pulled.xs]
            self.captured_reached = [g is not None for g in pulled.captured]
            stored = stored_values(listing, size, [*new, *each, *sums])
            cotangents = pulled.cotangents
            self.cotangents = cotangents
            reads = (*stored, *cotangents[self.carry_count :])
            self._backward = Program(
                listing, tuple(cotangents[: self.carry_count]), reads, tuple(new), tuple(each), tuple(sums)
            )
            self.stored = stored
        kept = [v for v in self.stored if v not in given]
        program = Program(
            listing, tuple(forward.carry), tuple(forward.xs), tuple(forward.new), (*forward.ys, *kept), ()
        )
        self.forward = self._emitted(program, "forward", self.stored)
        self.kept = kept
        if emitter == "cuda":  # what there is no kernel for is to be known before anything runs
            self.backward()
        self.idle: OrderedDict[tuple[int, bool], list[Workspaces]] = OrderedDict()

    def backward(self, absent: frozenset[Value] = frozenset()) -> Emitted | None:
        """The backward program where these cotangents are zero, made when it is first needed."""
        if self._backward is None:
            return None
        with self.lock:
            if absent not in self._backwards:
                program = without(self._backward, absent) if absent else self._backward
                self._backwards[absent] = self._emitted(program, "backward")
            return self._backwards[absent]

    def _emitted(self, program: Program, name: str, kept: Collection[Value] = ()) -> Emitted:
        if self.emitter == "cuda":
            return emit_cuda.emitted(program, name, kept, self.home)
        if self.emitter != "numpy" and not self.refused:  # what follows a program for NumPy must be one too
            threads = int(self.emitter.partition(":")[2] or 1)
            try:
                return _numba().emitted(program, name, kept, threads)
            except Untraceable as reason:
                self.refused = str(reason)
        return emitted(program, FORWARD_PASSES if name == "forward" else BACKWARD_PASSES, name, kept)

    @property
    def place(self) -> AbstractContextManager:
        """Where arrays are made."""
        return nullcontext() if self.home is None else self.home.here()

    def lend(self, length: int, reverse: bool) -> Workspaces:
        """A pair of workspaces for that length: an idle one, or a new one."""
        with self.lock:
            waiting = self.idle.get((length, reverse), [])
            workspaces = waiting.pop() if waiting else None
            if not waiting:
                self.idle.pop((length, reverse), None)
        return Workspaces(self, length, reverse) if workspaces is None else workspaces

    def take_back(self, workspaces: Workspaces) -> None:
        with self.lock:
            self.idle.setdefault(workspaces.key, []).append(workspaces)
            self.idle.move_to_end(workspaces.key)
            while self._too_much_is_idle():
                key, oldest = next(iter(self.idle.items()))
                oldest.pop(0)
                if not oldest:
                    del self.idle[key]

    def _too_much_is_idle(self) -> bool:
        idle = [workspaces for waiting in self.idle.values() for workspaces in waiting]
        return len(idle) > WORKSPACES or (len(idle) > 1 and sum(w.size for w in idle) > IDLE_BYTES)


class Workspaces:
    """The arrays of one forward pass, and of the backward pass that reads what it stored."""

    def __init__(self, step: CompiledStep, length: int, reverse: bool):
        self.key = (length, reverse)
        self.first, self.last = (length, 0) if reverse else (0, length)
        self.forward = step.forward.workspace(length, reverse, {})
        self.stored = dict(zip(step.kept, self.forward.each[step.ys_count :]))
        self.stored |= {value: self.forward.whole(value) for value in step.stored if value not in self.stored}
        self.backwards: dict[Emitted, Workspace] = {}

    def backward(self, program: Emitted) -> Workspace:
        if program not in self.backwards:
            length, reverse = self.key
            self.backwards[program] = program.workspace(length, not reverse, self.stored)
        return self.backwards[program]

    @property
    def size(self) -> int:
        return sum(work.bytes for work in (self.forward, *self.backwards.values()))


class Lease:
    """Workspaces on loan to a record: given back when the record lets go of what it had saved."""

    def __init__(self, step: CompiledStep, workspaces: Workspaces):
        self.step, self.workspaces = step, workspaces

    def __del__(self) -> None:
        self.step.take_back(self.workspaces)


class PlanCache:
    """The plans that were used last. What is in it changes how fast a scan begins, never what it gives."""

    def __init__(self, size: int):
        self.size = size
        self.plans: OrderedDict[Hashable, CompiledStep | Untraceable] = OrderedDict()
        self.lock = RLock()

    def get(
        self,
        traced: Hashable,
        xs_wanted: tuple[bool, ...] | None,
        emitter: str,
        home: Backend | None,
        trace: Callable[[], Forward],
    ) -> CompiledStep:
        """The plan for equal traces, made of the trace that `trace` gives if there is none."""
        key = (traced, xs_wanted, emitter, None if home is None else home.name)
        with self.lock:
            found = self.plans.get(key)
            if found is None:
                forward = trace()
                count = len(forward.listing.fixed)
                try:
                    found = CompiledStep(forward, xs_wanted, emitter, home)
                except Untraceable as reason:
                    found = reason.with_traceback(None)
                self.plans[key] = found
                forward.listing.forget(count)  # a plan keeps no model alive
                if len(self.plans) > self.size:
                    self.plans.popitem(last=False)
            else:
                self.plans.move_to_end(key)
            if isinstance(found, Untraceable):
                raise Untraceable(*found.args)
            return found


_cache, _traces = PlanCache(PLANS), Traces()


def scan_compiled(
    step: Callable, carry: Any, xs: Any, length: int, reverse: bool, emitter: str = "numpy"
) -> tuple[Any, Any]:
    """`scan` by a compiled program. Raises Untraceable where the step cannot be compiled, before anything has run."""
    traced = _traces.trace(step, carry, xs)
    carries = parts_of(carry)
    inputs = [*carries, *(parts_of(xs) if xs is not None else ())]
    arrays = [x.data for x in inputs]
    emitter, home = _target(emitter, [*arrays, *traced.fixed])
    wanted = tuple([x.node is not None for x in inputs])
    differentiable = recording.get() and (any(wanted) or bool(traced.captured))
    compiled = _cache.get(
        traced.key,
        wanted[len(carries) :] if differentiable else None,
        emitter,
        home,
        lambda: traced.forward or trace_forward(step, carry, xs),
    )
    fixed = traced.fixed + compiled.listing.fixed[len(traced.fixed) :]
    workspaces = compiled.lend(length, reverse)
    lease = Lease(compiled, workspaces)
    work = workspaces.forward
    with compiled.place:
        for part, array in zip(work.at_moment(workspaces.first), arrays):
            part[...] = array
        for stack, array in zip(work.reads.values(), arrays[compiled.carry_count :]):
            stack[...] = array
        compiled.forward.run(fixed, work)
        results = [part.copy() for part in work.at_moment(workspaces.last)]
        results += [stack.copy() for stack in work.each[: compiled.ys_count]]
    note_launches(len(arrays) + len(results), "scan, what enters and leaves")
    if differentiable:
        operation = _CompiledScan(compiled, step, isinstance(carry, tuple), isinstance(xs, tuple), xs is None, reverse)
        parents = (*(x.node for x in inputs), *traced.captured)
        outputs = record_several(Tensor, operation, parents, (lease, fixed, arrays, length), results)
    else:
        outputs = [Tensor.at(array, None) for array in results]
    last, ys = tuple(outputs[: compiled.carry_count]), tuple(outputs[compiled.carry_count :])
    return (last if isinstance(carry, tuple) else last[0], (ys[0] if ys else None) if traced.single_y else ys)


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
    """The op of a compiled scan. Its pull-back runs the backward program, or the plain reading if that is recorded."""

    __name__ = "scan"
    view = False

    def __init__(
        self,
        compiled: CompiledStep,
        step: Callable,
        carry_is_tuple: bool,
        xs_is_tuple: bool,
        no_xs: bool,
        reverse: bool,
    ):
        self.compiled = compiled
        self.step = step
        self.carry_is_tuple, self.xs_is_tuple, self.no_xs = carry_is_tuple, xs_is_tuple, no_xs
        self.reverse = reverse
        self.random_state = random_state()

    def lift(self, kind: type[Variable], record: Node) -> tuple:
        assert record.saved is not None
        return record.saved

    def keeps(self, record: Node, position: int) -> bool:
        return True

    def pull(self, parents: tuple, saved: tuple, cotangents: list, give: Callable) -> None:
        with self.compiled.place:
            self._pull(parents, saved, cotangents, give)

    def _pull(self, parents: tuple, saved: tuple, cotangents: list, give: Callable) -> None:
        lease, fixed, arrays, length = saved
        if any(isinstance(g, Variable) for g in cotangents):
            plainly = Recomputation(lambda *inputs: self._plainly(inputs, length), self.random_state)
            plainly.pull(parents, tuple(arrays), cotangents, give)
            return
        compiled, workspaces, count = self.compiled, lease.workspaces, self.compiled.carry_count
        given = dict(zip(compiled.cotangents, cotangents))
        program = compiled.backward(frozenset(value for value, cotangent in given.items() if cotangent is None))
        assert program is not None
        work = workspaces.backward(program)
        fixed = [*fixed, *compiled.listing.fixed[len(fixed) :]]
        for part, cotangent in zip(work.at_moment(workspaces.last), cotangents):
            part[...] = 0 if cotangent is None else cotangent
        copied = len(work.carry)
        for value, cotangent in given.items():
            if cotangent is not None and value in work.reads:
                work.reads[value][...] = cotangent
                copied += 1
        sums = program.run(fixed, work)
        outputs = program.plan.program
        for parent, part, value in zip(parents, work.at_moment(workspaces.first), outputs.new):
            if parent is not None and value.op != "zeros":
                give(parent, part.copy())
                copied += 1
        reached_xs = [parent for parent, reached in zip(parents[count:], compiled.xs_reached) if reached]
        for parent, gradient, value in zip(reached_xs, work.each, outputs.each):
            if parent is not None and value.op != "zeros":
                give(parent, gradient.copy())
                copied += 1
        note_launches(copied, "scan, what enters and leaves")
        reached = [parent for parent, reached in zip(parents[len(arrays) :], compiled.captured_reached) if reached]
        for parent, gradient, value in zip(reached, sums, outputs.sums):
            if parent is not None and value.op != "zeros":
                give(parent, gradient)  # in its own dtype once it arrives

    def _plainly(self, inputs: tuple, length: int) -> tuple:
        tensors = [x if isinstance(x, Tensor) else Tensor.at(raw(x), None) for x in inputs]
        carries, xs = tuple(tensors[: self.compiled.carry_count]), tuple(tensors[self.compiled.carry_count :])
        new, ys = scan_plainly(
            self.step,
            carries if self.carry_is_tuple else carries[0],
            None if self.no_xs else xs if self.xs_is_tuple else xs[0],
            length=length,
            reverse=self.reverse,
        )
        return (*parts_of(new), *(y for y in parts_of(ys) if y is not None))
