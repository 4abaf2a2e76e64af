"""Compiled recurrences beside PyTorch's hand-written kernels, XLA, and the processor's peak rate of products.

A pass is forward and backward, with gradients of all parameters, of the input and of the initial state, float32.
`--quick` measures few sizes and writes no results; `--llvm` compiles our loops to machine code, on one thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from .cells import CELLS
from .peers import Case, Pass, check_agreement, jax, jax_variants, ours, pytorch
from .processes import PAUSE, THREADS, output_of
from .timing import installed, interleaved, ratio, ratios, report, row

COMMAND = "python -m benchmarks.recurrence"
SIZES = [
    (50, 1, 32, 32),
    (50, 16, 64, 64),
    (100, 32, 128, 128),
    (100, 64, 128, 256),
    (35, 20, 650, 650),
    (100, 64, 512, 512),
]
PEERS = {"PyTorch": ("torch", pytorch), "JAX": ("jax", jax)}
#: The side of the square matrices whose product gives the peak rate of the processor.
SIDE = 2048
EXPLANATION = f"""\
Medians over interleaved rounds; of a ratio also the interquartile range, and the ratio of the minima.

- PyTorch: `nn.GRU` (it resets after the product, which costs the same products, and has a second bias), `nn.LSTM`
  (oneDNN's fused kernel); the two-speed cell is a loop of its ops under autograd, the input contributions hoisted by
  hand.
- JAX: `jax.jit` of the vjp of `lax.scan`, with our equations, in the fastest of three forms at each size: unchanged;
  the input contributions hoisted by hand; that, with the weights of the gates joined (not for the two-speed cell).
- The two-speed cell ([cells.py](../cells.py)), three carries, three ys and a gate (B, 1), is an example of a custom
  cell.
- Of the BLAS limit: the time of all products of a pass, forward and both gradients, at the rate of one product of
  {SIDE} × {SIDE} matrices, measured in the same rounds, over the time of our pass.
- Before the timing, passes with the same equations are checked to give the same gradients."""


def measure(
    case: Case, rounds: int, product: Callable[[], object], target: str
) -> tuple[str, dict[str, tuple[float, float]]]:
    """A row of the table, and the ratios of each peer's time to ours: by median and by minimum."""
    passes: dict[str, Pass] = {"ours": ours(case, target), "eager": ours(case, compiled=False)}
    passes |= {name: make(case) for name, (package, make) in PEERS.items() if installed(package)}
    check_agreement(case, {name: run for name, run in passes.items() if name != "PyTorch" or case.kind == "two-speed"})
    seconds = interleaved({**passes, "product": product}, rounds, min_run_time=0.03, pause=PAUSE)

    own = seconds["ours"]
    limit = [time * case.flops / (2 * SIDE**3) for time in seconds["product"]]
    cells = [case.kind, str(case.size), f"{1e3 * statistics.median(own):.2f}", f"{1e3 * min(own):.2f}"]
    compared = {}
    for name in PEERS:
        if name in seconds:
            compared[name] = statistics.median(ratios(seconds[name], own)), min(seconds[name]) / min(own)
            cells += [ratio(seconds[name], own), f"{compared[name][1]:.2f}"]
        else:
            cells += ["not installed", ""]
    cells += [ratio(seconds["eager"], own), f"{100 * statistics.median(ratios(limit, own)):.0f} %"]
    return row(cells), compared


def seconds_of(run: Pass) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def table(sizes: int, rounds: int, target: str = "numpy") -> None:
    """Print the rows of the first `sizes` sizes. Runs in a child process with a limited number of threads."""
    a, b = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    product = partial(np.matmul, a, b, out=np.empty_like(a))
    columns = ["", "(T, B, I, H)", "ours, ms", "minimum"]
    for name in PEERS:
        columns += [f"{name} over ours", "minima"]
    columns += ["eager over ours", "of the BLAS limit"]
    print(row(columns))
    print(row(["---"] * len(columns)))
    for kind in CELLS:
        results = []
        for size in SIZES[:sizes]:
            line, compared = measure(Case(kind, size), rounds, product, target)
            results.append(compared)
            print(line)
        means = [f"**{kind}**", "geometric mean", "", ""]
        for name in PEERS:
            figures = [compared[name] for compared in results if name in compared]
            means += [f"**{statistics.geometric_mean(column):.2f}**" for column in zip(*figures)] or ["", ""]
        print(row([*means, "", ""]))
    rate = 2 * SIDE**3 / min(seconds_of(product) for _ in range(5)) / 1e9
    print(f"\nOne product of {SIDE} × {SIDE} matrices runs at up to {rate:.0f} GFLOP/s.")


def first_calls(shapes: int) -> None:
    """Print the extra time of the first pass at a new shape: planning and emitting the source."""
    makers: dict[str, tuple[str, Callable[[Case], Pass]]] = {f"{kind}, ours": (kind, ours) for kind in CELLS}
    if installed("jax"):
        makers["GRU, `jax.jit`"] = "GRU", lambda case: jax_variants(case)[-1]
    print(row(["", "median, ms", "minimum, ms"]))
    print(row(["---"] * 3))
    for name, (kind, make) in makers.items():
        extra = []
        for hidden in range(8, 9 + shapes):
            run = make(Case(kind, (10, 4, 8, hidden)))
            first, *later = (seconds_of(run) for _ in range(6))
            extra.append(1e3 * (first - min(later)))
        del extra[0]  # of imports, and of generating the functions of ops
        print(row([name, f"{statistics.median(extra):.1f}", f"{min(extra):.1f}"]))


def with_llvm() -> None:
    lines = [EXPLANATION, "", *output_of("recurrence", "table", len(SIZES), 5, "llvm", threads=1)]
    title, command = "Recurrences, compiled from their equations by LLVM", f"{COMMAND} --llvm"
    report("recurrence_llvm", title, command, lines, ["torch", "jax", "llvmlite"], THREADS[1])


def main(quick: bool = False) -> None:
    lines = [EXPLANATION]
    sizes, rounds, shapes = (2, 3, 2) if quick else (len(SIZES), 11, 9)
    for threads, heading in THREADS.items():
        lines += ["", f"## {heading}", ""]
        lines += output_of("recurrence", "table", sizes, rounds, threads=threads)
    lines += ["", f"## Extra time of the first pass, at {shapes} new shapes", ""]
    lines += output_of("recurrence", "first_calls", shapes)
    lines += ["", "Time per step is constant in T up to 10,000: [linearity.md](linearity.md). Peak memory:",
              "[recurrence_memory.md](recurrence_memory.md)."]  # fmt: skip
    if not quick:
        title = "Recurrences, compiled from their equations"
        report("recurrence", title, COMMAND, lines, ["torch", "jax"], " and ".join(THREADS.values()))


if __name__ == "__main__":
    if "--llvm" in sys.argv:
        with_llvm()
    else:
        main("--quick" in sys.argv)
