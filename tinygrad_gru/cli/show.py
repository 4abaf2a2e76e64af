"""The command `show`: pictures of a trained model."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from .. import show as pictures
from ..train import Restored, restore
from ..train.text.model import prediction_loss
from .arguments import count, path


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
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
