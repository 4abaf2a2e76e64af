"""Every pass keeps the values of a program, as a plain interpreter of listings finds them, and does what it is for."""

from __future__ import annotations

import inspect
from collections import Counter

import numpy as np
import pytest

from tests.scan.interpreter import interpret
from tests.scan.programs import CELLS, traced_cell, traced_random_cell
from tests.scan.random_programs import draw_program
from tinygrad_gru.scan.ir import Graph, Program
from tinygrad_gru.scan.passes import collect, reassociate, swap_where
from tinygrad_gru.scan.passes.schedule import VIEWS, schedule
from tinygrad_gru.scan.passes.symbolic_zeros import Nonlinear, propagate_zeros
from tinygrad_gru.scan.targets.numpy import BACKWARD_PASSES, FORWARD_PASSES
from tinygrad_gru.scan.tracing.traced_array import NAMESPACE, TRACING, TracedArray

xp = NAMESPACE

PASSES = {"forward": FORWARD_PASSES, "backward": BACKWARD_PASSES}
EVERY_PASS = pytest.mark.parametrize(
    "rewrite", dict.fromkeys(FORWARD_PASSES + BACKWARD_PASSES), ids=lambda rewrite: rewrite.__name__
)
RANDOM_CELLS, RANDOM_PROGRAMS = 50, 50


def assert_same(example, program, hint=None, tolerance=1e-12):
    """That another program gives what the example's own does, to rounding."""
    assert (program.carry, program.xs) == (example.program.carry, example.program.xs)
    for before, after in zip(example.run().arrays(), example.run(program).arrays(), strict=True):
        assert (after.shape, after.dtype) == (before.shape, before.dtype), hint
        scale = np.abs(before).max(initial=1.0)
        np.testing.assert_allclose(after, before, rtol=0, atol=tolerance * scale, err_msg=hint)


def count(program, level):
    """How often each operation is at that level; views cost nothing."""
    return Counter(value.op for value, found in schedule(program).items() if found == level and value.op not in VIEWS)


# -- values stay ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("direction", PASSES)
def test_our_cells_keep_their_values(cell, direction):
    """Pass by pass, in the order in which they are done."""
    example = traced_cell(cell).examples()[direction]
    program = example.program
    for rewrite in PASSES[direction]:
        program = rewrite(program)
        assert_same(example, program, rewrite.__name__)


@EVERY_PASS
def test_random_cells_keep_their_values(rewrite):
    changed = 0
    for seed in range(RANDOM_CELLS):
        for direction, example in traced_random_cell(seed).examples().items():
            if rewrite in PASSES[direction]:
                program = rewrite(example.program)
                changed += program.outputs != example.program.outputs
                assert_same(example, program, f"{seed} {direction}")
    assert changed, "else this would say nothing"


@EVERY_PASS
def test_random_programs_keep_their_values(rewrite):
    for seed in range(RANDOM_PROGRAMS):
        example = draw_program(seed)
        assert_same(example, rewrite(example.program), f"{seed}", tolerance=1e-9)


def test_passes_do_not_disturb_one_another(rng):
    """Some of them, in any order."""
    for seed in range(RANDOM_PROGRAMS):
        example = draw_program(seed)
        program, chosen = example.program, [FORWARD_PASSES[i] for i in rng.integers(len(FORWARD_PASSES), size=4)]
        for rewrite in chosen:
            program = rewrite(program)
        assert_same(example, program, f"{seed} {[rewrite.__name__ for rewrite in chosen]}", tolerance=1e-9)


def test_without_is_with_zeros(rng):
    """Cotangents of outputs that nobody used: left out, or zero. No rule of ours is nonlinear in its cotangent."""
    shorter = 0
    for number, example in enumerate(traced_random_cell(seed).backward for seed in range(RANDOM_CELLS)):
        program = example.program
        given = (*program.carry, *program.xs)
        absent = frozenset(value for value in given if value.op == "cotangent" and rng.random() < 0.5)
        carry, reads = (
            [0 * a if value in absent else a for value, a in zip(values, arrays)]
            for values, arrays in ((program.carry, example.carry), (program.xs, example.xs))
        )
        kept = [a for value, a in zip(program.xs, reads) if value not in absent]
        fewer = propagate_zeros(program, absent)
        assert fewer.xs == tuple(value for value in program.xs if value not in absent)
        expected = interpret(program, carry, [read[:1] for read in reads], 1)
        found = interpret(fewer, carry, [read[:1] for read in kept], 1)
        for right, array in zip(expected.arrays(), found.arrays(), strict=True):
            scale = np.abs(right).max(initial=1.0)
            np.testing.assert_allclose(array, right, rtol=0, atol=1e-9 * scale, err_msg=f"{number}")
        shorter += len(fewer.values()) < len(program.values())
    assert shorter > 20


@pytest.mark.parametrize("rewrite", [reassociate, collect], ids=lambda rewrite: rewrite.__name__)
def test_a_second_time_changes_nothing(rewrite):
    for cell in CELLS:
        for example in traced_cell(cell).examples().values():
            once = rewrite(example.program)
            assert rewrite(once).outputs == once.outputs


# -- what each is for: formulas ------------------------------------------------------------------------------------

SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "matmul": "@"}


def rewritten(rewrite, formula, cotangents=""):
    """What a pass makes of a formula in a carry h and in x, y and z, which are read, as text. b is a row."""
    graph, double, shape = Graph(), np.dtype("float64"), (3, 3)
    given = {
        name: graph.add(
            "cotangent" if name in cotangents else "carry" if name == "h" else "x", (), shape, double, position=i
        )
        for i, name in enumerate("hxyz")
    }
    given["b"] = graph.add("x", (), shape[1:], double, position=4)
    used = inspect.signature(formula).parameters
    result = formula(*(TracedArray(graph, given[name]) for name in used)).value
    program = Program(graph, (given["h"],), tuple(given[name] for name in "xyzb"), (result,), (), ())

    def text(value):
        if value.op == "zeros":
            return "zero"
        if value.op in ("carry", "x", "cotangent"):
            return "hxyzb"[value["position"]]
        if value.op == "scalar":
            return f"{value['value']}"
        parts = [text(i) for i in value.inputs]
        return f"({parts[0]} {SIGNS[value.op]} {parts[1]})" if value.op in SIGNS else f"{value.op}({', '.join(parts)})"

    (new,) = rewrite(program).new_carry
    return text(new).removeprefix("(").removesuffix(")") if new.op in SIGNS else text(new)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda h, x, y: x + h @ x + y, "(x + y) + (h @ x)"),
        (lambda h, x, y: x + (h @ x + y), "(x + y) + (h @ x)"),
        (lambda h, x, y, z: (x + h @ y) + (z + y), "(x + (z + y)) + (h @ y)"),
        (lambda h, x, b: x + h @ x + b, "(x + b) + (h @ x)"),
        (lambda h, x, y: (x + h @ x + y) + h * x, "((x + y) + (h @ x)) + (h * x)"),
        (lambda h, x, y: h + x + y, "(h + x) + y"),  # h and x may cancel
        (lambda h, x, y: x + (h + y), "x + (h + y)"),
        (lambda h, x, y: (h @ x + h * x) + y, "((h @ x) + (h * x)) + y"),
        (lambda x, y, z: (x + y) + z, "(x + y) + z"),  # nothing here depends on the carry
        (lambda h, x, y: (h - x) + y, "(h - x) + y"),
        (lambda h, x, y: ((s := h @ x + x) + y) * s, "((x + (h @ x)) + y) * (x + (h @ x))"),  # it has two uses
    ],
)
def test_reassociate(formula, expected):
    assert rewritten(reassociate, formula) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda h, x, y: h * x * xp.tanh(y), "h * (x * tanh(y))"),
        (lambda h, x, y: x * (h * xp.sin(y)), "h * (sin(y) * x)"),
        (lambda h, x, y, z: h * x * xp.tanh(y) * xp.tanh(z), "h * ((x * tanh(y)) * tanh(z))"),
        (lambda h, x, y: h * x * y, "(h * x) * y"),  # x y may be too large or too small
        (lambda h, x, y, z: h * x * xp.tanh(z) * y, "(h * (x * tanh(z))) * y"),
        (lambda h, x, y: h * x + h * xp.tanh(y), "h * (x + tanh(y))"),
        (lambda h, x, y: h * x - xp.tanh(y) * h, "h * (x - tanh(y))"),
        (lambda h, x, y: h * x + -(h * xp.tanh(y)), "h * (x - tanh(y))"),
        (lambda h, x, y: -(h * xp.tanh(x)) + h * y, "h * (y - tanh(x))"),
        (lambda h, x, y: h * xp.tanh(x) - -(h * y), "h * (tanh(x) + y)"),
        (lambda h, x, y: -(h * xp.tanh(x)) - h * y, "h * (negative(tanh(x)) - y)"),
        (lambda h, x, y: h * x + h * y, "(h * x) + (h * y)"),  # x + y may be too large
        (lambda h, x, y: h * x / y, "(h * x) / y"),
        (lambda h, x: 2 * h * 3 * x, "h * ((2 * 3) * x)"),
        (lambda h, x: 1e-30 * h * x, "(h * 1e-30) * x"),
        (lambda h, x, y: (h * x) @ y * x * xp.tanh(y), "((h * x) @ y) * (x * tanh(y))"),
        (lambda h, x, y: h * x + (h @ y) * x, "(h * x) + ((h @ y) * x)"),
        (lambda h, x: h * h * x, "(h * h) * x"),
        (lambda h, x, y: x / h * y, "(x / h) * y"),
        (lambda h, x, b: h * b * x, "(h * b) * x"),  # b broadcasts, so it is multiplied with where it stands
    ],
)
def test_collect(formula, expected):
    assert rewritten(collect, formula) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda h, x, y: xp.where(x > y, h * x, y), "where(logical_not(greater(x, y)), y, (h * x))"),
        (lambda h, x, y: xp.where(x > y, y, h * x), "where(greater(x, y), y, (h * x))"),
        (lambda h, x, y: xp.where(h > y, h * x, y), "where(greater(h, y), (h * x), y)"),  # no gain
        (lambda h, x, y: (p := h * x) + xp.where(x > y, p, y), "(h * x) + where(greater(x, y), (h * x), y)"),
    ],
)
def test_overwrite(formula, expected):
    assert rewritten(swap_where, formula) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda h, x: h + x, "h"),
        (lambda h, x: h - x, "h"),
        (lambda h, x: x - h, "negative(h)"),
        (lambda h, x, y: h + x * y, "h"),
        (lambda h, x, y: h + (x @ y).mT, "h"),
        (lambda h, x, y: x * y + x, "zero"),
        (lambda h, x, y: x / y, "zero"),
        (lambda h, x, y: xp.where(y > 0, x, 0.0), "zero"),
        (lambda h, x, y: xp.where(y > 0, x, h), "where(greater(y, 0), zero, h)"),
        (lambda h, x: TRACING.scatter((3, 3), [(0,), (1,)], [x[0], h[1]]), "scatter(zero, getitem(h))"),
        (lambda h, x: TRACING.scatter((3, 3), [(0,), (1,)], [x[0], x[1]]), "zero"),
    ],
)
def test_without_x(formula, expected):
    assert rewritten(lambda program: propagate_zeros(program, frozenset(program.xs[:1])), formula, "hx") == expected


@pytest.mark.parametrize(
    "formula",
    [
        lambda h, x: h + xp.tanh(x),
        lambda h, x, y: h + (x + y),
        lambda h, x, y: xp.where(y > 0, x, 1.0),
        lambda h, x: h / x,
    ],
    ids=["tanh", "plus a constant", "or a constant", "divisor"],
)
def test_without_says_what_it_cannot_know(formula):
    with pytest.raises(Nonlinear):
        rewritten(lambda program: propagate_zeros(program, frozenset(program.xs[:1])), formula, "hx")


# -- what each is for: cells ---------------------------------------------------------------------------------------

GATES = pytest.mark.parametrize(("cell", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])


@GATES
def test_reassociate_adds_the_bias_before_the_loop(cell, gates):
    """x W + h U + b: only the sum with h U stays in the loop."""
    program = traced_cell(cell).forward.program
    after = reassociate(program)
    assert count(program, "loop") - count(after, "loop") == {"add": gates}
    assert count(after, "hoisted") - count(program, "hoisted") == {"add": gates}


@GATES
def test_collect_leaves_few_operations_in_the_loop_of_backward(cell, gates):
    """A product a gate, and each cotangent times one coefficient; what the coefficients are made of is known before."""
    program = traced_cell(cell).backward.program
    before, after = count(program, "loop"), count(collect(program), "loop")
    expected = {
        "RNN": {"add": 1, "multiply": 1, "matmul": 1},
        "GRU": {"add": 4, "multiply": 5, "matmul": 3},
        "LSTM": {"add": 5, "multiply": 6, "matmul": 4},
    }
    assert after == expected[cell]
    assert before["matmul"] == after["matmul"] == gates
    assert before.total() == {"RNN": 3, "GRU": 18, "LSTM": 20}[cell]
