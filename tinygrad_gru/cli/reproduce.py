"""The command `reproduce`: a published comparison of recurrent cells, run again."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from ..hints import did_you_mean
from ..reproduce import STUDIES, report, run_study, write_report
from ..reproduce.report import PICTURE
from ..show import PlotError
from ..train.terminal import try_print
from .arguments import add_backend, count, path


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "reproduce",
        help="published comparisons of GRU, LSTM and others, run again",
        description="Run a published comparison of recurrent cells again, and write a table beside the paper's "
        "figures, with confidence intervals over seeds, and a picture. Without a name it lists the studies. Runs that "
        "are finished are kept in the folder, so the same command goes on where it was interrupted.",
    )
    command.set_defaults(command=reproduce, goes_on="the same command")
    command.add_argument("study", nargs="?", metavar="name", help=f"one of {', '.join(STUDIES)}")
    command.add_argument("--data", type=path, help="the data file or its folder (default: downloaded, and kept)")
    command.add_argument("--task", nargs="+", metavar="NAME", help="some of its tasks (default: all)")
    command.add_argument("--seeds", type=count, metavar="N", help="runs of each cell (default: as the study says)")
    command.add_argument("--quick", action="store_true", help="show in a minute that it works: no result")
    command.add_argument("--out", type=path, metavar="DIR", help="folder (default: runs/reproduce-NAME)")
    command.add_argument("--quiet", action="store_true", help="print the report only")
    add_backend(command)


def reproduce(options: argparse.Namespace) -> int:
    """List the studies, or run one and print its report."""
    if options.study is None:
        print(listing())
        return 0
    if options.study not in STUDIES:
        known = f"{did_you_mean(options.study, STUDIES)}; there are {', '.join(STUDIES)}"
        raise ValueError(f"there is no study {options.study!r}{known}")
    study = STUDIES[options.study]
    out = Path(options.out or Path("runs", f"reproduce-{study.name}{'-quick' * options.quick}"))
    outcome = run_study(
        study, data=options.data, tasks=options.task, seeds=options.seeds, quick=options.quick, out=out,
        progress=not options.quiet,
    )  # fmt: skip
    command, where = _command(options), f"the report, {PICTURE} and all figures: {out}"
    try:
        write_report(outcome, out, command)
    except PlotError as error:
        where = f"the report and all figures: {out}"
        try_print(str(error), sys.stderr)
    print(report(outcome, command))
    print(where)
    return 0


def listing() -> str:
    """The studies, what each compares, and what it takes."""
    lines = []
    for study in STUDIES.values():
        files = sorted({task.file.name for task in study.tasks.values() if task.file is not None})
        lines += [
            f"{study.name}  {study.title}",
            f"    {study.reference}",
            f"    tasks {', '.join(study.tasks)}; cells {', '.join(study.cells.values())}; {study.seeds} seeds",
            f"    data {', '.join(files) if files else 'generated'}; takes {study.takes}",
            "",
        ]
    return "\n".join([*lines, "tinygrad-gru reproduce NAME, and with --quick first: a run of a minute, and no result"])


def _command(options: argparse.Namespace) -> str:
    words = ["tinygrad-gru", "reproduce", options.study]
    for name in ("data", "task", "seeds", "backend"):
        value = getattr(options, name)
        if value is not None:
            values = value if isinstance(value, list) else ["PATH" if name == "data" else str(value)]
            words += [f"--{name}", *map(shlex.quote, values)]
    return " ".join([*words, *["--quick"] * options.quick])
