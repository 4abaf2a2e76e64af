"""What every pass of the compiler is worth on the GPU: it is left out, and the pass of a recurrence timed again."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from tinygrad_gru.scan import compiled

from ..contestants import Case, check_agreement, ours
from ..timing import interleaved, ratio, row
from .clock import clock_for
from .options import Complaints, Options
from .precision import FLOAT32
from .recurrence import SIZES, TOYS

LEFT_OUT = {
    "logistic": {"logistic"},
    "reassociate": {"reassociate"},
    "interpolate": {"interpolate"},
    "collect": {"collect"},
    "merge": {"merge_lanes", "merge_sums"},
    "all passes": {p.__name__ for p in (*compiled.FORWARD_PASSES, *compiled.BACKWARD_PASSES)},
}


def main(options: Options) -> None:
    FLOAT32.choose_ours(options)
    print("Time of a training pass without some of the compiler's passes, over the time with all of them.\n")
    columns = ["", "(T, B, I, H)", "ours, ms", *(f"without {name}" for name in LEFT_OUT)]
    print(row(columns))
    print(row(["---"] * len(columns)))
    complaints = Complaints()
    for kind in ("GRU", "LSTM", "two-speed"):
        for size in options.choose(SIZES, SIZES[:2], TOYS[:1]):
            with complaints.about(f"{kind} {size}"):
                print(measure(Case(kind, size), options), flush=True)
    complaints.judge()


def measure(case: Case, options: Options) -> str:
    run = ours(case, device=options.backend)
    contestants = {"": run} | {name: Without(run, passes) for name, passes in LEFT_OUT.items()}
    check_agreement(case, contestants, FLOAT32.allowed)
    rounds, turn = options.choose((9, 0.2), (3, 0.05), (2, 0.0))
    seconds = interleaved(contestants, rounds, turn, clock=clock_for(options))
    compared = [ratio(seconds[name], seconds[""]) for name in LEFT_OUT]
    return row([case.kind, str(case.size), f"{1e3 * statistics.median(seconds['']):.2f}", *compared])


class Without:
    """A call for which some passes are not there, with plans of its own."""

    def __init__(self, run: Callable[[], object], names: set[str]):
        self.run = run
        self.settings = {
            "FORWARD_PASSES": tuple(p for p in compiled.FORWARD_PASSES if p.__name__ not in names),
            "BACKWARD_PASSES": tuple(p for p in compiled.BACKWARD_PASSES if p.__name__ not in names),
            "_cache": compiled.PlanCache(compiled.PLANS),
        }

    def __call__(self) -> object:
        before = {name: getattr(compiled, name) for name in self.settings}
        vars(compiled).update(self.settings)
        try:
            return self.run()
        finally:
            vars(compiled).update(before)
