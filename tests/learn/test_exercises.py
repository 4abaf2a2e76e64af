"""Every exercise three ways: the starter fails, the reference passes, each mistake fails and is named."""

from __future__ import annotations

import ast
import runpy

import pytest

from tinygrad_gru.learn import CHAPTERS, EXERCISES, grade, load
from tinygrad_gru.learn.compare import difference

exercises = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: f"{e.number}-{e.name}")
mistakes = pytest.mark.parametrize(
    ("exercise", "mistake"), [pytest.param(e, m, id=f"{e.number}-{m.name}") for e in EXERCISES for m in e.mistakes]
)


@exercises
def test_the_file_that_one_begins_with_fails(exercise, tmp_path):
    path = tmp_path / exercise.file_name
    path.write_text(exercise.file(), encoding="utf-8")
    with load(path, exercise) as solution:
        verdict = grade(exercise, solution, shrink=False, path=str(path))
    assert not verdict.passed
    assert verdict.is_unwritten or exercise.starter, str(verdict)


@exercises
def test_the_solution_that_is_shown_passes(exercise, tmp_path):
    path = tmp_path / exercise.file_name
    path.write_text(f"{exercise.header}\n\n\n{exercise.solution()}\n", encoding="utf-8")
    with load(path, exercise) as solution:
        verdict = grade(exercise, solution, shrink=False, path=str(path))
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("exercise", [e for e in EXERCISES if e.call is None], ids=lambda e: str(e.number))
def test_the_file_runs_by_itself_with_the_solution(exercise, tmp_path, capsys):
    path = tmp_path / exercise.file_name
    _, main, example = exercise.file().partition("\nif __name__ ==")
    path.write_text(f"{exercise.header}\n\n\n{exercise.solution()}\n{main}{example}", encoding="utf-8")
    runpy.run_path(str(path), run_name="__main__")
    assert main and capsys.readouterr().out


@pytest.mark.parametrize("exercise", [e for e in EXERCISES if e.oracle is not None], ids=lambda e: str(e.number))
def test_the_reference_agrees_with_an_independent_oracle(exercise):
    for inputs, given in exercise.checks[:20]:
        found = difference(exercise.oracle(*inputs), given, 1e-6, 1e-8)
        assert found is None, f"{exercise.show_call(inputs)}\n{found}"


@mistakes
def test_a_mistake_fails_and_is_named(exercise, mistake):
    """Also told apart from the other mistakes, for the first that does the same is named."""
    verdict = grade(exercise, mistake.solution, shrink=False)
    assert not verdict.passed
    assert verdict.mistake is not None, str(verdict)
    assert verdict.mistake.name == mistake.name


@exercises
def test_what_every_exercise_has(exercise):
    assert len(exercise.mistakes) >= 3
    assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes)
    assert len(exercise.hints) >= 2 and exercise.understood.endswith(".")
    assert len(exercise.checks) >= 20
    task = exercise.file()
    assert max(map(len, task.splitlines())) <= 120
    for node in ast.walk(ast.parse(task)):
        assert not isinstance(node, ast.Return) or exercise.starter or exercise.run.__name__ != "call_solution"


def test_the_numbers_are_those_of_the_course():
    assert [chapter.last for chapter in CHAPTERS] == sorted(chapter.last for chapter in CHAPTERS)
    assert [exercise.number for exercise in EXERCISES] == sorted({exercise.number for exercise in EXERCISES})
