"""Mutation testing of the op contract: every rule of every op, mutated in typical ways, and which mutants survive.

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
`tinygrad-gru check --mutants` prints the same. Not among them are the blocks of `linear_cross_entropy`
(`_log_likelihoods`), which the specs are too small for. A mutant is an op one of whose rules is changed: of the wrong
sign, off by a factor, 0, not linear in g, transposed, reversed, without the sum over a broadcast axis; with a
residual in another order, replaced by 0 or 1, off by 1 %, of the first call, or a constant to second order; wrong
when recorded or traced, at one shape, in one dtype, in one memory layout, of float64, or writing into g. An
equivalent mutant gives the values and derivatives of the right rule in every call of the check, and with other values
of the residuals: the rule of |x| reads signs alone."""


def line(score: MutationScore) -> str:
    count = score.killed + len(score.survived)
    same, survived = (
        "; ".join(f"{m.input}: {m.operator}" for m in part) for part in (score.equivalent, score.survived)
    )
    return row([score.op, f"{score.killed} of {count}", survived or score.failure or "none", same])


def main(quick: bool = False) -> None:
    start = time.perf_counter()
    scores = [mutants(ops_with_rules()[name]) for name in ("tanh", "add")] if quick else list(mutation_scores())
    seconds, killed = time.perf_counter() - start, sum(s.killed for s in scores)
    count = killed + sum(len(s.survived) for s in scores)
    cpu = sum(os.times()[:4])  # of the processes too
    took = f"in {seconds:.0f} s ({cpu:.0f} s of CPU time)"
    summary = f"{killed} of {count} mutants of {len(scores)} ops killed, {took}."
    lines = [summary, "", EXPLANATION, "", row(["op", "killed", "survived", "equivalent"]), row(["---"] * 4)]
    lines += [line(score) for score in scores]
    if quick:
        print("\n".join(lines))
    else:
        report("mutants", "Mutation testing of the op contract", COMMAND, lines)


if __name__ == "__main__":
    main("--quick" in sys.argv)
