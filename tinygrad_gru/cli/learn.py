"""The command `learn`: exercises, in the order of the course, and their grader."""

from __future__ import annotations

import argparse
import faulthandler
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..hints import did_you_mean
from .arguments import path

ACTIONS = ("list", "start", "next", "check", "hint", "solution")
SECONDS_TO_CHECK = 90.0  # much more than the grader allows for
MEANT = {"help": "hint", "show": "start"}


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "learn",
        help="exercises in the order of the course, and their grader",
        description="Exercises in the order of the course. `learn` lists them, `learn 12` (or `learn start 12`) writes "
        "a file with the task, `learn check` grades the file that changed last, `learn hint` helps, `learn solution "
        "12` shows how it can be done, and `learn next` starts the next one that is not solved.",
    )
    command.set_defaults(command=learn)
    command.add_argument(
        "words", nargs="*", type=word, metavar="action or number",
        help=f"what to do ({', '.join(ACTIONS)}), and the number of an exercise, or its file",
    )  # fmt: skip
    command.add_argument("--folder", type=path, default=".", help="with your files and learn.json (default: this one)")


def word(text: str) -> str | int:
    """An action, or the number of an exercise, also as its file's name: `12`, `12_an_op_and_its_rule.py`."""
    text = MEANT.get(text, text)
    if text in ACTIONS:
        return text
    number = re.match(r"(\d{1,9})(_.*\.py)?$", Path(text).name)
    if number is None:
        expected = f"expected {', '.join(ACTIONS)} or a number"
        raise argparse.ArgumentTypeError(f"{expected}, got {text!r:.40}{did_you_mean(text, ACTIONS)}")
    return int(number[1])


def learn(options: argparse.Namespace) -> int:
    """List the exercises, or start, check, help with or solve one."""
    from . import exercises  # needs Hypothesis, and is needed by no other command

    actions = [w for w in options.words if isinstance(w, str)]
    numbers = [w for w in options.words if isinstance(w, int)]
    if len(actions) > 1 or len(numbers) > 1:
        raise ValueError(f"expected one action and one number, got {' '.join(map(str, options.words))}")
    action = actions[0] if actions else "start" if numbers else "list"
    arguments = action, numbers[0] if numbers else None, options.folder
    return _in_a_process(exercises.run, *arguments) if options.owns_process else exercises.run(*arguments)


def _in_a_process(run: Callable[..., int], *arguments: Any) -> int:
    """Run in a process that does nothing else: it ends even where a learner's code does not.

    A loop within one call into C keeps all threads from running, so that only faulthandler can end it: it writes where
    the loop is. A thread that code has started and that still runs is left at the end.
    """
    before = set(threading.enumerate())
    with suppress(AttributeError, ValueError, RuntimeError):  # without a file for standard error
        faulthandler.dump_traceback_later(SECONDS_TO_CHECK, exit=True, file=sys.stderr)
    try:
        status = run(*arguments)
    finally:
        faulthandler.cancel_dump_traceback_later()
    if any(not thread.daemon for thread in set(threading.enumerate()) - before):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
