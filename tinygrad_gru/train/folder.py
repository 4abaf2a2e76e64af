"""The folder of a run: which files are in it, and that one run at a time has it."""

from __future__ import annotations

import os
from pathlib import Path

from ..io import FileLock, LockedError, remove_parts

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
LOG = "log.jsonl"
SUMMARY = "summary.json"
PICTURE = "loss.png"
_LOCK = ".lock"


class RunFolder:
    """The folder of a run, which in a `with` block belongs to this object: no other run can take it.

    The folder is made if it is not there, and what a kill left half-written in it is removed. Blocks of one object may
    stand inside one another, so that a program can hold the folder before, while and after a Loop does. Raises
    LockedError if another run has it, in this process or another; one that was killed has it no longer.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoint, self.best, self.log = self.path / CHECKPOINT, self.path / BEST, self.path / LOG
        self.summary, self.picture = self.path / SUMMARY, self.path / PICTURE
        self._lock = FileLock(self.path / _LOCK)
        self._blocks = 0

    def check_free(self) -> None:
        """Raise FileExistsError if there is a run in the folder: a new one would be mixed with it."""
        if self.checkpoint.exists() or self.best.exists():
            raise FileExistsError(f"{self.path} holds a run already: resume it (--resume), or give another folder")

    def __enter__(self) -> RunFolder:
        if self._blocks == 0:
            make_folder(self.path)
            try:
                self._lock.acquire()
            except LockedError as error:
                raise LockedError(f"{self.path} is in use by another run: {error}") from error
            for file in (self.checkpoint, self.best, self.log, self.summary, self.picture):
                remove_parts(file)
        self._blocks += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._blocks -= 1
        if self._blocks == 0:
            self._lock.release()


def make_folder(path: Path) -> None:
    """Make a folder and those that it is in, if they are not there. Not by Path.mkdir, which recurses for each."""
    try:
        os.stat(path / f".{CHECKPOINT}.00000000.part")  # the longest name to come: if it is too long, nothing is made
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        shown = f"{str(path)[:40]}… ({len(str(path)):,} characters)" if len(str(path)) > 200 else str(path)
        raise OSError(f"no folder can be made at {shown}: {error.strerror}") from error
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
