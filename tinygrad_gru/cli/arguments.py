"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import os

INTERRUPTED = 130  # the exit status that shells report for a program that Ctrl-C ended


def path(text: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return text


def absolute(text: str) -> str:
    return os.path.abspath(path(text))


def count(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r:.40}")
    return int(text)


def add_backend(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backend", default=None, help="numpy, cupy, or cupy:1 for the second GPU (default: numpy)")
