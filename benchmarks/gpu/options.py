"""What a part is told: where to run, and how long it may take."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Failed(Exception):
    """A part ran, and what it found is not what is wanted."""


class Skipped(Exception):
    """A part cannot run here, and need not."""


@dataclass(frozen=True)
class Options:
    """Our backend, and whether all is to be done in 10 minutes.

    On a backend without a GPU sizes are toys, and no figure is judged.
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
        """One of three sizes."""
        return toy if self.rehearsal else quick if self.quick else whole


class Complaints(list[str]):
    """What went wrong in a part that goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.details: list[str] = []

    @contextmanager
    def about(self, what: str) -> Iterator[None]:
        """A block that may raise anything: it is noted, and what follows goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.append(f"{what}: {in_a_line(error)}")
            self.details.append(f"{what}:\n\n```\n{error}\n```\n")

    def judge(self) -> None:
        """Print the details and raise Failed if anything was wrong."""
        if self:
            print("\n", *self.details, sep="\n", flush=True)
            raise Failed("; ".join(self))


def in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
