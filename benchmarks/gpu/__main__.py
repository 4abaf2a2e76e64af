"""Run all parts, even if some fail: proofs in parallel, then measurements one by one, and a table of verdicts last.

    python -m benchmarks.gpu                              # everything
    python -m benchmarks.gpu --quick                      # in 10 minutes
    python -m benchmarks.gpu --only lockstep,recurrence   # some parts; writes a report only with --out
    python -m benchmarks.gpu --backend numpy              # a rehearsal on a machine without a GPU

The exit status is 0 if no part failed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ..timing import RESULTS
from .options import Options
from .parts import EXTRA, PARTS, Outcome, Part, command_of, run_in_process, run_part
from .report import Report

#: The time limit of --quick in seconds: the rest of 10 minutes is for starting and for writing.
QUICK = 570.0
TIMED_OUT = Outcome("FAIL", "no time was left for it", 0.0, [])


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    options = Options(given.backend, given.quick)
    if given.part:
        return run_part(given.part, options)
    parts = _selected(given)
    folder = given.out or (None if given.only or options.rehearsal else RESULTS)
    report = Report(shlex.join(["python", "-m", "benchmarks.gpu", *_command_options(given)]), folder and Path(folder))
    end = time.monotonic() + (given.seconds or (QUICK if options.quick else float("inf")))

    stop = threading.Event()

    def run(name: str, echo: bool = True) -> Outcome:
        limit = min(parts[name].quick_seconds if options.quick else parts[name].seconds, end - time.monotonic())
        return run_in_process(command_of(name, options), limit, echo, stop) if limit > 0 else TIMED_OUT

    def add(name: str, outcome: Outcome, shown: bool = True) -> None:
        report.add(name, parts[name], outcome)
        print("\n".join(report.verdict(name) if shown else report.section(name)), flush=True)

    outcome = run("machine")
    device = next((_value(line) for line in outcome.lines if line.startswith("| device |")), None)
    if device is None:  # no other part can run without one
        print(f"{outcome.verdict}: {outcome.reason}")
        return 1
    report.device = device
    add("machine", outcome)
    alone = given.jobs == 1
    with ThreadPoolExecutor(given.jobs) as pool:  # the threads only wait for processes
        try:
            running = {pool.submit(run, name, alone): name for name, part in parts.items() if part.proof}
            for done in as_completed(running):
                add(running[done], done.result(), shown=alone)
        except BaseException:  # Ctrl-C
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for name in (name for name, part in parts.items() if not part.proof and name != "machine"):
        print(f"\n## {parts[name].title}\n", flush=True)
        add(name, run(name))
    print("\n" + "\n".join(report.summary()))
    if report.path is not None:
        print(f"\nwritten to {report.path}")
    return 1 if report.failed else 0


def _selected(given: argparse.Namespace) -> dict[str, Part]:
    parts = {**PARTS, **EXTRA}
    names = given.only.split(",") if given.only else [*PARTS, *(EXTRA if given.ablate else ())]
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise SystemExit(f"--only: unknown part {', '.join(unknown)}; the parts are {', '.join(parts)}")
    return {name: part for name, part in parts.items() if name in ("machine", *names)}


def _command_options(given: argparse.Namespace) -> list[str]:
    """The options that decide what is measured."""
    options = [] if given.backend == "cupy" else ["--backend", given.backend]
    options += ["--quick"] if given.quick else []
    options += ["--ablate"] if given.ablate else []
    return options + (["--only", given.only] if given.only else [])


def _value(line: str) -> str:
    """The second cell of a table row."""
    return line.split(" | ")[1].removesuffix(" |")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description="Run all checks and measurements that need a GPU."
    )
    parser.add_argument("--backend", default="cupy", help="cupy, cupy:1, or numpy for a rehearsal (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="everything within 10 minutes")
    parser.add_argument("--only", metavar="PARTS", help=f"comma-separated: some of {', '.join([*PARTS, *EXTRA])}")
    parser.add_argument("--ablate", action="store_true", help="also measure the compiler without each of its passes")
    parser.add_argument("--out", metavar="FOLDER", help="folder of the report (default: benchmarks/results)")
    parser.add_argument("--seconds", type=float, metavar="S", help="total time limit; parts that are not reached fail")
    jobs = 6 if (os.cpu_count() or 1) >= 8 else 1
    parser.add_argument("--jobs", type=int, default=jobs, help="number of proofs in parallel (%(default)s)")
    parser.add_argument("--part", metavar="PART", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
