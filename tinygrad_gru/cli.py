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
from .train.folder import RunFolder, make_folder
from .train.log import read_log
from .train.loop import Loop
from .train.model import CELLS
from .train.precision import PRECISIONS
from .train.restore import settings_in
from .train.settings import CHANGEABLE
from .train.summary import in_words
from .train.terminal import Guarded, discard_unwritten, open_standard_streams, tell
from .train.versions import versions

_INTERRUPTED = 130  # as shells report a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 if all went well, 130 if it was interrupted, else 1 or 2."""
    open_standard_streams()
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode still shows a sample
    try:
        with nullcontext() if getattr(options, "backend", None) is None else use(options.backend):
            status = options.command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        tell("interrupted", sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # as in `generate … | head`: nobody reads on
        return 1
    except (ValueError, OSError, MemoryError, ImportError, BackendError, CheckpointError, TrainingError) as error:
        if options.traceback:
            raise
        reason = str(with_memory_report(error) if isinstance(error, MemoryError) else error) or type(error).__name__
        lines = [line if len(line) <= 500 else f"{line[:300]} … {line[-100:]}" for line in reason.splitlines()]
        tell("\n".join(["error: " + lines[0], *lines[1:]]), sys.stderr)
        return 1
    finally:
        discard_unwritten(sys.stdout)


def train(options: argparse.Namespace) -> int:
    """Learn a text; from the beginning, or from the checkpoint of an interrupted run.

    No output that fails changes what becomes of the run, or its exit status.
    """
    given = {name: getattr(options, name) for name in asdict(TextSettings()) if hasattr(options, name)}
    with ExitStack() as held:
        run, loop = (_interrupted_run if options.resume else _new_run)(options, given, held)
        total = run.settings.steps * run.settings.batch * run.settings.window
        with Guarded(progress(total, run.trainer.characters, quiet=options.quiet)) as display:
            display.say(
                f"{run.corpus.name}: {len(run.training):,} characters to train on, {len(run.held_out):,} held out"
            )
            try:
                finished = loop.run(display)
            except KeyboardInterrupt:  # asked a second time
                finished = False
        if finished:
            loop.load_best()
            summary = summarize(run, loop)
            with replacing(loop.folder.summary) as file:
                file.write(json.dumps(summary, indent=2).encode() + b"\n")
            _draw(loop.folder, summary)
            tell(in_words(summary, loop.folder.path))
        else:
            tell(_how_to_go_on(loop.folder, options.backend))
    discard_unwritten(sys.stdout)
    return 0 if finished else _INTERRUPTED


def _new_run(options: argparse.Namespace, given: dict[str, Any], held: ExitStack) -> tuple[TextRun, Loop]:
    settings = TextSettings(**given)
    if options.out is not None:
        RunFolder(options.out).check_free()  # before work that would be in vain; the loop looks again
    if options.seconds is not None:
        settings = replace(settings, characters=characters_in(options.seconds, settings, options.backend))
    run = TextRun(settings, options.backend)
    folder = held.enter_context(RunFolder(options.out if options.out is not None else _new_folder(settings.cell)))
    return run, run.loop(folder)


def _interrupted_run(options: argparse.Namespace, given: dict[str, Any], held: ExitStack) -> tuple[TextRun, Loop]:
    if options.out is None:
        raise ValueError("--resume needs --out, the folder of the run to go on with")
    if options.seconds is not None:
        raise ValueError("--seconds says how long a new run is to be; the length of one to be resumed is settled")
    folder = RunFolder(options.out)
    if not folder.checkpoint.exists():
        load_checkpoint(folder.checkpoint)  # raises, and says why
    held.enter_context(folder)  # before the checkpoint is read: another run may be about to replace it
    state = load_checkpoint(folder.checkpoint)
    settings = settings_in(state, folder.checkpoint)
    for name, value in given.items():
        if name not in CHANGEABLE and value != getattr(settings, name):
            began = getattr(settings, name)
            raise ValueError(f"--{name} {value} is not how the run in {folder.path} began ({began}): leave it out")
    settings = replace(settings, **given)
    if settings.text is not None and not os.path.exists(settings.text):
        raise FileNotFoundError(f"the run's text, {settings.text}, is not there: if it was moved, give its --text")
    run = TextRun(settings, options.backend)
    return run, run.loop(folder, state)


def _new_folder(cell: str) -> Path:
    """The first of runs/gru-1, runs/gru-2 … that was not there; it is made, so that it is nobody else's."""
    make_folder(Path("runs"))
    for number in itertools.count(1):
        with suppress(FileExistsError):
            path = Path("runs", f"{cell}-{number}")
            path.mkdir()
            return path
    raise AssertionError  # for the type checker: there is no end of numbers


def _how_to_go_on(folder: RunFolder, backend: str | None) -> str:
    if not folder.checkpoint.exists():
        return "stopped before anything was saved"
    steps = load_checkpoint(folder.checkpoint)["trainer"]["steps"]
    words = [sys.executable, "-m", "tinygrad_gru", "train", "--resume", "--out", str(folder.path)]
    command = shlex.join(words if backend is None else [*words, "--backend", backend])
    return f"stopped; the checkpoint holds step {steps:,}, and to go on from there:\n  {command}"


def _draw(folder: RunFolder, summary: dict[str, Any]) -> None:
    settings = summary["settings"]
    title = (
        f"{settings['cell'].upper()}, hidden {settings['hidden']}: {summary['held_out']:.3f} nats a character held out"
    )
    floors = {name: summary[name] for name in ("unigram", "bigram")}
    try:
        plot_loss(folder.picture, read_log(folder.log), floors, title)
    except PlotError as error:
        tell(str(error), sys.stderr)


def write_text(options: argparse.Namespace) -> int:
    """Print text drawn from a trained model."""
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
    print(f"wrote {options.out}: ids and a state in, logits and the next state out")
    return 0


def info(options: argparse.Namespace) -> int:
    """Print what this program runs on, and what a checkpoint holds."""
    if options.checkpoint is None:
        facts: dict[str, Any] = {**versions(), "backends": ", ".join(available())}
    else:
        model, vocabulary, state = restore(options.checkpoint)
        about = state["about"]
        facts = {
            "parameters": f"{model.parameter_count():,}",
            "symbols": len(vocabulary),
            "steps": state["trainer"]["steps"],
            "best held-out loss": state["early_stop"]["best"],
            **about["settings"],
            **{f"corpus {name}": value for name, value in about["corpus"].items()},
            **{f"made with {name}": value for name, value in about["versions"].items()},
        }
    width = max(map(len, facts))
    for name, value in facts.items():
        print(_printable(f"{name:{width}}  {value}"))
    return 0


def _printable(text: str) -> str:
    """A text, perhaps of a file that somebody else has made, without what a terminal would obey."""
    return "".join(symbol if symbol.isprintable() else ascii(symbol)[1:-1] for symbol in text)


def check(options: argparse.Namespace) -> int:
    """Check every op by the contract, or by making its rules wrong whether the contract notices."""
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
    noticed, survivors = sum(s.noticed for s in scores), sum(len(s.survivors) for s in scores)
    print(f"{noticed} of {noticed + survivors} wrong rules of {len(scores)} ops are noticed")
    return 0 if all(score.perfect for score in scores) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tinygrad-gru", description="Train recurrent networks on text, and look at them.")
    parser.add_argument("--traceback", action="store_true", help="show where in the program an error came from")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_train(commands)

    command = commands.add_parser("generate", help="print text drawn from a trained model")
    command.set_defaults(command=write_text)
    command.add_argument("checkpoint", type=_path, help="a checkpoint, or the folder of a run")
    command.add_argument("--prompt", default="", help="what the text begins with")
    command.add_argument("--length", type=_count, default=500, help="characters to draw (default: %(default)s)")
    command.add_argument("--temperature", type=float, default=0.8, help="lower is safer, 0 the likeliest (%(default)s)")
    command.add_argument("--top-p", type=float, default=0.95, help="draw only from this share (default: %(default)s)")
    command.add_argument("--seed", type=_count, default=0, help="another seed, another text (default: %(default)s)")
    _add_backend(command)

    command = commands.add_parser("export", help="write a trained model as an ONNX graph")
    command.set_defaults(command=export)
    command.add_argument("checkpoint", type=_path, help="a checkpoint, or the folder of a run")
    command.add_argument("out", type=_path, help="the file to write, such as model.onnx")

    command = commands.add_parser("info", help="print versions and backends, or what a checkpoint holds")
    command.set_defaults(command=info)
    command.add_argument("checkpoint", type=_path, nargs="?", help="a checkpoint, or the folder of a run")

    command = commands.add_parser("check", help="check the values and gradients of every op")
    command.set_defaults(command=check)
    command.add_argument("--mutants", action="store_true", help="make every rule wrong on purpose: is it noticed?")
    command.add_argument("--processes", type=_count, default=None, help="for --mutants (default: one a core)")
    _add_backend(command)
    return parser


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="learn a text, character by character",
        description="Learn a text, character by character: --text, or the source of Python's standard library.",
        argument_default=argparse.SUPPRESS,  # what is not given stays away: a resumed run takes it from its checkpoint
    )
    command.set_defaults(command=train, seconds=None, out=None, resume=False, quiet=False)
    defaults = TextSettings()

    def setting(name: str, kind: Any, text: str, **more: Any) -> None:
        default = getattr(defaults, name)
        note = "" if default is None else f" (default: {default})"
        command.add_argument(f"--{name}", type=kind, help=text + note, **more)

    setting("text", _absolute, "a UTF-8 text file to learn", metavar="FILE")
    setting("cell", str, "the recurrent cell", choices=tuple(CELLS))
    setting("embedding", int, "numbers that stand for a character", metavar="N")
    setting("hidden", int, "width of the recurrent state", metavar="N")
    setting("layers", int, "recurrent layers", metavar="N")
    setting("dropout", float, "probability of dropping a hidden unit", metavar="P")
    setting("batch", int, "lanes of text read side by side", metavar="N")
    setting("window", int, "characters that one step goes back", metavar="N")
    setting("characters", int, "how many to train on", metavar="N")
    command.add_argument("--seconds", type=float, metavar="S", help="train for about so long, in place of --characters")
    setting("precision", str, "in which the model works; its weights stay float32", choices=PRECISIONS)
    setting("compiled", str, "recurrences, while training: yes, no, numba, or numba:2 for two threads", metavar="HOW")
    setting("lr", float, "the highest learning rate", metavar="RATE")
    setting("seed", int, "of weights, order and dropout", metavar="N")
    setting("patience", int, "stop after more evaluations than this without a better one", metavar="N")
    _add_backend(command)
    command.add_argument(
        "--out", type=_path, metavar="DIR", help="folder for the run's files (default: a new one in runs)"
    )
    command.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")
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
