"""Recurrences under compute-sanitizer: no kernel reads or writes outside its arrays, none races with itself."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np

from tinygrad_gru.backend import resolve

from ..contestants import Case, ours
from ..timing import row
from .options import Complaints, Failed, Options, Skipped

TOOL = "compute-sanitizer"
#: What each check of the tool finds.
CHECKS = {"memcheck": "accesses outside an array, or that are misaligned", "racecheck": "races within shared memory"}
#: Sizes that are no multiple of a warp or of a tile, and one that is.
CASES = [(kind, size) for kind in ("GRU", "LSTM", "two-speed") for size in ((5, 3, 7, 13), (4, 32, 64, 64))]
#: The first pass compiles, the second captures, the third replays.
PASSES = 3
_FOUND = 9
SHOWN = 30


def main(options: Options) -> None:
    if options.rehearsal:
        raise Skipped("there is no GPU")
    if shutil.which(TOOL) is None:
        raise Skipped(f"{TOOL}, which comes with CUDA, is not installed")
    print(row(["check", "finds", "said"]))
    print(row(["---"] * 3))
    complaints = Complaints()
    for check, finds in CHECKS.items():
        with complaints.about(check):
            print(row([check, finds, checked(check, options)]), flush=True)
    complaints.judge()


def checked(check: str, options: Options) -> str:
    """The tool's summary of all cases; raises Failed with its reports."""
    command = [TOOL, "--tool", check, "--error-exitcode", str(_FOUND), sys.executable, "-m", __name__, options.backend]
    asked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = asked.stdout.strip().splitlines()
    if asked.returncode:
        raise Failed("\n".join([f"{check} ended with status {asked.returncode}", *lines[:SHOWN], "…", *lines[-3:]]))
    return lines[-1].strip("= ")


def run_cases(device: str) -> None:
    """Forward and backward passes, every array in memory of its own, so that what lies beyond it is nobody's."""
    backend = resolve(device)
    backend.xp.cuda.set_allocator(None)
    for kind, size in CASES:
        run = ours(Case(kind, size), device=device)
        for _ in range(PASSES):
            found = [np.isfinite(backend.to_host(gradient.data)).all() for gradient in run()]
        assert all(found), f"{kind} {size}: a gradient is not finite"


if __name__ == "__main__":
    run_cases(sys.argv[1])
