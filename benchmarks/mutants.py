"""Mutation testing of the op contract: typical faults in every rule of every op, and how many pass unnoticed.

`--quick` takes few ops and writes no results.
"""

from __future__ import annotations

import os
import sys
import time

from tinygrad_gru.testing import MutationScore, mutants, mutation_scores
from tinygrad_gru.testing.mutation import ops_with_rules

from .timing import report, row

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.mutants"
EXPLANATION = """\
`tinygrad-gru check --mutants` prints the same. A mutant is an op one of whose rules is wrapped: of the wrong sign, off
by a factor, 0, not linear in g, transposed, reversed, without the sum over a broadcast axis; with a kept value in
another order, replaced by 0 or 1, off by 1 %, of the first call, or a constant to second order; wrong when recorded or
traced, at one shape, in one dtype, in one memory layout, of float64, or writing into g. A mutant without a difference
gives the values and derivatives of the right rule in every call of the check, and with other values in place of those
that the rule keeps: the rule of |x| depends on signs alone."""


def line(score: MutationScore) -> str:
    faulty = score.noticed + len(score.survivors)
    same, survivors = ("; ".join(f"{m.input}: {m.fault}" for m in part) for part in (score.equivalent, score.survivors))
    return row([score.op, f"{score.noticed} of {faulty}", survivors or score.failure or "none", same])


def main(quick: bool = False) -> None:
    start = time.perf_counter()
    scores = [mutants(ops_with_rules()[name]) for name in ("tanh", "add")] if quick else list(mutation_scores())
    seconds, noticed = time.perf_counter() - start, sum(s.noticed for s in scores)
    faulty = noticed + sum(len(s.survivors) for s in scores)
    cpu = sum(os.times()[:4])  # of the processes too
    duration = f"in {seconds:.0f} s ({cpu:.0f} s of CPU time)"
    summary = f"{noticed} of {faulty} wrong rules of {len(scores)} ops are noticed, {duration}."
    lines = [summary, "", EXPLANATION, "", row(["op", "noticed", "not noticed", "no difference"]), row(["---"] * 4)]
    lines += [line(score) for score in scores]
    if quick:
        print("\n".join(lines))
    else:
        report("mutants", "Mutation testing of the op contract", COMMAND, lines)


if __name__ == "__main__":
    main("--quick" in sys.argv)
