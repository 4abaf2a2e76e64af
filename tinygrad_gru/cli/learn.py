"""The command `learn`: exercises, in the order of the course, and their grader."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from ..hints import did_you_mean
from .arguments import path

ACTIONS = ("list", "start", "next", "check", "hint", "solution")
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
    return exercises.run(action, numbers[0] if numbers else None, options.folder)
