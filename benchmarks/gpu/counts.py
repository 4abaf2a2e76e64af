"""What a pass, and a step of training, ask of the device: launches, copies, and how often the host waits."""

from __future__ import annotations

from collections.abc import Callable

from tinygrad_gru.debug.device_events import Report, sanitize
from tinygrad_gru.train import TextRun, TextSettings

from ..contestants import Case, ours
from ..timing import row
from .options import Complaints, Options
from .tests import ROOT

SIZE, TOY = (100, 32, 128, 128), (5, 2, 4, 6)
#: Calls before the one that is counted: the first ones compile and allocate.
WARMING = 3
#: How often the host may wait: not in a pass, and in a step of training for the loss that it reads.
WAITS = {"pass": 0, "step": 1}
SHOWN = 15
EXPLANATION = f"""\
As `sanitize` counts them: a launch is a call of a function of arrays, which may start more kernels than one. Wanted:
the host waits {WAITS["pass"]} times in a pass, and {WAITS["step"]} times in a step of training, for the loss."""
COLUMNS = ["", "launches", "copies", "waits"]


def main(options: Options) -> None:
    print(f"{EXPLANATION}\n\n{row(COLUMNS)}\n{row(['---'] * len(COLUMNS))}", flush=True)
    complaints, details = Complaints(), ""
    size = options.choose(SIZE, SIZE, TOY)
    settings = TextSettings(**options.choose({}, {}, {"hidden": 8, "window": 8, "batch": 2}))
    counted = {f"{kind} {size}, a pass": (Case(kind, size), WAITS["pass"]) for kind in ("GRU", "LSTM", "two-speed")}
    for name, (made_of, allowed) in {**counted, "main job, a step": (settings, WAITS["step"])}.items():
        with complaints.about(name):
            report = counts_of(callable_of(made_of, options), options)
            print(row([name, *map(str, (report.launches, report.transfers, report.synchronizations))]), flush=True)
            details = "\n".join(repr(report).replace(f"{ROOT}/", "").splitlines()[:SHOWN])
            if report.synchronizations > allowed:
                complaints.append(f"{name}: the host waits {report.synchronizations} times, {allowed} allowed")
    print(f"\nOf the last:\n\n```\n{details}\n```", flush=True)
    complaints.judge()


def callable_of(made_of: Case | TextSettings, options: Options) -> Callable[[], object]:
    if isinstance(made_of, Case):
        return ours(made_of, device=options.backend)
    return TextRun(made_of, options.backend).trainer.step


def counts_of(run: Callable[[], object], options: Options) -> Report:
    for _ in range(WARMING):
        run()
    with sanitize(rehearse=options.rehearsal) as report:
        run()
    return report
