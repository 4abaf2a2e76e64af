"""The level of a value says when it is computed: as seldom and in as large batches as its operands allow."""

from __future__ import annotations

import numpy as np
import pytest

from tests.scan.programs import CELLS, traced_cell, traced_random_cell
from tinygrad_gru.scan.ir import Graph, Program
from tinygrad_gru.scan.passes import collect, reassociate
from tinygrad_gru.scan.passes.schedule import schedule
from tinygrad_gru.scan.tracing.traced_array import NAMESPACE, TracedArray

ORDER = ["invariant", "hoisted", "loop", "sunk"]


@pytest.fixture
def symbols():
    """A carry h, a read x and a weight W in one listing, all 3 × 3; h and x are also had as vectors, g and v."""
    graph, shapes = Graph(), {"h": (3, 3), "x": (3, 3), "W": (3, 3), "g": (3,), "v": (3,)}
    kinds = {"h": "carry", "g": "carry", "x": "x", "v": "x", "W": "constant"}
    return {
        name: TracedArray(graph, graph.add(kinds[name], (), shape, np.dtype("float64"), index=index))
        for index, (name, shape) in enumerate(shapes.items())
    }


def levels_of(symbols, new, *each, sums=()):
    """The levels of a program that leaves g as it is, in the order of its listing."""
    h, g, x, v = (symbols[name].value for name in "hgxv")
    outputs = [tuple(y.value for y in ys) for ys in (each, sums)]
    return schedule(Program(symbols["h"].graph, (h, g), (x, v), (new.value, g), *outputs))


def test_what_is_given_has_no_level(symbols):
    assert levels_of(symbols, symbols["h"], symbols["x"]) == {}


def test_what_does_not_change_with_time_is_computed_once(symbols):
    W, x, h = symbols["W"], symbols["x"], symbols["h"]
    doubled = 2 * W
    levels = levels_of(symbols, h + doubled * x)
    assert levels[W.value] == levels[doubled.value] == "invariant"


def test_what_depends_on_xs_alone_is_hoisted(symbols):
    W, x, h = symbols["W"], symbols["x"], symbols["h"]
    product = x @ W
    activity = NAMESPACE.tanh(product)
    new = h * activity
    levels = levels_of(symbols, new)
    assert [levels[s.value] for s in (product, activity, new)] == ["hoisted", "hoisted", "loop"]


def test_what_no_later_step_needs_is_sunk(symbols):
    W, x, h = symbols["W"], symbols["x"], symbols["h"]
    new = h @ W + x
    y = NAMESPACE.tanh(new)
    gradient = x.mT @ y
    levels = levels_of(symbols, new, y, sums=(gradient,))
    assert [levels[s.value] for s in (h @ W, new, y, gradient)] == ["loop", "loop", "sunk", "sunk"]
    assert levels[x.mT.value] == "hoisted"


def test_what_leads_to_the_next_carry_stays_in_the_loop_though_it_is_an_output_too(symbols):
    h, x = symbols["h"], symbols["x"]
    y = h * x
    new = y + x
    assert set(levels_of(symbols, new, y).values()) == {"loop"}


def test_what_depends_on_a_part_of_the_carry_that_leads_nowhere_is_sunk(symbols):
    h, g = symbols["h"], symbols["g"]
    y = h * g
    assert levels_of(symbols, h + 1.0, y)[y.value] == "sunk"


def test_what_cannot_be_done_for_many_steps_at_once_is_done_in_the_loop(symbols):
    """The product of a vector and a matrix: with a first axis for time it would be another product."""
    W, v, h = symbols["W"], symbols["v"], symbols["h"]
    squares = v * v
    product = squares @ W
    new = h * 2.0
    y = product + v
    after = NAMESPACE.tanh(h * y)
    levels = levels_of(symbols, new, y, after)
    assert [levels[s.value] for s in (squares, product, y)] == ["hoisted", "loop", "loop"]
    assert levels[after.value] == "sunk"


def test_what_cannot_be_done_at_once_and_depends_on_the_carry_pulls_its_operands_into_the_loop(symbols):
    W, v, h, g = symbols["W"], symbols["v"], symbols["h"], symbols["g"]
    scaled = g * v
    product = scaled @ W
    y = product * 2.0
    levels = levels_of(symbols, h + 1.0, y)
    assert [levels[s.value] for s in (scaled, product, y)] == ["loop", "loop", "sunk"]


# -- of any program --------------------------------------------------------------------------------------------------


def programs():
    """Programs before and after passes, with a name for each."""
    found = {name: traced_cell(name) for name in CELLS} | {seed: traced_random_cell(seed) for seed in range(40)}
    for name, examples in found.items():
        for direction, example in examples.examples().items():
            yield f"{name} {direction}", example.program
            yield f"{name} {direction}, rewritten", reassociate(collect(example.program))


def test_nothing_is_computed_before_its_operands():
    for name, program in programs():
        levels = schedule(program)
        known = dict.fromkeys(program.carry, "loop") | dict.fromkeys(program.xs, "hoisted") | levels
        for value, level in levels.items():
            for operand in value.inputs:
                if operand.op != "scalar":
                    assert ORDER.index(known[operand]) <= ORDER.index(level), f"{name}: {value!r}"


def test_the_next_carry_is_known_at_the_end_of_a_step():
    for name, program in programs():
        levels = schedule(program)
        assert all(levels.get(value) != "sunk" for value in program.new_carry), name


def test_every_value_has_a_level_and_nothing_else_has():
    for name, program in programs():
        wanted = {v for v in program.values() if v.op != "scalar"} - {*program.carry, *program.xs}
        assert set(schedule(program)) == wanted, name


def test_nothing_is_in_the_loop_that_need_not_be():
    """It depends on the carry, and the next carry on it. (All operations of these cells can be done for many steps.)"""
    for name, program in programs():
        levels, in_carry = schedule(program), program.depending_on(program.carry)
        changing = program.depending_on([*program.carry, *program.xs])
        users = {operand for value, level in levels.items() if level == "loop" for operand in value.inputs}
        for value, level in levels.items():
            assert level != "loop" or value in in_carry, f"{name}: {value!r} could be hoisted"
            assert level != "loop" or value in users or value in program.new_carry, f"{name}: {value!r} could be sunk"
            assert level == "invariant" or value in changing, f"{name}: {value!r} could be computed once"
            assert level != "sunk" or value in in_carry, f"{name}: {value!r} could be hoisted"
