"""The command `train`: a character-level language model."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from glob import glob
from typing import Any

from .. import show
from ..io import replacing
from ..parallel import Ranks
from ..parallel.ranks import TIMEOUT
from ..train import PlotError, TextRun, TextSettings, load_checkpoint, progress, restore, summarize, time_plan
from ..train.folder import RunFolder
from ..train.loop import GRACE
from ..train.precision import PRECISIONS
from ..train.terminal import BestEffort, discard_unwritten, try_print
from ..train.text.model import CELLS
from ..train.text.origin import Origin, origin_in, settings_like
from ..train.text.restore import settings_in
from ..train.text.run import format_summary
from ..train.text.settings import CHANGEABLE
from .arguments import (
    INTERRUPTED,
    NOT_LEARNED,
    RESUMABLE,
    Terminated,
    absolute,
    add_backend,
    add_ranks,
    add_resume,
    add_setting,
    holds_run,
    new_run_folder,
    path,
    set_shards,
)

_PLANNED = ("characters", "evaluations")  # what --seconds sets


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "train",
        help="train a character-level language model",
        description="Train a character-level language model on --text, or on the source of Python's standard library.",
        argument_default=argparse.SUPPRESS,  # options that are not given: a resumed run has them in its checkpoint
    )
    command.set_defaults(
        command=train, seconds=None, out=None, resume=None, quiet=False, start=None, grace=GRACE, timeout=TIMEOUT
    )
    setting = partial(add_setting, command, TextSettings())
    setting("text", absolute, "a UTF-8 text, or its parts: a folder, or a pattern as 'part-*.txt'", metavar="FILE")
    setting("cell", str, "the recurrent cell", choices=tuple(CELLS))
    setting("embedding", int, "width of the character embedding", metavar="N")
    setting("hidden", int, "width of the recurrent state", metavar="N")
    setting("layers", int, "number of recurrent layers", metavar="N")
    setting("dropout", float, "probability of dropping a hidden unit", metavar="P")
    setting("batch", int, "batch size: streams of text trained on in parallel", metavar="N")
    setting("window", int, "characters per stream and step: the length of truncated BPTT", metavar="N")
    setting("characters", int, "number of characters to train on", metavar="N")
    command.add_argument(
        "--seconds", type=float, metavar="S", help="take about S seconds in all, instead of --characters"
    )
    setting("precision", str, "dtype in which the model runs; its weights stay float32", choices=PRECISIONS)
    setting("compiled", str, "recurrences: yes, no (eager mode), numpy, llvm, llvm:2 for two threads", metavar="MODE")
    setting("lr", float, "peak learning rate", metavar="RATE")
    setting("seed", int, "random seed of weights, shuffling and dropout", metavar="N")
    setting("evaluations", int, "evaluations on held-out text, of which each shows a sample", metavar="N")
    setting("patience", int, "early stopping: stop after more than N evaluations without a better loss", metavar="N")
    add_ranks(command, TextSettings())
    add_backend(command)
    command.add_argument("--out", type=path, metavar="DIR", help="folder of the run (default: a new one in runs)")
    command.add_argument(
        "--from", dest="start", type=path, metavar="RUN", help="start from the weights of another run, or a checkpoint"
    )
    add_resume(command, "with more --characters a finished one goes on")
    command.add_argument(
        "--grace", type=float, metavar="S", help=f"seconds for a checkpoint after SIGTERM (default: {GRACE:g})"
    )
    command.add_argument("--quiet", action="store_true", help="print the summary only")


def train(options: argparse.Namespace) -> int:
    """Train on a text, from the first step or from the checkpoint of an interrupted run.

    Output that fails changes neither the run nor its exit status.
    """
    given = {name: getattr(options, name) for name in asdict(TextSettings()) if hasattr(options, name)}
    ranks: Ranks = options.ranks
    if ranks.size > 1 and options.seconds is not None:
        raise ValueError("--seconds measures the speed of one process: for several ranks give --characters")
    folder: RunFolder | None = None
    with ExitStack() as locks:
        if ranks.of_first(lambda: holds_run(options)):
            folder, state, settings = _resumed_on(ranks, options, given, locks)
            run = TextRun(settings, options.backend, origin_in(state), ranks)
        else:
            set_shards(given, ranks, TextSettings.batch)
            state, (settings, origin) = None, _new_settings(options, given)
            run = TextRun(settings, options.backend, origin, ranks)
            if ranks.rank == 0:
                folder = RunFolder(options.out if options.out is not None else new_run_folder(run.settings.cell))
                locks.enter_context(folder)
        loop = run.loop(folder, state, options.grace)
        total = run.settings.steps * run.settings.characters_per_step
        quiet = options.quiet or ranks.rank > 0
        with BestEffort(progress(total, run.characters, "characters", quiet=quiet)) as display:
            sizes = f"{len(run.training):,} characters for training, {len(run.held_out):,} held out"
            display.write(f"{run.corpus.name}: {sizes}")
            if loop.is_extended:
                display.write(
                    f"extended from {run.extended_from[-1]:,} to {settings.characters:,} characters: from here on the "
                    "learning rate follows the schedule of that length"
                )
            try:
                finished = loop.run(display)
            except KeyboardInterrupt as error:  # a second signal, or the end of the grace
                finished = False
                ranks.transport.failed(error)
                if isinstance(error, Terminated):  # just before the loop waits for signals, or just after
                    raise
        if finished:
            loop.load_best()
        if folder is None:  # rank 0 has it, and tells of it
            pass
        elif finished:
            summary = summarize(run, loop)
            with replacing(folder.summary) as file:
                file.write(json.dumps(summary, indent=2).encode() + b"\n")
            _plot(folder, summary)
            try_print(format_summary(summary, folder.path))
        else:
            try_print(_resume_hint(folder, options.backend))
    discard_unwritten(sys.stdout)
    if finished and loop.diagnosis is not None:
        if ranks.rank == 0:
            try_print(f"error: {loop.diagnosis}", sys.stderr)
        return NOT_LEARNED
    return 0 if finished else INTERRUPTED if loop.signal in (None, signal.SIGINT) else RESUMABLE


def _new_settings(options: argparse.Namespace, given: dict[str, Any]) -> tuple[TextSettings, Origin | None]:
    if options.out is not None:
        RunFolder(options.out).check_free()  # fail before any work is done; the loop checks again
    if options.start is None:
        settings, origin = TextSettings(**given), None
    else:
        source = restore(options.start)
        settings, origin = settings_like(source.state, given), Origin.of(*source)
    if options.seconds is not None:
        plan = time_plan(options.seconds, settings, options.backend)
        settings = replace(settings, characters=plan.characters, evaluations=plan.evaluations)
        if not options.quiet:
            try_print(f"{options.seconds:g} s: {plan}")
    return settings, origin


def _resumed_on(
    ranks: Ranks, options: argparse.Namespace, given: dict[str, Any], locks: ExitStack
) -> tuple[RunFolder | None, dict[str, Any], TextSettings]:
    """What `_resumed` returns: rank 0 reads it, and the others have no folder."""
    found: list[RunFolder] = []

    def read() -> dict[str, Any]:
        folder, state, settings = _resumed(options, given, locks)
        found.append(folder)
        return {"state": state, "settings": asdict(settings)}

    told = ranks.of_first(read)
    return (found[0] if found else None), told["state"], TextSettings(**told["settings"])


def _resumed(
    options: argparse.Namespace, given: dict[str, Any], locks: ExitStack
) -> tuple[RunFolder, dict[str, Any], TextSettings]:
    """The folder of an interrupted run, locked, its checkpoint, and its settings, with those that were given."""
    if options.resume == "auto":  # the same command line as at the start, which has set them
        given = {name: given[name] for name in given if options.seconds is None or name not in _PLANNED}
    elif options.start is not None:
        raise ValueError("--from is for a new run; a resumed one has its weights in its own checkpoint")
    elif options.seconds is not None:
        raise ValueError("--seconds sets the length of a new run; that of a resumed run is set by --characters")
    folder = RunFolder(options.out)
    if not folder.checkpoint.exists():
        load_checkpoint(folder.checkpoint)  # raises, and says why
    locks.enter_context(folder)  # before the checkpoint is read: another run may be about to replace it
    state = load_checkpoint(folder.checkpoint)
    settings = settings_in(state, folder.checkpoint)
    for name, value in given.items():
        if name not in CHANGEABLE and value != getattr(settings, name):
            saved = getattr(settings, name)
            raise ValueError(f"--{name} {value} differs from the run in {folder.path}, which has {saved}: leave it out")
    settings = replace(settings, **given)
    if settings.text is not None and not os.path.exists(settings.text) and not glob(settings.text):
        raise FileNotFoundError(f"the run's text, {settings.text}, is not there: if it was moved, give its --text")
    return folder, state, settings


def _resume_hint(folder: RunFolder, backend: str | None) -> str:
    if not folder.checkpoint.exists():
        return "stopped before the first checkpoint"
    steps = load_checkpoint(folder.checkpoint)["trainer"]["steps"]
    command = [sys.executable, "-m", "tinygrad_gru", "train", "--resume", "--out", str(folder.path)]
    command += [] if backend is None else ["--backend", backend]
    return f"stopped; the checkpoint holds step {steps:,}. To resume:\n  {shlex.join(command)}"


def _plot(folder: RunFolder, summary: dict[str, Any]) -> None:
    settings = summary["settings"]
    title = f"{settings['cell'].upper()}, hidden {settings['hidden']}: {summary['held_out']:.3f} nats/char held out"
    baselines = {name: summary[name] for name in ("unigram", "bigram")}
    try:
        show.loss(folder.path, baselines=baselines, title=title, path=folder.picture)
    except PlotError as error:
        try_print(str(error), sys.stderr)
