"""A training pass of GRU and LSTM beside cuDNN's, at four sizes, in float32, TF32 and 16 bits."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from ..contestants import Case, Pass, check_agreement, pytorch, readings
from ..timing import installed, interleaved, ratio, ratios, row
from .clock import clock_for, host_seconds
from .options import Complaints, Options, Skipped
from .precision import FLOAT32, Precision, precisions
from .products import name_of, one_large_product, products

SIZES = [(100, 32, 128, 128), (100, 64, 512, 512), (200, 128, 1024, 1024), (1000, 64, 256, 256)]
TOYS = [(5, 2, 4, 6), (7, 3, 6, 4)]
#: Our speed, cuDNN's being 1, under which a figure is a failure.
LEAST = 0.5
EXPLANATION = f"""\
A pass is forward and backward, with the gradients of all parameters, of the input and of the initial state. All take
turns; times are medians over the turns between CUDA events, of ratios also the middle half.

- PyTorch: `nn.GRU` and `nn.LSTM`, which are cuDNN's. Its GRU resets after the product; ours does before, unless the row
  says otherwise, and so has two products that wait for one another at every step where cuDNN has one.
- Host: what a pass of ours takes until all of it is launched. Where that is the whole, the host is what it waits for.
- Products alone: those of a pass, on joined weights, in one CUDA graph, over what our pass takes.
- Of the rate: what the operations of all products would take at the rate of one large product, over our pass.
- Apart: by how much our gradients of input and initial state are from PyTorch's where the equations are the same, else
  from our plain reading's, relative to their norms. Passes that are further apart than the precision explains are not
  timed at all.

Wanted is a speed of at least {LEAST} of PyTorch's everywhere; the goal is 1."""
COLUMNS = [
    "", "(T, B, I, H)", "ours, ms", "PyTorch over ours", "host, ms", "plain reading over ours", "products alone",
    "of the rate", "apart",
]  # fmt: skip


def main(options: Options) -> None:
    if not installed("torch"):
        raise Skipped("PyTorch, with which to compare, is not installed")
    print(EXPLANATION)
    complaints = Complaints()
    for precision in precisions(options):
        table(options, precision, complaints)
    complaints.judge()


def table(options: Options, precision: Precision, complaints: Complaints) -> None:
    print(f"\n### {precision.title}\n\n{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}", flush=True)
    precision.choose(options)
    large, flops = one_large_product(options, precision.dtype)
    rate = flops / statistics.median(interleaved({"": large}, 3, clock=clock_for(options))[""])
    for kind, reset_after in (("GRU", False), ("GRU", True), ("LSTM", False)):
        for size in options.choose(SIZES, SIZES, TOYS):
            case = Case(kind, size, reset_after)
            what = f"{name_of(case)} {size} in {precision.title}"
            with complaints.about(what):
                line, speed = measure(case, options, precision, rate)
                print(line, flush=True)
                if speed < LEAST and not options.rehearsal:
                    complaints.append(f"{what}: {speed:.2f} of PyTorch's speed, wanted is {LEAST}")
    print(f"\nOne large product runs at {rate / 1e12:.3g} TFLOP/s.", flush=True)


def measure(case: Case, options: Options, precision: Precision, rate: float) -> tuple[str, float]:
    """A row, and our speed where PyTorch's is 1."""
    own, theirs = passes(case, options, precision)
    apart = agreement(case, own, theirs, precision)
    contestants: dict[str, Callable[[], object]] = {"ours": own["ours"], "PyTorch": theirs}
    contestants["products"] = products(case, options, precision.dtype)
    if with_plain(case, options, precision):
        contestants["plain"] = own["plain"]
    rounds, turn = options.choose((15, 0.2), (5, 0.05), (2, 0.0))
    seconds = interleaved(contestants, rounds, turn, clock=clock_for(options))
    median = statistics.median(seconds["ours"])
    cells = [
        name_of(case), str(case.size), f"{1e3 * median:.2f}", ratio(seconds["PyTorch"], seconds["ours"]),
        f"{1e3 * host_seconds(own['ours'], options):.2f}",
        ratio(seconds["plain"], seconds["ours"]) if "plain" in seconds else "",
        f"{100 * statistics.median(ratios(seconds['products'], seconds['ours'])):.0f} %",
        f"{100 * case.flops / rate / median:.0f} %", f"{apart:.1e}",
    ]  # fmt: skip
    return row(cells), statistics.median(ratios(seconds["PyTorch"], seconds["ours"]))


def passes(case: Case, options: Options, precision: Precision) -> tuple[dict[str, Pass], Pass]:
    """Ours in both readings, and PyTorch's."""
    own = readings(case, (True, False), options.backend, precision.dtype)
    return dict(zip(("ours", "plain"), own)), pytorch(case, options.torch_device, precision.dtype)


def agreement(case: Case, own: dict[str, Pass], theirs: Pass, precision: Precision) -> float:
    """By how much our gradients differ from others'; raises AssertionError if by more than rounding."""
    others = {"PyTorch": theirs} if case.is_pytorchs else {"plain": own["plain"]}
    return max(check_agreement(case, {"ours": own["ours"], **others}, precision.allowed).values())


def with_plain(case: Case, options: Options, precision: Precision) -> bool:
    """Whether the plain reading takes part: it is slow where steps are many."""
    return precision is FLOAT32 and (not options.quick or case.size[0] <= 100)
