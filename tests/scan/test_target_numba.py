"""The numba target: its source run by Python, compiled by numba, and the fallback to NumPy."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

numba = pytest.importorskip("numba")

# ruff: noqa: E402  (what follows imports numba)
from tests.scan.agreement import results_of_layer
from tests.scan.programs import CELLS, LENGTH, run_in, traced_cell
from tests.scan.random_cells import difference, draw
from tests.scan.random_programs import draw_program
from tinygrad_gru import Tensor, compiling, grad, manual_seed, no_grad, ops, scan
from tinygrad_gru.nn import GRU, LSTM, GRUCell
from tinygrad_gru.scan import explain
from tinygrad_gru.scan import plan_cache as compiled_module
from tinygrad_gru.scan.passes import pack
from tinygrad_gru.scan.targets import numba as numba_target
from tinygrad_gru.scan.targets import numba_math
from tinygrad_gru.scan.targets.source import build
from tinygrad_gru.scan.tracing.traced_array import Untraceable

RANDOM_CELLS, RANDOM_PROGRAMS = 6, 150

# -- the source of a loop, run by Python itself ------------------------------------------------------------------------


def run_by_python(source, filename):
    """Run the source of a loop without numba, on NumPy's functions."""

    def pointer(dtype):
        return lambda address: np.frombuffer((ctypes.c_byte * 2**24).from_address(int(address)), dtype)

    def product(m, k, n, a, a_start, a_row, a_column, b, b_start, width, c, c_start, c_row):
        panels = b[b_start:][: -(-n // width) * k * width].reshape(-1, k, width)
        left = as_strided(a[a_start:], (m, k), (a_row * a.itemsize, a_column * a.itemsize))
        for p, panel in enumerate(panels):
            column = min(p * width, n - width)
            for row in range(m):
                c[c_start + row * c_row + column :][:width] = left[row] @ panel

    functions = {name: getattr(np, name) for name in numba_math.IN_LOOPS if hasattr(np, name)}
    functions |= {f"pointer_{name}": pointer(name) for name in numba_math.POINTERS} | {"pointer_bool": pointer("int8")}
    functions |= {f"{name}_{dtype}": getattr(np, name) for name in ("exp", "tanh") for dtype in ("float32", "float64")}
    functions |= {"noalias": lambda f: f, "entry": lambda f: f, "product": product, "plus": np.add}
    functions |= {"select": lambda condition, a, b: a if condition else b}
    exec(compile(source, filename, "exec"), functions)
    return functions["loop"]


@pytest.fixture
def by_python(monkeypatch):
    monkeypatch.setattr(numba_target, "_compiled", run_by_python)


def run_built(program, example, threads=1):
    name = "backward" if example.reverse else "forward"
    executable = build(numba_target.NumbaTarget(threads), program, name, example.kept)
    work = executable.workspace(LENGTH, example.reverse, {})
    return run_in(work, executable, replace(example, program=program))


def assert_equals_interpreter(example, hint, threads=1, tolerance=1e-9):
    found = run_built(example.program, example, threads)
    for right, array in zip(example.run().arrays(), found.arrays(), strict=True):
        scale = max(1.0, np.abs(right).max(initial=0.0))
        assert np.abs(right - array).max(initial=0.0) <= tolerance * scale, hint


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 6, 1024], ids=lambda rows: f"chunks of {rows} rows")
@pytest.mark.parametrize("cell", CELLS)
def test_source_of_cells_in_python(cell, rows, threads, by_python, monkeypatch):
    monkeypatch.setattr(numba_target, "_CHUNK_ROWS", rows)
    for example in traced_cell(cell).examples().values():
        assert_equals_interpreter(example, cell, threads)


@pytest.mark.parametrize("first", range(0, RANDOM_PROGRAMS, 50))
def test_source_of_random_programs_in_python(first, rng, by_python, monkeypatch):
    refused = []
    for seed in range(first, first + 50):
        monkeypatch.setattr(numba_target, "_CHUNK_ROWS", int(rng.choice([1, 6, 1024])))
        try:
            assert_equals_interpreter(draw_program(seed), seed, threads=1 + seed % 2)
        except Untraceable as reason:
            refused.append(str(reason))
    assert len(refused) < 25, refused


# -- compiled by numba -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell):
    for example in traced_cell(cell).examples().values():
        assert_equals_interpreter(example, cell, tolerance=1e-12)


@pytest.mark.parametrize("seed", range(RANDOM_CELLS))
def test_random_cells(seed):
    cell = draw(seed)
    for length, reverse in ((1, False), (7, True)):
        assert difference(cell, length, reverse, "numba") < 1e-10, (seed, length, reverse)


@pytest.mark.parametrize(
    ("layer_type", "dtype", "tolerance", "mode"),
    [(GRU, "float32", 1e-4, "numba"), (LSTM, "float64", 1e-12, "numba"), (GRU, "float64", 1e-12, "numba:2")],
)
def test_layers_in_both_directions_at_several_lengths(layer_type, dtype, tolerance, mode, rng):
    manual_seed(0)
    layer = layer_type(3, 18, bidirectional=True, dtype=dtype)  # of eighteen columns two are more than a whole panel
    for length in (1, 40, 700):
        x = rng.standard_normal((length, 4, 3)).astype(dtype)
        for eager, found in zip(results_of_layer(layer, x, False), results_of_layer(layer, x, mode), strict=True):
            assert found.dtype == eager.dtype
            assert np.abs(eager - found).max() <= tolerance * max(1.0, float(np.abs(eager).max()))


def test_without_gradients_nothing_is_stored(rng):
    layer, x = LSTM(3, 4, dtype="float64"), Tensor(rng.standard_normal((9, 2, 3)))
    with no_grad():
        expected = layer(x)[0].numpy()
        with compiling("numba"):
            np.testing.assert_allclose(layer(x)[0].numpy(), expected, rtol=0, atol=1e-14)


def test_second_derivatives_run_eagerly(rng):
    layer, x = GRU(3, 4, dtype="float64"), Tensor(rng.standard_normal((3, 2, 3)), requires_grad=True)

    def second(mode):
        with compiling(mode):
            (first,) = grad((layer(x)[0] ** 2).sum(), [x], create_graph=True)
        return grad((first**2).sum(), x).numpy()

    np.testing.assert_allclose(second("numba"), second(False), rtol=1e-10)


# -- numba_math --------------------------------------------------------------------------------------------------------


def over(function, x):
    """A scalar function, compiled, applied to every element."""

    @numba.njit
    def apply(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    y = np.empty_like(x)
    apply(x, y)
    return y


def all_over(dtype):
    """Values of all magnitudes, to beyond the overflow of exp."""
    some = np.geomspace(np.finfo(dtype).tiny, 900, 200_001)
    return np.concatenate([np.linspace(-12, 12, 400_001), some, -some]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "ulps"), [("exp", 1), ("tanh", 3)])
def test_exp_and_tanh_to_a_few_ulps(name, ulps, dtype):
    x = all_over(dtype)
    y = over(numba_math.IN_LOOPS[f"{name}_{dtype}"], x)
    with np.errstate(all="ignore"):
        right = getattr(np, name)(x.astype(np.longdouble))
        rounded = right.astype(dtype)
        fine = np.isfinite(rounded) & (rounded != 0)
        assert (np.abs(y - right)[fine] <= ulps * np.spacing(np.abs(rounded[fine]))).all()
    np.testing.assert_array_equal(y[~fine], rounded[~fine])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_and_tanh_at_extremes(dtype):
    x = np.array([800, -800, np.inf, -np.inf, np.nan, 0, np.finfo(dtype).tiny], dtype)
    y = over(numba_math.IN_LOOPS[f"tanh_{dtype}"], x)
    np.testing.assert_array_equal(y, np.array([1, -1, 1, -1, np.nan, 0, np.finfo(dtype).tiny], dtype))
    y = over(numba_math.IN_LOOPS[f"exp_{dtype}"], x)
    np.testing.assert_array_equal(y, np.array([np.inf, 0, np.inf, 0, np.nan, 1, 1], dtype))
    assert (np.abs(over(numba_math.IN_LOOPS[f"tanh_{dtype}"], all_over(dtype))) <= 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_and_tanh_are_vectorised(dtype):
    """Else they would be calls of the C library, or one element at a time."""
    function, pointer = numba_math.IN_LOOPS[f"tanh_{dtype}"], numba_math.POINTERS[dtype]

    @numba_math.entry
    def loop(steps):
        x = pointer(steps[0])
        for i in range(1024):
            x[i] = function(x[i])

    (code,) = loop.inspect_llvm().values()
    assert any(f"fdiv contract <{n} x" in code for n in (2, 4, 8, 16))
    assert "call double @tanh" not in code and "call float @tanhf" not in code


def test_maximum_and_minimum_propagate_nan():
    a, b = (x.ravel() for x in np.meshgrid([1.0, -2.0, np.nan, np.inf], [0.0, 3.0, np.nan, -np.inf]))

    @numba.njit
    def pairs(a, b):
        return [(numba_math.maximum(x, y), numba_math.minimum(x, y)) for x, y in zip(a, b)]

    np.testing.assert_array_equal(pairs(a, b), np.stack([np.maximum(a, b), np.minimum(a, b)], axis=1))


@pytest.mark.parametrize(
    ("m", "k", "n", "dtype"),
    [(1, 5, 70, "float32"), (1, 3, 2, "float64"), (2, 7, 33, "float32"), (3, 4, 40, "float64"), (4, 1, 16, "float32"),
     (7, 6, 17, "float32"), (13, 9, 31, "float64"), (6, 0, 20, "float32")],
)  # fmt: skip
@pytest.mark.parametrize("transposed", [False, True])
def test_products(m, k, n, dtype, transposed, rng):
    """Of a slice of a concatenated array, or of a transposed one, into a slice of another, whose rest is unchanged."""
    a = rng.standard_normal((k, m + 2) if transposed else (m, k + 2)).astype(dtype)
    b, c = rng.standard_normal((k, n)).astype(dtype), np.zeros((m, n + 3), dtype)
    width = pack.panel_width(m, n, dtype)
    panels = np.empty((-(-n // width), k, width), dtype)
    numba_math.pack(b, panels)
    names = {"product": numba_math.product, "entry": numba_math.entry, "pointer": numba_math.POINTERS[dtype]}
    strides = (1, m + 2) if transposed else (k + 2, 1)
    source = (
        "@entry\ndef run(places):\n    a, b, c = pointer(places[0]), pointer(places[1]), pointer(places[2])\n"
        f"    product({m}, {k}, {n}, a, 2, {strides[0]}, {strides[1]}, b, 0, {width}, c, 1, {n + 3})"
    )
    exec(source, names)
    # A start of two is the third column; of a transposed one, the third row of what it was.
    a_start = a[:, 2:].T if transposed else a[:, 2:]
    names["run"](np.array([array.ctypes.data for array in (a, panels, c)]))
    np.testing.assert_allclose(c[:, 1:-2], a_start @ b, rtol=0, atol=1e-5 if dtype == "float32" else 1e-13)
    assert not c[:, 0].any() and not c[:, -2:].any()


# -- the fallback to NumPy ---------------------------------------------------------------------------------------------


def reason(step, carry, xs):
    lines = explain(step, carry, xs, compiled="numba").splitlines()
    return next((line for line in lines if line.startswith("numba does not compile")), "")


def test_unsupported_operations_fall_back_to_numpy(rng):
    W = Tensor(rng.standard_normal((2, 2)))
    carry, xs = Tensor(rng.standard_normal((3, 2, 2))), Tensor(rng.standard_normal((4, 3, 2, 2)))

    def step(h, x):
        return ops.tanh(h @ W + x)

    assert "matmul of 3 axes" in reason(step, carry, xs)
    found = [scan(step, carry, xs, compiled=mode)[1].numpy() for mode in (False, "numba")]
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_half_precision_falls_back_to_numpy():
    cell = GRUCell(3, 4, dtype="float16")
    assert "float16" in reason(cell.step, cell.initial_state(2), Tensor(np.zeros((5, 2, 3), "float16")))


def test_threads_share_only_independent_rows():
    def words(step):
        text = explain(step, Tensor(np.zeros((4, 2))), Tensor(np.zeros((5, 4, 2))), compiled="numba:2")
        return next(line for line in text.splitlines() if line.startswith("Forward"))

    assert "shared by 2 threads" in words(lambda h, x: ops.tanh(h + x))
    for dependent in (
        lambda h, x: h - ops.sum(h, axis=0) + x,
        lambda h, x: h[::-1] + x,
        lambda h, x: ops.tanh(Tensor(np.eye(4)) @ h + x),
        lambda h, x: h[:1] + x,
    ):
        assert "threads" not in words(dependent)
    three = explain(lambda h, x: h + x, Tensor(np.zeros((4, 2))), Tensor(np.zeros((5, 4, 2))), compiled="numba:3")
    assert "threads" not in three, "four rows are not three equal shares"


def test_targets_have_plans_of_their_own(monkeypatch):
    cache = compiled_module.PlanCache(8)
    monkeypatch.setattr(compiled_module, "_cache", cache)
    x = Tensor(np.ones((3, 2)))
    for mode in (True, "numba", True, "numba"):
        scan(lambda h, x: h + x, Tensor(np.zeros(2)), x, compiled=mode)
    assert len(cache.plans) == 2


@pytest.mark.parametrize("wrong", ["numbo", "numba:0", "numba:x", 2])
def test_unknown_targets(wrong):
    with pytest.raises(ValueError, match="expected True, False, 'cuda', 'numba'"):
        scan(lambda h, x: h + x, Tensor(np.zeros(2)), Tensor(np.ones((3, 2))), compiled=wrong)
    with pytest.raises(ValueError, match="compiled"), compiling(wrong):
        pass


def test_without_numba_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinygrad_gru.scan.targets.numba", None)  # cannot be imported
    with pytest.raises(ImportError, match=r"pip install tinygrad_gru\[numba\]"), compiling("numba"):
        pass


def test_numba_is_imported_on_first_use():
    program = (
        "import sys, numpy as np; from tinygrad_gru import Tensor; from tinygrad_gru.nn import GRU\n"
        "GRU(3, 4)(Tensor(np.zeros((5, 2, 3), 'float32')))\n"
        "assert not {'numba', 'llvmlite'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_more_threads_than_cores():
    with pytest.raises(ValueError, match=rf"asks for 999 threads, and this machine has {os.cpu_count()} cores"):
        scan(lambda h, x: h + x, Tensor(np.zeros(2)), Tensor(np.ones((3, 2))), compiled="numba:999")


def test_what_numba_refuses_is_said_in_our_words():
    source = "@entry\ndef loop(steps):\n    steps.unknown()\n"
    with pytest.raises(RuntimeError, match=r"(?s)compiled='numba': numba cannot .*; compiled=True runs .*unknown"):
        numba_math.compiled(source, "<scan forward>")
