"""The NumPy target equals the interpreter, on programs of all kinds and in chunks of any size."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.scan.programs import CELLS, LENGTH, run_in, traced_cell
from tests.scan.random_programs import draw_program
from tinygrad_gru import Tensor, ops
from tinygrad_gru.scan.passes import plan as plan_module
from tinygrad_gru.scan.passes.plan import plan
from tinygrad_gru.scan.plan_cache import CompiledStep
from tinygrad_gru.scan.targets.cuda import CudaTarget
from tinygrad_gru.scan.targets.numpy import BACKWARD_PASSES, FORWARD_PASSES, NumPyTarget
from tinygrad_gru.scan.targets.source import build
from tinygrad_gru.scan.tracing.trace import Trace
from tinygrad_gru.scan.tracing.tracer import trace_forward

RANDOM_PROGRAMS = 150


def run_built(program, example):
    target = NumPyTarget()
    executable = target.load(target.emit(plan(program), "program"), [])
    return run_in(executable.workspace(LENGTH, example.reverse, {}), executable, replace(example, program=program))


def assert_equals_interpreter(example, passes, hint):
    program = example.program
    for rewrite in passes:
        program = rewrite(program)
    names = [rewrite.__name__ for rewrite in passes]
    for right, found in zip(example.run().arrays(), run_built(program, example).arrays(), strict=True):
        scale = max(1.0, np.abs(right).max(initial=0.0))
        assert np.abs(right - found).max(initial=0.0) <= 1e-9 * scale, f"{hint} {names}"


@pytest.mark.parametrize("rows", [1, 6, 1024], ids=lambda rows: f"chunks of {rows} rows")
@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell, rows, monkeypatch):
    monkeypatch.setattr(plan_module, "CHUNK_ROWS", rows)
    traced = traced_cell(cell)
    assert_equals_interpreter(traced.forward, FORWARD_PASSES, cell)
    assert_equals_interpreter(traced.backward, BACKWARD_PASSES, cell)


@pytest.mark.parametrize("first", range(0, RANDOM_PROGRAMS, 50))
def test_random_programs(first, rng, monkeypatch):
    """Without passes, after all of them and after some."""
    for seed in range(first, first + 50):
        monkeypatch.setattr(plan_module, "CHUNK_ROWS", int(rng.choice([1, 6, 1024])))
        example = draw_program(seed)
        for passes in ([], FORWARD_PASSES, [rewrite for rewrite in FORWARD_PASSES if rng.random() < 0.5]):
            assert_equals_interpreter(example, passes, seed)


@pytest.mark.parametrize("target", [NumPyTarget(), CudaTarget()], ids=["numpy", "cuda"])
@pytest.mark.parametrize("name", ["forward", "backward"])
def test_emitting_changes_neither_plan_nor_graph(name, target):
    """Whatever arrays a target needs besides those of the plan, such as totals and copies, are buffers of its own."""
    program = traced_cell("LSTM").examples()[name].program
    for rewrite in target.passes(name):
        program = rewrite(program)
    plan = target.plan(program, ())
    before = len(program.graph.values), dict(plan.storage), repr(plan)
    first, second = target.emit(plan, name), target.emit(plan, name)
    assert (len(program.graph.values), plan.storage, repr(plan)) == before
    assert (first.lines, first.loop_lines) == (second.lines, second.loop_lines)


def address(array):
    return array.__array_interface__["data"][0], array.shape, array.strides


def overwritten_step(h, x):
    """A selection whose last operand is computed in the memory of the next carry, which has two versions."""
    return ops.where(x > 0, h, ops.tanh(h + x)), x


@pytest.mark.parametrize("rows", [1, 6, 1024], ids=lambda rows: f"chunks of {rows} rows")
def test_views_of_all_steps_are_those_of_each_step(rows, monkeypatch):
    monkeypatch.setattr(plan_module, "CHUNK_ROWS", rows)
    forward = trace_forward(overwritten_step, Tensor(np.zeros((2, 3))), Tensor(np.zeros((LENGTH, 2, 3))))
    executables = [CompiledStep(Trace.of(forward, None)).forward]
    executables += [build(NumPyTarget(), draw_program(seed).program, "forward") for seed in range(60)]
    for executable, reverse in product(executables, (False, True)):
        work = executable.workspace(LENGTH, reverse, {})
        buffers = work.source.buffers.bound("step")
        for begin in range(0, LENGTH, work.size) if buffers else ():
            positions = range(begin, min(begin + work.size, LENGTH))[:: -1 if reverse else 1]
            for t, views in zip(positions, work.step_views(positions), strict=True):
                assert [*map(address, views)] == [address(work.view(buffer, t)) for buffer in buffers]
