"""Values share arrays, and none is overwritten while it is still needed.

A shadow of a program runs in its real workspace, in the order of the program. Every operation, instead of computing,
checks that the arrays of its operands still hold the names of these, and writes the name of its value into its own
array. So the test does not depend on how the plan finds lifetimes, views and slices.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.scan.programs import CELLS, LENGTH, traced_cell, traced_random_cell
from tests.scan.random_programs import draw_program
from tinygrad_gru.scan.passes import plan as plan_module
from tinygrad_gru.scan.passes.plan import plan
from tinygrad_gru.scan.passes.schedule import ELEMENTWISE, base_of
from tinygrad_gru.scan.targets.numpy import BACKWARD_PASSES, FORWARD_PASSES, NumPyTarget


class Shadow:
    """A planned program that writes the names of values into their arrays."""

    def __init__(self, program, reverse, kept):
        self.program, self.reverse, self.kept = program, reverse, kept
        self.plan = plan(program, kept)
        target = NumPyTarget()
        self.work = target.load(target.emit(self.plan, "shadow"), []).workspace(LENGTH, reverse, {})
        self.concats = self.plan.concats
        # the versions of the carry before and after step t are t + old and t + new
        self.old, self.new = (1, 0) if reverse else (0, 1)

    def run(self):
        for position in range(len(self.program.carry)):
            self.begin_version(position, LENGTH if self.reverse else 0)
        for value in self.program.xs:
            self.write(value, range(LENGTH))
        for begin in range(0, LENGTH, self.work.size)[:: -1 if self.reverse else 1]:
            self.run_chunk(range(begin, min(begin + self.work.size, LENGTH))[:: -1 if self.reverse else 1])
        stay = [value for value in self.program.ys if self.plan.is_view_of_stack(value)]
        self.read([*stay, *self.kept], range(LENGTH))

    def run_chunk(self, steps):
        self.compute("hoisted", steps)
        for t in steps:
            self.compute("loop", [t])
            for position, value in enumerate(self.program.new_carry):
                if self.plan.carried.get(value) != position:
                    self.read([value], [t])
                    self.begin_version(position, t + self.new)
            self.read([v for v in self.program.sums if self.kind(v) == "step scratch"], [t])
        self.compute("sunk", steps)
        outputs = (*self.program.sums, *self.program.ys)
        self.read([v for v in outputs if self.kind(v) != "step scratch"], steps)

    def compute(self, level, steps):
        """All operands of all steps are read before anything is written, as an operation on a chunk does."""
        for value in self.plan.operations(level):
            self.read(value.inputs, steps)
            for operand in value.inputs:
                if value not in self.plan.overwrites or operand is not value.inputs[-1]:
                    self.check_overlap(value, operand, steps[0])
            self.write(value, steps)

    def check_overlap(self, value, operand, t):
        """Check that an operation that is not elementwise, or writes twice, does not write over its operand."""
        source = base_of(operand, self.program.inputs)
        if self.kind(source) and (value.op not in ELEMENTWISE or value.op == "where"):
            shared = np.shares_memory(self.array(source, t), self.array(value, t))
            assert not shared, f"{value!r} is written over its operand {operand!r}"

    def begin_version(self, position, version):
        self.work.carry_at(version)[position][...] = name(self.program.carry[position], version)

    def read(self, values, steps):
        for value in values:
            source = base_of(value, self.program.inputs)
            for t in steps if self.kind(source) else ():
                found = self.array(source, t)
                assert (found == self.content(source, t).astype(found.dtype)).all(), f"{source!r} is lost, at step {t}"

    def write(self, value, steps):
        for t in steps:
            self.array(value, t)[...] = self.name(value, t)

    def array(self, value, t):
        return self.work._at(value, t)

    def kind(self, value):
        """The kind of array of a value: "input" for inputs of the program; None for scalars and invariants."""
        is_input = base_of(value, self.program.inputs) in self.program.inputs
        return "input" if is_input else self.plan.storage_of(value)

    def content(self, value, t):
        """What the array of a value must hold: its name, or those of the operands that live in slices of it."""
        if value in self.concats:
            return np.concatenate([self.content(part, t) for part in value.inputs], axis=value["axis"])
        return np.full(value.shape, self.name(value, t))

    def name(self, value, t):
        if value in self.plan.carried:  # the next carry is the next version of the carry
            return name(self.program.carry[self.plan.carried[value]], t + self.new)
        return name(value, t + self.old if value in self.program.carry else t)


def name(value, t):
    return np.float64(7 * value.number + t)  # alternately odd and even, so that booleans differ too


def examples():
    """Labelled programs, with the passes for them."""
    found = {name: traced_cell(name) for name in CELLS} | {seed: traced_random_cell(seed) for seed in range(20)}
    for label, traced in found.items():
        yield f"forward {label}", traced.forward, FORWARD_PASSES
        yield f"backward {label}", traced.backward, BACKWARD_PASSES
    for seed in range(40):
        yield f"random {seed}", draw_program(seed), FORWARD_PASSES


@pytest.mark.parametrize(("rows", "chunks"), [(1, 4), (6, 2), (1024, 1)])
def test_no_value_is_overwritten_while_it_is_needed(monkeypatch, rows, chunks):
    monkeypatch.setattr(plan_module, "CHUNK_ROWS", rows)
    seen = set()
    for label, example, passes in examples():
        program = example.program
        for rewrite in (None, *passes):
            program = program if rewrite is None else rewrite(program)
            if rewrite in (None, passes[-1]):
                shadow = Shadow(program, example.reverse, example.kept)
                seen.add(len(shadow.work.chunks))
                try:
                    shadow.run()
                except AssertionError as lost:
                    raise AssertionError(f"{label}: {lost}") from lost
    assert chunks in seen


@pytest.mark.parametrize(("cell", "arrays"), [("RNN", 1), ("GRU", 4), ("LSTM", 6)])
def test_a_loop_shares_few_arrays(cell, arrays):
    """Without gradients, so that nothing is stored for a backward pass."""
    program = traced_cell(cell).forward.program
    for rewrite in FORWARD_PASSES:
        program = rewrite(program)
    planned = plan(replace(program, ys=program.new_carry[:1]))
    storages = {planned.storage[value] for value in planned.operations("loop")}
    assert (
        len({storage for storage in storages if storage.kind == "step scratch"})
        <= arrays
        < len(planned.operations("loop"))
    )


@pytest.mark.parametrize("shared", [("hoisted", "sunk"), ()], ids=["loop", "all levels"])
def test_values_of_levels_that_do_not_share_scratch_have_arrays_of_their_own(shared):
    for label, example, passes in examples():
        program = example.program
        for rewrite in passes:
            program = rewrite(program)
        planned = plan(program, example.kept, shares_scratch=shared)
        assert not planned.overwrites
        for level in {"hoisted", "loop", "sunk"} - {*shared}:
            storages = [planned.storage[value] for value in planned.operations(level) if value in planned.storage]
            assert len({*storages}) == len(storages), f"{label}: {level}"
