"""Seconds that `tinygrad-gru learn check` takes, as a whole process, for a right and a wrong answer to every exercise.

    python -m benchmarks.learn_check

The right answer is what `learn solution` shows; the wrong one is the exercise's last known mistake, for which the
smallest counter-example is looked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tinygrad_gru.learn import EXERCISES, Exercise

from .processes import thread_limits
from .timing import report

COMMAND = "python -m benchmarks.learn_check"
MISTAKE = """from tinygrad_gru.learn import EXERCISES

{name} = next(e for e in EXERCISES if e.number == {number}).mistakes[-1].solution
"""


def answers(exercise: Exercise) -> dict[str, str]:
    """The learner's files, a right and a wrong one."""
    right = f"{exercise.header}\n\n\n{exercise.solution()}\n"
    return {"right": right, "wrong": MISTAKE.format(name=exercise.name, number=exercise.number)}


def seconds(exercise: Exercise, answer: str, text: str, folder: str) -> tuple[float, float]:
    """Processor seconds and seconds of a check."""
    Path(folder, exercise.file_name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "tinygrad_gru", "learn", "check", str(exercise.number), "--folder", folder]
    used, started = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **thread_limits(1)})
    elapsed, now = time.perf_counter() - started, os.times()
    if done.returncode != (answer == "wrong"):
        raise RuntimeError(f"exercise {exercise.number}, {answer}: {done.stdout}{done.stderr}")
    return now.children_user + now.children_system - used.children_user - used.children_system, elapsed


def main() -> None:
    lines = ["| answer | median, processor s | slowest, processor s | slowest, s |", "| --- | --- | --- | --- |"]
    for answer in ("right", "wrong"):
        with tempfile.TemporaryDirectory() as folder:
            found = {e.number: seconds(e, answer, answers(e)[answer], folder) for e in EXERCISES}
        by_processor = sorted(found, key=lambda number: found[number][0])
        by_clock = max(found, key=lambda number: found[number][1])
        middle, last = by_processor[len(found) // 2], by_processor[-1]
        lines.append(
            f"| {answer} | {found[middle][0]:.2f} | {found[last][0]:.2f} (exercise {last}) | "
            f"{found[by_clock][1]:.2f} (exercise {by_clock}) |"
        )
    report("learn_check", "Time of the grader of exercises", COMMAND, lines)


if __name__ == "__main__":
    main()
