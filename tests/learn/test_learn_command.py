"""The command `learn`: list, start, check, hint, solution; the progress that it keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tinygrad_gru import cli
from tinygrad_gru.learn import EXERCISES, Workspace, workspace

FIRST, SECOND = EXERCISES[0], EXERCISES[1]
RIGHT, WRONG = "return g * b, g * a", "return g * a, g * b"


@pytest.fixture
def learn(tmp_path, monkeypatch, capsys):
    """Run the command in a folder of its own: its status, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = cli.main(["learn", *arguments])
        out, err = capsys.readouterr()
        return status, out + err

    run.folder = tmp_path
    return run


def write(learn, code):
    path = learn.folder / FIRST.file_name
    path.write_text(path.read_text(encoding="utf-8").replace("raise NotImplementedError", code), encoding="utf-8")


def test_from_the_list_to_the_next_exercise(learn):
    status, text = learn()
    assert status == 0 and text.startswith(f"0 of {len(EXERCISES)} solved in this folder")
    assert all(exercise.title in text for exercise in EXERCISES) and "next: tinygrad-gru learn start 1" in text
    assert learn("start", "1")[0] == 0
    assert "is still to be written" in learn("check")[1]
    write(learn, RIGHT)
    status, text = learn("check")
    assert status == 0 and FIRST.understood in text and f"learn start {SECOND.number}" in text
    assert "✓  1 " in learn()[1] and f"1 of {len(EXERCISES)} solved" in learn()[1]
    assert sorted(path.name for path in learn.folder.iterdir()) == [FIRST.file_name, "learn.json"]


def test_hints_come_one_after_another(learn):
    learn("start", "1")
    write(learn, WRONG)
    status, text = learn("check", "1")
    assert status == 1 and "likely: you returned ∂L/∂a for b" in text and "learn hint 1" in text
    assert FIRST.mistakes[0].hint in learn("hint")[1]
    assert FIRST.hints[0] in learn("hint")[1]
    last = learn("hint")[1]
    assert FIRST.hints[1] in last and "learn solution 1" in last
    assert learn("hint")[1] == last
    assert FIRST.solution() in learn("solution", "1")[1]
    assert json.loads((learn.folder / "learn.json").read_text())["exercises"]["1"]["solution_seen"]


def test_start_leaves_what_is_written(learn):
    learn("start", "1")
    write(learn, RIGHT)
    status, text = learn("start", "1")
    assert status == 0 and "left as it is" in text and RIGHT in (learn.folder / FIRST.file_name).read_text("utf-8")


def test_check_takes_the_file_that_changed_last(learn):
    learn("start", "1")
    learn("start", "2")
    past = time.time() - 100
    os.utime(learn.folder / SECOND.file_name, (past, past))
    assert "1 · " in learn("check")[1]
    os.utime(learn.folder / FIRST.file_name, (past - 1, past - 1))
    assert "2 · " in learn("check")[1]


def test_a_solved_exercise_stays_solved(learn):
    learn("start", "1")
    write(learn, RIGHT)
    learn("check")
    path = learn.folder / FIRST.file_name
    path.write_text("def product_gradient(a, b, g): return 1, 2")
    assert learn("check", "1")[0] == 1
    assert "1 of" in learn()[1]


def test_a_number_alone_starts_or_shows_an_exercise(learn):
    status, text = learn("1")
    assert status == 0 and "def product_gradient(a, b, g):" in text and f"{FIRST.file_name} has the task" in text
    assert "not solved yet" in learn("1")[1]
    write(learn, RIGHT)
    assert "✓" in learn(FIRST.file_name, "check")[1]
    assert "(solved)" in learn("1")[1]


def test_next_is_after_the_one_at_hand(learn):
    assert "1 · " in learn("next")[1]
    assert "2 · " in learn("next")[1]
    learn("5")
    assert "6 · " in learn("next")[1]
    assert "1 · " in learn("start")[1]


@pytest.mark.parametrize(
    ("words", "answer"), [(["chekc", "1"], "did you mean 'check'"), (["1x"], "expected list, start, next")]
)
def test_a_word_that_is_none_is_answered(learn, capsys, words, answer):
    with pytest.raises(SystemExit):
        learn(*words)
    assert answer in capsys.readouterr().err


def test_another_folder(learn):
    assert learn("start", "1", "--folder", "work/here")[0] == 0
    assert (learn.folder / "work" / "here" / FIRST.file_name).exists()
    assert "1 · " in learn("check", "--folder", "work/here")[1]
    assert "learn start 1 --folder other" in learn("check", "--folder", "other")[1]


ERRORS = [
    (("check",), "there is no exercise in this folder: begin with `tinygrad-gru learn start 1`"),
    (("check", "1", "2"), "expected one action and one number, got check 1 2"),
    (("check", "1"), f"{FIRST.file_name} is not in this folder: `tinygrad-gru learn start 1` writes it"),
    (("start", "99"), f"there is no exercise 99: they are 1 to {EXERCISES[-1].number}"),
]


@pytest.mark.parametrize(("arguments", "words"), ERRORS)
def test_errors_say_what_to_do(learn, arguments, words):
    status, text = learn(*arguments)
    assert status == 1 and words in text


DAMAGED = ["{", "[]", '{"exercises": 3}', '{"exercises": {"1": 2}}', '{"exercises": {"1": {"hints": "a"}}}']
NEWER = '{"version": 99, "exercises": {}}'


@pytest.mark.parametrize("text", [*DAMAGED, NEWER])
def test_a_progress_file_that_cannot_be_read_is_named_and_does_not_stand_in_the_way(learn, text):
    learn("start", "1")
    write(learn, RIGHT)
    (learn.folder / "learn.json").write_text(text)
    reason = "has version 99, and this tinygrad_gru reads version 1" if text == NEWER else "learn.json is damaged"
    status, said = learn()
    assert status == 1 and reason in said
    status, said = learn("check", "1")
    assert status == 0 and FIRST.understood in said
    assert "the progress was not kept" in said and reason in said
    assert FIRST.hints[0] in learn("hint", "1")[1]
    assert (learn.folder / "learn.json").read_text() == text


def test_progress_that_cannot_be_written_costs_no_verdict(learn, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    learn("start", "1")
    write(learn, RIGHT)
    monkeypatch.setattr(workspace, "replacing", refuse)
    status, said = learn("check", "1")
    assert status == 0 and FIRST.understood in said and "the progress was not kept: [Errno 13]" in said


def test_checks_at_once_keep_the_progress_of_each_other(tmp_path):
    opened = [Workspace(tmp_path, EXERCISES) for _ in range(8)]

    def solve(work, exercise):
        for _ in range(5):
            work.record(exercise, solved=True)
            work.record(exercise, solved=False)

    threads = [threading.Thread(target=solve, args=pair) for pair in zip(opened, EXERCISES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work = Workspace(tmp_path, EXERCISES)
    assert [work.is_solved(exercise) for exercise in EXERCISES] == [n < 8 for n in range(len(EXERCISES))]
    assert [path.name for path in tmp_path.iterdir()] == ["learn.json"]


def test_code_that_changes_the_working_directory(learn, tmp_path_factory):
    """Its lines are still shown, and the progress is where it was."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    learn("start", "1")
    write(learn, f"import os; os.chdir({str(elsewhere)!r}); return 1 / 0")
    assert "1 / 0" in learn("check", "1")[1].split("line ")[1]
    assert (learn.folder / "learn.json").exists() and not list(elsewhere.iterdir()) and os.getcwd() == str(learn.folder)


@pytest.mark.parametrize("code", ["import numpy as np; np.isclose = None", "import builtins; builtins.len = None"])
def test_code_that_changes_numpy_or_python_gets_one_sentence(learn, monkeypatch, code):
    monkeypatch.setattr(np, "isclose", np.isclose)  # which puts it back
    learn("start", "1")
    write(learn, f"{code}; return 1, 2")
    status, said = learn("check", "1")
    assert status == 1 and "does 01_the_gradient_of_a_product.py change what belongs to NumPy" in said


def command(folder, *arguments, program=("-m", "tinygrad_gru")):
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONIOENCODING": "utf-8"}
    call = [sys.executable, *program, "learn", *arguments]
    return subprocess.run(
        call, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=60
    )


def test_the_whole_process(tmp_path):
    """One check of a wrong answer, and one of code that cannot be stopped."""
    (tmp_path / FIRST.file_name).write_text(f"def product_gradient(a, b, g):\n    {WRONG}\n")
    done = command(tmp_path, "check", "1")
    assert done.returncode == 1 and "likely: you returned ∂L/∂a for b" in done.stdout and not done.stderr
    (tmp_path / FIRST.file_name).write_text("import time\ndef product_gradient(a, b, g): time.sleep(50)\n")
    code = "import sys; from tinygrad_gru import cli, learn; learn.grading.SECONDS_A_RUN = 0.3; sys.exit(cli.main())"
    done = command(tmp_path, "check", "1", program=["-c", code])
    assert done.returncode == 1 and "is there an endless loop?" in done.stdout and not done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [FIRST.file_name, "learn.json"]


def test_a_thread_that_never_ends_does_not_keep_the_command(tmp_path):
    (tmp_path / FIRST.file_name).write_text(
        f"import threading, time\nthreading.Thread(target=time.sleep, args=(50,)).start()\n"
        f"def product_gradient(a, b, g):\n    {RIGHT}\n"
    )
    done = command(tmp_path, "check", "1")
    assert done.returncode == 0 and FIRST.understood in done.stdout and not done.stderr


def test_a_loop_in_c_ends_with_the_process(tmp_path):
    (tmp_path / FIRST.file_name).write_text("def product_gradient(a, b, g):\n    return sum(range(10**12))\n")
    code = "import sys; from tinygrad_gru.cli import learn, main; learn.SECONDS_TO_CHECK = 2; sys.exit(main())"
    done = command(tmp_path, "check", "1", program=["-c", code])
    assert done.returncode == 1 and FIRST.title in done.stdout
    assert f'{FIRST.file_name}", line 2 in product_gradient' in done.stderr


def test_without_hypothesis_it_says_what_to_install(tmp_path):
    (tmp_path / "hypothesis.py").write_text("raise ModuleNotFoundError(\"No module named 'hypothesis'\")\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    call = [sys.executable, "-m", "tinygrad_gru", "learn"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 1 and "pip install 'tinygrad_gru[learn]'" in done.stderr
