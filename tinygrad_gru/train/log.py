"""A log of numbers: one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..io import FileFormatError, parse_json, replacing


class JsonLines:
    """Writes records to `path`: a new file, or with `keep_until` the old one as far as its records of that "step".

    A run that goes on from a checkpoint takes the later steps again, and each is to stand in the log once. The old log
    is cut as a whole or not at all; lines in it that are no records are left out.

    A record is with the system as soon as it is written, so that a kill loses none, and on the disk after `sync`. A
    write that fails, as on a full disk, is tried again at the next and at `sync`, which alone raises its error.

    `records` counts those in the log.
    """

    def __init__(self, path: str | os.PathLike[str], keep_until: int | None = None) -> None:
        self.path = Path(path)
        self.records = 0
        self._unwritten = b""
        if keep_until is not None:
            with replacing(self.path) as file:
                for line, record in _lines(self.path):
                    if record["step"] <= keep_until:
                        file.write(line + b"\n")
                        self.records += 1
        self._file = open(self.path, "wb" if keep_until is None else "ab", buffering=0)  # noqa: SIM115  (see close)

    def write(self, record: dict[str, Any]) -> None:
        self._unwritten += json.dumps(record).encode() + b"\n"
        self.records += 1
        with suppress(OSError):
            self._drain()

    def sync(self) -> None:
        """Force all records to the disk. Raises OSError, which names the file, if that cannot be done."""
        try:
            self._drain()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, f"could not write the log: {error.strerror}", str(self.path)) from error

    def _drain(self) -> None:
        while self._unwritten:  # a full disk takes a part of a line, and the rest when there is room again
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a log, in order. Lines that are none, such as one that a power failure cut short, are left out."""
    return [record for _, record in _lines(Path(path))]


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines of a log that are records, without their ends, and the records."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            record = _record(line) if line.endswith(b"\n") else None
            if record is not None:
                yield line[:-1], record


def _record(line: bytes) -> dict[str, Any] | None:
    """The record in a line, or None: a log that was damaged must not stop those who have a checkpoint."""
    try:
        record = parse_json(line)
    except FileFormatError:
        return None
    if not isinstance(record, dict) or not _is_number(record.get("step")):
        return None
    return record if all(value is None or _is_number(value) for value in record.values()) else None


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)
