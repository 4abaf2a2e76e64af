"""What `learn` does and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..learn import CHAPTERS, EXERCISES, Exercise, SolutionError, Workspace, grade, load


def run(action: str, number: int | None, folder: str) -> int:
    """One action of the command; returns the exit status: 1 if a check failed."""
    work = Workspace(folder, EXERCISES)
    if action == "list":
        return _list(work)
    does = {"start": _start, "next": _start, "check": _check, "hint": _hint, "solution": _solution}[action]
    return does(work, _chosen(work, action, number))


def _chosen(work: Workspace, action: str, number: int | None) -> Exercise:
    """The exercise of that number; without one, the next that is not solved for `start`, else the latest."""
    if number is not None:
        for exercise in EXERCISES:
            if exercise.number == number:
                return exercise
        raise ValueError(f"there is no exercise {number}: they are {EXERCISES[0].number} to {EXERCISES[-1].number}")
    latest = work.latest()
    if action in ("start", "next"):
        return work.next_after(latest if action == "next" else None) or EXERCISES[-1]
    if latest is None:
        raise ValueError(f"there is no exercise in {_place(work.folder)}: begin with `{_command(work, 'start', 1)}`")
    return latest


def _list(work: Workspace) -> int:
    if work.damage:
        raise ValueError(work.damage)
    solved = [exercise for exercise in EXERCISES if work.is_solved(exercise)]
    print(f"{len(solved)} of {len(EXERCISES)} solved in {_place(work.folder)}\n")
    chapter = 0
    for exercise in EXERCISES:
        if exercise.chapter != chapter:
            chapter = exercise.chapter
            print(f"{chapter:2} {CHAPTERS[chapter - 1].title}")
        state = "✓" if exercise in solved else "…" if work.path(exercise).exists() else " "
        print(f"   {state} {exercise.number:2} {exercise.title}")
    following = work.next_after(None)
    if following is not None:
        action = "check" if work.path(following).exists() else "start"
        print(f"\nnext: {_command(work, action, following.number)}")
    return 0


def _start(work: Workspace, exercise: Exercise) -> int:
    path, is_new = work.start(exercise)
    print(f"{_title(exercise)}\n\n{exercise.task()}\n")
    if is_new:
        print(f"{path} has the task")
    else:
        state = "solved" if work.is_solved(exercise) else "not solved yet"
        print(f"{path} exists ({state}), and is left as it is; to begin again, delete it")
    print(f"when it is written: {_command(work, 'check', exercise.number)}")
    return 0


def _check(work: Workspace, exercise: Exercise) -> int:
    path = work.path(exercise).absolute()
    if not path.exists():
        raise ValueError(
            f"{path.name} is not in {_place(work.folder)}: `{_command(work, 'start', exercise.number)}` writes it, "
            "and --folder says where another folder is"
        )
    print(_title(exercise), flush=True)
    try:
        with load(path, exercise) as solution:
            verdict = grade(exercise, solution, path=str(path))
        said = f"{'✓' if verdict.passed else '✗'} {verdict}"
    except SolutionError as error:
        print(f"✗ {error}")
        return 1
    except Exception as error:
        raise ValueError(
            f"the grader failed ({type(error).__name__}: {error}): does {path.name} change what belongs to NumPy, "
            "Python or tinygrad_gru? Else it is a bug; `tinygrad-gru --traceback learn check` shows where"
        ) from error
    print(said)
    _record(work, exercise, solved=verdict.passed, mistake=verdict.mistake.name if verdict.mistake else None)
    if verdict.passed:
        print(f"\n{exercise.understood}")
        following = work.next_after(exercise)
        if following is None:
            print("That was all.")
        else:
            print(f"next: {_title(following)}\n    {_command(work, 'start', following.number)}")
    elif not verdict.is_unwritten:
        print(f"help: {_command(work, 'hint', exercise.number)}")
    return 0 if verdict.passed else 1


def _hint(work: Workspace, exercise: Exercise) -> int:
    """The hint of the mistake that the last check named, once; then those of the exercise, one at each call."""
    progress = work.of(exercise)
    mistake = next((m for m in exercise.mistakes if m.name == progress.get("mistake")), None)
    print(_title(exercise))
    further = f"further: {_command(work, 'hint', exercise.number)}"
    if mistake is not None and progress.get("hint_for") != mistake.name:
        print(f"{mistake.name}: {mistake.hint}\n{further}")
        _record(work, exercise, hint_for=mistake.name)
        return 0
    given = min(max(progress.get("hints", 0), 0) + 1, len(exercise.hints))
    _record(work, exercise, hints=given)
    print(f"{exercise.hints[given - 1]} ({given} of {len(exercise.hints)})")
    if given == len(exercise.hints):
        further = f"That is the last hint. What remains: {_command(work, 'solution', exercise.number)}"
    print(further)
    return 0


def _solution(work: Workspace, exercise: Exercise) -> int:
    _record(work, exercise, solution_seen=True)
    print(exercise.solution())
    return 0


def _record(work: Workspace, exercise: Exercise, **changes: Any) -> None:
    """Keep progress; a warning if it cannot be kept, since the answer counts more."""
    try:
        work.record(exercise, **changes)
    except (OSError, ValueError) as error:
        print(f"warning: the progress was not kept: {error}", file=sys.stderr)


def _title(exercise: Exercise) -> str:
    return f"{exercise.number} · {exercise.title} (chapter {exercise.chapter}, {CHAPTERS[exercise.chapter - 1].title})"


def _command(work: Workspace, action: str, number: int) -> str:
    folder = "" if work.folder == Path() else f" --folder {work.folder}"
    return f"tinygrad-gru learn {action} {number}{folder}"


def _place(folder: Path) -> str:
    return "this folder" if folder == Path() else str(folder)
