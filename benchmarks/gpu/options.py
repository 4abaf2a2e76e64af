"""Options of the parts (backend, sizes), and the exceptions and failures that they report."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Failed(Exception):
    """A part ran, and its result does not meet the requirements."""


class Skipped(Exception):
    """A part cannot run on this machine."""


@dataclass(frozen=True)
class Options:
    """Our backend, and whether everything is to run within 10 minutes.

    On a backend without a GPU (a rehearsal) sizes are small, and measurements need not meet requirements.
    """

    backend: str = "cupy"
    quick: bool = False

    @property
    def rehearsal(self) -> bool:
        return not self.backend.startswith(("cupy", "cuda"))

    @property
    def torch_device(self) -> str:
        """PyTorch's name of the same device."""
        return "cpu" if self.rehearsal else "cuda" + self.backend.removeprefix("cupy").removeprefix("cuda")

    def choose(self, whole: T, quick: T, toy: T) -> T:
        """One of three settings: for a whole run, a quick one, or a rehearsal."""
        return toy if self.rehearsal else quick if self.quick else whole


class Failures(list[str]):
    """The failures of a part, which continues after each."""

    def __init__(self) -> None:
        super().__init__()
        self.details: list[str] = []

    @contextmanager
    def collect(self, what: str) -> Iterator[None]:
        """A block whose exceptions are collected instead of raised."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.append(f"{what}: {one_line(error)}")
            self.details.append(f"{what}:\n\n```\n{error}\n```\n")

    def raise_if_any(self) -> None:
        """Print the details and raise Failed, if there were any failures."""
        if self:
            print("\n", *self.details, sep="\n", flush=True)
            raise Failed("; ".join(self))


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
