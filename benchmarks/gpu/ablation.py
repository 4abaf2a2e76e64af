"""Ablation of the compiler on the GPU: passes timed without some compiler passes, with another, or without graphs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from tinygrad_gru.backend import capturing
from tinygrad_gru.scan import plan_cache
from tinygrad_gru.scan.passes import collect
from tinygrad_gru.scan.targets import cuda as cuda_target
from tinygrad_gru.scan.targets import numpy as numpy_target

from ..peers import Case, check_agreement, ours
from ..timing import interleaved, ratio, row
from .clock import clock_for
from .options import Failures, Options
from .precision import FLOAT32
from .recurrence import SIZES, TOYS

_MERGED = frozenset({"merge_matmuls", "fuse_horizontally"})


@dataclass(frozen=True)
class Variation:
    """A variation of the compiler: without some passes, with others before those of CUDA, with or without graphs."""

    without: frozenset[str] = frozenset()
    before: tuple[Callable, ...] = ()
    graphs: bool = True

    def of(self, passes: tuple[Callable, ...]) -> tuple[Callable, ...]:
        return tuple(p for p in passes if p.__name__ not in self.without)


VARIATIONS = {
    "products not joined": Variation(_MERGED),
    "sums not joined": Variation(frozenset({"merge_sums"})),
    "nothing joined": Variation(_MERGED | {"merge_sums"}),
    "coefficients gathered": Variation(before=(collect,)),
    "no graphs": Variation(graphs=False),
}


def main(options: Options) -> None:
    FLOAT32.choose_ours(options)
    print("Time of a training pass with a variation of the compiler, over the time without.\n")
    columns = ["", "(T, B, I, H)", "ours, ms", *VARIATIONS]
    print(row(columns))
    print(row(["---"] * len(columns)))
    failures = Failures()
    for kind in ("GRU", "LSTM", "two-speed"):
        for size in options.choose(SIZES, SIZES[:2], TOYS[:1]):
            with failures.collect(f"{kind} {size}"):
                print(measure(Case(kind, size), options), flush=True)
    failures.raise_if_any()


def measure(case: Case, options: Options) -> str:
    run = ours(case, device=options.backend)
    runs = {"": run} | {name: RecompiledRun(run, variation) for name, variation in VARIATIONS.items()}
    check_agreement(case, runs, FLOAT32.allowed)
    rounds, min_run_time = options.choose((9, 0.2), (3, 0.05), (2, 0.0))
    seconds = interleaved(runs, rounds, min_run_time, clock=clock_for(options))
    compared = [ratio(seconds[name], seconds[""]) for name in VARIATIONS]
    return row([case.kind, str(case.size), f"{1e3 * statistics.median(seconds['']):.2f}", *compared])


class RecompiledRun:
    """A pass that is compiled with a variation, and a plan cache of its own."""

    def __init__(self, run: Callable[[], object], variation: Variation):
        self.run, self.graphs = run, variation.graphs
        self.settings: list[tuple[ModuleType, str, object]] = [
            (numpy_target, "FORWARD_PASSES", variation.of(numpy_target.FORWARD_PASSES)),
            (numpy_target, "BACKWARD_PASSES", variation.of(numpy_target.BACKWARD_PASSES)),
            (cuda_target, "PASSES", variation.before + variation.of(cuda_target.PASSES)),
            (plan_cache, "_cache", plan_cache.PlanCache(plan_cache.PLANS)),
        ]

    def __call__(self) -> object:
        before = [(module, name, getattr(module, name)) for module, name, _ in self.settings]
        for module, name, value in self.settings:
            setattr(module, name, value)
        try:
            with capturing(self.graphs):
                return self.run()
        finally:
            for module, name, value in before:
                setattr(module, name, value)
