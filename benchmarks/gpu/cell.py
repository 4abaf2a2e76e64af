"""A cell of one's own, from its equations, beside the same cell as a loop of PyTorch's ops on the same GPU."""

from __future__ import annotations

import statistics

from ..contestants import Case, check_agreement, pytorch, readings
from ..timing import installed, interleaved, ratio, ratios, row
from .clock import clock_for
from .options import Complaints, Options, Skipped
from .precision import FLOAT32
from .recurrence import SIZES, TOYS

#: How many times as fast we are to be.
LEAST = 5.0
EXPLANATION = f"""\
The two-speed cell of [cells.py](../cells.py), three carries, three ys and a gate (B, 1), in float32: a training pass of
ours beside a loop of PyTorch's ops under autograd, in which what the input contributes is computed for all steps at
once. Wanted: at least {LEAST:g} times as fast."""
COLUMNS = ["(T, B, I, H)", "ours, ms", "PyTorch over ours", "plain reading over ours", "apart"]


def main(options: Options) -> None:
    if not installed("torch"):
        raise Skipped("PyTorch, with which to compare, is not installed")
    print(f"{EXPLANATION}\n\n{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}", flush=True)
    FLOAT32.choose(options)
    complaints = Complaints()
    for size in options.choose(SIZES, SIZES, TOYS):
        with complaints.about(str(size)):
            line, times = measure(size, options)
            print(line, flush=True)
            if times < LEAST and not options.rehearsal:
                complaints.append(f"{size}: {times:.1f} times as fast, wanted are {LEAST:g}")
    complaints.judge()


def measure(size: tuple[int, int, int, int], options: Options) -> tuple[str, float]:
    """A row, and how many times as fast as PyTorch's loop we are."""
    case = Case("two-speed", size)
    own, plain = readings(case, (True, False), options.backend)
    contestants = {"ours": own, "PyTorch": pytorch(case, options.torch_device)}
    if not options.quick or size[0] <= 100:
        contestants["plain"] = plain
    apart = check_agreement(case, contestants, FLOAT32.allowed)
    rounds, turn = options.choose((11, 0.2), (3, 0.02), (2, 0.0))
    seconds = interleaved(contestants, rounds, turn, clock=clock_for(options))
    others = [ratio(seconds[name], seconds["ours"]) if name in seconds else "" for name in ("PyTorch", "plain")]
    line = row([str(size), f"{1e3 * statistics.median(seconds['ours']):.2f}", *others, f"{apart['PyTorch']:.1e}"])
    return line, statistics.median(ratios(seconds["PyTorch"], seconds["ours"]))
