"""Device events of a training pass and of a training step: launches, copies, synchronizations."""

from __future__ import annotations

from collections.abc import Callable

from tinygrad_gru.debug.device_events import Report, sanitize
from tinygrad_gru.train import TextRun, TextSettings

from ..peers import Case, ours
from ..timing import row
from .options import Failures, Options
from .tests import ROOT

SIZE, TOY = (100, 32, 128, 128), (5, 2, 4, 6)
#: Warm-up calls, which compile and allocate.
WARMUP = 3
#: The synchronizations allowed: none in a pass, one in a training step, which reads the loss.
WAITS = {"pass": 0, "step": 1}
SHOWN = 15
EXPLANATION = f"""\
As counted by `sanitize`: a launch is a call of an array function, which may start several kernels. Allowed:
{WAITS["pass"]} synchronizations in a pass, and {WAITS["step"]} in a training step, for the loss."""
COLUMNS = ["", "launches", "copies", "waits"]


def main(options: Options) -> None:
    print(f"{EXPLANATION}\n\n{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}", flush=True)
    failures, details = Failures(), ""
    size = options.choose(SIZE, SIZE, TOY)
    settings = TextSettings(**options.choose({}, {}, {"hidden": 8, "window": 8, "batch": 2}))
    counted = {
        f"{kind} {size}, training pass": (Case(kind, size), WAITS["pass"]) for kind in ("GRU", "LSTM", "two-speed")
    }
    for name, (subject, allowed) in {**counted, "main job, training step": (settings, WAITS["step"])}.items():
        with failures.collect(name):
            report = count_events(build(subject, options), options)
            print(row([name, *map(str, (report.launches, report.transfers, report.synchronizations))]), flush=True)
            details = "\n".join(repr(report).replace(f"{ROOT}/", "").splitlines()[:SHOWN])
            if report.synchronizations > allowed:
                failures.append(f"{name}: {report.synchronizations} synchronizations, {allowed} allowed")
    print(f"\nReport of the last:\n\n```\n{details}\n```", flush=True)
    failures.raise_if_any()


def build(subject: Case | TextSettings, options: Options) -> Callable[[], object]:
    if isinstance(subject, Case):
        return ours(subject, device=options.backend)
    return TextRun(subject, options.backend).trainer.step


def count_events(run: Callable[[], object], options: Options) -> Report:
    for _ in range(WARMUP):
        run()
    with sanitize(rehearse=options.rehearsal) as report:
        run()
    return report
