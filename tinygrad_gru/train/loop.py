"""The training loop: evaluations, a log, checkpoints to resume from, early stopping, and a clean stop at Ctrl-C."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from ..io import FileFormatError, parse_json, replacing
from ..io.checkpoint import CheckpointError, fingerprint, load_checkpoint, save_checkpoint
from ..version import RenamedAttribute, renamed_arguments
from .folder import RunFolder
from .schema import LOOP, check
from .terminal import BestEffort, Progress

_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Steppable(Protocol):
    """A trainer, as a Loop requires it: each step is on `units_per_step` of some `unit` ("characters", …).

    loss_unit      the unit of the held-out loss, for messages
    state_schema   the schema of `state_dict` (see schema.py)
    """

    model: Any  # a Module
    steps: int
    unit: str
    loss_unit: str
    state_schema: Mapping[str, Any]

    @property
    def units_per_step(self) -> int: ...

    def step(self) -> Any:
        """Train for one step; returns a named tuple of scalars, one of them the `loss`."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Loop:
    """The training loop: trains `trainer` up to step `steps`; writes a log and checkpoints to `folder`.

    A folder belongs to one run: another one in it, at the same time or finished, is an error (see RunFolder).

    evaluate        returns the held-out loss; called `evaluations` times per run, and once before the first step
    on_evaluation   called after that with the progress display, for instance to print a sample
    patience        stop after more evaluations than this without a better one, and keep the best checkpoint too
    metadata        what else a checkpoint says about its run: dictionaries, lists, numbers, strings
    """

    about, characters_per_second = RenamedAttribute("metadata"), RenamedAttribute("steps_per_second")

    @renamed_arguments(about="metadata")
    def __init__(
        self,
        trainer: Steppable,
        steps: int,
        folder: str | os.PathLike[str] | RunFolder,
        evaluate: Callable[[], float],
        on_evaluation: Callable[[Progress], None] = lambda progress: None,
        patience: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        evaluations: int = 10,
    ) -> None:
        self.trainer, self.steps = trainer, steps
        self.folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
        self.evaluate, self.on_evaluation = evaluate, on_evaluation
        self.evaluations = evaluations
        self.early_stop = EarlyStop(patience)
        self.metadata = dict(metadata or {})
        self._seconds = 0.0
        self._first_step = 0
        self._best_step: int | None = None
        self._logged = 0
        self._run: str | None = None  # the fingerprint of its initial state; None before the first step
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()

    @property
    def finished(self) -> bool:
        return self.trainer.steps >= self.steps or self.early_stop.due

    @property
    def steps_per_second(self) -> float | None:
        """The speed of the steps of this object, without evaluations; None if it took none."""
        steps = self.trainer.steps - self._first_step
        return steps / self._seconds if steps else None

    def resume(self, state: Mapping[str, Any]) -> None:
        """Load the state of a checkpoint. Raises CheckpointError if it is not one of such a run."""
        check(state, {**LOOP, "trainer": self.trainer.state_schema})
        try:
            self.trainer.load_state_dict(state["trainer"])
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit this run: {error}") from error
        self.early_stop.load_state_dict(state["early_stop"])
        self._run, self._best_step, self._logged = state["run"], state["best_step"], state["logged"]
        self._first_step = self._saved_step = self.trainer.steps

    def run(self, progress: Progress) -> bool:
        """Train; returns whether the run is finished: a signal stops it after the current step.

        In both cases the checkpoint then holds the last step. The signals are Ctrl-C, SIGTERM and SIGHUP (see
        StopRequest). A `progress` display that fails, such as one on a closed terminal, does not stop the run.
        """
        trainer, progress = self.trainer, BestEffort(progress)
        with self.folder, StopRequest() as stop:
            resumed = self._run is not None
            if resumed:
                self._check_folder()
            else:
                self.folder.check_free()
            with JsonLines(self.folder.log, keep_until=trainer.steps if resumed else None) as log:
                if log.records < self._logged:
                    progress.write(f"{log.path} is damaged: it has {log.records:,} of {self._logged:,} records")
                if not resumed:
                    initial = fingerprint({"about": self.metadata, "trainer": trainer.state_dict()})
                    self._evaluate(log, progress)
                    self._run = initial
                while not self.finished and not stop.requested:
                    started = time.perf_counter()
                    step = trainer.step()
                    self._seconds += time.perf_counter() - started
                    log.write({**self._position(), **step._asdict()})
                    progress.advance(trainer.units_per_step, loss=step.loss)
                    if self._evaluation_due():
                        better = self.early_stop.update(self._evaluate(log, progress))
                        if better and self.early_stop.patience is not None:
                            self._best_step = trainer.steps
                        self._save(log)
                    elif time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
                        self._save(log)
                if trainer.steps != self._saved_step:
                    self._save(log)
        return self.finished

    def load_best(self) -> None:
        """Load the weights of the best evaluation into the model, if early stopping kept them."""
        if self._best_step is not None:
            self.trainer.model.load_state_dict(self._best()["trainer"]["model"])

    def _best(self) -> dict[str, Any]:
        best = load_checkpoint(self.folder.best)
        if (best.get("run"), best["trainer"]["steps"]) != (self._run, self._best_step):
            raise CheckpointError(f"{self.folder.best} does not hold step {self._best_step}, the best one, of this run")
        return best

    def _check_folder(self) -> None:
        """Check, before a run is resumed, that the folder is its own and has the best weights that it will need."""
        for path in (self.folder.checkpoint, self.folder.best):
            with suppress(CheckpointError):  # missing or damaged: the run is resumed from another file
                if load_checkpoint(path).get("run") != self._run:
                    raise FileExistsError(f"{path} is of another run than the one to resume: give another folder")
        if self._best_step is None:
            return
        if self._best_step == self.trainer.steps:  # a kill may have come between the two files
            save_checkpoint(self.folder.best, self._state())
        else:
            self._best()

    def _position(self) -> dict[str, int]:
        """The first fields of every log record."""
        return {"step": self.trainer.steps, self.trainer.unit: self.trainer.steps * self.trainer.units_per_step}

    def _evaluation_due(self) -> bool:
        """Whether the last step completed one more of the equal parts of the run, up to rounding."""
        steps = self.trainer.steps
        return steps * self.evaluations // self.steps > (steps - 1) * self.evaluations // self.steps

    def _evaluate(self, log: JsonLines, progress: Progress) -> float:
        loss = self.evaluate()
        position = self._position()
        log.write({**position, "held_out": loss})
        unit, loss_unit = self.trainer.unit, self.trainer.loss_unit
        progress.write(f"{position[unit]:,} {unit}: held-out loss {loss:.3f} {loss_unit}")
        self.on_evaluation(progress)
        return loss

    def _save(self, log: JsonLines) -> None:
        log.sync()  # before the checkpoint, so that the log always has the records that a resumed run needs
        self._logged = log.records
        state = self._state()
        save_checkpoint(self.folder.checkpoint, state)
        if self._best_step == self.trainer.steps:
            save_checkpoint(self.folder.best, state)
        self._saved_step, self._saved_at = self.trainer.steps, time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "about": self.metadata,
            "run": self._run,
            "trainer": self.trainer.state_dict(),
            "early_stop": self.early_stop.state_dict(),
            "best_step": self._best_step,
            "logged": self._logged,
        }


class EarlyStop:
    """Early stopping: due after more than `patience` evaluations in a row without a better one.

    With `patience` None it only remembers the best loss. A loss must be lower than the best by more than
    `min_improvement` to count as better; one that is not finite never is.
    """

    def __init__(self, patience: int | None, min_improvement: float = 0.0) -> None:
        self.patience = patience
        self.min_improvement = min_improvement
        self.best: float | None = None
        self.since_best = 0

    def update(self, loss: float) -> bool:
        """Count an evaluation; returns whether it is the best so far."""
        if math.isfinite(loss) and (self.best is None or loss < self.best - self.min_improvement):
            self.best, self.since_best = loss, 0
            return True
        self.since_best += 1
        return False

    @property
    def due(self) -> bool:
        return self.patience is not None and self.since_best > self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since_best": self.since_best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.since_best = state["best"], state["since_best"]


class StopRequest:
    """A signal handler: within the block SIGINT (Ctrl-C), SIGTERM and SIGHUP only set `requested`, for a loop to check.

    So every saved state is one between two steps. A second Ctrl-C raises KeyboardInterrupt at once; a second signal of
    the other two does not, for a terminal that closes may well send two SIGHUPs. A signal that is ignored, as under
    nohup, stays ignored. Only the main thread handles signals; in another one the block changes nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _STOP_SIGNALS:
                # None: a handler that was not installed by Python, and that it could not restore
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


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
                for line, record in _parse_lines(self.path):
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


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a log, in order. Invalid lines, such as one that a power failure cut short, are skipped."""
    return [record for _, record in _parse_lines(Path(path))]


def _parse_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
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
