"""A custom cell, compiled from its equations, beside the same cell as a loop of PyTorch's ops on the same GPU."""

from __future__ import annotations

import statistics

from ..peers import Case, check_agreement, in_modes, pytorch
from ..timing import installed, interleaved, ratio, ratios, row
from .clock import clock_for
from .options import Failures, Options, Skipped
from .precision import FLOAT32
from .recurrence import SIZES, TOYS

#: The smallest speedup over PyTorch's loop that passes.
MIN_SPEEDUP = 5.0
EXPLANATION = f"""\
The two-speed cell of [cells.py](../cells.py), three carries, three ys and a gate (B, 1), in float32: a training pass of
ours beside a loop of PyTorch's ops under autograd, with the input contributions hoisted by hand. Required: at least
{MIN_SPEEDUP:g} times as fast."""
COLUMNS = ["(T, B, I, H)", "ours, ms", "PyTorch over ours", "eager over ours", "relative error"]


def main(options: Options) -> None:
    if not installed("torch"):
        raise Skipped("PyTorch, the peer, is not installed")
    print(f"{EXPLANATION}\n\n{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}", flush=True)
    FLOAT32.choose(options)
    failures = Failures()
    for size in options.choose(SIZES, SIZES, TOYS):
        with failures.collect(str(size)):
            line, times = measure(size, options)
            print(line, flush=True)
            if times < MIN_SPEEDUP and not options.rehearsal:
                failures.append(f"{size}: {times:.1f} times as fast, required are {MIN_SPEEDUP:g}")
    failures.raise_if_any()


def measure(size: tuple[int, int, int, int], options: Options) -> tuple[str, float]:
    """A row, and our speedup over PyTorch's loop."""
    case = Case("two-speed", size)
    own, eager = in_modes(case, (True, False), options.backend)
    runs = {"ours": own, "PyTorch": pytorch(case, options.torch_device)}
    if not options.quick or size[0] <= 100:
        runs["eager"] = eager
    errors = check_agreement(case, runs, FLOAT32.allowed)
    rounds, min_run_time = options.choose((11, 0.2), (3, 0.02), (2, 0.0))
    seconds = interleaved(runs, rounds, min_run_time, clock=clock_for(options))
    others = [ratio(seconds[name], seconds["ours"]) if name in seconds else "" for name in ("PyTorch", "eager")]
    line = row([str(size), f"{1e3 * statistics.median(seconds['ours']):.2f}", *others, f"{errors['PyTorch']:.1e}"])
    return line, statistics.median(ratios(seconds["PyTorch"], seconds["ours"]))
