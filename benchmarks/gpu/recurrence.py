"""Training passes of GRU and LSTM beside cuDNN's, at four sizes, in float32, TF32 and 16 bits."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from ..peers import Case, Pass, check_agreement, in_modes, pytorch
from ..timing import installed, interleaved, ratio, ratios, row
from .clock import clock_for, host_seconds
from .options import Failures, Options, Skipped
from .precision import FLOAT32, Precision, precisions
from .products import case_name, one_large_product, products

SIZES = [(100, 32, 128, 128), (100, 64, 512, 512), (200, 128, 1024, 1024), (1000, 64, 256, 256)]
TOYS = [(5, 2, 4, 6), (7, 3, 6, 4)]
#: The smallest speed relative to cuDNN's that passes.
MIN_SPEEDUP = 0.5
EXPLANATION = f"""\
A pass is forward and backward, with the gradients of all parameters, of the input and of the initial state. Times are
medians over interleaved rounds, between CUDA events; of ratios also the interquartile range.

- PyTorch: `nn.GRU` and `nn.LSTM`, which are cuDNN's. Its GRU resets after the product; ours resets before, unless the
  row says otherwise, and so has two dependent products at every step where cuDNN has one.
- Host: the time until all of our pass is launched. Where that is the whole time, the pass is limited by the host.
- Products alone: the time of a pass's products, on joined weights, in one CUDA graph, over that of our pass.
- Of the rate: the time of all products at the rate of one large product, over that of our pass.
- Relative error: of our gradients of input and initial state (by norm), compared with PyTorch's where the equations are
  the same, otherwise with our eager mode's. Passes with a greater error than the precision explains are not timed.

Required is a speed of at least {MIN_SPEEDUP} of PyTorch's everywhere; the target is 1."""
COLUMNS = [
    "", "(T, B, I, H)", "ours, ms", "PyTorch over ours", "host, ms", "eager over ours", "products alone",
    "of the rate", "relative error",
]  # fmt: skip


def main(options: Options) -> None:
    if not installed("torch"):
        raise Skipped("PyTorch, the peer, is not installed")
    print(EXPLANATION)
    failures = Failures()
    for precision in precisions(options):
        table(options, precision, failures)
    failures.raise_if_any()


def table(options: Options, precision: Precision, failures: Failures) -> None:
    print(f"\n### {precision.title}\n\n{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}", flush=True)
    precision.choose(options)
    large, flops = one_large_product(options, precision.dtype)
    rate = flops / statistics.median(interleaved({"": large}, 3, clock=clock_for(options))[""])
    for kind, reset_after in (("GRU", False), ("GRU", True), ("LSTM", False)):
        for size in options.choose(SIZES, SIZES, TOYS):
            case = Case(kind, size, reset_after)
            what = f"{case_name(case)} {size} in {precision.title}"
            with failures.collect(what):
                line, speed = measure(case, options, precision, rate)
                print(line, flush=True)
                if speed < MIN_SPEEDUP and not options.rehearsal:
                    failures.append(f"{what}: {speed:.2f} of PyTorch's speed, required is {MIN_SPEEDUP}")
    print(f"\nOne large product runs at {rate / 1e12:.3g} TFLOP/s.", flush=True)


def measure(case: Case, options: Options, precision: Precision, rate: float) -> tuple[str, float]:
    """A row, and our speed relative to PyTorch's."""
    own, theirs = passes(case, options, precision)
    error = agreement(case, own, theirs, precision)
    runs: dict[str, Callable[[], object]] = {"ours": own["ours"], "PyTorch": theirs}
    runs["products"] = products(case, options, precision.dtype)
    if include_eager(case, options, precision):
        runs["eager"] = own["eager"]
    rounds, min_run_time = options.choose((15, 0.2), (5, 0.05), (2, 0.0))
    seconds = interleaved(runs, rounds, min_run_time, clock=clock_for(options))
    median = statistics.median(seconds["ours"])
    cells = [
        case_name(case), str(case.size), f"{1e3 * median:.2f}", ratio(seconds["PyTorch"], seconds["ours"]),
        f"{1e3 * host_seconds(own['ours'], options):.2f}",
        ratio(seconds["eager"], seconds["ours"]) if "eager" in seconds else "",
        f"{100 * statistics.median(ratios(seconds['products'], seconds['ours'])):.0f} %",
        f"{100 * case.flops / rate / median:.0f} %", f"{error:.1e}",
    ]  # fmt: skip
    return row(cells), statistics.median(ratios(seconds["PyTorch"], seconds["ours"]))


def passes(case: Case, options: Options, precision: Precision) -> tuple[dict[str, Pass], Pass]:
    """Our pass, compiled and eager, and PyTorch's."""
    own = in_modes(case, (True, False), options.backend, precision.dtype)
    return dict(zip(("ours", "eager"), own)), pytorch(case, options.torch_device, precision.dtype)


def agreement(case: Case, own: dict[str, Pass], theirs: Pass, precision: Precision) -> float:
    """The relative error of our gradients; raises AssertionError if it is more than rounding."""
    others = {"PyTorch": theirs} if case.is_torch_layer else {"eager": own["eager"]}
    return max(check_agreement(case, {"ours": own["ours"], **others}, precision.allowed).values())


def include_eager(case: Case, options: Options, precision: Precision) -> bool:
    """Whether eager mode is timed: it is slow for many steps."""
    return precision is FLOAT32 and (not options.quick or case.size[0] <= 100)
