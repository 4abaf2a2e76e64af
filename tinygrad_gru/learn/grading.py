"""grade: is a solution right, and if not, on which smallest input, and by which mistake?

A solution is run on inputs that are drawn always the same, and compared with the reference. If it is wrong, Hypothesis
shrinks the input; and the mistake is named whose results equal the solution's on all of the inputs that were drawn.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .compare import Difference, difference
from .exercise import Exercise, Mistake
from .running import Outcome, TimeUp, attempt, line_of
from .shrinking import shrunk
from .solution import SolutionError, load

SECONDS_A_RUN = 2.0  # which takes milliseconds
SECONDS_TO_AUDIT = 4.0
SECONDS_IN_ALL = 20.0

REMEMBERS = (
    "but alone, this call is right: does it remember an earlier call (in a global name, or in a default that it "
    "changes), or draw random numbers?"
)


@dataclass
class Trial:
    """What a solution did with an input, and how its result differs from the expected one."""

    inputs: tuple[Any, ...]
    outcome: Outcome
    difference: Difference | None

    @property
    def is_wrong(self) -> bool:
        return bool(self.outcome.raised or self.outcome.changed or self.difference)


@dataclass(repr=False)
class Verdict:
    """The result of `grade`: `passed`, and else the input, the difference and the mistake; `str` says it in words.

    >>> learn.grade(learn.EXERCISES[0], lambda a, b, g: (g * b, g * a)).passed
    True
    """

    exercise: Exercise
    passed: bool
    inputs: tuple[Any, ...] = ()
    problem: str = ""
    printed: str = ""
    mistake: Mistake | None = None
    is_unwritten: bool = False

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if self.passed:
            right = f"right on {len(self.exercise.checks)} inputs"
            return "\n".join([right, *self._printed_lines("for the example it printed:")])
        if self.is_unwritten:
            return f"`{self.exercise.name}` is still to be written: {self.problem}"
        call = self.exercise.show_call(self.inputs) if self.inputs else ""
        if "\n" in call:
            call = "for\n" + textwrap.indent(call, "    ")
        parts = [part for part in (call, self.problem) if part]
        parts += self._printed_lines("it printed:")
        if self.mistake is not None:
            parts.append(f"likely: {self.mistake.name}")
        return "\n".join(parts)

    def _printed_lines(self, title: str) -> list[str]:
        return [title, textwrap.indent(self.printed[:2000].rstrip(), "    ")] if self.printed else []


def grade(exercise: Exercise, solution: Callable[..., Any], *, shrink: bool = True, path: str | None = None) -> Verdict:
    """Compare a solution with the reference on the example and on drawn inputs.

    solution  the function or class that the learner wrote
    shrink    whether to look for the smallest counter-example (tests of many exercises do without)
    path      the learner's file, so that lines of it are named

    >>> print(learn.grade(learn.EXERCISES[0], lambda a, b, g: (g * a, g * b)))
    product_gradient(a=0.0, b=1.0, g=1.0)
    ∂L/∂a
        expected  1.0
        yours     0.0
    likely: you returned ∂L/∂a for b
    """

    def trial(inputs: tuple[Any, ...], expected: Any) -> Trial:
        outcome = exercise.outcome(solution, inputs, SECONDS_A_RUN)
        wrong = difference(expected, outcome.value, exercise.rtol, exercise.atol, exercise.outputs)
        return Trial(inputs, outcome, wrong)

    trials: list[Trial] = []
    until = time.monotonic() + SECONDS_IN_ALL
    for inputs, expected in exercise.checks:
        trials.append(trial(inputs, expected))
        error = trials[-1].outcome.raised
        if isinstance(error, NotImplementedError):
            problem = "it raises NotImplementedError" + line_of(error, path)
            return Verdict(exercise, False, problem=problem, is_unwritten=True)
        if isinstance(error, TimeUp) or time.monotonic() > until:
            break
    failing = [trial for trial in trials if trial.is_wrong]
    if not failing and len(trials) < len(exercise.checks):
        problem = f"it is right on {len(trials)} inputs, but these took more than {SECONDS_IN_ALL:g} seconds"
        return Verdict(exercise, False, problem=f"{problem}, where milliseconds are enough")
    if not failing:
        return _audited(exercise, solution, path, trials[0].outcome.printed)
    shown, remembers = failing[-1], False
    if shrink and not isinstance(shown.outcome.raised, TimeUp):
        found = shrunk(exercise, shown.inputs, lambda inputs: trial(inputs, exercise.expected(inputs)).is_wrong)
        again = trial(found, exercise.expected(found))
        shown, remembers = (again, False) if again.is_wrong else (shown, True)
        remembers = remembers or _is_right_alone(exercise, shown.inputs, path)
    problem = _problem(exercise, shown, path) + f"\n{REMEMBERS}" * remembers
    return Verdict(exercise, False, shown.inputs, problem, shown.outcome.printed, _mistake(exercise, trials))


def _is_right_alone(exercise: Exercise, inputs: tuple[Any, ...], path: str | None) -> bool:
    """Whether the learner's file, imported again, gives what is expected for these inputs."""
    if path is None:
        return False
    try:
        with load(Path(path), exercise) as solution:
            outcome = exercise.outcome(solution, inputs, SECONDS_A_RUN)
    except SolutionError:
        return False
    wrong = difference(exercise.expected(inputs), outcome.value, exercise.rtol, exercise.atol, exercise.outputs)
    return not Trial(inputs, outcome, wrong).is_wrong


def _audited(exercise: Exercise, solution: Any, path: str | None, printed: str) -> Verdict:
    """The verdict of the last check on a solution whose results agree."""
    outcome = Outcome() if exercise.audit is None else attempt(exercise.audit, (solution,), SECONDS_TO_AUDIT)
    if outcome.raised is None:
        return Verdict(exercise, True, printed=printed)
    problem = "the results agree, but\n" + _raised_in_words(outcome.raised, path, SECONDS_TO_AUDIT)
    return Verdict(exercise, False, (), problem, outcome.printed)


def _problem(exercise: Exercise, trial: Trial, path: str | None) -> str:
    """What is wrong with a wrong outcome, in words."""
    if trial.outcome.raised is not None:
        return _raised_in_words(trial.outcome.raised, path, SECONDS_A_RUN)
    names = ", ".join(f"`{exercise.arguments[i]}`" for i in trial.outcome.changed)
    changed = f"it changed its input {names} in place, which the caller still needs"
    if trial.difference is None:
        return f"the result is right, but {changed}"
    return f"{trial.difference}\n{changed}" if names else str(trial.difference)


def _raised_in_words(error: BaseException, path: str | None, seconds: float) -> str:
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, TimeUp):
        what = f"it did not end within {seconds:g} seconds: is there an endless loop?"
    elif isinstance(error, RecursionError):
        what = "it calls itself without end (RecursionError)"
    elif isinstance(error, SystemExit):
        what = "it ends the program (SystemExit): a function should return"
    elif "'NoneType'" in what:
        what += "\n    None comes from a function that ends without `return`, or from a `.grad` that is not set"
    return what + line_of(error, path)


def _mistake(exercise: Exercise, trials: Sequence[Trial]) -> Mistake | None:
    """The mistake that does with all inputs what the solution did."""

    def does_the_same(mistake: Mistake) -> bool:
        return all(_same(exercise, t.outcome, exercise.outcome(mistake.solution, t.inputs)) for t in trials)

    return next(filter(does_the_same, exercise.mistakes), None)


def _same(exercise: Exercise, one: Outcome, other: Outcome) -> bool:
    if type(one.raised) is not type(other.raised) or one.changed != other.changed:
        return False
    if one.raised is not None:
        return str(one.raised) == str(other.raised)
    rtol = max(exercise.rtol, 1e-6)  # the same formula, written in another way
    return difference(other.value, one.value, rtol, exercise.atol) is None
