"""The folder of a run: the files in it, a lock, so that it belongs to one run at a time, and the log."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..io import FileLock, LockedError, remove_parts, replacing
from ..io.checkpoint import CheckpointError, load_checkpoint
from ..io.log import LOG as LOG
from ..io.log import parse_log
from ..io.log import read_log as read_log

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
SUMMARY = "summary.json"
PICTURE = "loss.png"
HEARTBEAT = "heartbeat.json"
_LOCK = ".lock"
_SECONDS_BETWEEN_BEATS = 10.0


class RunFolder:
    """The folder of a run, locked within a `with` block: no other run can use it.

    Entering creates the folder if it does not exist, and removes half-written files of a run that was killed. Blocks of
    one object can be nested, so that a program can hold the lock before, during and after a Loop. Raises LockedError if
    another run holds it, in this process or another; a kill releases it.

    >>> with train.RunFolder("run") as folder:
    ...     folder.check_free()
    ...     print(folder.log.name, folder.checkpoint.name, folder.best.name)
    log.jsonl checkpoint.safetensors best.safetensors
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoint, self.best, self.log = self.path / CHECKPOINT, self.path / BEST, self.path / LOG
        self.summary, self.picture = self.path / SUMMARY, self.path / PICTURE
        self.heartbeat = self.path / HEARTBEAT
        self._lock = FileLock(self.path / _LOCK)
        self._depth = 0

    def check_free(self) -> None:
        """Raise FileExistsError if the folder holds a run: a new one would be mixed with it."""
        if self.checkpoint.exists() or self.best.exists():
            advice = "resume it (resume=True, --resume), or give another folder"
            raise FileExistsError(f"{self.path} holds a run already: {advice}")

    def check_run(self, run: str | None) -> None:
        """Raise FileExistsError if its checkpoints are of another run than the one with this fingerprint."""
        for path in (self.checkpoint, self.best):
            with suppress(CheckpointError):  # missing or damaged: the run is resumed from another file
                if load_checkpoint(path).get("run") != run:
                    raise FileExistsError(f"{path} is of another run than the one to resume: give another folder")

    def load_best(self, run: str | None, step: int) -> dict[str, Any]:
        """The best checkpoint. Raises CheckpointError if it is not that of this step of this run."""
        best = load_checkpoint(self.best)
        if (best.get("run"), best["trainer"]["steps"]) != (run, step):
            raise CheckpointError(f"{self.best} does not hold step {step}, the best one, of this run")
        return best

    def numbered(self, step: int) -> Path:
        """The checkpoint of a step, beside the last one."""
        return self.path / f"checkpoint-{step:09d}.safetensors"

    def remove_numbered(self, keep: int) -> None:
        """Remove all checkpoints with a step in their name but the last `keep`."""
        for path in sorted(self.path.glob("checkpoint-*.safetensors"))[:-keep]:
            path.unlink()

    def __enter__(self) -> RunFolder:
        if self._depth == 0:
            create_folder(self.path)
            try:
                self._lock.acquire()
            except LockedError as error:
                raise LockedError(f"{self.path} is in use by another run: {error}") from error
            for file in (self.checkpoint, self.best, self.log, self.summary, self.picture, self.heartbeat):
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


class Heartbeat:
    """A small file that says how far a run is, for what watches over it: an object in JSON, replaced as a whole.

    time, host, process   when it was written (seconds since 1970), where and by which process
    state                 "training", "evaluating", "finished", "stopped" (it can be resumed) or "failed"
    step, loss            the last step and its loss; null before the first one, and if it is not finite

    It is written by the thread that trains, after a step, every `seconds` and when the state changes; so it grows old
    if the run hangs. A write that fails, as on a full disk, is left out. Without a path nothing is written.
    """

    def __init__(self, path: Path | None, seconds: float = _SECONDS_BETWEEN_BEATS) -> None:
        self.path, self.seconds = path, seconds
        self.loss: float | None = None
        self._state, self._next = "", -math.inf

    def beat(self, state: str, step: int, loss: float | None = None) -> None:
        """Write the file, if it is due or the state another one; without a loss it has the last one."""
        self.loss = self.loss if loss is None else loss
        moment = time.monotonic()
        if self.path is None or (moment < self._next and state == self._state):
            return
        self._state, self._next = state, moment + self.seconds
        loss = self.loss if self.loss is not None and math.isfinite(self.loss) else None
        content = {
            "time": round(time.time(), 3), "state": state, "step": step, "loss": loss,
            "host": platform.node(), "process": os.getpid(),
        }  # fmt: skip
        part = self.path.with_name(f".{self.path.name}.0.part")
        with suppress(OSError):  # without fsync, for the next one follows
            part.write_text(json.dumps(content) + "\n", encoding="utf-8")
            os.replace(part, self.path)


class JsonLines:
    """The log of a run in JSON Lines: one object of scalars per line, each with its "step".

    Writes to `path`: a new file, or with `keep_until` the old one, cut after its records of that step, because a
    resumed run repeats the later steps and each is to be logged once. The old log is replaced as a whole or not at all;
    lines in it that are not records are dropped.

    A record is passed to the system at once, so that a kill loses none, and is on the disk after `sync`. A write that
    fails, as on a full disk, is tried again at the next one and at `sync`, which alone raises its error.

    `records` counts those in the log.
    """

    def __init__(self, path: str | os.PathLike[str], keep_until: int | None = None) -> None:
        self.path = Path(path)
        self.records = 0
        self._unwritten = b""
        if keep_until is not None:
            with replacing(self.path) as file:
                for line, record in parse_log(self.path):
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
        """Force all records to the disk. Raises OSError, which names the file, if that fails."""
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
