"""What `learn` does and prints."""

from __future__ import annotations

from pathlib import Path

from ..learn import CHAPTERS, EXERCISES, Exercise, SolutionError, Workspace, grade, load


def run(action: str, number: int | None, folder: str) -> int:
    """One action of the command; returns the exit status: 1 if a check failed."""
    work = Workspace(folder, EXERCISES)
    if action == "list":
        return _list(work)
    if number is None and action == "start":
        chosen = next((e for e in EXERCISES if not work.of(e).get("solved")), EXERCISES[0])
    elif number is None:
        latest = work.latest()
        if latest is None:
            raise ValueError(f"there is no exercise in {_place(work.folder)}: begin with `tinygrad-gru learn start 1`")
        chosen = latest
    else:
        numbered = [exercise for exercise in EXERCISES if exercise.number == number]
        if not numbered:
            raise ValueError(f"there is no exercise {number}: they are {EXERCISES[0].number} to {EXERCISES[-1].number}")
        chosen = numbered[0]
    return {"start": _start, "check": _check, "hint": _hint, "solution": _solution}[action](work, chosen)


def _list(work: Workspace) -> int:
    solved = [exercise for exercise in EXERCISES if work.of(exercise).get("solved")]
    print(f"{len(solved)} of {len(EXERCISES)} solved in {_place(work.folder)}\n")
    chapter = 0
    for exercise in EXERCISES:
        if exercise.chapter != chapter:
            chapter = exercise.chapter
            print(f"{chapter:2} {CHAPTERS[chapter - 1].title}")
        state = "✓" if exercise in solved else "…" if work.path(exercise).exists() else " "
        print(f"   {state} {exercise.number:2} {exercise.title}")
    following = next((exercise for exercise in EXERCISES if exercise not in solved), None)
    if following is not None:
        verb = "check" if work.path(following).exists() else "start"
        print(f"\nnext: tinygrad-gru learn {verb} {following.number}")
    return 0


def _start(work: Workspace, exercise: Exercise) -> int:
    path, is_new = work.start(exercise)
    print(_title(exercise))
    print(f"{path} {'has the task' if is_new else 'exists, and is left as it is'}")
    print(f"when it is written: tinygrad-gru learn check {exercise.number}")
    return 0


def _check(work: Workspace, exercise: Exercise) -> int:
    path = work.path(exercise)
    if not path.exists():
        raise ValueError(f"{path} does not exist: begin with `tinygrad-gru learn start {exercise.number}`")
    print(_title(exercise))
    try:
        with load(path, exercise) as solution:
            verdict = grade(exercise, solution, path=str(path))
    except SolutionError as error:
        print(f"✗ {error}")
        return 1
    mistake = verdict.mistake.name if verdict.mistake is not None else None
    work.record(exercise, solved=verdict.passed or work.of(exercise).get("solved", False), mistake=mistake)
    print(f"{'✓' if verdict.passed else '✗'} {verdict}")
    if verdict.passed:
        print(f"\n{exercise.understood}")
        following = work.next_after(exercise)
        print(
            f"next: {_title(following)}\n    tinygrad-gru learn start {following.number}"
            if following
            else "That was all."
        )
    elif not verdict.is_unwritten:
        print(f"help: tinygrad-gru learn hint {exercise.number}")
    return 0 if verdict.passed else 1


def _hint(work: Workspace, exercise: Exercise) -> int:
    progress = work.of(exercise)
    named = [m.hint for m in exercise.mistakes if m.name == progress.get("mistake")]
    given, about = progress.get("hints", 0), progress.get("hint_for")
    print(_title(exercise))
    if named and about != progress["mistake"]:
        print(f"{progress['mistake']}: {named[0]}")
        work.record(exercise, hint_for=progress["mistake"])
    else:
        if given < len(exercise.hints):
            work.record(exercise, hints=given + 1)
        print(exercise.hints[min(given, len(exercise.hints) - 1)])
        if given >= len(exercise.hints) - 1:
            print(f"That is the last hint. What remains: tinygrad-gru learn solution {exercise.number}")
            return 0
    print(f"further: tinygrad-gru learn hint {exercise.number}")
    return 0


def _solution(work: Workspace, exercise: Exercise) -> int:
    work.record(exercise, solution_seen=True)
    print(exercise.solution())
    return 0


def _title(exercise: Exercise) -> str:
    return f"{exercise.number} · {exercise.title} (chapter {exercise.chapter}, {CHAPTERS[exercise.chapter - 1].title})"


def _place(folder: Path) -> str:
    return "this folder" if folder == Path() else str(folder)
