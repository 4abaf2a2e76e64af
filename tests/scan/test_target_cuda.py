"""The CUDA target: its source run by a stand-in on the host, and compiled by nvcc where there is one."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from support.stand_in_cuda import COMPILER
from support.stand_in_cupy import inner, ndarray, stand_in_cupy

from tests.scan.interpreter import Results
from tests.scan.programs import CELLS, LENGTH, run_in, traced_cell
from tests.scan.random_cells import difference, draw
from tests.scan.random_programs import draw_program
from tinygrad_gru import Tensor, compiling, grad, no_grad, op, ops, scan
from tinygrad_gru.backend import PRELUDE, Cuda, astype, available, capturing, resolve, tf32, xp_of
from tinygrad_gru.backend.cuda import device as cuda
from tinygrad_gru.nn import GRU, LSTM, GRUCell, LSTMCell
from tinygrad_gru.scan import explain
from tinygrad_gru.scan.plan_cache import CompiledStep
from tinygrad_gru.scan.targets import cuda as cuda_target
from tinygrad_gru.scan.targets.cuda import CudaTarget
from tinygrad_gru.scan.targets.source import build
from tinygrad_gru.scan.tracing.trace import Trace
from tinygrad_gru.scan.tracing.traced_array import Untraceable
from tinygrad_gru.scan.tracing.tracer import trace_forward

pytestmark = [
    pytest.mark.skipif("cupy" in available(), reason="CuPy itself is here, and the other tests run on it"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler to stand in for CUDA's"),
]
RANDOM_CELLS, RANDOM_PROGRAMS = 6, 30


#: The module; the package has a function of its name.
scan_api = importlib.import_module("tinygrad_gru.scan.api")


def run_built(program, example):
    """The results of a program: run directly, and as a graph."""
    name = "backward" if example.reverse else "forward"
    executable = build(CudaTarget(resolve("cupy")), program, name, example.kept)
    work = executable.workspace(LENGTH, example.reverse, {})
    for _ in range(2):
        found = run_in(work, executable, replace(example, program=program), there=lambda a: ndarray(np.asarray(a)))
        yield Results(*([inner(a).copy() for a in part] for part in (found.carry, found.ys, found.sums)))
    assert work.graphs.captured


def assert_equals_interpreter(example, hint, tolerance=1e-9):
    expected = example.run().arrays()
    for found in run_built(example.program, example):
        for right, array in zip(expected, found.arrays(), strict=True):
            scale = max(1.0, np.abs(right).max(initial=0.0))
            assert np.abs(right - array).max(initial=0.0) <= tolerance * scale, hint


@pytest.mark.parametrize("rows", [1, 6, 1024], ids=lambda rows: f"chunks of {rows} rows")
@pytest.mark.parametrize("cell", CELLS)
def test_cells(cell, rows, cupy, monkeypatch):
    monkeypatch.setattr(cuda_target, "_CHUNK_ROWS", rows)
    for example in traced_cell(cell).examples().values():
        assert_equals_interpreter(example, cell)


@pytest.mark.parametrize("first", range(0, RANDOM_PROGRAMS, 10))
def test_random_programs(first, rng, cupy, monkeypatch):
    refused = []
    for seed in range(first, first + 10):
        monkeypatch.setattr(cuda_target, "_CHUNK_ROWS", int(rng.choice([1, 6, 1024])))
        try:
            assert_equals_interpreter(draw_program(seed), seed)
        except Untraceable as reason:
            refused.append(str(reason))
    assert len(refused) < 5, refused


# -- compiled by nvcc --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, the compiler for a GPU")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_kernels_compile_with_nvcc(dtype, tmp_path, cupy):
    """With all functions that an expression can call; without warnings and without spilled registers."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    layer = {"layer_norm": True} if dtype == "float32" else {}
    programs = []
    there = {"dtype": dtype, "device": "cupy"}
    for cell in (GRUCell(24, 96, **there), LSTMCell(24, 96, **there, **layer), LSTMCell(8, 24, **there)):
        states = tuple(Tensor(np.zeros((32, cell.hidden_size)), device="cupy").astype(dtype) for _ in cell.states)
        xs = Tensor(np.zeros((3, 32, cell.input_size)), device="cupy").astype(dtype)
        forward = trace_forward(cell.step, states if len(states) > 1 else states[0], xs)
        made = CompiledStep(Trace.of(forward, [True]), "cuda")
        programs += [made.forward, made.backward()]
    every = """extern "C" __global__ void every(real* a, bool* b, int64* n) {
        const real x = a[0];
        const real sums = log(x) + log1p(x) + expm1(x) + sqrt(x) + sin(x) + cos(x) + abs(x) + sign(x) + plus(x, x);
        const real others = power(x, real(2.5)) + minimum(x, real(nan)) + maximum(x, real(inf)) + exp_real(x);
        b[0] = not (b[1] != 0);
        n[0] = int64(abs(maximum(n[0], int64(3))));
        a[0] = select(true, sums, others) + tanh_real(x);
    }""".replace("real", "float32" if dtype.endswith("16") else dtype)
    for i, program in enumerate(programs):
        file = tmp_path / f"{i}.cu"
        file.write_text("\n".join([PRELUDE, program.source.loop.text, every]))
        command = ["nvcc", "-std=c++14", "-cubin", "-arch=sm_80", "-Xptxas=-v", "-diag-suppress=177", "-o", "/dev/null"]
        result = subprocess.run([*command, str(file)], capture_output=True, text=True)
        assert result.returncode == 0 and "warning" not in result.stderr, result.stderr
        assert not re.search("[1-9][0-9]* bytes spill", result.stderr)


# -- with the stand-in for CuPy ----------------------------------------------------------------------------------------


def results(layer, x, device, compiled=True):
    """The output, the state and all gradients of a layer on a device."""
    layer.to(device).zero_grad()
    x = Tensor(x, requires_grad=True, device=device)
    with compiling(compiled):
        output, state = layer(x)
    weights = Tensor(np.linspace(-1, 1, output.size, dtype=str(output.dtype)).reshape(output.shape), device=device)
    (output * weights).sum().backward()
    states = state if isinstance(state, tuple) else (state,)
    return [output.numpy(), *(s.numpy() for s in states), x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())]


@pytest.mark.parametrize(
    ("make", "dtype", "tolerance"),
    [
        (lambda dtype: GRU(3, 5, num_layers=2, bidirectional=True, dtype=dtype), "float32", 1e-5),
        (lambda dtype: LSTM(3, 5, dtype=dtype), "float64", 1e-12),
        (lambda dtype: LSTM(3, 5, layer_norm=True, dtype=dtype), "float64", 1e-12),
        (lambda dtype: LSTM(3, 5, dtype=dtype), "float16", 2e-2),
    ],
    ids=["GRU", "LSTM", "LSTM with layer norm", "LSTM in half precision"],
)
def test_layers(make, dtype, tolerance, cupy, rng):
    layer = make(dtype)
    x = rng.standard_normal((7, 4, 3)).astype(dtype)
    expected = results(layer, x, "numpy", compiled=False)
    for _ in range(3):  # directly, captured, and replayed
        for right, found in zip(expected, results(layer, x, "cupy"), strict=True):
            assert found.dtype == right.dtype
            assert np.abs(right - found).max() <= tolerance * max(1.0, float(np.abs(right).max()))


def test_bfloat16(cupy, rng, monkeypatch):
    """It is only a storage format, so the results are those of float32 to its precision."""
    pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(scan_api, "scan_eager", None)
    reference = LSTM(3, 5, layer_norm=True)
    x = rng.standard_normal((7, 4, 3)).astype("float32")
    expected = results(reference, x, "numpy")
    layer = LSTM(3, 5, layer_norm=True, dtype="bfloat16", device="cupy")
    for mine, parameter in zip(layer.parameters(), reference.to("cupy").parameters()):
        mine.data = parameter.detach().astype("bfloat16").data
    for _ in range(3):
        there = Tensor(x, requires_grad=True, device="cupy", dtype="bfloat16")
        output, (h, c) = layer(there)
        weights = Tensor(np.linspace(-1, 1, output.size).reshape(output.shape), device="cupy", dtype="bfloat16")
        (output * weights).sum().backward()
        found = [output, h, c, there.grad, *(p.grad for p in layer.parameters())]
        for right, other in zip(expected, found, strict=True):
            assert str(other.dtype) == "bfloat16"
            assert np.abs(right - other.astype("float32").numpy()).max() <= 0.05 * max(1.0, np.abs(right).max())
        layer.zero_grad()


def test_the_third_pass_launches_only_graphs(cupy, rng, monkeypatch):
    monkeypatch.setattr(scan_api, "scan_eager", None)
    layer, x = GRU(3, 5, dtype="float64"), rng.standard_normal((6, 2, 3))
    for _ in range(2):
        results(layer, x, "cupy")
    monkeypatch.setattr(cuda._Kernel, "__call__", None)
    monkeypatch.setattr(Cuda, "product", None)
    results(layer, x, "cupy")


@pytest.mark.parametrize("seed", range(RANDOM_CELLS))
def test_random_cells(seed, cupy):
    for length, reverse in ((1, False), (5, True)):
        assert difference(draw(seed), length, reverse, device="cupy", times=3) < 1e-10


@pytest.mark.parametrize(("cell", "launches"), [("RNN", (2, 2)), ("GRU", (4, 4)), ("LSTM", (2, 2))])
def test_launches_per_step(cell, launches):
    """As many kernels as products, for the kernel that ends a step is fused with that which begins the next."""
    for example, count in zip(traced_cell(cell).examples().values(), launches, strict=True):
        assert build(CudaTarget(), example.program, "program", example.kept).source.calls.step == count


BOUNDARIES = {
    "the carry in another order": lambda h, x, U: ops.tanh(h[:, ::-1] * x) @ U + x,
    "what begins a step in another order": lambda h, x, U: (lambda s: s @ U + s[:, ::-1])(ops.tanh(h + x)),
    "what was joined": lambda h, x, U: (lambda c: c[:, 2:] @ U + c[:, 1:5])(
        ops.concatenate([ops.tanh(h), ops.sigmoid(h + x)], axis=1)[:, :6]
    ),
    "nothing": lambda h, x, U: ops.tanh(h) @ U + x,
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_no_fused_boundary_where_a_step_ends_by_reading_what_the_next_writes(name, cupy, rng):
    U, h, x = (rng.standard_normal(shape) for shape in ((4, 4), (3, 4), (5, 3, 4)))

    def run(device, compiled):
        weights, start, xs = (Tensor(array, device=device) for array in (U, h, x))
        with no_grad(), compiling(compiled):
            return scan(lambda h, x: BOUNDARIES[name](h, x, weights), start, xs)[1].numpy()

    for _ in range(2):
        np.testing.assert_allclose(run("cupy", True), run("numpy", False), rtol=0, atol=1e-12)


def test_no_fused_boundary_where_the_first_kernel_writes_the_carry(cupy, rng):
    U, h, c, x = (rng.standard_normal(shape) for shape in ((4, 4), (3, 4), (3, 4), (5, 3, 4)))

    def run(device, compiled):
        weights, first, second, xs = (Tensor(array, device=device) for array in (U, h, c, x))

        def step(carry, x):
            new = ops.tanh(carry[0] + x)
            return (new @ weights + carry[1][:, ::-1], new), carry[0]

        with no_grad(), compiling(compiled):
            return scan(step, (first, second), xs)[1].numpy()

    for _ in range(2):
        np.testing.assert_allclose(run("cupy", True), run("numpy", False), rtol=0, atol=1e-12)


def test_tf32_has_graphs_of_its_own(cupy, rng, monkeypatch):
    layer, x = GRU(3, 5), rng.standard_normal((6, 2, 3)).astype("float32")
    for _ in range(2):
        results(layer, x, "cupy")
    captured = []
    capture = Cuda.graph
    monkeypatch.setattr(Cuda, "graph", lambda self, work: captured.append(work) or capture(self, work))
    results(layer, x, "cupy")
    assert not captured
    with tf32():
        results(layer, x, "cupy")
        assert len(captured) == 2, "one forward, one backward"
    results(layer, x, "cupy")
    assert len(captured) == 2, "those of before are there still"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_rounds_to_nearest_even(dtype, cupy, rng, monkeypatch):
    """Infinities and NaN are preserved."""
    monkeypatch.setattr(scan_api, "scan_eager", None)
    if dtype == "bfloat16":
        target = pytest.importorskip("ml_dtypes").bfloat16
    else:
        target = np.float16
    ties = np.ldexp(1 + np.arange(64) / 512, np.arange(-32, 32) // 3)
    x = np.concatenate(
        [rng.standard_normal(500) * 10.0 ** rng.integers(-6, 4, 500), ties, [np.inf, -np.inf, np.nan, 0.0]]
    )
    xs = Tensor(x.astype("float32").reshape(-1, 1, 4), device="cupy")
    for _ in range(2):
        _, found = scan(lambda h, x: (h, ops.astype(x * 1.0, dtype=dtype)), Tensor(np.zeros(1), device="cupy"), xs)
    with np.errstate(over="ignore"):
        expected = x.astype("float32").astype(target)
    np.testing.assert_array_equal(inner(found.data).ravel().astype("float32"), expected.astype("float32"))


def test_arrays_on_two_gpus_say_what_to_move(monkeypatch, rng):
    with stand_in_cupy(monkeypatch, devices=2):
        layer = GRU(3, 4).to("cupy:1")
        with pytest.raises(ValueError, match=r"the inputs are on cupy and cupy:1: move one"):
            layer(Tensor(rng.standard_normal((3, 2, 3)).astype("float32"), device="cupy"))


def test_capturing_off(cupy, rng):
    layer, x = GRU(3, 5, dtype="float64"), rng.standard_normal((6, 2, 3))
    expected = results(layer, x, "numpy")
    with capturing(False):
        for _ in range(3):
            for right, found in zip(expected, results(layer, x, "cupy"), strict=True):
                np.testing.assert_allclose(found, right, rtol=0, atol=1e-12)


def test_graphs_use_replaced_weights(cupy, rng):
    """Optimisers may replace the arrays of parameters."""
    layer, x = GRU(3, 5, dtype="float64"), rng.standard_normal((6, 2, 3))
    for _ in range(4):
        for parameter in layer.parameters():
            parameter.data = parameter.data * 0.9
        expected = results(layer, x, "numpy")
        for right, found in zip(expected, results(layer, x, "cupy"), strict=True):
            np.testing.assert_allclose(found, right, rtol=0, atol=1e-12)


def test_two_pending_backward_passes(cupy, rng):
    layer = GRU(3, 4, dtype="float64")
    first, second = rng.standard_normal((2, 6, 2, 3))
    expected = results(layer, first, "cupy")[2]
    for _ in range(2):
        x = Tensor(first, requires_grad=True, device="cupy")
        output, _ = layer(x)
        layer(Tensor(second, requires_grad=True, device="cupy"))[0].sum().backward()
        waiting = layer(Tensor(second, requires_grad=True, device="cupy"))[0]
        weights = Tensor(np.linspace(-1, 1, output.size).reshape(output.shape), device="cupy")
        (output * weights).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=0, atol=1e-14)
        waiting.sum().backward()


def test_second_derivatives_run_eagerly(cupy, rng):
    layer, x = GRU(3, 4, dtype="float64"), rng.standard_normal((3, 2, 3))

    def second(device):
        there = Tensor(x, requires_grad=True, device=device)
        layer.to(device)
        (first,) = grad((layer(there)[0] ** 2).sum(), [there], create_graph=True)
        return grad((first**2).sum(), there).numpy()

    np.testing.assert_allclose(second("cupy"), second("numpy"), rtol=1e-10)


@pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning")
def test_a_step_without_kernels_runs_eagerly_and_is_compiled_once(cupy, rng, monkeypatch):
    def step(h, x):
        return ops.tanh((h + x) // 0.5)

    h, x = (Tensor(rng.standard_normal(shape), device="cupy") for shape in ((2, 3), (4, 2, 3)))
    assert "it computes floor_divide" in explain(step, h, x, compiled="cuda")
    with no_grad():
        first = scan(step, h, x)[0].numpy()
        monkeypatch.setattr(CudaTarget, "emit", None)
        np.testing.assert_array_equal(scan(step, h, x)[0].numpy(), first)
        host = scan(step, h.to("numpy"), x.to("numpy"))
    np.testing.assert_allclose(first, host[0].numpy(), rtol=0, atol=1e-13)


def test_mixing_says_what_to_move(cupy, rng):
    layer = GRU(3, 4)
    with pytest.raises(TypeError, match=r"move"):
        layer(Tensor(rng.standard_normal((3, 2, 3)).astype("float32"), device="cupy"))


def test_compiled_cuda_on_host_arrays_raises(rng):
    cell = GRUCell(3, 4)
    h, x = Tensor(np.zeros((2, 4), "float32")), Tensor(np.zeros((3, 2, 3), "float32"))
    assert "__global__ void forward_1" in explain(cell.step, h, x, compiled="cuda")
    with pytest.raises(ValueError, match="'cuda' is for arrays on a GPU, got NumPy arrays"):
        scan(cell.step, h, x, compiled="cuda")


def test_a_sum_that_the_backward_pass_is_given_is_not_computed_again():
    """A float32 sum of half precision is stored for a rule that casts it: its terms are not inputs of the backward."""

    @op
    def total(x):
        return xp_of(x).sum(astype(x, "float32"), axis=0)

    total.vjp(
        x=lambda g, y, x_shape: ops.broadcast_to(
            ops.astype(g, dtype="float16") * ops.astype(y, dtype="float16"), shape=x_shape
        )
    )
    h = Tensor(np.ones((2, 3), "float16"), requires_grad=True)

    def step(h, x):
        return ops.broadcast_to(ops.astype(ops.tanh(total(x + h)), dtype="float16"), shape=(2, 3))

    assert "extern" in str(explain(step, h, Tensor(np.ones((4, 2, 3), "float16")), compiled="cuda"))
