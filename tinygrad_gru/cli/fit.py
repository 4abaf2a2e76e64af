"""The commands `fit` and `predict`: a forecaster or a classifier of the rows of a CSV file."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ..data import Table, read_csv
from ..io import replacing
from ..parallel import Ranks
from ..parallel.ranks import TIMEOUT
from ..show import PlotError
from ..show.series import plot_series
from ..train import History, SeriesModel, SeriesRun, SeriesSettings, load_checkpoint
from ..train.folder import RunFolder
from ..train.series.settings import CELLS, FILLS, TASKS
from ..train.terminal import try_print
from .arguments import (
    INTERRUPTED,
    NOT_LEARNED,
    add_backend,
    add_ranks,
    add_resume,
    add_setting,
    delimiter,
    holds_run,
    new_run_folder,
    path,
    set_shards,
)

_FORMAT: dict[str, Any] = {
    "delimiter": None,
    "decimal": ".",
    "thousands": "",
    "missing": [],
    "header": None,
    "encoding": "utf-8",
}
MODEL, PREDICTIONS, PICTURE = "model.safetensors", "predictions.csv", "fit.png"


def add_to(commands: Any) -> None:
    """Add the commands to the parser."""
    command = commands.add_parser(
        "fit",
        help="train a forecaster or a classifier on a CSV file",
        description="Train a recurrent network on the rows of a CSV file, in their order: it forecasts the next rows "
        "of the target if that is a number, or tells its class. Writes the model, its predictions for the last rows, "
        "and a picture.",
        argument_default=argparse.SUPPRESS,
    )
    command.set_defaults(command=fit, out=None, quiet=False, resume=None, timeout=TIMEOUT, **_FORMAT)
    setting = partial(add_setting, command, SeriesSettings(target=""))
    command.add_argument("file", type=path, help="the CSV file, one row per time step")
    command.add_argument("--target", required=True, metavar="COLUMN", help="what to forecast or classify")
    setting("task", str, "default: forecast a number, classify anything else", choices=TASKS)
    setting("window", int, "rows that the network reads", metavar="N")
    setting("horizon", int, "rows ahead to forecast", metavar="N")
    command.add_argument("--features", nargs="+", metavar="COLUMN", help="columns to read (default: all that can be)")
    setting("fill", str, "fill missing values with the value before them, or interpolate", choices=FILLS)
    setting("cell", str, "the recurrent cell", choices=tuple(CELLS))
    setting("hidden", int, "width of the recurrent state", metavar="N")
    setting("layers", int, "number of recurrent layers", metavar="N")
    setting("dropout", float, "probability of dropping a hidden unit between layers", metavar="P")
    setting("epochs", int, "passes over the training rows at most", metavar="N")
    setting("batch", int, "windows per step", metavar="N")
    setting("lr", float, "learning rate", metavar="RATE")
    setting("patience", int, "epochs without a better validation loss before training stops", metavar="N")
    setting("validation", float, "share of the rows that says when to stop", metavar="SHARE")
    setting("test", float, "share of the rows, the last ones, for the results", metavar="SHARE")
    setting("seed", int, "random seed of weights and shuffling", metavar="N")
    _add_format(command)
    add_ranks(command, SeriesSettings(target=""))
    command.add_argument("--out", type=path, metavar="DIR", help="folder of the run (default: a new one in runs)")
    add_resume(command, "with more --epochs a finished one goes on")
    command.add_argument("--quiet", action="store_true", help="print the results only")
    add_backend(command)

    command = commands.add_parser("predict", help="apply a model of `fit` to the rows of a CSV file")
    command.set_defaults(command=predict, **_FORMAT)
    command.add_argument("run", type=path, help="the folder of a run of `fit`, or its model.safetensors")
    command.add_argument("file", type=path, help="the CSV file")
    _add_format(command)
    add_backend(command)


def _add_format(command: argparse.ArgumentParser) -> None:
    command.add_argument("--delimiter", type=delimiter, help="between fields: a character, or tab (default: found)")
    command.add_argument("--decimal", metavar="SIGN", help="the decimal sign (default: %(default)s)")
    command.add_argument("--thousands", metavar="SIGN", help="between thousands: . in 1.234,5 (default: none)")
    command.add_argument(
        "--missing", metavar="TEXT", action="append",
        help="what stands for a missing value, besides nothing, NA, NaN, NULL and None; may be given again",
    )  # fmt: skip
    command.add_argument(
        "--header", choices=("yes", "no"), help="whether the first row has names, else 'column 0' … (default: found)"
    )
    command.add_argument("--encoding", metavar="NAME", help="of the text, such as cp1252 (default: %(default)s)")


def _read(options: argparse.Namespace) -> Table:
    settings = {name: getattr(options, name) for name in _FORMAT}
    return read_csv(options.file, **settings | {"header": {None: None, "yes": True, "no": False}[options.header]})


def fit(options: argparse.Namespace) -> int:
    """Train on the rows of a CSV file; write the model, predictions for the last rows, a picture and a summary."""
    given = {name: getattr(options, name) for name in asdict(SeriesSettings("")) if hasattr(options, name)}
    if "features" in given:
        given["features"] = tuple(given["features"])
    ranks: Ranks = options.ranks
    set_shards(given, ranks, SeriesSettings.batch)
    settings = SeriesSettings(**given)
    if ranks.size > 1:
        ranks.check({"table (its SHA-256)": hashlib.sha256(Path(options.file).read_bytes()).hexdigest()})
    table = _read(options)
    run = SeriesRun(table, settings, options.backend, ranks)
    is_first = ranks.rank == 0
    if is_first and not options.quiet:
        try_print(f"{options.file}: {table.report()}\n")
        for name, reason in run.left_out.items():
            try_print(f"not read: {name} ({reason})")
        for note in run.notes():
            try_print(note)
    goes_on = ranks.of_first(lambda: holds_run(options))
    with ExitStack() as stack:
        folder = None if options.out is None else RunFolder(options.out)
        if is_first:
            folder = stack.enter_context(folder or RunFolder(new_run_folder("fit")))
            if goes_on and not folder.checkpoint.exists():
                load_checkpoint(folder.checkpoint)  # raises, and says why
        history = run.fit(folder, is_first and not options.quiet, goes_on)
        if folder is not None and is_first:
            _write(folder, run, history)
    if history.diagnosis is not None:
        if is_first:
            try_print(f"error: {history.diagnosis}", sys.stderr)
        return NOT_LEARNED
    return INTERRUPTED if (history.stopped or "").startswith("interrupted") else 0


def _write(folder: RunFolder, run: SeriesRun, history: History) -> None:
    """Write the model and its results, and print them."""
    results = run.results()
    run.model.save(folder.path / MODEL)
    results.to_csv(folder.path / PREDICTIONS, run.table)
    figures = results.figures()
    with replacing(folder.summary) as file:
        summary = {**figures, "parameters": run.model.network.parameter_count(), "settings": asdict(run.settings)}
        file.write(json.dumps(summary, indent=2).encode() + b"\n")
    _plot(folder.path / PICTURE, run, results, history)
    try_print(_summary(run, results, figures, folder.path))


def _summary(run: SeriesRun, results: Any, figures: dict[str, float], folder: Path) -> str:
    settings = run.settings
    what = f"forecast of {settings.target}" if run.model.task == "forecast" else f"class of {settings.target}"
    width = max(map(len, figures))
    lines = [f"  {name:{width}}  {value:.4g}" for name, value in figures.items()]
    read = ", ".join(run.model.features.columns)
    return "\n".join(
        [
            f"{settings.cell.upper()}, hidden {settings.hidden}: {run.model.network.parameter_count():,} parameters, "
            f"{what} from {settings.window} rows of {read}",
            f"on the last {len(results.rows):,} rows:",
            *lines,
            f"files of this run: {folder}",
        ]
    )


def _plot(file: Path, run: SeriesRun, results: Any, history: Any) -> None:
    try:
        plot_series(file, results, history, run.settings.target)
    except PlotError as error:
        try_print(str(error), sys.stderr)


def predict(options: argparse.Namespace) -> int:
    """Print what a model predicts after (a forecast) or at (a class) each row that has enough rows before it."""
    file = Path(options.run)
    model = SeriesModel.load(file / MODEL if file.is_dir() else file, options.backend)
    table = _read(options)
    values = model.predict(table)
    values = values.reshape(len(values), -1)
    names = ["class"] if model.task == "classify" else [f"{k + 1} ahead" for k in range(values.shape[1])]
    print("row", *names, sep=",")
    for row, found in enumerate(values.tolist(), start=model.settings.window - 1):
        print(row, *(f"{value:.10g}" if isinstance(value, float) else value for value in found), sep=",")
    return 0
