"""The command `learn`: exercises, in the order of the course, and their grader."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import count, path


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "learn",
        help="exercises in the order of the course, and their grader",
        description="Exercises in the order of the course. `learn` lists them, `learn start 12` writes a file with the "
        "task, `learn check` grades it, `learn hint` helps, `learn solution 12` shows how it can be done.",
    )
    command.set_defaults(command=learn)
    actions = ("list", "start", "check", "hint", "solution")
    command.add_argument("action", nargs="?", default="list", choices=actions, help="what to do (default: list)")
    command.add_argument(
        "number", nargs="?", type=count, default=None, help="of the exercise (default: the one whose file changed last)"
    )
    command.add_argument("--folder", type=path, default=".", help="with your files and learn.json (default: this one)")


def learn(options: argparse.Namespace) -> int:
    """List the exercises, or start, check, help with or solve one."""
    from . import exercises  # needs Hypothesis, and is needed by no other command

    return exercises.run(options.action, options.number, options.folder)
