"""What the commands have in common: the parser, and types of arguments."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from ..hints import did_you_mean
from ..parallel import Ranks
from ..parallel.ranks import SHARDS, TIMEOUT
from ..train.folder import RunFolder, create_folder

#: The exit statuses besides 0 (done), 1 (an error) and 2 (wrong usage, of argparse).
NOT_LEARNED = 3  # the loss was not finite, or no better than at the start: to start again would not help
RESUMABLE = 75  # of sysexits.h, "temporary failure": stopped by SIGTERM or SIGHUP, and the same command goes on
INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, whose name is the argument, came where no training loop waits for it."""


@contextmanager
def raising_terminated() -> Iterator[None]:
    """A block in which SIGTERM and SIGHUP raise Terminated, unless the program around it handles or ignores them."""
    taken = []
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def handle(number: int, _: object) -> None:
        raise Terminated(signal.Signals(number).name)

    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


#: Options of other programs that no option here is like.
_FOREIGN = {
    "--epochs": "--characters or --seconds",
    "--learning-rate": "--lr",
    "--data": "--text",
    "--input": "--text",
    "--device": "--backend cupy for a GPU",
    "--gpu": "--backend cupy",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the option, command or choice that was probably meant."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        unknown = re.match(r"unrecognized arguments: (-[^\s=]*)", message)
        if choice is not None:
            message += did_you_mean(choice[1], re.findall(r"[\w:-]+", choice[2]))
        elif unknown is not None:
            foreign = f" (here it is {_FOREIGN.get(unknown[1])})" if unknown[1] in _FOREIGN else ""
            message += foreign or did_you_mean(unknown[1], self._option_string_actions)
        super().error(message)


def path(text: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return text


def absolute(text: str) -> str:
    return os.path.abspath(path(text))


def delimiter(text: str) -> str:
    text = "\t" if text in ("tab", r"\t") else text
    if len(text) != 1:
        raise argparse.ArgumentTypeError(f"expected one character, or tab, got {text!r:.40}")
    return text


def count(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r:.40}")
    return int(text)


def add_setting(
    command: argparse.ArgumentParser, defaults: Any, name: str, convert: Any, text: str, **more: Any
) -> None:
    """Add the option of a setting; its help ends with the default."""
    default = getattr(defaults, name)
    note = "" if default is None else f" (default: {default})"
    command.add_argument(f"--{name}", type=convert, help=text + note, **more)


def add_backend(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backend", default=None, help="numpy, cupy, or cupy:1 for the second GPU (default: numpy)")


def add_ranks(command: argparse.ArgumentParser, defaults: Any) -> None:
    """Add the options of a job of several ranks."""
    add_setting(
        command, defaults, "shards", int, metavar="N",
        text=f"micro-shards of a batch, for the ranks of mpiexec (default: {SHARDS} with mpiexec)",
    )  # fmt: skip
    command.add_argument(
        "--fast", action="store_const", dest="shards", const=0,
        help="--shards 0: no shards, so that the weights depend, by rounding, on the number of ranks",
    )  # fmt: skip
    command.add_argument(
        "--timeout", type=float, metavar="S", help=f"seconds that a rank waits for another (default: {TIMEOUT:g})"
    )


def add_resume(command: argparse.ArgumentParser, what: str) -> None:
    """Add the option that goes on with a run; `goes_on` is what `main` says of the command when a signal stops it."""
    command.set_defaults(goes_on="the same command with --resume auto")
    command.add_argument(
        "--resume", nargs="?", const="yes", choices=("yes", "auto"), metavar="auto",
        help=f"resume the run in --out; {what}; auto: or begin it",
    )  # fmt: skip


def holds_run(options: argparse.Namespace) -> bool:
    """Whether --resume asks for a run in the folder --out, where with auto there may be none."""
    if options.resume is not None and options.out is None:
        raise ValueError("--resume needs --out, the folder of the run to resume, or with auto to begin")
    return options.resume == "yes" or (options.resume == "auto" and RunFolder(options.out).checkpoint.exists())


def set_shards(given: dict[str, Any], ranks: Ranks, batch: int) -> None:
    """Set the number of shards among the settings that were given, if several ranks share a batch of so many rows."""
    if ranks.size > 1:
        batch = given.get("batch", batch)
        given.setdefault("shards", min(SHARDS, 2 ** max(batch.bit_length() - 1, 0)))


def new_run_folder(name: str) -> Path:
    """Create the first of runs/NAME-1, runs/NAME-2 … that does not exist; no other run can have created the same."""
    create_folder(Path("runs"))
    for number in itertools.count(1):
        with suppress(FileExistsError):
            path = Path("runs", f"{name}-{number}")
            path.mkdir()
            return path
    raise AssertionError  # for the type checker: `count` does not end
