"""Every rewrite keeps the results of a program, as the reference interpreter computes them, and has its effect."""

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
from tinygrad_gru.scan.tracing.traced_array import NAMESPACE, TracedArray

xp = NAMESPACE

PASSES = {"forward": FORWARD_PASSES, "backward": BACKWARD_PASSES}
EVERY_PASS = pytest.mark.parametrize(
    "rewrite", dict.fromkeys(FORWARD_PASSES + BACKWARD_PASSES), ids=lambda rewrite: rewrite.__name__
)
RANDOM_CELLS, RANDOM_PROGRAMS = 50, 50


def assert_same(example, program, hint=None, tolerance=1e-12):
    """Check that a program gives the results of the example's own, up to rounding."""
    assert (program.carry, program.xs) == (example.program.carry, example.program.xs)
    for before, after in zip(example.run().arrays(), example.run(program).arrays(), strict=True):
        assert (after.shape, after.dtype) == (before.shape, before.dtype), hint
        scale = np.abs(before).max(initial=1.0)
        np.testing.assert_allclose(after, before, rtol=0, atol=tolerance * scale, err_msg=hint)


def count(program, level):
    """How often each operation is at a level, without views, which cost nothing."""
    return Counter(value.op for value, found in schedule(program).items() if found == level and value.op not in VIEWS)


# -- results are kept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("direction", PASSES)
def test_results_of_the_library_cells_are_kept(cell, direction):
    """After each pass, in the order in which they run."""
    example = traced_cell(cell).examples()[direction]
    program = example.program
    for rewrite in PASSES[direction]:
        program = rewrite(program)
        assert_same(example, program, rewrite.__name__)


@EVERY_PASS
def test_results_of_random_cells_are_kept(rewrite):
    changed = 0
    for seed in range(RANDOM_CELLS):
        for direction, example in traced_random_cell(seed).examples().items():
            if rewrite in PASSES[direction]:
                program = rewrite(example.program)
                changed += program.outputs != example.program.outputs
                assert_same(example, program, f"{seed} {direction}")
    assert changed, "no program was rewritten, so nothing was tested"


@EVERY_PASS
def test_results_of_random_programs_are_kept(rewrite):
    for seed in range(RANDOM_PROGRAMS):
        example = draw_program(seed)
        assert_same(example, rewrite(example.program), f"{seed}", tolerance=1e-9)


def test_passes_in_any_order_keep_the_results(rng):
    for seed in range(RANDOM_PROGRAMS):
        example = draw_program(seed)
        program, rewrites = example.program, [FORWARD_PASSES[i] for i in rng.integers(len(FORWARD_PASSES), size=4)]
        for rewrite in rewrites:
            program = rewrite(program)
        assert_same(example, program, f"{seed} {[rewrite.__name__ for rewrite in rewrites]}", tolerance=1e-9)


def test_symbolic_zeros_give_the_results_of_arrays_of_zeros(rng):
    """No rule of the library is nonlinear in its cotangent."""
    shorter = 0
    for number, example in enumerate(traced_random_cell(seed).backward for seed in range(RANDOM_CELLS)):
        program = example.program
        inputs = (*program.carry, *program.xs)
        zeros = frozenset(value for value in inputs if value.op == "cotangent" and rng.random() < 0.5)
        carry, xs = (
            [0 * a if value in zeros else a for value, a in zip(values, arrays)]
            for values, arrays in ((program.carry, example.carry), (program.xs, example.xs))
        )
        kept = [a for value, a in zip(program.xs, xs) if value not in zeros]
        smaller = propagate_zeros(program, zeros)
        assert smaller.xs == tuple(value for value in program.xs if value not in zeros)
        expected = interpret(program, carry, [x[:1] for x in xs], 1)
        found = interpret(smaller, carry, [x[:1] for x in kept], 1)
        for right, array in zip(expected.arrays(), found.arrays(), strict=True):
            scale = np.abs(right).max(initial=1.0)
            np.testing.assert_allclose(array, right, rtol=0, atol=1e-9 * scale, err_msg=f"{number}")
        shorter += len(smaller.values()) < len(program.values())
    assert shorter > 20


@pytest.mark.parametrize("rewrite", [reassociate, collect], ids=lambda rewrite: rewrite.__name__)
def test_is_idempotent(rewrite):
    for cell in CELLS:
        for example in traced_cell(cell).examples().values():
            once = rewrite(example.program)
            assert rewrite(once).outputs == once.outputs


# -- rewritten formulas ---------------------------------------------------------------------------------------------

SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "matmul": "@"}


def rewritten(rewrite, formula, cotangents=""):
    """The text of a rewritten formula of the carry h and the xs x, y, z and b, which is a row."""
    graph, double, shape = Graph(), np.dtype("float64"), (3, 3)
    inputs = {
        name: graph.add(
            "cotangent" if name in cotangents else "carry" if name == "h" else "x", (), shape, double, position=i
        )
        for i, name in enumerate("hxyz")
    }
    inputs["b"] = graph.add("x", (), shape[1:], double, position=4)
    used = inspect.signature(formula).parameters
    result = formula(*(TracedArray(graph, inputs[name]) for name in used)).value
    program = Program(graph, (inputs["h"],), tuple(inputs[name] for name in "xyzb"), (result,), (), ())

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
        (lambda x, y, z: (x + y) + z, "(x + y) + z"),  # it does not depend on the carry
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
        (lambda h, x, y: h * x * y, "(h * x) * y"),  # x y may overflow or underflow
        (lambda h, x, y, z: h * x * xp.tanh(z) * y, "(h * (x * tanh(z))) * y"),
        (lambda h, x, y: h * x + h * xp.tanh(y), "h * (x + tanh(y))"),
        (lambda h, x, y: h * x - xp.tanh(y) * h, "h * (x - tanh(y))"),
        (lambda h, x, y: h * x + -(h * xp.tanh(y)), "h * (x - tanh(y))"),
        (lambda h, x, y: -(h * xp.tanh(x)) + h * y, "h * (y - tanh(x))"),
        (lambda h, x, y: h * xp.tanh(x) - -(h * y), "h * (tanh(x) + y)"),
        (lambda h, x, y: -(h * xp.tanh(x)) - h * y, "h * (negative(tanh(x)) - y)"),
        (lambda h, x, y: h * x + h * y, "(h * x) + (h * y)"),  # x + y may overflow
        (lambda h, x, y: h * x / y, "(h * x) / y"),
        (lambda h, x: 2 * h * 3 * x, "h * ((2 * 3) * x)"),
        (lambda h, x: 1e-30 * h * x, "(h * 1e-30) * x"),
        (lambda h, x, y: (h * x) @ y * x * xp.tanh(y), "((h * x) @ y) * (x * tanh(y))"),
        (lambda h, x, y: h * x + (h @ y) * x, "(h * x) + ((h @ y) * x)"),
        (lambda h, x: h * h * x, "(h * h) * x"),
        (lambda h, x, y: x / h * y, "(x / h) * y"),
        (lambda h, x, b: h * b * x, "(h * b) * x"),  # b broadcasts, so it is not moved
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
        (lambda h, x: x.__backend__.scatter((3, 3), [(0,), (1,)], [x[0], h[1]]), "scatter(zero, getitem(h))"),
        (lambda h, x: x.__backend__.scatter((3, 3), [(0,), (1,)], [x[0], x[1]]), "zero"),
    ],
)
def test_zeros_for_x(formula, expected):
    assert rewritten(lambda program: propagate_zeros(program, frozenset(program.xs[:1])), formula, "hx") == expected


@pytest.mark.parametrize(
    "formula",
    [
        lambda h, x: h + xp.tanh(x),
        lambda h, x, y: h + (x + y),
        lambda h, x, y: xp.where(y > 0, x, 1.0),
        lambda h, x: h / x,
    ],
    ids=["tanh", "sum with a constant", "where with a constant", "divisor"],
)
def test_zeros_of_a_nonlinear_rule_raise(formula):
    with pytest.raises(Nonlinear):
        rewritten(lambda program: propagate_zeros(program, frozenset(program.xs[:1])), formula, "hx")


# -- rewritten cells ------------------------------------------------------------------------------------------------

GATES = pytest.mark.parametrize(("cell", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])


@GATES
def test_reassociate_hoists_the_sum_with_the_bias(cell, gates):
    """x W + h U + b: only the sum with h U stays in the loop."""
    program = traced_cell(cell).forward.program
    after = reassociate(program)
    assert count(program, "loop") - count(after, "loop") == {"add": gates}
    assert count(after, "hoisted") - count(program, "hoisted") == {"add": gates}


@GATES
def test_collect_leaves_few_operations_in_the_backward_loop(cell, gates):
    """One product per gate, and each cotangent times one coefficient, which is hoisted."""
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
