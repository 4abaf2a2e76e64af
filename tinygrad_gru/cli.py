"""The command line: `tinygrad-gru train`, `generate`, `export`, `info` and `check`, or `python -m tinygrad_gru …`."""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .backend import BackendError, available, resolve, use, with_memory_report
from .io import replacing
from .testing import check_all, mutation_scores
from .train import (
    CheckpointError,
    PlotError,
    TextRun,
    TextSettings,
    TrainingError,
    characters_in,
    generate,
    load_checkpoint,
    plot_loss,
    progress,
    restore,
    summarize,
)
from .train.folder import RunFolder, create_folder, read_log
from .train.precision import PRECISIONS
from .train.terminal import BestEffort, discard_unwritten, open_standard_streams, try_print
from .train.text.model import CELLS
from .train.text.restore import settings_in
from .train.text.run import format_summary, versions
from .train.text.settings import CHANGEABLE

_INTERRUPTED = 130  # as shells report a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 130 if it was interrupted, 1 or 2 for an error."""
    open_standard_streams()
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # so that a sample can be shown without Unicode
    try:
        with nullcontext() if getattr(options, "backend", None) is None else use(options.backend):
            status = options.command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        try_print("interrupted", sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # as in `generate … | head`
        return 1
    except (ValueError, OSError, MemoryError, ImportError, BackendError, CheckpointError, TrainingError) as error:
        if options.traceback:
            raise
        reason = str(with_memory_report(error) if isinstance(error, MemoryError) else error) or type(error).__name__
        lines = [line if len(line) <= 500 else f"{line[:300]} … {line[-100:]}" for line in reason.splitlines()]
        try_print("\n".join(["error: " + lines[0], *lines[1:]]), sys.stderr)
        return 1
    finally:
        discard_unwritten(sys.stdout)


def train(options: argparse.Namespace) -> int:
    """Train on a text, from the first step or from the checkpoint of an interrupted run.

    Output that fails changes neither the run nor its exit status.
    """
    given = {name: getattr(options, name) for name in asdict(TextSettings()) if hasattr(options, name)}
    with ExitStack() as locks:
        if options.resume:
            folder, state, settings = _resumed(options, given, locks)
            run = TextRun(settings, options.backend)
        else:
            run, state = TextRun(_new_settings(options, given), options.backend), None
            folder = RunFolder(options.out if options.out is not None else _create_run_folder(run.settings.cell))
            locks.enter_context(folder)
        loop = run.loop(folder, state)
        total = run.settings.steps * run.settings.characters_per_step
        with BestEffort(progress(total, run.characters, "characters", quiet=options.quiet)) as display:
            sizes = f"{len(run.training):,} characters for training, {len(run.held_out):,} held out"
            display.write(f"{run.corpus.name}: {sizes}")
            try:
                finished = loop.run(display)
            except KeyboardInterrupt:  # a second Ctrl-C
                finished = False
        if finished:
            loop.load_best()
            summary = summarize(run, loop)
            with replacing(folder.summary) as file:
                file.write(json.dumps(summary, indent=2).encode() + b"\n")
            _plot(folder, summary)
            try_print(format_summary(summary, folder.path))
        else:
            try_print(_resume_hint(folder, options.backend))
    discard_unwritten(sys.stdout)
    if finished and loop.diagnosis is not None:
        try_print(f"error: {loop.diagnosis}", sys.stderr)
        return 1
    return 0 if finished else _INTERRUPTED


def _new_settings(options: argparse.Namespace, given: dict[str, Any]) -> TextSettings:
    settings = TextSettings(**given)
    if options.out is not None:
        RunFolder(options.out).check_free()  # fail before any work is done; the loop checks again
    if options.seconds is not None:
        settings = replace(settings, characters=characters_in(options.seconds, settings, options.backend))
    return settings


def _resumed(
    options: argparse.Namespace, given: dict[str, Any], locks: ExitStack
) -> tuple[RunFolder, dict[str, Any], TextSettings]:
    """The folder of an interrupted run, locked, its checkpoint, and its settings, with those that were given."""
    if options.out is None:
        raise ValueError("--resume needs --out, the folder of the run to resume")
    if options.seconds is not None:
        raise ValueError("--seconds sets the length of a new run; that of a resumed run is fixed")
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
    if settings.text is not None and not os.path.exists(settings.text):
        raise FileNotFoundError(f"the run's text, {settings.text}, is not there: if it was moved, give its --text")
    return folder, state, settings


def _create_run_folder(cell: str) -> Path:
    """Create the first of runs/gru-1, runs/gru-2 … that does not exist; no other run can have created the same."""
    create_folder(Path("runs"))
    for number in itertools.count(1):
        with suppress(FileExistsError):
            path = Path("runs", f"{cell}-{number}")
            path.mkdir()
            return path
    raise AssertionError  # for the type checker: `count` does not end


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
        plot_loss(folder.picture, read_log(folder.log), baselines, title)
    except PlotError as error:
        try_print(str(error), sys.stderr)


def write_text(options: argparse.Namespace) -> int:
    """Print text sampled from a trained model."""
    model, vocabulary, _ = restore(options.checkpoint, options.backend)
    text = generate(
        model, vocabulary, options.length, options.prompt, options.temperature, options.top_p, seed=options.seed
    )
    print(options.prompt + text)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a trained model as an ONNX graph, with its vocabulary in the metadata."""
    from .interop.onnx import save_text_model

    restored = restore(options.checkpoint)
    save_text_model(restored.model, restored.vocabulary, options.out)
    print(f"wrote {options.out}: inputs are ids and a state, outputs are logits and the next state")
    return 0


def info(options: argparse.Namespace) -> int:
    """Print versions and backends, or the content of a checkpoint."""
    if options.checkpoint is None:
        facts: dict[str, Any] = {**versions(), "backends": ", ".join(available())}
    else:
        model, vocabulary, state = restore(options.checkpoint)
        about = state["about"]
        facts = {
            "parameters": f"{model.parameter_count():,}",
            "vocabulary size": len(vocabulary),
            "steps": state["trainer"]["steps"],
            "best held-out loss": state["early_stop"]["best"],
            **about["settings"],
            **{f"corpus {name.replace('_', ' ')}": value for name, value in about["corpus"].items()},
            **{f"{name} version": value for name, value in about["versions"].items()},
        }
    width = max(map(len, facts))
    for name, value in facts.items():
        print(_printable(f"{name:{width}}  {value}"))
    return 0


def _printable(text: str) -> str:
    """A text, possibly from an untrusted file, with control characters escaped."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def check(options: argparse.Namespace) -> int:
    """Check the values and gradients of every op, or this check itself by mutation testing."""
    if options.mutants:
        if options.backend is not None:
            raise ValueError("--mutants runs on NumPy: leave --backend out")
        return _check_mutants(options.processes)
    failures = 0
    for name, passed, message in check_all(resolve(options.backend)):
        failures += not passed
        print(f"{'ok  ' if passed else 'FAIL'}  {name}  {message}".rstrip(), flush=True)
    print(f"{failures} failed" if failures else "all passed")
    return 1 if failures else 0


def _check_mutants(processes: int | None) -> int:
    scores = []
    for score in mutation_scores(processes):
        scores.append(score)
        print(f"{'ok  ' if score.perfect else 'FAIL'}  {score}", flush=True)
    killed, survived = sum(s.killed for s in scores), sum(len(s.survived) for s in scores)
    print(f"{killed} of {killed + survived} mutants of {len(scores)} ops killed")
    return 0 if all(score.perfect for score in scores) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tinygrad-gru", description="Train recurrent networks on text, and inspect them.")
    parser.add_argument("--traceback", action="store_true", help="show the Python traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_train(commands)

    command = commands.add_parser("generate", help="print text sampled from a trained model")
    command.set_defaults(command=write_text)
    command.add_argument("checkpoint", type=_path, help="a checkpoint file, or the folder of a run")
    command.add_argument("--prompt", default="", help="the beginning of the text")
    command.add_argument("--length", type=_count, default=500, help="characters to sample (default: %(default)s)")
    command.add_argument(
        "--temperature", type=float, default=0.8, help="divides the logits, 0 is greedy (default: %(default)s)"
    )
    command.add_argument(
        "--top-p", type=float, default=0.95, help="nucleus sampling: probability mass to keep (default: %(default)s)"
    )
    command.add_argument("--seed", type=_count, default=0, help="random seed (default: %(default)s)")
    _add_backend(command)

    command = commands.add_parser("export", help="write a trained model as an ONNX graph")
    command.set_defaults(command=export)
    command.add_argument("checkpoint", type=_path, help="a checkpoint file, or the folder of a run")
    command.add_argument("out", type=_path, help="the file to write, such as model.onnx")

    command = commands.add_parser("info", help="print versions and backends, or the content of a checkpoint")
    command.set_defaults(command=info)
    command.add_argument("checkpoint", type=_path, nargs="?", help="a checkpoint file, or the folder of a run")

    command = commands.add_parser("check", help="check the values and gradients of every op")
    command.set_defaults(command=check)
    command.add_argument("--mutants", action="store_true", help="mutation testing: does the check notice wrong rules?")
    command.add_argument("--processes", type=_count, default=None, help="for --mutants (default: one per core)")
    _add_backend(command)
    return parser


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train a character-level language model",
        description="Train a character-level language model on --text, or on the source of Python's standard library.",
        argument_default=argparse.SUPPRESS,  # options that are not given: a resumed run has them in its checkpoint
    )
    command.set_defaults(command=train, seconds=None, out=None, resume=False, quiet=False)
    defaults = TextSettings()

    def setting(name: str, convert: Any, text: str, **more: Any) -> None:
        default = getattr(defaults, name)
        note = "" if default is None else f" (default: {default})"
        command.add_argument(f"--{name}", type=convert, help=text + note, **more)

    setting("text", _absolute, "a UTF-8 text file to train on", metavar="FILE")
    setting("cell", str, "the recurrent cell", choices=tuple(CELLS))
    setting("embedding", int, "width of the character embedding", metavar="N")
    setting("hidden", int, "width of the recurrent state", metavar="N")
    setting("layers", int, "number of recurrent layers", metavar="N")
    setting("dropout", float, "probability of dropping a hidden unit", metavar="P")
    setting("batch", int, "batch size: streams of text trained on in parallel", metavar="N")
    setting("window", int, "characters per stream and step: the length of truncated BPTT", metavar="N")
    setting("characters", int, "number of characters to train on", metavar="N")
    command.add_argument(
        "--seconds", type=float, metavar="S", help="train for about S seconds, instead of --characters"
    )
    setting("precision", str, "dtype in which the model runs; its weights stay float32", choices=PRECISIONS)
    setting(
        "compiled", str, "compile recurrences: yes, no (eager mode), numba, numba:2 for two threads", metavar="MODE"
    )
    setting("lr", float, "peak learning rate", metavar="RATE")
    setting("seed", int, "random seed of weights, shuffling and dropout", metavar="N")
    setting("patience", int, "early stopping: stop after more than N evaluations without a better loss", metavar="N")
    _add_backend(command)
    command.add_argument("--out", type=_path, metavar="DIR", help="folder of the run (default: a new one in runs)")
    command.add_argument("--resume", action="store_true", help="resume the interrupted run in --out")
    command.add_argument("--quiet", action="store_true", help="print the summary only")


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return text


def _absolute(text: str) -> str:
    return os.path.abspath(_path(text))


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r:.40}")
    return int(text)


def _add_backend(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backend", default=None, help="numpy, cupy, or cupy:1 for the second GPU (default: numpy)")
