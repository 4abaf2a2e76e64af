"""Schedules: each value is computed as rarely, and for as many steps at once, as its operands allow."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scan.programs import CELLS, traced_cell, traced_random_cell
from tinygrad_gru.scan.ir import Graph, Program
from tinygrad_gru.scan.passes import collect, reassociate
from tinygrad_gru.scan.passes.schedule import batchable, schedule
from tinygrad_gru.scan.tracing.traced_array import NAMESPACE, TracedArray

ORDER = ["invariant", "hoisted", "loop", "sunk"]


@pytest.fixture
def traced():
    """Traced arrays: the carry h, an x and a weight W, all 3 × 3, and a carry g and an x v that are vectors."""
    graph, shapes = Graph(), {"h": (3, 3), "x": (3, 3), "W": (3, 3), "g": (3,), "v": (3,)}
    sources = {"h": "carry", "g": "carry", "x": "x", "v": "x", "W": "constant"}
    return {
        name: TracedArray(graph, graph.add(sources[name], (), shape, np.dtype("float64"), index=index))
        for index, (name, shape) in enumerate(shapes.items())
    }


def levels_of(traced, new, *ys, sums=()):
    """The levels of a program with that next h, in which g is unchanged."""
    h, g, x, v = (traced[name].value for name in "hgxv")
    outputs = [tuple(array.value for array in arrays) for arrays in (ys, sums)]
    return schedule(Program(traced["h"].graph, (h, g), (x, v), (new.value, g), *outputs))


def test_inputs_have_no_level(traced):
    assert levels_of(traced, traced["h"], traced["x"]) == {}


def test_loop_invariant_values_are_computed_once(traced):
    W, x, h = traced["W"], traced["x"], traced["h"]
    doubled = 2 * W
    levels = levels_of(traced, h + doubled * x)
    assert levels[W.value] == levels[doubled.value] == "invariant"


def test_values_that_depend_on_xs_alone_are_hoisted(traced):
    W, x, h = traced["W"], traced["x"], traced["h"]
    product = x @ W
    activity = NAMESPACE.tanh(product)
    new = h * activity
    levels = levels_of(traced, new)
    assert [levels[s.value] for s in (product, activity, new)] == ["hoisted", "hoisted", "loop"]


def test_values_that_no_later_step_uses_are_sunk(traced):
    W, x, h = traced["W"], traced["x"], traced["h"]
    new = h @ W + x
    y = NAMESPACE.tanh(new)
    gradient = x.mT @ y
    levels = levels_of(traced, new, y, sums=(gradient,))
    assert [levels[s.value] for s in (h @ W, new, y, gradient)] == ["loop", "loop", "sunk", "sunk"]
    assert levels[x.mT.value] == "hoisted"


def test_an_output_that_the_next_carry_depends_on_stays_in_the_loop(traced):
    h, x = traced["h"], traced["x"]
    y = h * x
    new = y + x
    assert set(levels_of(traced, new, y).values()) == {"loop"}


def test_a_value_that_depends_on_a_part_of_the_carry_but_no_carry_on_it_is_sunk(traced):
    h, g = traced["h"], traced["g"]
    y = h * g
    assert levels_of(traced, h + 1.0, y)[y.value] == "sunk"


def test_an_operation_that_cannot_be_batched_over_time_is_in_the_loop(traced):
    """A vector times a matrix: with an axis for time in front it would be another product."""
    W, v, h = traced["W"], traced["v"], traced["h"]
    squares = v * v
    product = squares @ W
    new = h * 2.0
    y = product + v
    after = NAMESPACE.tanh(h * y)
    levels = levels_of(traced, new, y, after)
    assert [levels[s.value] for s in (squares, product, y)] == ["hoisted", "loop", "loop"]
    assert levels[after.value] == "sunk"


def test_operands_of_an_operation_that_cannot_be_batched_over_time_are_in_the_loop(traced):
    W, v, h, g = traced["W"], traced["v"], traced["h"], traced["g"]
    scaled = g * v
    product = scaled @ W
    y = product * 2.0
    levels = levels_of(traced, h + 1.0, y)
    assert [levels[s.value] for s in (scaled, product, y)] == ["loop", "loop", "sunk"]


# -- of any program --------------------------------------------------------------------------------------------------


def programs():
    """Named programs, before and after passes."""
    found = {name: traced_cell(name) for name in CELLS} | {seed: traced_random_cell(seed) for seed in range(40)}
    for name, examples in found.items():
        for direction, example in examples.examples().items():
            yield f"{name} {direction}", example.program
            yield f"{name} {direction}, rewritten", reassociate(collect(example.program))


def test_no_value_is_computed_before_its_operands():
    for name, program in programs():
        levels = schedule(program)
        known = dict.fromkeys(program.carry, "loop") | dict.fromkeys(program.xs, "hoisted") | levels
        for value, level in levels.items():
            for operand in value.inputs:
                if operand.op != "scalar":
                    assert ORDER.index(known[operand]) <= ORDER.index(level), f"{name}: {value!r}"


def test_the_next_carry_is_never_sunk():
    for name, program in programs():
        levels = schedule(program)
        assert all(levels.get(value) != "sunk" for value in program.new_carry), name


def test_all_computed_values_and_no_others_have_a_level():
    for name, program in programs():
        expected = {v for v in program.values() if v.op != "scalar"} - {*program.carry, *program.xs}
        assert set(schedule(program)) == expected, name


def test_nothing_is_in_the_loop_without_need():
    """It depends on the carry, and the next carry on it, unless it cannot be batched over time."""
    for name, program in programs():
        levels, in_carry = schedule(program), program.depending_on(program.carry)
        changing = program.depending_on([*program.carry, *program.xs])
        users = {operand for value, level in levels.items() if level == "loop" for operand in value.inputs}
        for value, level in levels.items():
            in_loop = level == "loop" and value in batchable(levels)
            assert not in_loop or value in in_carry, f"{name}: {value!r} could be hoisted"
            assert not in_loop or value in users or value in program.new_carry, f"{name}: {value!r} could be sunk"
            assert level == "invariant" or value in changing, f"{name}: {value!r} could be computed once"
            assert level != "sunk" or value in in_carry, f"{name}: {value!r} could be hoisted"
