"""Programs of traced steps, before any pass, with arrays to run them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from tests.scan.interpreter import Results, interpret
from tests.scan.random_cells import READ, WIDTH, Cell, draw
from tinygrad_gru import Tensor, ops
from tinygrad_gru.nn import GRUCell, LSTMCell, RNNCell
from tinygrad_gru.scan.ir import Program, Value
from tinygrad_gru.scan.plan_cache import CompiledStep
from tinygrad_gru.scan.protocol import split_output
from tinygrad_gru.scan.targets.source import Executable
from tinygrad_gru.scan.targets.workspace import Workspace
from tinygrad_gru.scan.tracing.trace import Trace
from tinygrad_gru.scan.tracing.tracer import Forward, trace_forward
from tinygrad_gru.trees import flatten

CELLS = {"RNN": RNNCell, "GRU": GRUCell, "LSTM": LSTMCell}
LENGTH = 4


@dataclass
class Example:
    """A program, the arrays that it runs on, and those of its inputs that are kept as residuals."""

    program: Program
    carry: list[np.ndarray]
    xs: list[np.ndarray]
    reverse: bool
    kept: Sequence[Value] = ()

    def run(self, program: Program | None = None) -> Results:
        """The results of the program, or of another one with the same carry and xs."""
        with np.errstate(all="ignore"):
            return interpret(program or self.program, self.carry, self.xs, LENGTH, self.reverse)


@dataclass
class Traced:
    """The forward and the backward program of a step, its trace and its compiled step."""

    forward: Example
    backward: Example
    trace: Forward
    compiled: CompiledStep

    def examples(self) -> dict[str, Example]:
        return {"forward": self.forward, "backward": self.backward}


def traced(step: Callable, carry: Any, xs: Any, reverse: bool = False, seed: int = 0) -> Traced:
    """The programs of `step`, with random cotangents for the backward one."""
    random = np.random.default_rng(seed)
    trace = trace_forward(step, carry, xs)
    compiled = CompiledStep(Trace.of(trace, [True for _ in trace.xs]))
    arrays = [t.numpy() for t in [*_tuple(carry), *_tuple(xs)]]
    parts = len(trace.new_carry)
    forward = Example(as_traced(compiled.forward), arrays[:parts], arrays[parts:], reverse, compiled.residuals)
    stored = forward.run(replace(forward.program, ys=tuple(compiled.residuals))).ys

    def cotangent(value: Value, *lead: int) -> np.ndarray:
        return random.standard_normal((*lead, *value.shape)).astype(value.dtype)

    program = as_traced(compiled.backward())
    of_ys = [cotangent(value, LENGTH) for value in compiled.cotangents[parts:]]
    backward = Example(program, [cotangent(value) for value in program.carry], [*stored, *of_ys], not reverse)
    return Traced(forward, backward, trace, compiled)


def run_in(work: Workspace, executable: Executable, example: Example, there: Callable = np.asarray) -> Results:
    """The results of a program on the arrays of an example, in that workspace; `there` moves arrays to its device."""
    first, last = (LENGTH, 0) if example.reverse else (0, LENGTH)
    for part, array in zip(work.carry_at(first), example.carry):
        part[...] = there(array)
    for value, array in zip(example.program.xs, example.xs):
        work.xs[value][...] = there(array)
    with np.errstate(all="ignore"):
        sums = executable.run(list(map(there, example.program.graph.constants)), work)
    return Results(work.carry_at(last), work.ys, sums)


def as_traced(executable: Executable) -> Program:
    """The program before any pass."""
    return executable.stages[0][1]


def traced_cell(name: str, seed: int = 0) -> Traced:
    """The programs of a cell of the library, of 3 features and a state of 5, at batch 2."""
    random = np.random.default_rng(seed)
    cell = CELLS[name](3, 5, dtype="float64")
    for parameter in cell.parameters():
        parameter.data[...] = 0.5 * random.standard_normal(parameter.shape)
    carry = tuple(_normal(random, 2, 5) for _ in cell.states)
    return traced(cell.step, carry if len(carry) > 1 else carry[0], _normal(random, LENGTH, 2, 3))


def arguments_of(cell: Cell) -> tuple[Callable, Any, Any]:
    """The step of a random cell, a carry and xs for it. Every third is gated, so that some interpolate."""
    random = np.random.default_rng(cell.seed)
    carry = tuple(_normal(random, cell.batch, WIDTH) for _ in range(cell.parts))
    xs = tuple(_normal(random, LENGTH, cell.batch, READ) for _ in range(cell.xs))
    step = gated(cell.step) if cell.seed % 3 == 0 else cell.step
    return step, carry if len(carry) > 1 else carry[0], xs if len(xs) > 1 else xs[0] if xs else None


def gated(step: Callable) -> Callable:
    """The step with carryₜ = (1 − z) ⊙ carryₜ₋₁ + z ⊙ step(carryₜ₋₁, x), z = σ(carryₜ₋₁)."""

    def gated_step(carry: Any, x: Any) -> Any:
        new, y = split_output(step(carry, x), carry)
        gates = [ops.sigmoid(part) for part in flatten(carry)]
        parts = [(1 - z) * old + z * part for z, old, part in zip(gates, flatten(carry), flatten(new))]
        return (tuple(parts) if isinstance(carry, tuple) else parts[0]), y

    return gated_step


@cache
def traced_random_cell(seed: int) -> Traced:
    """The programs of the random cell of that seed."""
    return traced(*arguments_of(draw(seed)), reverse=seed % 2 == 1, seed=seed)


def _normal(random: np.random.Generator, *shape: int) -> Tensor:
    return Tensor(random.standard_normal(shape))


def _tuple(tensors: Any) -> tuple:
    return tensors if isinstance(tensors, tuple) else () if tensors is None else (tensors,)
