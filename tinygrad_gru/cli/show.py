"""The commands `show` and `explore`: pictures of a trained model, and a page for the browser."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from .. import show as pictures
from ..show import explorer
from ..train import Restored, restore
from ..train.text.model import prediction_loss
from .arguments import count, path


def add_to(commands: Any) -> None:
    """Add the commands to the parser."""
    command = commands.add_parser(
        "show", help="draw gates, saturation, the reach of gradients, the loss or the tape of a trained model"
    )
    kinds = command.add_subparsers(required=True, metavar="picture", dest="picture")
    for name, draw, help in (
        ("gates", partial(units, pictures.gates), "gates and states as heatmaps over the characters of a text"),
        ("saturation", partial(units, pictures.saturation), "how often each unit of a gate is open or closed"),
        ("reach", reach, "how far back the gradient of a loss reaches, of one or more models"),
        ("loss", loss, "the loss of one or more runs"),
        ("tape", tape, "the tape of the loss on a text, with its cotangents: .svg, .mmd, .txt, or printed"),
    ):
        kind = kinds.add_parser(name, help=help)
        kind.set_defaults(command=draw)
        several = name in ("reach", "loss")
        kind.add_argument(
            "runs" if several else "run", type=path, nargs="+" if several else None, metavar="RUN",
            help="the folder of a run" + ", or a checkpoint" * (name != "loss"),
        )  # fmt: skip
        default = None if name == "tape" else f"{name}.png"
        kind.add_argument(
            "-o", "--out", type=path, default=default, metavar="FILE", help=f"the picture (default: {default})"
        )
        if name != "loss":
            group = kind.add_mutually_exclusive_group(required=True)
            group.add_argument("--text", help="the text that the model reads")
            group.add_argument("--file", type=path, help="a UTF-8 file with that text")
        if name in ("gates", "saturation"):
            kind.add_argument(
                "--names", type=lambda text: text.split(","), metavar="r,z,h",
                help="variables of the cell's step (default: all, of saturation the gates)",
            )  # fmt: skip
        if name in ("gates", "saturation", "reach"):
            kind.add_argument("--cell", type=count, default=0, metavar="N", help="which of several (default: 0)")

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


def units(draw: Any, options: argparse.Namespace) -> int:
    """Draw values of a cell's units: gates and states, or how often gates are open or closed."""
    return _written(
        options, partial(draw, restore(options.run), _text(options), names=options.names, cell=options.cell)
    )


def reach(options: argparse.Namespace) -> int:
    """Draw how far back gradients reach."""
    models: dict[str, Restored] = {run: restore(run) for run in options.runs}
    return _written(options, partial(pictures.gradient_reach, models, _text(options), cell=options.cell))


def loss(options: argparse.Namespace) -> int:
    """Draw the loss of runs."""
    runs = options.runs[0] if len(options.runs) == 1 else {run: run for run in options.runs}
    return _written(options, partial(pictures.loss, runs))


def tape(options: argparse.Namespace) -> int:
    """Draw, or print, the tape of a model's loss on a text."""
    model, vocabulary, _ = restore(options.run)
    ids = vocabulary.encode(_text(options))[:, None]

    def loss(ids: Any) -> Any:
        return prediction_loss(model, ids[:-1], ids[1:])[0]

    with model.evaluating():
        picture = pictures.tape(loss, ids, backward=True)
    if options.out is None:
        print(picture)
        return 0
    return _written(options, lambda path: picture.save(path))


def _text(options: argparse.Namespace) -> str:
    return options.text if options.text is not None else Path(options.file).read_text(encoding="utf-8")


def _written(options: argparse.Namespace, draw: Any) -> int:
    draw(path=options.out)
    print(f"wrote {options.out}")
    return 0


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
