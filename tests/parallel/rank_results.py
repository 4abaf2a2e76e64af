"""What the jobs give on a number of ranks, started once for all tests."""

import functools
from pathlib import Path

import rank_jobs
from support.ranks import results

from tinygrad_gru import parallel

JOBS = Path(rank_jobs.__file__)
OF_LOOPS, OF_FIT = (
    ("own_loop", "overlapping_loop", "inexact_loop", "mean_of_ranks", "unused"),
    ("fit_arrays", "fit_classes", "fit_stops"),
)


@functools.lru_cache
def on(ranks):
    if ranks == 1:
        return {name: rank_jobs.JOBS[name]() for name in OF_LOOPS} | {
            name: rank_jobs.JOBS[name](parallel.init()) for name in OF_FIT
        }
    return results(ranks, JOBS, *OF_LOOPS, *OF_FIT, "fit_diverges")
