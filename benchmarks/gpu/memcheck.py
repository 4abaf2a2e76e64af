"""Recurrences under compute-sanitizer: out-of-bounds accesses and races of kernels."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np

from tinygrad_gru.backend import resolve

from ..peers import Case, ours
from ..timing import row
from .options import Failed, Failures, Options, Skipped

TOOL = "compute-sanitizer"
#: The checks of the tool, and what they detect.
CHECKS = {"memcheck": "out-of-bounds and misaligned accesses", "racecheck": "races within shared memory"}
#: Sizes that are not multiples of a warp or of a tile, and one that is.
CASES = [(kind, size) for kind in ("GRU", "LSTM", "two-speed") for size in ((5, 3, 7, 13), (4, 32, 64, 64))]
#: The first pass compiles, the second captures, the third replays.
PASSES = 3
_ERRORS_FOUND = 9
SHOWN = 30


def main(options: Options) -> None:
    if options.rehearsal:
        raise Skipped("there is no GPU")
    if shutil.which(TOOL) is None:
        raise Skipped(f"{TOOL}, which comes with CUDA, is not installed")
    print(row(["check", "detects", "result"]))
    print(row(["---"] * 3))
    failures = Failures()
    for check, description in CHECKS.items():
        with failures.collect(check):
            print(row([check, description, run_check(check, options)]), flush=True)
    failures.raise_if_any()


def run_check(check: str, options: Options) -> str:
    """Run the tool on all cases; returns its summary, or raises Failed with its reports."""
    command = [TOOL, "--tool", check, "--error-exitcode", str(_ERRORS_FOUND)]
    command += [sys.executable, "-m", __name__, options.backend]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = process.stdout.strip().splitlines()
    if process.returncode:
        raise Failed("\n".join([f"{check} ended with status {process.returncode}", *lines[:SHOWN], "…", *lines[-3:]]))
    return lines[-1].strip("= ")


def run_cases(device: str) -> None:
    """Run forward and backward passes without a memory pool, so that no array is adjacent to another."""
    backend = resolve(device)
    backend.xp.cuda.set_allocator(None)
    for kind, size in CASES:
        run = ours(Case(kind, size), device=device)
        for _ in range(PASSES):
            found = [np.isfinite(backend.to_host(gradient.data)).all() for gradient in run()]
        assert all(found), f"{kind} {size}: a gradient is not finite"


if __name__ == "__main__":
    run_cases(sys.argv[1])
