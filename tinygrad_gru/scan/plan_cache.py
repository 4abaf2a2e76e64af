"""Plan cache: compiled steps by their traces, and the workspaces in which they run."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from threading import RLock
from time import perf_counter
from typing import Any, NamedTuple

from ..backend import IDLE_POOL, Backend
from ..native import Function
from ..writes import tick
from .fallback import log_compilation
from .ir import Graph, Program, Value, changing
from .passes import propagate_zeros
from .passes.symbolic_zeros import Zeros, ZerosOverTime
from .replay import evaluate
from .targets.cuda import CudaTarget
from .targets.javascript import JavaScriptTarget
from .targets.llvm import LLVMTarget
from .targets.numpy import NumPyTarget
from .targets.source import Executable, build
from .targets.workspace import Workspace
from .tracing.trace import Trace
from .tracing.traced_array import Untraceable

#: The most compiled steps that are kept.
PLANS = 64
#: The seconds of compiling, of one step, from which on it is said.
SLOW = 0.5

_CHEAP = frozenset({"add", "subtract", "multiply", "negative"})


def residuals_of(graph: Graph, forward_size: int, outputs: Sequence[Value]) -> list[Value]:
    """The residuals: values of the forward pass (the first `forward_size` of the graph) that these outputs use.

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


_LINEAR = frozenset({"add", "negative", "reshape", "rearrange", "transpose", "scatter"})


def sparse_terms(gradient: Value) -> list[Value]:
    """The terms of a gradient of which it is a linear function, if a scatter-add is one of them; else itself.

    Each is summed over time by itself: so the gradient of a table that is looked up, and multiplied with, is one
    scatter-add and one product, not an array of the table's size at every step.
    """
    terms: list[Value] = []
    stack = [gradient]
    while stack:
        value = stack.pop()
        if value.op in _LINEAR and not any(i.op == "scalar" or i.dtype != value.dtype for i in value.inputs):
            stack += value.inputs
        elif value not in terms:
            terms.append(value)
    return terms if any(term.op == "scatter_add" for term in terms) else [gradient]


class CompiledStep:
    """A traced step compiled for arrays of certain shapes: a forward program and, if gradients are required, backward
    ones.

    target     "numpy", "llvm" (or "llvm:2", with that number of threads), "cuda" or "javascript"
    device     the GPU on which it runs; without one, programs for CUDA can only be printed; so can those in JavaScript
    fallback   why the programs are for NumPy, where LLVM cannot compile them
    residuals  the values that the forward program stores for backward
    checks     the indices that are checked after the forward program, which stores those that change with time
    stored     all that it stores
    computed   those of them that it computes, as ys after those of the step
    seconds    what compiling its programs has taken so far
    """

    def __init__(self, trace: Trace, target: str = "numpy", device: Backend | None = None):
        forward, backward = trace.forward, trace.backward()
        graph = forward.graph
        self.graph, self.target, self.device, self.fallback = graph, target, device, ""
        self.born, self.seconds, self._step = tick(), 0.0, trace.step
        self.carry_count, self.ys_count = len(forward.new_carry), len(forward.ys)
        self.residuals: list[Value] = []
        self.lock = RLock()  # held while a backward program is compiled
        self._backward: Program | None = None
        self._backwards: dict[Zeros, Executable] = {}
        self._zeros_over_time: dict[Zeros, ZerosOverTime] = {}
        if backward is not None:
            new_carry = [g if g is not None else graph.zeros(v) for g, v in zip(backward.carry, forward.carry)]
            ys = [g for g in backward.xs if g is not None]
            gradients = [g for g in backward.closed_over if g is not None]
            self.gradients = [(g, [g] if target == "javascript" else sparse_terms(g)) for g in gradients]
            sums = [term for _, terms in self.gradients for term in terms]
            self.sums_are_gradients = sums == gradients
            self.xs_reached = [g is not None for g in backward.xs]
            self.closed_over_reached = [g is not None for g in backward.closed_over]
            self.residuals = residuals_of(graph, forward.size, [*new_carry, *ys, *sums])
            self.cotangents = backward.cotangents
            carry, of_ys = self.cotangents[: self.carry_count], self.cotangents[self.carry_count :]
            xs = (*self.residuals, *of_ys)
            self._backward = Program(graph, tuple(carry), xs, tuple(new_carry), tuple(ys), tuple(sums))
        inputs = [*forward.carry, *forward.xs]
        self.checks = forward.checks
        varying = changing(graph.values[: forward.size], inputs)
        checked = [check.value for check in self.checks if check.value in varying]
        self.stored = list(dict.fromkeys([*self.residuals, *checked]))
        self.computed = [value for value in self.stored if value not in inputs]
        outputs = tuple(forward.new_carry), (*forward.ys, *self.computed)
        program = Program(graph, tuple(forward.carry), tuple(forward.xs), *outputs, ())
        self.forward = self._build(program, "forward", self.stored)
        if target in ("cuda", "javascript"):  # an operation that the target lacks must raise before anything runs
            self.backward()

    def zeros_over_time(self, zeros: Zeros) -> ZerosOverTime:
        """Which cotangents are symbolic zeros at each step, if these are at the last one. Raises Nonlinear."""
        assert self._backward is not None
        with self.lock:
            if zeros not in self._zeros_over_time:
                self._zeros_over_time[zeros] = ZerosOverTime(self._backward, zeros)
            return self._zeros_over_time[zeros]

    def backward(self, zeros: Zeros = frozenset()) -> Executable | None:
        """The backward program of a step with these symbolic zeros, compiled when it is first needed."""
        if self._backward is None:
            return None
        with self.lock:
            if zeros not in self._backwards:
                self._backwards[zeros] = self._build(propagate_zeros(self._backward, zeros), "backward")
            return self._backwards[zeros]

    def _build(self, program: Program, name: str, kept: Collection[Value] = ()) -> Executable:
        """Compile a program; when that makes more than half a second for the step, it is said, once."""
        start, before = perf_counter(), self.seconds
        executable = self._compiled(program, name, kept)
        self.seconds += perf_counter() - start
        if before < SLOW <= self.seconds:
            log_compilation(self._step(), self.seconds, "numpy" if self.fallback else self.target)
        return executable

    def _compiled(self, program: Program, name: str, kept: Collection[Value]) -> Executable:
        if self.target == "cuda":
            return build(CudaTarget(self.device), program, name, kept)
        if self.target == "javascript":
            return build(JavaScriptTarget(), program, name, kept)
        if self.target != "numpy" and not self.fallback:  # if the forward program is for NumPy, so is the backward one
            threads = int(self.target.partition(":")[2] or 0) or None
            try:
                return build(LLVMTarget(threads), program, name, kept)
            except Untraceable as reason:
                self.fallback = str(reason)
            except (ImportError, OSError, RuntimeError, SyntaxError) as error:  # the program is right, LLVM is not
                self.fallback = f"{type(error).__name__}: {error}"
                text = f"a loop was not compiled to machine code, and runs more slowly by NumPy: {self.fallback}"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
        return build(NumPyTarget(), program, name, kept)

    @property
    def native_functions(self) -> list[Function]:
        """The machine code of its programs so far."""
        programs = [self.forward, *self._backwards.values()]
        found = [getattr(program, "namespace", {}).get("loop") for program in programs]
        return [function for function in found if isinstance(function, Function)]

    def closed_over_gradients(self, totals: Sequence[Any], has_cotangent: Sequence[bool]) -> Iterable[Any]:
        """The gradients of what the step closes over, from the sums over time of its terms, or None."""
        if self.sums_are_gradients:
            return [total if present else None for total, present in zip(totals, has_cotangent)]
        return self._sums_of_terms(iter(zip(totals, has_cotangent)))

    def _sums_of_terms(self, rest: Iterator[tuple[Any, bool]]) -> Iterator[Any]:
        for gradient, terms in self.gradients:
            found, present = zip(*islice(rest, len(terms)))
            yield evaluate(gradient, dict(zip(terms, found)), ()) if any(present) else None

    def on_device(self, function: Callable, *arguments: Any) -> Any:
        """Call the function while the step's device is the current one, where arrays are made."""
        if self.device is None:
            return function(*arguments)
        with self.device.as_current():
            return function(*arguments)

    def acquire(self, length: int, reverse: bool) -> WorkspaceHandle:
        """Workspaces for that length, idle ones or new ones."""
        workspaces = IDLE_POOL.acquire((self, length, reverse))
        if workspaces is None:
            workspaces = IDLE_POOL.allocate(lambda: Workspaces(self, length, reverse))
        return WorkspaceHandle(self, workspaces)

    def release(self, workspaces: Workspaces) -> None:
        workspaces.unbind()
        IDLE_POOL.release((self, *workspaces.key), workspaces, workspaces.size())


class Run(NamedTuple):
    """One run of a program: its workspace, and the carry before its first and after its last step."""

    workspace: Workspace
    initial: list[Any]
    final: list[Any]

    @classmethod
    def of(cls, workspace: Workspace, length: int, reverse: bool) -> Run:
        ends = workspace.carry_at(0), workspace.carry_at(length)
        return cls(workspace, *(reversed(ends) if reverse else ends))


class Workspaces:
    """The arrays of one forward pass, and of the backward pass that reads its residuals."""

    def __init__(self, step: CompiledStep, length: int, reverse: bool):
        self.key = (length, reverse)
        program = step.forward.source.plan.program
        fresh = {*program.xs, *program.ys[: step.ys_count]}.difference(program.ys[step.ys_count :])
        work = step.forward.workspace(length, reverse, {}, fresh)
        self.forward = Run.of(work, length, reverse)
        self.stored = dict(zip(step.computed, work.ys[step.ys_count :]))
        self.stored |= {value: work.stack_of(value) for value in step.stored if value not in self.stored}
        self.backwards: dict[tuple[Executable, int, int], Run] = {}
        self._size = 0  # 0 until it is computed
        self.lock = RLock()  # several threads may run backward through one record

    def put(self, arrays: Iterable[Any]) -> None:
        """Let these arrays be the xs of the next forward pass."""
        work = self.forward.workspace
        for value, array in zip(list(work.xs), arrays):
            work.put(value, array)
            if value in self.stored:
                self.stored[value] = work.xs[value]

    def backward(self, program: Executable, begin: int, end: int) -> Run:
        """The backward pass over these steps."""
        key, bound = (program, begin, end), self.forward.workspace.bound
        if key not in self.backwards:
            stored = {v: array[begin:end] for v, array in self.stored.items() if v not in bound}
            planned, reverse = program.source.plan.program, not self.key[1]
            fresh = {*planned.xs, *planned.ys}
            work = IDLE_POOL.allocate(partial(program.workspace, end - begin, reverse, stored, fresh))
            self.backwards[key] = Run.of(work, end - begin, reverse)
            self._size = 0
        run = self.backwards[key]
        for value in bound:
            if value in run.workspace.xs:
                run.workspace.put(value, self.stored[value][begin:end])
        return run

    def unbind(self) -> None:
        """Forget arrays of others."""
        for run in (self.forward, *self.backwards.values()):
            run.workspace.unbind()
        self.stored.update((v, None) for v in self.forward.workspace.bound if v in self.stored)

    def size(self) -> int:
        """How many bytes its arrays take."""
        self._size = self._size or sum(run.workspace.bytes for run in (self.forward, *self.backwards.values()))
        return self._size


class WorkspaceHandle:
    """Workspaces that a record has acquired: released when the record drops what it saved."""

    def __init__(self, step: CompiledStep, workspaces: Workspaces):
        self.step, self.workspaces = step, workspaces

    @property
    def nbytes(self) -> int:
        return self.workspaces.size()

    def __del__(self) -> None:
        self.step.release(self.workspaces)


class PlanCache:
    """An LRU cache of compiled steps. It changes how fast a scan starts, never its results."""

    def __init__(self, size: int):
        self.size = size
        self.plans: OrderedDict[Hashable, _Entry] = OrderedDict()
        self.lock = RLock()

    @property
    def steps(self) -> list[CompiledStep]:
        return [entry.result for entry in self.plans.values() if isinstance(entry.result, CompiledStep)]

    def get(self, trace: Trace, target: str, device: Backend | None) -> CompiledStep:
        """The compiled step for traces equal to this one. Compiling, which may take seconds, blocks no other step."""
        key = (trace.key, target, None if device is None else device.name)
        with self.lock:
            entry = self.plans.get(key)
            if entry is None:
                entry = self.plans[key] = _Entry()
            self.plans.move_to_end(key)
            if len(self.plans) > self.size:
                self.plans.popitem(last=False)
        result = entry.result or entry.compile(trace, target, device)
        trace.forward.graph.forget()  # a cache keeps no model alive
        if isinstance(result, Untraceable):
            raise type(result)(*result.args)
        return result


class _Entry:
    """A compiled step, or why it cannot be compiled; compiled once, while other threads that need it wait."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.result: CompiledStep | Untraceable | None = None

    def compile(self, trace: Trace, target: str, device: Backend | None) -> CompiledStep | Untraceable:
        with self.lock:
            if self.result is None:
                try:
                    self.result = CompiledStep(trace, target, device)
                except Untraceable as reason:
                    self.result = reason.with_traceback(None)
            return self.result


_cache = PlanCache(PLANS)


def plan_of(trace: Trace, target: str, device: Backend | None) -> CompiledStep:
    """The compiled step for a trace, from the cache."""
    return _cache.get(trace, target, device)


def compiled_steps() -> list[CompiledStep]:
    """All that is in the cache."""
    return _cache.steps
