"""The grader's words: what it says about answers of the wrong kind, errors, endless loops and in-place changes."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from tinygrad_gru.learn import EXERCISES, SolutionError, exercise, grade, grading, load
from tinygrad_gru.learn import solution as solution_module
from tinygrad_gru.learn.compare import difference
from tinygrad_gru.learn.draws import arrays, numbers, sizes, smallest

PRODUCT = EXERCISES[0]


@exercise(
    1,
    "Twice",
    inputs=(arrays(sizes.map(lambda n: (n,))),),
    example=(np.array([3.0, 4.0]),),
    understood="It is a sum.",
    hints=["Add.", "x + x."],
)
def twice(x):
    """Return 2x, an array."""
    return x + x


@twice.mistake("you squared, in place", hint="What is twice 1, and whose array is x?")
def squared_in_place(x):
    x *= x
    return x


@twice.mistake("you squared", hint="What is twice 1?")
def _(x):
    return x**2


@twice.mistake("half, not twice", hint="Larger or smaller?")
def _(x):
    return x / 2


@twice.mistake("a name of another library", hint="Whose functions has an array?")
def _(x):
    return x.double()


def in_place(x):
    x *= 2
    return x


def endless(x):
    return endless(x)


ANSWERS = [
    (lambda x: None, "None came back: is a `return` missing?"),
    (lambda x: (x + x,), "a tuple of 1 came back, where an array of shape (1,) is expected"),
    (lambda x: list(x + x), "a list of 1 came back, where an array of shape (1,) is expected: return np.array(…)"),
    (lambda x: "2x", "a str came back, where an array of shape (1,) is expected"),
    (lambda x: (x + x)[None], "shape (1, 1), where (1,) is expected"),
    (lambda x: (x + x).astype("float32"), "dtype float32, where float64 is expected"),
    (lambda x: 2 * x + 0 / x, "NaN came back"),
    (in_place, "the result is right, but it changed its input `x` in place"),
    (lambda x: x.summ(), "AttributeError: 'numpy.ndarray' object has no attribute 'summ'"),
    (lambda x: None.sum(), "None comes from a function that ends without `return`"),
    (lambda x: x.fill(1), "it changed its input `x` in place"),
    (endless, "it calls itself without end"),
    (lambda x: exit(), "it ends the program"),
    (lambda x: input("x? "), "EOFError"),
    (lambda x: x + x + (x == 1), "twice(x=np.array([1.]))"),
]


@pytest.mark.parametrize(("solution", "words"), ANSWERS, ids=[words for _, words in ANSWERS])
def test_it_says_what_is_wrong(solution, words, tmp_path, monkeypatch):
    path = tmp_path / "1.py"
    path.write_text("def twice(x): pass\n")
    with load(path, twice):  # as the command does: without a standard input
        verdict = grade(twice, solution)
    assert not verdict.passed
    assert words in str(verdict)
    assert verdict.mistake is None


def test_the_smallest_counter_example_is_shown_with_what_is_expected_and_given():
    assert str(grade(PRODUCT, lambda a, b, g: (g * a, g * b))) == (
        "product_gradient(a=0.0, b=1.0, g=1.0)\n"
        "∂L/∂a\n"
        "    expected  1.0\n"
        "    yours     0.0\n"
        "likely: you returned ∂L/∂a for b"
    )


def test_a_mistake_is_named_only_if_it_does_the_same_with_all_inputs():
    assert grade(twice, lambda x: x**2).mistake.name == "you squared"
    assert grade(twice, lambda x: np.square(x)).mistake.name == "you squared"
    assert grade(twice, lambda x: x**2 if x.sum() != 7 else x).mistake is None


def test_a_mistake_is_known_by_what_it_changes_and_by_its_error():
    assert grade(twice, squared_in_place).mistake.name == "you squared, in place"
    assert grade(twice, lambda x: x * x).mistake.name == "you squared"
    assert grade(twice, lambda x: x.double()).mistake.name == "a name of another library"
    assert grade(twice, lambda x: x.dubble()).mistake is None


def test_what_it_printed_for_that_input_is_shown(capsys):
    def talkative(x):
        print("x is", x)
        return x

    verdict = grade(twice, talkative)
    assert "it printed:\n    x is [1.]" in str(verdict)
    assert not capsys.readouterr().out


def test_an_endless_loop_ends_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "SECONDS_A_RUN", 0.3)
    path = tmp_path / "twice.py"
    path.write_text("def twice(x):\n    while True:\n        x = x + 0\n")
    with load(path, twice) as solution:
        verdict = grade(twice, solution, path=str(path))
    assert "it did not end within 0.3 seconds: is there an endless loop?\n    line " in str(verdict)


def test_what_cannot_be_stopped_is_left_alone(monkeypatch):
    """A call into C: it ends neither pytest nor a notebook's kernel."""
    monkeypatch.setattr(grading, "SECONDS_A_RUN", 0.2)
    verdict = grade(twice, lambda x: time.sleep(3))
    assert "it did not end within 0.2 seconds" in str(verdict)


def test_the_limit_is_one_of_processor_time(monkeypatch):
    monkeypatch.setattr(grading, "SECONDS_A_RUN", 0.5)
    monkeypatch.setattr(grading, "SECONDS_IN_ALL", 0.0)

    def waits(x):
        time.sleep(0.7)
        return x + x

    assert "it is right on 1 inputs, but these took more than 0 seconds" in str(grade(twice, waits))


@pytest.mark.parametrize(
    "code",
    [
        "seen = []\ndef twice(x):\n    seen.append(x)\n    return x + seen[0]",
        "def twice(x, calls=[]):\n    calls.append(x)\n    return x + x if len(calls) != 9 else x",
    ],
)
def test_what_remembers_an_earlier_call_is_told_so(code, tmp_path):
    path = tmp_path / "twice.py"
    path.write_text(code)
    with load(path, twice) as solution:
        assert "does it remember an earlier call" in str(grade(twice, solution, path=str(path)))
    path.write_text("def twice(x): return x")
    with load(path, twice) as solution:
        assert "remember" not in str(grade(twice, solution, path=str(path)))


CONTAINERS = [
    ([1, 2], {1: 0, 2: 0}.keys(), "a dict_keys came back, where a list of 2 is expected: return list(…)"),
    ((1, 2), (n for n in (1, 2)), "a generator came back, where a tuple of 2 is expected: return tuple(…)"),
    ([1, 2], "12", "a str came back, where a list of 2 is expected\n"),
    (np.zeros(2), [[0.0], [0.0, 1.0]], "a list of 2 came back, where an array of shape (2,) is expected\n"),
    ({"W": 1, "b": 2}, {"W": 1, "U": 2}, "other keys: without 'b' and with 'U'"),
]


@pytest.mark.parametrize(("expected", "given", "words"), CONTAINERS, ids=range(len(CONTAINERS)))
def test_another_container_is_named_with_what_to_return(expected, given, words):
    assert words in str(difference(expected, given, 1e-8, 1e-10))


def test_ctrl_c_ends_a_check():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade(twice, interrupted)


def test_the_line_of_an_error_is_the_learners(tmp_path):
    path = tmp_path / "twice.py"
    path.write_text("import numpy as np\n\ndef twice(x):\n    return np.concatenate([x, 1])\n")
    with load(path, twice) as solution:
        assert "line 4: return np.concatenate([x, 1])" in str(grade(twice, solution, path=str(path)))


FILES = [
    ("def twice(x)\n    return x\n", "is not Python: expected ':'\n    line 1: def twice(x)"),
    ("import nunpy\n", "ModuleNotFoundError: No module named 'nunpy'\n    line 1: import nunpy"),
    ("def twise(x): return x + x\n", "defines no `twice` (did you mean 'twise'?)"),
    ("twice = 2\n", "`twice` should be a function or a class, and is 2"),
    ("while True: pass\n", "did not end within 0.3 seconds: does it call what it should only define?\n    line 1"),
    (
        "import slow\n",
        "did not end within 0.3 seconds: an import in it is slow; a second check may be faster\n    line 1",
    ),
    ("import os; os._exit(0)\n", "SystemExit: 0"),
    ("# ∂\n".encode("utf-16"), "is not written in UTF-8: save it as UTF-8"),
    ("x = 'é'\n".encode("latin-1"), "is not written in UTF-8: save it as UTF-8"),
    ("raise SystemExit(3)\n", "SystemExit: 3"),
    ("x = '\0'\n", "is not Python"),
]


@pytest.mark.parametrize(("text", "words"), FILES, ids=[words for _, words in FILES])
def test_a_file_that_cannot_be_run_says_why(text, words, tmp_path, monkeypatch):
    monkeypatch.setattr(solution_module, "SECONDS_TO_IMPORT", 0.3)
    (tmp_path / "slow.py").write_text("while True: pass\n")
    path = tmp_path / "twice.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SolutionError) as error, load(path, twice):
        pass
    assert words in str(error.value)


def test_modules_beside_the_file_are_found_and_read_again(tmp_path):
    path, helper = tmp_path / "twice.py", tmp_path / "helper_of_twice.py"
    path.write_text("from helper_of_twice import twice\n")
    for code, passes in [("return x", False), ("return x + x  # now", True)]:
        helper.write_text(f"def twice(x): {code}\n")
        with load(path, twice) as solution:
            assert grade(twice, solution).passed == passes
    assert str(tmp_path) not in sys.path and "helper_of_twice" not in sys.modules


def test_a_right_answer_passes_whatever_its_kind_of_sequence():
    assert grade(PRODUCT, lambda a, b, g: [np.float64(g * b), np.array(g * a)]).passed


def test_an_audit_that_fails_is_said():
    def refuse(solution):
        raise ValueError("it has no docstring")

    audited = exercise(
        1, "Same", inputs=(numbers,), example=(1.0,), understood="So.", hints=["Look.", "Look."], audit=refuse
    )(lambda x: x)
    assert "the results agree, but\nValueError: it has no docstring" in str(grade(audited, lambda x: x))


def test_shrinking_finds_the_simplest():
    assert smallest(numbers, lambda x: x < 0) == -1.0
    assert smallest(numbers, lambda x: x > 10) is None
