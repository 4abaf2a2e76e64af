"""Values share arrays, and none loses its array while somebody still needs it.

A shadow of a program runs in its real workspace, in the order in which the program computes. Every operation, instead
of computing, checks that the arrays of its operands still hold their names, and writes the name of its own value into
its array. So nothing here depends on how the plan finds out who needs what, or on what is a view or a part of what.
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
    """A planned program in whose arrays names are written instead of numbers."""

    def __init__(self, program, reverse, kept):
        self.program, self.reverse, self.kept = program, reverse, kept
        self.plan = plan(program, kept)
        target = NumPyTarget()
        self.work = target.load(target.emit(self.plan, "shadow"), []).workspace(LENGTH, reverse, {})
        self.concats = self.plan.concats
        # the moments before and after step t are t + old and t + new
        self.old, self.new_carry = (1, 0) if reverse else (0, 1)

    def run(self):
        for position in range(len(self.program.carry)):
            self.begin_moment(position, LENGTH if self.reverse else 0)
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
                    self.begin_moment(position, t + self.new_carry)
            self.read([v for v in self.program.sums if self.kind(v) == "step"], [t])
        self.compute("sunk", steps)
        outputs = (*self.program.sums, *self.program.ys)
        self.read([v for v in outputs if self.kind(v) != "step"], steps)

    def compute(self, level, steps):
        """All operands of all steps are read before anything is written, as an operation on a chunk does."""
        for value in self.plan.operations(level):
            self.read(value.inputs, steps)
            for operand in value.inputs:
                if value not in self.plan.overwrites or operand is not value.inputs[-1]:
                    self.check_overlap(value, operand, steps[0])
            self.write(value, steps)

    def check_overlap(self, value, operand, t):
        """What does not go element by element, or writes twice, must not write where it reads."""
        source = base_of(operand, self.program.inputs)
        if self.kind(source) and (value.op not in ELEMENTWISE or value.op == "where"):
            shared = np.shares_memory(self.array(source, t), self.array(value, t))
            assert not shared, f"{value!r} is written over its operand {operand!r}"

    def begin_moment(self, position, moment):
        self.work.at_moment(moment)[position][...] = name(self.program.carry[position], moment)

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
        """In what kind of array a value lives; numbers, and what is computed once, live in none."""
        given = base_of(value, self.program.inputs) in self.program.inputs
        return "given" if given else self.plan.storage_of(value)

    def content(self, value, t):
        """What the array of a value must hold: its name, or side by side those of the parts that were made in it."""
        if value in self.concats:
            return np.concatenate([self.content(part, t) for part in value.inputs], axis=value["axis"])
        return np.full(value.shape, self.name(value, t))

    def name(self, value, t):
        if value in self.plan.carried:  # the next carry is the carry at the next moment
            return name(self.program.carry[self.plan.carried[value]], t + self.new_carry)
        return name(value, t + self.old if value in self.program.carry else t)


def name(value, place):
    return np.float64(7 * value.number + place)  # odd and even in turn, so that booleans differ too


def examples():
    """Programs, with a label for each and the passes that are meant for it."""
    found = {name: traced_cell(name) for name in CELLS} | {seed: traced_random_cell(seed) for seed in range(20)}
    for label, traced in found.items():
        yield f"forward {label}", traced.forward, FORWARD_PASSES
        yield f"backward {label}", traced.backward, BACKWARD_PASSES
    for seed in range(40):
        yield f"random {seed}", draw_program(seed), FORWARD_PASSES


@pytest.mark.parametrize(("rows", "chunks"), [(1, 4), (6, 2), (1024, 1)])
def test_no_value_loses_its_array_while_it_is_needed(monkeypatch, rows, chunks):
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
def test_few_arrays_serve_a_loop(cell, arrays):
    """Without gradients, so that nothing need be kept."""
    program = traced_cell(cell).forward.program
    for rewrite in FORWARD_PASSES:
        program = rewrite(program)
    planned = plan(replace(program, ys=program.new_carry[:1]))
    storages = {planned.storage[value] for value in planned.operations("loop")}
    assert len({storage for storage in storages if storage[0] == "step"}) <= arrays < len(planned.operations("loop"))
