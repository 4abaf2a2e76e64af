"""What the jobs give on a number of ranks, started once for all tests."""

import functools
import tempfile
from pathlib import Path

import rank_jobs
from support.ranks import results

from tinygrad_gru import parallel

JOBS = Path(rank_jobs.__file__)
OF_LOOPS = ("own_loop", "overlapping_loop", "inexact_loop", "mean_of_ranks", "unused")
#: By the number of ranks: what is about decisions and files of the first one is the same on more.
OF_FIT = {2: ("fit_arrays", "fit_classes", "fit_stops", "fit_table"), 4: ("fit_arrays", "fit_classes")}


@functools.lru_cache
def on(ranks):
    if ranks == 1:
        return {name: rank_jobs.JOBS[name]() for name in OF_LOOPS} | {
            name: rank_jobs.JOBS[name](parallel.init()) for name in (*OF_FIT[2], "fit_rows")
        }
    folder = stream_folder().name
    if ranks == 2:
        on(4)  # has begun the run in the folder
    return results(
        ranks,
        JOBS,
        *OF_LOOPS,
        *OF_FIT[ranks],
        "fit_rows",
        "fit_diverges",
        "other_order",
        f"fit_stream:{16 // ranks}:{folder}",
    )


@functools.lru_cache
def stream_folder():
    """The folder of a run that 4 ranks begin, and 2 go on with."""
    return tempfile.TemporaryDirectory()
