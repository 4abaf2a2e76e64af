"""Linear recurrences: a training pass of a minGRU and an LRU by a scan over time, against the loop and against JAX.

`--quick` measures few sizes and writes no results. `--backend cupy` runs on a GPU, in less than a minute: results are
first compared with eager mode on the host, then all steps in one launch are measured against a launch per step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np

from tinygrad_gru import Tensor, compiling, manual_seed, nn
from tinygrad_gru.backend import resolve
from tinygrad_gru.scan import plan_cache
from tinygrad_gru.scan.passes.linear import recognise
from tinygrad_gru.scan.targets import cuda

from .gpu.clock import DeviceClock
from .timing import installed, interleaved, ratio, report, row

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.linear_scan"
#: Steps, batch, features and hidden size.
SIZES = [
    (steps, batch, hidden)
    for batch, hidden in ((1, 16), (1, 64), (1, 256), (16, 64), (16, 256))
    for steps in (100, 1000, 10_000, 100_000)
    if steps * batch * hidden <= 7_000_000
]
ON_GPU = [(steps, batch, hidden) for batch, hidden in ((1, 64), (16, 256), (64, 1024)) for steps in (100, 1000, 4000)]
KINDS = ("MinGRU", "MinLSTM", "SRU", "QRNN", "LRU")
EXPLANATION = """\
A training pass, forward and backward with all gradients, float32, features and hidden size equal. CPU time, medians of
interleaved rounds with the interquartile range; above 1 the first is faster. "NumPy" scans up to 64 elements per step
and from 160 steps on, "loop" is the same without scans. "Native" is a compiled loop over the steps; it has no scan. JAX
is `jax.jit` of the gradient of `lax.associative_scan`, or of `lax.scan`, over the same equations.

Predicted before the first run, for the minGRU: NumPy gains 1.5 at (1, 64) and 3 at (1, 16) from 1 000 steps on, nothing
at 100 steps and at larger sizes. Native needs no scan: it is 3 times as fast as NumPy's at (1, 64), and faster than
JAX's associative scan on one core at every size, for that moves log₂ T times the data.

Outcome: at (1, 16) NumPy gained what was predicted from 10 000 steps on, at (1, 64) a fifth, for the products and gates
around the scan take most of the pass; the scan alone is 1.7 times as fast as the loop there. An LRU, whose loop has
eight calls per step and not two, gained twice that. The native loop is 2.1 to 2.7 times as fast as NumPy's scan at
(1, 64). It is ahead of JAX's associative scan from 1 000 steps or 16 rows on (equal at 1 000 steps of (1, 16)), and not
at 100 steps of one row, where what a layer's call costs in Python decides."""

_PLANS = plan_cache.PlanCache(64)


@contextmanager
def loops() -> Iterator[None]:
    """In this block no scan is compiled, and each step on a GPU is a launch."""
    with (
        patch.object(recognise, "MOST_ELEMENTS", 0),
        patch.object(cuda.Emitter, "_walk", lambda self, found: []),
        patch.object(plan_cache, "_cache", _PLANS),
    ):
        yield


def ours(kind: str, size: tuple[int, ...], target: str | bool, scans: bool = True, backend: str = "numpy") -> Callable:
    steps, batch, hidden = size
    manual_seed(0)
    layer = getattr(nn, kind)(hidden, hidden).to(backend)
    array = resolve(backend).asarray(np.random.default_rng(1).standard_normal((steps, batch, hidden)).astype("float32"))

    def train() -> list[Tensor]:
        layer.zero_grad()
        x = Tensor.from_node(array, None).requires_grad_()
        output = layer(x)[0]
        output.mean().backward()
        return [output, x.grad, *(p.grad for p in layer.parameters())]

    def run() -> list[Tensor]:
        with compiling(target):
            if scans:
                return train()
            with loops():
                return train()

    return run


def jax_gradients(size: tuple[int, ...], associative: bool) -> Callable[[], Any]:
    """The minGRU in JAX."""
    import jax
    from jax import numpy as jnp

    steps, batch, hidden = size
    random = np.random.default_rng(0)
    weights = [jnp.asarray(random.standard_normal((hidden, hidden)) / hidden**0.5, "float32") for _ in range(2)]
    weights += [jnp.zeros(hidden), jnp.zeros(hidden)]
    array = jnp.asarray(random.standard_normal((steps, batch, hidden)), "float32")

    def states(x: Any, W_z: Any, W_h: Any, b_z: Any, b_h: Any) -> Any:
        z = jax.nn.sigmoid(x @ W_z + b_z)
        a, b = 1 - z, z * (x @ W_h + b_h)
        if associative:
            return jax.lax.associative_scan(lambda p, q: (q[0] * p[0], q[0] * p[1] + q[1]), (a, b))[1]
        return jax.lax.scan(lambda h, ab: (ab[0] * h + ab[1],) * 2, jnp.zeros((batch, hidden)), (a, b))[1]

    gradients = jax.jit(jax.value_and_grad(lambda *inputs: states(*inputs).mean(), argnums=range(5)))
    return lambda: jax.block_until_ready(gradients(array, *weights))


def check(found: list[Tensor], expected: list[Tensor], name: str) -> None:
    """Raise unless the arrays agree to what float32 allows."""
    for a, b in zip((t.numpy() for t in found), (t.numpy() for t in expected)):
        error = np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)
        assert error < 2e-4, f"{name}: differs by {error:.1e}"


def cpu_clock(run: Callable[[], object], min_run_time: float) -> float:
    start, elapsed, calls = process_time(), 0.0, 0
    while not calls or elapsed < min_run_time:
        run()
        elapsed, calls = process_time() - start, calls + 1
    return elapsed / calls


def main(quick: bool = False) -> None:
    native = installed("llvmlite")
    sizes = [(100, 1, 16), (300, 1, 16)] if quick else SIZES
    lines = [EXPLANATION, ""]
    heads = ["", "T", "(batch, hidden)", "NumPy, ms", "NumPy over loop", "native over NumPy"]
    heads += ["native over JAX, associative", "native over JAX, `scan`"]
    lines += [row(heads), row(["---"] * len(heads))]
    for kind in ("MinGRU", "LRU"):
        for size in sizes if kind == "MinGRU" else [s for s in sizes if s[1:] in ((1, 16), (1, 64))]:
            runs = {"loop": ours(kind, size, "numpy", scans=False), "NumPy": ours(kind, size, "numpy")}
            check(runs["NumPy"](), runs["loop"](), f"{kind} {size}, NumPy")
            if native:
                runs["native"] = ours(kind, size, "llvm")
                check(runs["native"](), runs["loop"](), f"{kind} {size}, native")
            if installed("jax") and kind == "MinGRU":
                runs |= {"associative": jax_gradients(size, True), "lax.scan": jax_gradients(size, False)}
            times = interleaved(runs, rounds=3 if quick else 5, min_run_time=0.01, clock=cpu_clock)
            pairs = [("loop", "NumPy"), ("NumPy", "native"), ("associative", "native"), ("lax.scan", "native")]
            cells = [ratio(times[a], times[b]) if {a, b} <= times.keys() else "–" for a, b in pairs]
            steps, *rest = size
            lines.append(row([kind, f"{steps:,}", str(tuple(rest)), f"{1e3 * min(times['NumPy']):.2f}", *cells]))
            print(lines[-1], flush=True)
    if quick:
        print("\n".join(lines))
    else:
        report("linear_scan", "Linear recurrences as scans", COMMAND, lines, ["jax", "llvmlite"])


def on_gpu(backend: str, sizes: Any = ON_GPU, clock: Any = None, kinds: Any = KINDS) -> list[str]:
    """Compare with eager mode on the host, then measure; returns the lines of a table."""
    for kind in kinds:
        expected = ours(kind, (40, 3, 8), False)()
        for _ in range(3):  # launched, captured, replayed
            check(ours(kind, (40, 3, 8), True, backend=backend)(), expected, kind)
    print(f"CORRECT: {', '.join(kinds)} agree with eager mode on the host", flush=True)
    lines = [row(["T", "(batch, hidden)", "one launch, ms", "launch per step over one launch"]), row(["---"] * 4)]
    for size in sizes:
        make = partial(ours, "MinGRU", size, True, backend=backend)
        runs = {"one": make(), "each": make(scans=False)}
        check(runs["one"](), runs["each"](), f"{size}")
        times = interleaved(runs, rounds=5, min_run_time=0.1, clock=clock or DeviceClock(resolve(backend)))
        steps, *rest = size
        milliseconds = f"{1e3 * min(times['one']):.3f}"
        lines.append(row([f"{steps:,}", str(tuple(rest)), milliseconds, ratio(times["each"], times["one"])]))
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    if "--backend" in sys.argv:
        on_gpu(sys.argv[sys.argv.index("--backend") + 1])
    else:
        main(quick="--quick" in sys.argv)
