"""The folder of a run: the files in it, and a lock, so that it belongs to one run at a time."""

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
    """The folder of a run, locked within a `with` block: no other run can use it.

    Entering creates the folder if it does not exist, and removes half-written files of a run that was killed. Blocks of
    one object can be nested, so that a program can hold the lock before, during and after a Loop. Raises LockedError if
    another run holds it, in this process or another; a kill releases it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoint, self.best, self.log = self.path / CHECKPOINT, self.path / BEST, self.path / LOG
        self.summary, self.picture = self.path / SUMMARY, self.path / PICTURE
        self._lock = FileLock(self.path / _LOCK)
        self._depth = 0

    def check_free(self) -> None:
        """Raise FileExistsError if the folder holds a run: a new one would be mixed with it."""
        if self.checkpoint.exists() or self.best.exists():
            raise FileExistsError(f"{self.path} holds a run already: resume it (--resume), or give another folder")

    def __enter__(self) -> RunFolder:
        if self._depth == 0:
            create_folder(self.path)
            try:
                self._lock.acquire()
            except LockedError as error:
                raise LockedError(f"{self.path} is in use by another run: {error}") from error
            for file in (self.checkpoint, self.best, self.log, self.summary, self.picture):
                remove_parts(file)
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._lock.release()


def create_folder(path: Path) -> None:
    """Create a folder and its parents if they do not exist. Not by Path.mkdir, which recurses for each parent."""
    try:
        os.stat(path / f".{CHECKPOINT}.00000000.part")  # the longest name: if it is too long, create nothing
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        shown = f"{str(path)[:40]}… ({len(str(path)):,} characters)" if len(str(path)) > 200 else str(path)
        raise OSError(f"cannot create a folder at {shown}: {error.strerror}") from error
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
