"""CUDA: where elements of the carry do not depend on each other, one kernel runs all steps."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from support.stand_in_cuda import COMPILER

from tests.scan.agreement import packed, unpacked
from tests.scan.linear_steps import (
    LINEAR,
    RandomLinear,
    arguments,
    chain,
    constant_part,
    decay_by_row,
    masked,
    min_gru,
    mixing,
    reset_by_state,
    squared,
    sru,
)
from tinygrad_gru import Tensor, explain, ops, scan
from tinygrad_gru.backend import PRELUDE, available
from tinygrad_gru.scan.plan_cache import CompiledStep
from tinygrad_gru.scan.targets import cuda as cuda_target
from tinygrad_gru.scan.tracing.trace import Trace
from tinygrad_gru.scan.tracing.tracer import trace_forward

pytestmark = [
    pytest.mark.skipif("cupy" in available(), reason="CuPy itself is here, and the other tests run on it"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler to stand in for CUDA's"),
]


def gated_by_state(h, x, W, U):
    """It is not linear, but elementwise."""
    z = ops.sigmoid(x @ W + 0.5 * h)
    return (1 - z) * h + z * ops.tanh(x @ U)


def swapped(carry, x, W, U):
    h, c = carry
    return (0.5 * c + x, h), h - c


ELEMENTWISE = {step: parts for step, parts in LINEAR.items() if step is not chain} | {
    gated_by_state: 1, squared: 1, reset_by_state: 1, swapped: 2,
}  # fmt: skip
LAUNCH = "one launch for all steps"


def results(step, carry, xs, weights, device, compiled, **options):
    there = [Tensor(t.numpy(), requires_grad=True, device=device) for t in (*carry, *xs, *weights)]
    count = len(carry)
    last, ys = scan(
        lambda h, x: step(h, x, *there[count + 1 :]), packed(there[:count]), there[count], compiled=compiled, **options
    )
    outputs = [*unpacked(last), *unpacked(ys)]
    return [*(y.numpy() for y in outputs), *gradients_of(outputs, there)]


def gradients_of(outputs, inputs):
    total = sum((ops.sin(y) * y).sum() for y in outputs)
    total.backward()
    return [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in inputs]


@pytest.mark.parametrize("step", ELEMENTWISE, ids=lambda step: step.__name__)
def test_elementwise_steps_are_one_launch(step, rng):
    carry, (x,), weights = arguments(ELEMENTWISE[step], rng, 2)
    text = explain(lambda h, x: step(h, x, *weights), packed(carry), x, compiled="cuda")
    assert text.count(LAUNCH) == 2, text


def turned(h, x, W, U):
    return 0.5 * h[:, ::-1] + x


def of_the_first_column(h, x, W, U):
    return 0.5 * h * ops.sigmoid(h[:, :1]) + x


@pytest.mark.parametrize("step", [mixing, turned, of_the_first_column], ids=lambda step: step.__name__)
def test_other_steps_are_not(step, rng):
    carry, (x,), weights = arguments(1, rng, 2)
    assert (
        LAUNCH not in explain(lambda h, x: step(h, x, *weights), carry[0], x, compiled="cuda").partition("Backward")[0]
    )


@pytest.mark.parametrize(
    ("step", "reverse"),
    [(min_gru, True), (swapped, True)]
    + [(s, False) for s in (sru, decay_by_row, masked, constant_part, gated_by_state, reset_by_state, swapped, chain)],
)
def test_results_are_those_of_eager_mode(step, reverse, rng, cupy, monkeypatch):
    """In chunks of three steps; directly, captured and replayed."""
    monkeypatch.setattr(cuda_target, "_CHUNK_ROWS", 6)
    case = arguments(ELEMENTWISE.get(step, 3), rng, 8)
    expected = results(step, *case, "numpy", False, reverse=reverse)
    for _ in range(3):
        for right, found in zip(expected, results(step, *case, "cupy", True, reverse=reverse), strict=True):
            np.testing.assert_allclose(found, right, rtol=0, atol=1e-12 * max(1.0, np.abs(right).max()))


@pytest.mark.parametrize("seed", range(2))
def test_random_steps(seed, rng, cupy):
    step = RandomLinear(seed)
    case = arguments(step.parts, rng, 6)
    for right, found in zip(results(step, *case, "numpy", False), results(step, *case, "cupy", True), strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-12 * max(1.0, np.abs(right).max()))


def test_a_carry_in_half_precision_is_rounded_at_each_step(rng, cupy):
    case = arguments(1, rng, 50, dtype="float16")

    def step(h, x, W, U):
        return h + x

    both = (results(step, *case, *mode)[1] for mode in (("numpy", False), ("cupy", True)))
    np.testing.assert_array_equal(*both)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc, the compiler for a GPU")
def test_the_kernel_compiles_with_nvcc(rng, tmp_path, cupy):
    carry, (x,), weights = arguments(1, rng, 2, dtype="float32")
    h, x, *weights = (t.to("cupy") for t in (*carry, x, *weights))
    made = CompiledStep(Trace.of(trace_forward(lambda h, x: sru(h, x, *weights), h, x), [True]), "cuda")
    file = tmp_path / "walk.cu"
    file.write_text("\n".join([PRELUDE, made.forward.source.loop.text, made.backward().source.loop.text]))
    command = ["nvcc", "-std=c++14", "-cubin", "-arch=sm_80", "-diag-suppress=177", "-o", "/dev/null", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and "warning" not in result.stderr, result.stderr
