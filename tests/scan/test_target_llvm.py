"""The llvm target: its source run by Python, compiled by LLVM, and the fallback to NumPy."""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import replace

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from tests.scan.agreement import results_of_layer
from tests.scan.programs import CELLS, LENGTH, run_in, traced_cell
from tests.scan.random_cells import difference, draw
from tests.scan.random_programs import draw_program
from tinygrad_gru import Tensor, compiling, grad, manual_seed, native, no_grad, ops, scan
from tinygrad_gru.native.library import FUNCTIONS
from tinygrad_gru.nn import GRU, LSTM, GRUCell
from tinygrad_gru.scan import explain
from tinygrad_gru.scan import plan_cache as compiled_module
from tinygrad_gru.scan.targets.llvm import target as llvm
from tinygrad_gru.scan.targets.source import build
from tinygrad_gru.scan.tracing.traced_array import Untraceable
from tinygrad_gru.writes import tick

RANDOM_CELLS, RANDOM_PROGRAMS = 6, 150

needs_llvm = pytest.mark.skipif(not native.is_available(), reason="llvmlite is not installed")

# -- the source of a loop, run by Python itself ------------------------------------------------------------------------


def run_by_python(source, name="loop", flushes=False):
    """Run the source of a loop on NumPy's functions; what packs operands is loaded as it is, which needs llvmlite."""

    def pointer(dtype):
        return lambda address: np.frombuffer((ctypes.c_byte * 2**24).from_address(int(address)), dtype)

    def product(m, k, n, a, a_start, a_row, a_column, b, b_start, width, c, c_start, c_row):
        panels = b[b_start:][: -(-n // width) * k * width].reshape(-1, k, width)
        left = as_strided(a[a_start:], (m, k), (a_row * a.itemsize, a_column * a.itemsize))
        for p, panel in enumerate(panels):
            column = min(p * width, n - width)
            for row in range(m):
                c[c_start + row * c_row + column :][:width] = left[row] @ panel

    def add_product(m, k, n, a, a_start, a_row, b, b_start, b_row, c, c_start, c_row):
        (left, right), c = (rows(k, m, a, a_start, a_row), rows(k, n, b, b_start, b_row)), rows(m, n, c, c_start, c_row)
        c += left.T @ right

    def add_rows(k, n, b, b_start, b_row, c, c_start):
        c[c_start:][:n] += rows(k, n, b, b_start, b_row).sum(0)

    def rows(k, n, array, start, stride):
        return as_strided(array[start:], (k, n), (stride * array.itemsize, array.itemsize))

    functions = {name: getattr(np, name) for name in (*FUNCTIONS, *native.DTYPES, "inf", "nan") if hasattr(np, name)}
    functions |= {f"pointer_{name}": pointer(name) for name in native.DTYPES} | {"pointer_bool": pointer("int8")}
    functions |= {f"{name}_{dtype}": getattr(np, name) for name in ("exp", "tanh") for dtype in ("float32", "float64")}
    functions |= {
        "product": product,
        "add_product": add_product,
        "add_rows": add_rows,
        "plus": np.add,
        "min": min,
        "max": max,
    }
    functions |= {"select": lambda condition, a, b: a if condition else b}
    exec(source, functions)
    return functions[name]


@pytest.fixture
def by_python(monkeypatch):
    monkeypatch.setattr(native, "function", run_by_python)


def run_built(program, example, threads=1):
    name = "backward" if example.reverse else "forward"
    executable = build(llvm.LLVMTarget(threads), program, name, example.kept)
    work = executable.workspace(LENGTH, example.reverse, {})
    return run_in(work, executable, replace(example, program=program))


def assert_equals_interpreter(example, hint, threads=1, tolerance=1e-9):
    found = run_built(example.program, example, threads)
    for right, array in zip(example.run().arrays(), found.arrays(), strict=True):
        scale = max(1.0, np.abs(right).max(initial=0.0))
        assert np.abs(right - array).max(initial=0.0) <= tolerance * scale, hint


@needs_llvm
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 6, 1024], ids=lambda rows: f"chunks of {rows} rows")
@pytest.mark.parametrize("cell", CELLS)
def test_source_of_cells_in_python(cell, rows, threads, by_python, monkeypatch):
    monkeypatch.setattr(llvm, "_CHUNK_ROWS", rows)
    for example in traced_cell(cell).examples().values():
        assert_equals_interpreter(example, cell, threads)


@needs_llvm
@pytest.mark.parametrize("first", range(0, RANDOM_PROGRAMS, 50))
def test_source_of_random_programs_in_python(first, rng, by_python, monkeypatch):
    refused = []
    for seed in range(first, first + 50):
        monkeypatch.setattr(llvm, "_CHUNK_ROWS", int(rng.choice([1, 6, 1024])))
        try:
            assert_equals_interpreter(draw_program(seed), seed, threads=1 + seed % 2)
        except Untraceable as reason:
            refused.append(str(reason))
    assert len(refused) < 25, refused


@needs_llvm
def test_sums_over_time_are_native_where_a_total_is_small():
    def backward(features, hidden):
        case = LSTM(features, hidden)
        with compiling("llvm"):
            case(Tensor(np.ones((3, 2, features), np.float32)))[0].sum().backward()
        (step,) = (s for s in compiled_module.compiled_steps() if s.target == "llvm" and s.born > before)
        (executable,) = step._backwards.values()
        return executable.source

    before = tick()
    small = backward(5, 8)
    assert small.plan.chunk_rows == 256 and len(small.loop.sums.positions) == 3 and "matmul" not in small.text
    before = tick()
    large = backward(5, 200)  # a total of 200 × 800
    assert large.plan.chunk_rows == 1024 and not large.loop.sums.lines and large.text.count("else: add") == 2


# -- compiled by LLVM --------------------------------------------------------------------------------------------------


@needs_llvm
@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell):
    for example in traced_cell(cell).examples().values():
        assert_equals_interpreter(example, cell, tolerance=1e-12)


@needs_llvm
@pytest.mark.parametrize("seed", range(RANDOM_CELLS))
def test_random_cells(seed):
    cell = draw(seed)
    for length, reverse in ((1, False), (7, True)):
        assert difference(cell, length, reverse, "llvm") < 1e-10, (seed, length, reverse)


@needs_llvm
@pytest.mark.parametrize(
    ("layer_type", "dtype", "tolerance", "mode"),
    [(GRU, "float32", 1e-4, "llvm"), (LSTM, "float64", 1e-12, "llvm"), (GRU, "float64", 1e-12, "llvm:2")],
)
def test_layers_in_both_directions_at_several_lengths(layer_type, dtype, tolerance, mode, rng):
    manual_seed(0)
    layer = layer_type(3, 18, bidirectional=True, dtype=dtype)  # of eighteen columns two are more than a whole panel
    for length in (1, 40, 700):
        x = rng.standard_normal((length, 4, 3)).astype(dtype)
        for eager, found in zip(results_of_layer(layer, x, False), results_of_layer(layer, x, mode), strict=True):
            assert found.dtype == eager.dtype
            assert np.abs(eager - found).max() <= tolerance * max(1.0, float(np.abs(eager).max()))


@needs_llvm
def test_gradients_that_vanish_become_zero_and_not_subnormal(rng):
    """A processor takes some hundred cycles for each subnormal: a GRU of 600 steps took 17 times as long with them."""
    manual_seed(0)
    gru, x = GRU(2, 16), rng.standard_normal((1200, 3, 2)).astype("float32")
    found = {}
    for mode in ("eager", "llvm:1", "llvm:2"):
        inputs = Tensor(x, requires_grad=True)
        with compiling(mode):
            gru(inputs)[0][-1].sum().backward()
        found[mode] = inputs.grad
    tiny = np.finfo("float32").tiny
    np.testing.assert_allclose(found["llvm:1"], found["eager"], rtol=1e-3, atol=1000 * tiny)
    np.testing.assert_array_equal(found["llvm:2"], found["llvm:1"])
    is_subnormal = {mode: (gradient != 0) & (abs(gradient) < tiny) for mode, gradient in found.items()}
    assert is_subnormal["eager"].any()
    is_x86 = importlib.import_module("tinygrad_gru.native.compiler").is_x86()
    assert not is_x86 or not is_subnormal["llvm:1"].any()
    assert np.float32(tiny) / 2 > 0  # nowhere else


@needs_llvm
@pytest.mark.parametrize("function", [ops.absolute, ops.relu], ids=lambda function: function.__name__)
def test_gradients_at_subnormal_inputs_are_those_of_eager_mode(function):
    found = {}
    for mode in ("eager", "llvm"):
        x = Tensor(np.full((6, 4, 32), 1e-39, "float32"), requires_grad=True)
        with compiling(mode):
            scan(lambda h, x: h + function(x), Tensor(np.zeros((4, 32), "float32")), x)[0].sum().backward()
        found[mode] = x.grad
    np.testing.assert_array_equal(found["llvm"], found["eager"])
    assert (found["eager"] == 1).all()


@needs_llvm
def test_without_gradients_nothing_is_stored(rng):
    layer, x = LSTM(3, 4, dtype="float64"), Tensor(rng.standard_normal((9, 2, 3)))
    with no_grad():
        expected = layer(x)[0].numpy()
        with compiling("llvm"):
            np.testing.assert_allclose(layer(x)[0].numpy(), expected, rtol=0, atol=1e-14)


@needs_llvm
def test_second_derivatives_run_eagerly(rng):
    layer, x = GRU(3, 4, dtype="float64"), Tensor(rng.standard_normal((3, 2, 3)), requires_grad=True)

    def second(mode):
        with compiling(mode):
            (first,) = grad((layer(x)[0] ** 2).sum(), [x], create_graph=True)
        return grad((first**2).sum(), x).numpy()

    np.testing.assert_allclose(second("llvm"), second(False), rtol=1e-10)


# -- the fallback to NumPy ---------------------------------------------------------------------------------------------


def reason(step, carry, xs):
    lines = explain(step, carry, xs, compiled="llvm").splitlines()
    return next((line for line in lines if line.startswith("llvm does not compile")), "")


@needs_llvm
def test_unsupported_operations_fall_back_to_numpy(rng):
    carry, xs = Tensor(rng.standard_normal((3, 2))), Tensor(rng.standard_normal((4, 3, 2)))

    def step(h, x):
        return ops.tanh((h + x) // 0.5)

    assert "computes floor_divide" in reason(step, carry, xs)
    found = [scan(step, carry, xs, compiled=mode)[1].numpy() for mode in (False, "llvm")]
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_half_precision_falls_back_to_numpy():
    cell = GRUCell(3, 4, dtype="float16")
    assert "float16" in reason(cell.step, cell.initial_state(2), Tensor(np.zeros((5, 2, 3), "float16")))


@needs_llvm
def test_targets_have_plans_of_their_own(monkeypatch):
    cache = compiled_module.PlanCache(8)
    monkeypatch.setattr(compiled_module, "_cache", cache)
    x = Tensor(np.ones((3, 2)))
    for mode in ("numpy", "llvm", "numpy", "llvm"):
        scan(lambda h, x: h + x, Tensor(np.zeros(2)), x, compiled=mode)
    assert len(cache.plans) == 2


@pytest.mark.parametrize("wrong", ["numbo", "llvm:0", "llvm:x", 2])
def test_unknown_targets(wrong):
    with pytest.raises(ValueError, match="expected True, False, 'cuda', 'llvm'"):
        scan(lambda h, x: h + x, Tensor(np.zeros(2)), Tensor(np.ones((3, 2))), compiled=wrong)
    with pytest.raises(ValueError, match="compiled"), compiling(wrong):
        pass


def test_without_llvmlite_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(native, "problem", lambda: "llvmlite is not installed: pip install tinygrad_gru[fast]")
    for name in ("llvm", "numba:2"):
        with pytest.raises(
            ImportError, match=rf"{name}.* cannot run: llvmlite is not installed: pip install tinygrad_gru\[fast\]"
        ):
            scan(lambda h, x: h + x, Tensor(np.zeros(2)), Tensor(np.ones((3, 2))), compiled=name)


def test_numba_is_another_name():
    text = explain(
        GRUCell(3, 4).step, Tensor(np.zeros((2, 4), "f")), Tensor(np.zeros((5, 2, 3), "f")), compiled="numba"
    )
    assert "a compiled loop" in text


@needs_llvm
def test_weights_that_are_replaced_or_written_are_read_again():
    random = np.random.default_rng(0)
    cell, x = GRUCell(3, 8), Tensor(random.standard_normal((4, 2, 3)).astype("float32"))
    for k in range(12):
        new = random.standard_normal((8, 8)).astype("float32")
        if k % 3 == 0:
            cell.U_h.data[...] = new
        else:
            cell.U_h.data = np.asfortranarray(new) if k % 3 == 1 else new
        found, expected = (scan(cell.step, cell.initial_state(2), x, compiled=mode)[1] for mode in ("llvm", False))
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


@needs_llvm
def test_sums_of_two_dtypes_are_in_one_loop():
    """Each is accumulated in a variable of its own dtype."""
    carry = Tensor(np.ones((2, 3), "float32")), Tensor(np.ones((4, 3)))

    def step(parts, _):
        return parts, tuple(ops.sum(part) for part in parts)

    _, sums = scan(step, carry, length=2, compiled="llvm")
    assert [(y.tolist(), y.dtype.name) for y in sums] == [([6, 6], "float32"), ([12, 12], "float64")]
