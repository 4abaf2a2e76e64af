"""The emitted source computes what the listing says, for programs of all kinds and in chunks of any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.scan.programs import CELLS, LENGTH, run_in, traced_cell
from tests.scan.random_programs import draw_program
from tinygrad_gru.scan.passes import plan as plan_module
from tinygrad_gru.scan.passes.plan import plan
from tinygrad_gru.scan.targets.numpy import BACKWARD_PASSES, FORWARD_PASSES, NumPyTarget

RANDOM_PROGRAMS = 150


def run_emitted(program, example):
    target = NumPyTarget()
    executable = target.load(target.emit(plan(program), "program"), [])
    return run_in(executable.workspace(LENGTH, example.reverse, {}), executable, replace(example, program=program))


def assert_emitted_as_interpreted(example, passes, hint):
    program = example.program
    for rewrite in passes:
        program = rewrite(program)
    names = [rewrite.__name__ for rewrite in passes]
    for right, found in zip(example.run().arrays(), run_emitted(program, example).arrays(), strict=True):
        scale = max(1.0, np.abs(right).max(initial=0.0))
        assert np.abs(right - found).max(initial=0.0) <= 1e-9 * scale, f"{hint} {names}"


@pytest.mark.parametrize("rows", [1, 6, 1024], ids=lambda rows: f"chunks of {rows} rows")
@pytest.mark.parametrize("cell", CELLS)
def test_our_cells(cell, rows, monkeypatch):
    monkeypatch.setattr(plan_module, "CHUNK_ROWS", rows)
    traced = traced_cell(cell)
    assert_emitted_as_interpreted(traced.forward, FORWARD_PASSES, cell)
    assert_emitted_as_interpreted(traced.backward, BACKWARD_PASSES, cell)


@pytest.mark.parametrize("first", range(0, RANDOM_PROGRAMS, 50))
def test_random_programs(first, rng, monkeypatch):
    """As they are, after all passes and after some."""
    for seed in range(first, first + 50):
        monkeypatch.setattr(plan_module, "CHUNK_ROWS", int(rng.choice([1, 6, 1024])))
        example = draw_program(seed)
        for passes in ([], FORWARD_PASSES, [rewrite for rewrite in FORWARD_PASSES if rng.random() < 0.5]):
            assert_emitted_as_interpreted(example, passes, seed)
