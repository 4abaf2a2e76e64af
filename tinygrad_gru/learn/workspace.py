"""A folder with the learner's files and their progress."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..io import parse_json, replacing
from ..io.limits import FileFormatError
from .exercise import Exercise

PROGRESS = "learn.json"


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
        path = self.folder / PROGRESS
        self._progress: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                self._progress = parse_json(path.read_bytes())["exercises"]
                if not all(isinstance(entry, dict) for entry in self._progress.values()):
                    raise TypeError("an exercise's progress is no object")
            except (FileFormatError, TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"{path} is damaged ({error}): move it away to begin with no progress") from error

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
        """Change the progress in one exercise, in the folder too.

        >>> learn.Workspace(".", learn.EXERCISES).record(learn.EXERCISES[0], hints=1)
        """
        self._progress[str(exercise.number)] = {**self.of(exercise), **changes}
        text = json.dumps({"version": 1, "exercises": self._progress}, ensure_ascii=False, indent=1)
        with replacing(self.folder / PROGRESS) as file:
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
        if not self.of(exercise):
            self.record(exercise, solved=False)
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
