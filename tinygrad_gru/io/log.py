"""The log of a run: JSON Lines, one record of scalars a line, each with its "step"."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .limits import FileFormatError
from .strict_json import parse_json

#: The name of the file in the folder of a run.
LOG = "log.jsonl"


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a log, in order. Invalid lines, such as one that a power failure cut short, are skipped.

    >>> with open("log.jsonl", "w") as file:
    ...     _ = file.write('{"step": 1, "loss": 0.5}\\n{"step": 2, "lo')
    >>> train.read_log("log.jsonl")
    [{'step': 1, 'loss': 0.5}]
    """
    return [record for _, record in parse_log(Path(path))]


def parse_log(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The valid lines of a log, without their newlines, and the records in them."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            record = _parse_record(line) if line.endswith(b"\n") else None
            if record is not None:
                yield line[:-1], record


def _parse_record(line: bytes) -> dict[str, Any] | None:
    """The record in a line, or None: a damaged log must not stop a run that has a checkpoint."""
    try:
        record = parse_json(line)
    except FileFormatError:
        return None
    if not isinstance(record, dict) or not _is_scalar(record.get("step")):
        return None
    return record if all(value is None or _is_scalar(value) for value in record.values()) else None


def _is_scalar(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)
