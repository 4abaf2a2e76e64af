"""grade: is a solution right, and if not, on which smallest input, and by which mistake?

A solution is run on inputs that are drawn always the same, and compared with the reference. If it is wrong, Hypothesis
shrinks the input; and the mistake is named whose results equal the solution's on all of the inputs that were drawn.
"""

from __future__ import annotations

import copy
import io
import textwrap
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compare import Difference, difference
from .draws import sample, smallest
from .exercise import Exercise, Mistake
from .limits import TimeLimit, TimeUp

DRAWS = 50
SECONDS_A_CALL = 0.8  # which take milliseconds
SECONDS_TO_SHRINK = 0.3
SECONDS_TO_SIMPLIFY = 0.2
SECONDS_TO_AUDIT = 2.0


@dataclass
class Outcome:
    """What a solution did with an input: the value, or what it raised; which inputs it changed; what it printed."""

    value: Any = None
    raised: BaseException | None = None
    changed: Sequence[str] = ()
    printed: str = ""


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
            return f"right on {len(checked_inputs(self.exercise))} inputs"
        if self.is_unwritten:
            return f"`{self.exercise.name}` is still to be written: {self.problem}"
        call = self.exercise.show_call(self.inputs) if self.inputs else ""
        if "\n" in call:
            call = "for\n" + textwrap.indent(call, "    ")
        parts = [part for part in (call, self.problem) if part]
        if self.printed:
            parts.append("it printed:\n" + textwrap.indent(self.printed[:2000].rstrip(), "    "))
        if self.mistake is not None:
            parts.append(f"likely: {self.mistake.name}")
        return "\n".join(parts)


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
    seen: list[tuple[tuple[Any, ...], Outcome]] = []
    for inputs in checked_inputs(exercise):
        seen.append((inputs, attempt(exercise, solution, inputs)))
        error = seen[-1][1].raised
        if isinstance(error, NotImplementedError):
            problem = "it raises NotImplementedError" + line_of(error, path)
            return Verdict(exercise, False, problem=problem, is_unwritten=True)
        if isinstance(error, TimeUp):
            break
    failing = [(inputs, outcome) for inputs, outcome in seen if _is_wrong(exercise, inputs, outcome)]
    if not failing:
        return _audited(exercise, solution, path)
    inputs, outcome = failing[-1]
    if shrink and not isinstance(outcome.raised, TimeUp):
        inputs, outcome = _shrunk(exercise, solution, failing)
    problem = _problem_of(exercise, inputs, outcome, path)
    return Verdict(exercise, False, inputs, problem, outcome.printed, _mistake_of(exercise, seen))


def checked_inputs(exercise: Exercise) -> list[tuple[Any, ...]]:
    """The inputs on which every solution is compared with the reference: example, cases and draws."""
    if exercise.drawn is None:
        exercise.drawn = sample(exercise.strategy, DRAWS)
    return [exercise.example, *exercise.cases, *exercise.drawn]


def attempt(
    exercise: Exercise, solution: Callable[..., Any], inputs: tuple[Any, ...], seconds: float | None = SECONDS_A_CALL
) -> Outcome:
    """Run a solution on copies of the inputs, within a time limit; warnings are nobody's business here."""
    copies = copy.deepcopy(inputs)
    outcome = _outcome(seconds, exercise.run, solution, *copies)
    pairs = zip(exercise.arguments, inputs, copies)
    outcome.changed = [name for name, before, after in pairs if difference(before, after, 0.0, 0.0)]
    return outcome


def _outcome(seconds: float | None, function: Any, *arguments: Any) -> Outcome:
    outcome, printed = Outcome(), io.StringIO()
    try:
        with redirect_stdout(printed), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            with nullcontext() if seconds is None else TimeLimit(seconds):
                outcome.value = function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        outcome.raised = error
    outcome.printed = printed.getvalue()
    return outcome


def _audited(exercise: Exercise, solution: Any, path: str | None) -> Verdict:
    """The verdict of the last check on a solution whose results agree."""
    if exercise.audit is None:
        return Verdict(exercise, True)
    outcome = _outcome(SECONDS_TO_AUDIT, exercise.audit, solution)
    if outcome.raised is None:
        return Verdict(exercise, True)
    problem = "the results agree, but\n" + _raised_in_words(outcome.raised, path)
    return Verdict(exercise, False, (), problem, outcome.printed)


def _is_wrong(exercise: Exercise, inputs: tuple[Any, ...], outcome: Outcome) -> bool:
    return bool(outcome.raised or outcome.changed or _difference_to_reference(exercise, inputs, outcome))


def _problem_of(exercise: Exercise, inputs: tuple[Any, ...], outcome: Outcome, path: str | None) -> str:
    """What is wrong with a wrong outcome, in words."""
    if outcome.raised is not None:
        return _raised_in_words(outcome.raised, path)
    found = _difference_to_reference(exercise, inputs, outcome)
    names = ", ".join(f"`{name}`" for name in outcome.changed)
    changed = f"it changed its input {names} in place, which the caller still needs"
    if found is None:
        return f"the result is right, but {changed}"
    return f"{found}\n{changed}" if names else str(found)


def _raised_in_words(error: BaseException, path: str | None) -> str:
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, TimeUp):
        what = "it did not end in time: is there an endless loop?"
    elif isinstance(error, RecursionError):
        what = "it calls itself without end (RecursionError)"
    elif isinstance(error, SystemExit):
        what = "it ends the program (SystemExit): a function should return"
    elif "'NoneType'" in what:
        what += "\n    None comes from a function that ends without `return`"
    return what + line_of(error, path)


def _difference_to_reference(exercise: Exercise, inputs: tuple[Any, ...], outcome: Outcome) -> Difference | None:
    expected = attempt(exercise, exercise.reference, inputs, seconds=None)
    assert expected.raised is None, f"the reference of exercise {exercise.number} raised {expected.raised!r}"
    return difference(expected.value, outcome.value, exercise.rtol, exercise.atol, exercise.outputs)


def line_of(error: BaseException, path: str | None) -> str:
    """The last line of the learner's file that an error came by, if any."""
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return f"\n    line {lines[-1].lineno}: {lines[-1].line}" if lines else ""


def _shrunk(exercise: Exercise, solution: Any, failing: list[tuple[tuple[Any, ...], Outcome]]) -> tuple[Any, Outcome]:
    """The smallest failing input that is found in time, and its outcome."""
    until = time.process_time() + SECONDS_TO_SHRINK

    def fails(candidate: tuple[Any, ...]) -> bool:
        if time.process_time() > until:
            raise TimeUp  # through Hypothesis, which would go on with an answer
        outcome = attempt(exercise, solution, candidate)
        if isinstance(outcome.raised, TimeUp) or not _is_wrong(exercise, candidate, outcome):
            return False
        failing.append((candidate, outcome))
        return True

    with suppress(TimeUp):
        smallest(exercise.strategy, fails)
    inputs, _ = min(reversed(failing), key=lambda pair: len(exercise.show_call(pair[0])))
    until += SECONDS_TO_SIMPLIFY
    with suppress(TimeUp):
        inputs = _simplified(exercise, inputs, fails)
    return inputs, attempt(exercise, solution, inputs)


def _simplified(
    exercise: Exercise, inputs: tuple[Any, ...], fails: Callable[[tuple[Any, ...]], bool]
) -> tuple[Any, ...]:
    """The input with 0 or 1 for the elements that don't matter; Hypothesis takes long for this where there are many."""
    for i, drawn in enumerate(zip(*checked_inputs(exercise))):
        allowed = {float(x) for value in drawn for array in _float_arrays(value) for x in array.flat}
        for simple in sorted(allowed & {0.0, 1.0}):
            for k, array in enumerate(_float_arrays(inputs[i])):
                for place in [..., *np.ndindex(array.shape)]:
                    candidate = copy.deepcopy(inputs)
                    changed = _float_arrays(candidate[i])[k]
                    changed[place] = np.where(changed[place] == 0, 0, simple)
                    if not np.array_equal(changed, _float_arrays(inputs[i])[k]) and fails(candidate):
                        inputs = candidate
    return inputs


def _float_arrays(value: Any) -> list[np.ndarray]:
    """The arrays of floats in a tree."""
    if isinstance(value, np.ndarray):
        return [value] if value.dtype.kind == "f" else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [array for part in parts for array in _float_arrays(part)]


def _mistake_of(exercise: Exercise, seen: Sequence[tuple[tuple[Any, ...], Outcome]]) -> Mistake | None:
    """The mistake that does with all inputs what the solution did."""
    for mistake in exercise.mistakes:
        if all(_same(exercise, outcome, attempt(exercise, mistake.solution, inputs, None)) for inputs, outcome in seen):
            return mistake
    return None


def _same(exercise: Exercise, one: Outcome, other: Outcome) -> bool:
    if type(one.raised) is not type(other.raised) or one.changed != other.changed:
        return False
    if one.raised is not None:
        return str(one.raised) == str(other.raised)
    rtol = max(exercise.rtol, 1e-6)  # the same formula, written in another way
    return difference(other.value, one.value, rtol, exercise.atol) is None
