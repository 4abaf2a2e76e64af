"""Compiled steps, kept by the traces that they were made of, and the workspaces in which they run."""

from __future__ import annotations

import importlib
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from operator import attrgetter
from threading import RLock
from typing import Any

from ..backend import IDLE, Backend
from .ir import Graph, Program, Value, changing
from .passes import collect, fuse_horizontally, merge_sums, propagate_zeros, reassociate, swap_where
from .passes.plan import plan
from .passes.symbolic_zeros import Zeros, ZerosOverTime
from .targets import cuda as emit_cuda
from .targets.numpy import Emitted
from .targets.workspace import Workspace
from .tracing.traced_array import Untraceable
from .tracing.tracer import Trace

#: How many plans are kept.
PLANS = 64


#: What is done to a program before it is planned, in this order.
FORWARD_PASSES: tuple[Callable[[Program], Program], ...] = (
    reassociate, swap_where, fuse_horizontally, merge_sums,
)  # fmt: skip
BACKWARD_PASSES: tuple[Callable[[Program], Program], ...] = (collect, fuse_horizontally, merge_sums)


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
        return importlib.import_module(".targets.numba", __package__)
    except ImportError as error:
        raise ImportError(f"compiled='numba' needs numba: pip install tinygrad_gru[numba] ({error})") from error


def emitted(
    program: Program, passes: tuple[Callable[[Program], Program], ...], name: str, kept: Collection[Value] = ()
) -> Emitted:
    stages = [program]
    for improve in passes:
        stages.append(improve(stages[-1]))
    return Emitted(plan(stages[-1], kept), name, list(zip(("trace", *(p.__name__ for p in passes)), stages)))


_CHEAP = frozenset({"add", "subtract", "multiply", "negative"})


def stored_values(graph: Graph, forward_size: int, outputs: Sequence[Value]) -> list[Value]:
    """The residuals: values of the forward pass (the first `forward_size` of the graph) that these outputs read.

    Only values that change with time are stored. What is computed from constants alone is recomputed, and so is
    1 − z: one cheap operation, for all steps at once, on a value that others need too.
    """
    forward = graph.values[:forward_size]
    varying = changing(forward, [value for value in forward if value.op in ("carry", "x")])
    uses = Counter(chain.from_iterable([value.inputs for value in forward]))

    def is_cheap(value: Value) -> bool:
        operands = [i for i in value.inputs if i.op != "scalar"]
        return value.op in _CHEAP and len(operands) == 1 and uses[operands[0]] > 1

    stored: set[Value] = set()
    stack, seen = list(outputs), set(outputs)
    while stack:
        value = stack.pop()
        if value in varying and not is_cheap(value):
            stored.add(value)
            continue
        for i in value.inputs:
            if i not in seen:
                seen.add(i)
                stack.append(i)
    return sorted(stored, key=attrgetter("number"))


class CompiledStep:
    """A step compiled for arrays of certain shapes: a forward program and, if gradients are wanted, a backward one.

    home     the GPU on which it is to run; without one its programs for CUDA can only be read
    refused  why its programs are emitted for NumPy, where another emitter was asked for
    """

    def __init__(self, trace: Trace, emitter: str = "numpy", device: Backend | None = None):
        forward, backward = trace.forward, trace.backward()
        graph = forward.graph
        self.carry_count, self.ys_count = len(forward.new_carry), len(forward.ys)
        self.graph, self.stored = graph, []
        self.building = RLock()
        self.emitter, self.refused, self.device = emitter, "", device
        self._backward: Program | None = None
        self._backwards: dict[Zeros, Emitted] = {}
        self._absences: dict[Zeros, ZerosOverTime] = {}
        given = [*forward.carry, *forward.xs]
        if backward is not None:
            new = [g if g is not None else graph.zeros(v) for g, v in zip(backward.carry, forward.carry)]
            each = [g for g in backward.xs if g is not None]
            sums = [g for g in backward.closed_over if g is not None]
            self.xs_reached = [g is not None for g in backward.xs]
            self.closed_over_reached = [g is not None for g in backward.closed_over]
            stored = stored_values(graph, forward.size, [*new, *each, *sums])
            cotangents = backward.cotangents
            self.cotangents = cotangents
            reads = (*stored, *cotangents[self.carry_count :])
            self._backward = Program(
                graph, tuple(cotangents[: self.carry_count]), reads, tuple(new), tuple(each), tuple(sums)
            )
            self.stored = stored
        kept = [v for v in self.stored if v not in given]
        program = Program(
            graph, tuple(forward.carry), tuple(forward.xs), tuple(forward.new_carry), (*forward.ys, *kept), ()
        )
        self.forward = self._emitted(program, "forward", self.stored)
        self.kept = kept
        if emitter == "cuda":  # what there is no kernel for is to be known before anything runs
            self.backward()

    def absence(self, absent: Zeros) -> ZerosOverTime:
        """What becomes of these cotangents, which are absent at the last step. Raises Nonlinear."""
        assert self._backward is not None
        with self.building:
            if absent not in self._absences:
                self._absences[absent] = ZerosOverTime(self._backward, absent)
            return self._absences[absent]

    def backward(self, absent: Zeros = frozenset()) -> Emitted | None:
        """The backward program of steps at which these cotangents are absent, made when it is first needed."""
        if self._backward is None:
            return None
        with self.building:
            if absent not in self._backwards:
                self._backwards[absent] = self._emitted(propagate_zeros(self._backward, absent), "backward")
            return self._backwards[absent]

    def _emitted(self, program: Program, name: str, kept: Collection[Value] = ()) -> Emitted:
        if self.emitter == "cuda":
            return emit_cuda.emitted(program, name, kept, self.device)
        if self.emitter != "numpy" and not self.refused:  # what follows a program for NumPy must be one too
            threads = int(self.emitter.partition(":")[2] or 1)
            try:
                return _numba().emitted(program, name, kept, threads)
            except Untraceable as reason:
                self.refused = str(reason)
        return emitted(program, FORWARD_PASSES if name == "forward" else BACKWARD_PASSES, name, kept)

    @property
    def device_context(self) -> AbstractContextManager:
        """Where arrays are made."""
        return nullcontext() if self.device is None else self.device.as_current()

    def acquire(self, length: int, reverse: bool) -> Workspaces:
        """A pair of workspaces for that length: an idle one, or a new one."""
        idle = IDLE.take((self, length, reverse))
        return IDLE.made(lambda: Workspaces(self, length, reverse)) if idle is None else idle

    def release(self, workspaces: Workspaces) -> None:
        IDLE.give_back((self, *workspaces.key), workspaces, workspaces.size())


class Workspaces:
    """The arrays of one forward pass, and of the backward pass that reads what it stored."""

    def __init__(self, step: CompiledStep, length: int, reverse: bool):
        self.key = (length, reverse)
        self.first, self.last = (length, 0) if reverse else (0, length)
        self.forward = step.forward.workspace(length, reverse, {})
        self.stored = dict(zip(step.kept, self.forward.ys[step.ys_count :]))
        self.stored |= {value: self.forward.whole(value) for value in step.stored if value not in self.stored}
        self.backwards: dict[tuple[Emitted, int, int], Workspace] = {}
        self._size = 0  # not known
        self.lock = RLock()  # a record may be gone back through by several threads

    def backward(self, program: Emitted, begin: int, end: int) -> Workspace:
        """The arrays of a backward pass over these steps."""
        key = (program, begin, end)
        if key not in self.backwards:
            stored = {value: array[begin:end] for value, array in self.stored.items()}
            make = partial(program.workspace, end - begin, not self.key[1], stored)
            self.backwards[key] = IDLE.made(make)
            self._size = 0
        return self.backwards[key]

    def size(self) -> int:
        """How many bytes its arrays take."""
        self._size = self._size or sum(work.bytes for work in (self.forward, *self.backwards.values()))
        return self._size


class WorkspaceHandle:
    """Workspaces on loan to a record: given back when the record lets go of what it had saved."""

    def __init__(self, step: CompiledStep, workspaces: Workspaces):
        self.step, self.workspaces = step, workspaces

    def __del__(self) -> None:
        self.step.release(self.workspaces)


class PlanCache:
    """The plans that were used last. What is in it changes how fast a scan begins, never what it gives."""

    def __init__(self, size: int):
        self.size = size
        self.plans: OrderedDict[Hashable, _Plan] = OrderedDict()
        self.lock = RLock()

    @property
    def steps(self) -> list[CompiledStep]:
        """The plans that were made."""
        return [plan.found for plan in self.plans.values() if isinstance(plan.found, CompiledStep)]

    def get(self, trace: Trace, emitter: str, device: Backend | None) -> CompiledStep:
        """The plan for traces equal to this one. While it is made, which may take seconds, others are found."""
        key = (trace.key, emitter, None if device is None else device.name)
        with self.lock:
            plan = self.plans.get(key)
            if plan is None:
                plan = self.plans[key] = _Plan()
            self.plans.move_to_end(key)
            if len(self.plans) > self.size:
                self.plans.popitem(last=False)
        found = plan.made(lambda: CompiledStep(trace, emitter, device))
        trace.forward.graph.forget()  # a plan keeps no model alive
        return found


class _Plan:
    """A plan that is made once, by the first who needs it; whoever comes meanwhile waits."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.found: CompiledStep | Untraceable | None = None

    def made(self, make: Callable[[], CompiledStep]) -> CompiledStep:
        found = self.found
        if found is None:
            with self.lock:
                if self.found is None:
                    try:
                        self.found = make()
                    except Untraceable as reason:
                        self.found = reason.with_traceback(None)
                found = self.found
        if isinstance(found, Untraceable):
            raise Untraceable(*found.args)
        return found


_cache = PlanCache(PLANS)


def plan_of(trace: Trace, emitter: str, device: Backend | None) -> CompiledStep:
    """The plan for a trace, from the cache."""
    return _cache.get(trace, emitter, device)
