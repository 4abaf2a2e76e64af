"""Shares: the batch of a native loop, cut into equal parts that threads run, by a rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ....native.cores import cores
from ....native.threads import run_together
from ...passes.schedule import VIEWS
from ...passes.storage import Plan

#: Threads that the rule uses at most: more have not been measured.
MOST = 2
#: Multiply-adds that take as long as an element of another operation, about.
PER_ELEMENT = 8
#: Rows of a thread from which on they pay: with fewer, products wait for weights rather than compute.
LEAST_ROWS = 4
#: Bytes of a row from which on functions have the same bits in any number of threads: of shorter ones LLVM unrolls the
#: loop by its number of rows, and rounds what is contracted in the rest of it otherwise.
LEAST_ROW = 64
_CONTRACTED = frozenset({"exp", "tanh", "expm1", "log", "log1p", "sin", "cos", "power"})
#: Multiply-adds of a chunk of steps from which on threads pay, for another takes 0.1 ms to wake and to be waited for;
#: see benchmarks/results/threads.md.
LEAST_OF_CHUNK = 2**25


def threads_for(rows: int, work: int, steps: int) -> tuple[int, str]:
    """The number of threads for a loop over time, and why.

    rows   of the batch
    work   multiply-adds of a step, or as long as so many
    steps  of a chunk at most
    """
    count, reason = cores()
    if count < 2:
        return 1, reason
    chunk = f"{steps} steps are as long as {work * steps:,} multiply-adds"
    if work * steps < LEAST_OF_CHUNK:
        return 1, f"{chunk}, and threads pay from {LEAST_OF_CHUNK:,} on"
    for threads in range(min(count, MOST), 1, -1):
        if rows % threads == 0 and rows >= threads * LEAST_ROWS:
            return threads, f"{reason}, and {chunk}"
    return 1, f"{rows} rows are not equal shares of {LEAST_ROWS} or more"


def rounds_by_rows(plan: Plan) -> bool:
    """Whether results may depend on the number of rows that a thread has: functions of short rows."""
    return any(
        value.op in _CONTRACTED and math.prod(value.shape[1:]) * np.dtype(value.dtype).itemsize < LEAST_ROW
        for value in plan.operations("loop")
    )


def batch_of(plan: Plan) -> int:
    """The rows of the carry, which threads share; 0 if it has none."""
    return max((v.shape[0] for v in plan.program.carry if len(v.shape) == 2), default=0)


def work_of(plan: Plan) -> int:
    """Multiply-adds of a step of the loop; an element of any other operation takes as long as some."""
    total = 0
    for value in plan.operations("loop"):
        if value.op == "product":
            total += math.prod(value["sizes"])
        elif value.op == "matmul":
            total += math.prod(value.shape) * value.inputs[0].shape[-1]
        elif value.op not in VIEWS:
            total += math.prod(value.shape) * PER_ELEMENT
    return total


def run_shares(loop: Callable[[np.ndarray], None], steps: list[np.ndarray], work: int) -> None:
    """Run the loop for each share of the batch.

    work  multiply-adds of a step by the rule; 0 if a user has fixed the number of threads
    """
    is_short = 0 < work * int(steps[0][0]) < LEAST_OF_CHUNK
    run_together([partial(loop, share) for share in steps], 1 if is_short else len(steps))
