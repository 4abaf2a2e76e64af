"""Speed of this checkout compared with another one, in one run: a check for performance regressions.

    git worktree add ../before HEAD~1
    python -m benchmarks.against ../before

Training passes of GRU and LSTM and the overhead of the tape, in one process per checkout, interleaved. Prints ratios of
times, this over the other: the median over the rounds, its interquartile range, and the ratio of the minima.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from .processes import thread_limits
from .timing import interleaved, machine, ratio, row

SIZES = ((50, 1, 32, 32), (50, 16, 64, 64), (100, 32, 128, 128), (35, 20, 650, 650))
CASES = [("overhead",), *((kind, size) for kind in ("GRU", "LSTM") for size in SIZES)]

#: The program of a worker process, which imports the benchmarks of its own checkout: one case per line of input.
WORKER = """
import json, sys
from benchmarks import overhead
try:
    from benchmarks.peers import Case, ours
except ImportError:  # an older checkout
    from benchmarks.contestants import Case, ours
runs = {}
for line in sys.stdin:
    kind, *size = case = json.loads(line)
    if line not in runs:
        runs[line] = overhead.ours() if kind == "overhead" else ours(Case(kind, tuple(size[0])), MODE)
    runs[line]()
    print("done", flush=True)
"""


class Checkout:
    """A worker process that runs cases with the code of a checkout."""

    def __init__(self, folder: Path, mode: object):
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"MODE = {mode!r}\n{WORKER}"], cwd=folder, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, **thread_limits(1), "PYTHONPATH": str(folder)},
        )  # fmt: skip

    def run(self, case: tuple) -> None:
        assert self.process.stdin and self.process.stdout
        print(json.dumps(case), file=self.process.stdin, flush=True)
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError(f"{case}: the process ended with status {self.process.wait()}")


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.against", description="Compare the speed with another checkout."
    )
    parser.add_argument("other", type=Path, help="the folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--llvm", action="store_true", help="compile recurrences by LLVM")
    given = parser.parse_args()
    mode = "llvm" if given.llvm else True
    folders = {"this": Path(__file__).parents[1], "other": given.other.resolve()}
    checkouts = {name: Checkout(folder, mode) for name, folder in folders.items()}
    print(f"{machine(threads='1 thread')}\n\n{row(['', 'this over the other', 'minima'])}\n{row(['---'] * 3)}")
    for case in CASES:
        runs = {name: partial(checkout.run, case) for name, checkout in checkouts.items()}
        seconds = interleaved(runs, given.rounds, min_run_time=0.02)
        this, other = seconds["this"], seconds["other"]
        print(row([" ".join(map(str, case)), ratio(this, other), f"{min(this) / min(other):.3f}"]), flush=True)
    for checkout in checkouts.values():
        checkout.process.communicate()


if __name__ == "__main__":
    main()
