"""A log of numbers: one JSON object a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class JsonLines:
    """Writes records to `path`: a new file, or with `keep_until` the old one as far as its records of that "step".

    A run that goes on from a checkpoint takes the later steps again, and each is to stand in the log once.
    """

    def __init__(self, path: str | os.PathLike[str], keep_until: int | None = None) -> None:
        self.path = Path(path)
        kept = [] if keep_until is None else [record for record in read_log(path) if record["step"] <= keep_until]
        self._file = self.path.open("w", encoding="utf-8")
        for record in kept:
            self.write(record)

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a log, in order; a last line that was cut short, as by a power failure, is left out."""
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
