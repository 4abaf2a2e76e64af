"""A folder with the learner's files and their progress."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..io import FileFormatError, FileLock, LockedError, parse_json, replacing
from .exercise import Exercise

PROGRESS, VERSION = "learn.json", 1
KINDS: dict[str, tuple[type, ...]] = {
    "solved": (bool,), "hints": (int,), "mistake": (str, type(None)), "hint_for": (str,), "solution_seen": (bool,),
}  # fmt: skip
SECONDS_TO_LOCK = 5.0


class Workspace:
    """The folder in which a learner works: a file an exercise, and learn.json with the progress.

    >>> work = learn.Workspace(".", learn.EXERCISES)
    >>> path, is_new = work.start(learn.EXERCISES[0])
    >>> path.name
    '01_the_gradient_of_a_product.py'
    >>> work.record(learn.EXERCISES[0], solved=True)
    >>> learn.Workspace(".", learn.EXERCISES).of(learn.EXERCISES[0])["solved"]
    True
    """

    def __init__(self, folder: str | Path, exercises: Sequence[Exercise]) -> None:
        self.folder, self.exercises = Path(folder), exercises
        self._file = (self.folder / PROGRESS).absolute()  # a learner's code may change the working directory
        self.damage = ""  #: why learn.json cannot be read; nothing is written over it then
        self._progress: dict[str, dict[str, Any]] = {}
        try:
            self._progress = _read(self._file)
        except (OSError, ValueError) as error:
            self.damage = str(error)

    def of(self, exercise: Exercise) -> dict[str, Any]:
        """The progress in one exercise: solved, hints (how many were given), mistake (that the last check named).

        >>> learn.Workspace("new", learn.EXERCISES).of(learn.EXERCISES[0])
        {}
        """
        return self._progress.get(str(exercise.number), {})

    def is_solved(self, exercise: Exercise) -> bool:
        """Whether a check of it has passed, here.

        >>> learn.Workspace("new", learn.EXERCISES).is_solved(learn.EXERCISES[0])
        False
        """
        return bool(self.of(exercise).get("solved"))

    def record(self, exercise: Exercise, **changes: Any) -> None:
        """Change the progress in one exercise, in the folder too; what another check has written there is kept.

        What was solved stays solved. Raises OSError or ValueError if the progress cannot be kept.

        >>> learn.Workspace(".", learn.EXERCISES).record(learn.EXERCISES[0], hints=1)
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._file.with_name(f"{PROGRESS}.lock")):
            self._progress = _read(self._file)
            if self.is_solved(exercise):
                changes["solved"] = True
            self._progress[str(exercise.number)] = {**self.of(exercise), **changes}
            text = json.dumps({"version": VERSION, "exercises": self._progress}, ensure_ascii=False, indent=1)
            with replacing(self._file) as file:
                file.write(text.encode())

    def path(self, exercise: Exercise) -> Path:
        """The learner's file of an exercise, whether or not it exists; it may have been renamed after its number.

        >>> learn.Workspace(".", learn.EXERCISES).path(learn.EXERCISES[0]).name
        '01_the_gradient_of_a_product.py'
        """
        named = self.folder / exercise.file_name
        others = sorted(self.folder.glob(f"{exercise.number:02}_*.py"))
        return named if named.exists() or not others else others[0]

    def start(self, exercise: Exercise) -> tuple[Path, bool]:
        """Write the file of an exercise, if there is none: its path, and whether it is new.

        >>> learn.Workspace(".", learn.EXERCISES).start(learn.EXERCISES[0])[0].name
        '01_the_gradient_of_a_product.py'
        """
        path = self.path(exercise)
        is_new = not path.exists()
        if is_new:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(path, "x", encoding="utf-8") as file:
                file.write(exercise.file())
        return path, is_new

    def latest(self) -> Exercise | None:
        """The exercise whose file was started or changed last; None if there is none.

        >>> learn.Workspace("new", learn.EXERCISES).latest()
        """
        files = [(self.path(exercise), exercise) for exercise in self.exercises]
        existing = [(path.stat().st_mtime_ns, exercise.number, exercise) for path, exercise in files if path.exists()]
        return max(existing)[2] if existing else None

    def next_after(self, exercise: Exercise | None) -> Exercise | None:
        """The first exercise after this one that is not solved, else the first that is not; None at the end.

        >>> learn.Workspace(".", learn.EXERCISES).next_after(learn.EXERCISES[0]).number > 1
        True
        """
        unsolved = [e for e in self.exercises if not self.is_solved(e) and e is not exercise]
        later = [e for e in unsolved if exercise is None or e.number > exercise.number]
        return next(iter(later or unsolved), None)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The progress in a file: an entry for each exercise; none if there is no file."""
    try:
        kept = parse_json(path.read_bytes())
        if isinstance(kept, dict) and kept.get("version", VERSION) != VERSION:
            raise ValueError(
                f"{path} has version {kept['version']!r:.20}, and this tinygrad_gru reads version {VERSION}: "
                "use the tinygrad_gru that wrote it, or move it away to begin with no progress"
            )
        progress = kept["exercises"]
        for number, entry in progress.items():
            for name, value in entry.items():
                if name in KINDS and type(value) not in KINDS[name]:
                    raise TypeError(f"{name} of exercise {number} is {value!r:.40}")
    except FileNotFoundError:
        return {}
    except (FileFormatError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): move it away to begin with no progress") from error
    return progress


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock while the block runs; wait for it."""
    lock, until = FileLock(path), time.monotonic() + SECONDS_TO_LOCK
    while True:
        try:
            lock.acquire()
            break
        except LockedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
    try:
        yield
    finally:
        lock.release()
