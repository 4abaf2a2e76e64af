"""Fuzz targets: a reader, its one documented error, and sources of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from .mutations import mutate

#: Formats by the modules here that have a function `target`.
FORMATS = ("checkpoint", "h5", "jsonl", "keras", "onnx", "pt", "safetensors")


@dataclass(frozen=True)
class Part:
    """A part of files, such as a compressed or checksummed member, that is mutated before it is wrapped.

    seeds   well-formed contents
    wrap    returns a file with this content and valid checksums, lengths and compression
    """

    seeds: Sequence[bytes]
    wrap: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Target:
    """A reader to fuzz.

    suffix      of the files' names
    read        reads a file and uses its content as users would
    error       the one documented error
    seeds       well-formed files
    parts       contents that are mutated inside of files
    structured  by name, functions that generate a malicious file from a random number generator
    others      what else `read` may open
    check       raises AssertionError if what was read is not what it must be
    """

    suffix: str
    read: Callable[[Path], Any]
    error: type[Exception]
    seeds: Sequence[bytes]
    parts: Sequence[Part] = ()
    structured: dict[str, Callable[[Random], bytes]] = field(default_factory=dict)
    others: Sequence[Path] = ()
    check: Callable[[Any], None] = lambda result: None

    def kinds(self) -> list[str]:
        """The kinds of inputs."""
        return ["bytes", *["parts"] * bool(self.parts), *self.structured]

    def make(self, kind: str, random: Random) -> bytes:
        """One input of a kind."""
        if kind == "bytes":
            return mutate(random, random.choice(self.seeds), self.seeds)
        if kind == "parts":
            part = random.choice(self.parts)
            return part.wrap(mutate(random, random.choice(part.seeds), part.seeds))
        return self.structured[kind](random)

    def inputs(self, seed: int, first: int = 0) -> Iterator[tuple[int, str, bytes]]:
        """(number, kind, content) endlessly; each depends on the seed and its number alone."""
        kinds = self.kinds()
        number = first
        while True:
            kind = kinds[number % len(kinds)]
            yield number, kind, self.make(kind, Random(f"{seed}/{number}"))
            number += 1


def load_target(name: str) -> Target:
    return import_module(f".{name}", __package__).target()
