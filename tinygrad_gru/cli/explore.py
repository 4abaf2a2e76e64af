"""The command `explore`: trained models as a page for the browser."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..show import explorer
from ..train import restore
from ..train.text.restore import Restored
from .arguments import path


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "explore",
        help="write a page for the browser in which one looks inside trained models and changes them",
        description="Write one HTML file, which opens by a double click and needs no network. In it one looks inside a "
        "trained model, changes it, and walks its gradient backward; with several runs one compares them.",
    )
    command.set_defaults(command=explore)
    command.add_argument(
        "checkpoints", type=path, nargs="+", metavar="RUN", help="the folder of a run, or a checkpoint file"
    )
    command.add_argument("-o", "--out", type=path, default="explorer.html", help="the file (default: %(default)s)")
    command.add_argument("--text", metavar="TEXT", help="what the page reads first (default: a few lines of code)")


def explore(options: argparse.Namespace) -> int:
    """Write the page of one or several runs."""
    models: dict[str, Restored] = {}
    for checkpoint in options.checkpoints:
        models.setdefault(_name_of(checkpoint, models), restore(checkpoint))
    (name, first), *others = models.items()
    beside = {other: (each.model, each.vocabulary) for other, each in others}
    page = explorer(first.model, first.vocabulary, text=options.text, beside=beside or None, name=name)
    page.save(options.out)
    size = f"{len(page.html) / 1e6:.1f} MB"
    print(f"wrote {options.out}, {size}: open it with a double click, or as {Path(options.out).resolve().as_uri()}")
    return 0


def _name_of(checkpoint: str, taken: Any) -> str:
    """The name of a run's folder or of a file, with a number if it is taken."""
    given = Path(checkpoint)
    name = given.resolve().name if given.is_dir() else given.stem
    names = [name, *(f"{name} ({number})" for number in range(2, len(taken) + 3))]
    return next(each for each in names if each not in taken)
