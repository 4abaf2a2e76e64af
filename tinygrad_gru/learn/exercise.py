"""Exercise: a task, its reference, its known mistakes, and the inputs on which solutions are compared with it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from .draws import as_strategy, sample
from .running import Outcome, attempt
from .text import show_value, source_of, without_bodies

DRAWS = 50


class Chapter(NamedTuple):
    """A chapter of the course, and the number of its last exercise."""

    title: str
    page: str
    last: int


CHAPTERS = (
    Chapter("A derivative and its check", "01_derivative", 3),
    Chapter("A tape", "02_tape", 6),
    Chapter("Why order matters", "03_order", 8),
    Chapter("Broadcasting and its transpose", "04_broadcasting", 11),
    Chapter("An op and its contract", "05_op", 14),
    Chapter("Arrays on another device", "06_devices", 16),
    Chapter("RNN and the vanishing gradient", "07_rnn", 19),
    Chapter("GRU", "08_gru", 23),
    Chapter("LSTM", "09_lstm", 26),
    Chapter("Gradients through time", "10_through_time", 30),
    Chapter("From four lines to the compiled program", "11_compiler", 33),
    Chapter("In JavaScript and on a GPU", "12_javascript_and_gpu", 35),
    Chapter("Higher derivatives", "13_higher_derivatives", 37),
    Chapter("How to test a framework", "14_testing", 39),
    Chapter("The rest of the world", "15_rest_of_the_world", 40),
)


@dataclass
class Mistake:
    """A wrong implementation that people write, with the name and the hint that tell them so.

    >>> learn.EXERCISES[0].mistakes[0].name
    'you returned ∂L/∂a for b'
    """

    name: str
    hint: str
    solution: Callable[..., Any]


def call_solution(solution: Callable[..., Any], *inputs: Any) -> Any:
    """How an exercise runs a solution, unless it says otherwise: it calls it with the inputs."""
    return solution(*inputs)


@dataclass(eq=False, kw_only=True)
class Exercise:
    """An exercise, declared with `exercise`.

    number      in the order of the course, which gives the chapter
    title       in plain words; the name of the file is made from it
    reference   a right solution: a function or class, whose signature and docstrings are the task
    inputs      Hypothesis strategies, one an argument, or one that draws the tuple of all arguments
    example     arguments that the learner is shown, with the result; they are checked first
    cases       more arguments that are always checked: those that draws rarely meet
    understood  one sentence for those who solved it: what they have understood
    hints       what `learn hint` gives after the hint of the mistake, one at each call
    run         run(solution, *inputs) -> result: how a solution is run, if not by solution(*inputs); the names of its
                parameters are those of the inputs. A dict as result has labels for its parts
    call        how a call is shown, if not as `name(a=…, b=…)`: a format with the names of the inputs, "{a} * {b}"
    outputs     labels for the parts of a tuple that the solution returns
    header      the imports of the learner's file
    starter     what is in the learner's file below the imports; by default the reference without bodies: a function
                with a docstring is to be written, a method without one is given
    written     what `learn solution` shows, if the source of the reference does not say it all
    audit       audit(solution): a last check, once all results agree; it raises if something is wrong
    rtol, atol  tolerances; rtol is at least 32 units in the last place of the expected dtype

    >>> learn.EXERCISES[0].name
    'product_gradient'
    """

    number: int
    title: str
    reference: Callable[..., Any]
    inputs: Any
    example: tuple[Any, ...]
    understood: str
    hints: Sequence[str]
    cases: Sequence[tuple[Any, ...]] = ()
    run: Callable[..., Any] = call_solution
    call: str | None = None
    outputs: Sequence[str] = ()
    header: str = "import numpy as np"
    starter: str | None = None
    written: str | None = None
    audit: Callable[[Any], Any] | None = None
    rtol: float = 1e-8
    atol: float = 1e-10
    mistakes: list[Mistake] = field(default_factory=list, init=False)
    oracle: Callable[..., Any] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """The name that the learner's file must define."""
        return self.reference.__name__

    @property
    def chapter(self) -> int:
        """The chapter of the course that it belongs to, from 1."""
        return next(n for n, chapter in enumerate(CHAPTERS, 1) if self.number <= chapter.last)

    @property
    def file_name(self) -> str:
        """Such as 12_an_op_and_its_rule.py."""
        return f"{self.number:02}_{re.sub(r'[^a-z0-9]+', '_', self.title.lower()).strip('_')}.py"

    @cached_property
    def strategy(self) -> Any:
        """The Hypothesis strategy that draws the tuple of arguments."""
        return as_strategy(self.inputs)

    @cached_property
    def arguments(self) -> list[str]:
        """The names of the inputs."""
        if self.run is call_solution:
            return list(inspect.signature(self.reference).parameters)
        return list(inspect.signature(self.run).parameters)[1:]

    @cached_property
    def checks(self) -> list[tuple[tuple[Any, ...], Any]]:
        """The inputs on which every solution is run, always the same ones, each with the expected result."""
        inputs = [self.example, *self.cases, *sample(self.strategy, DRAWS)]
        return [(arguments, self.expected(arguments)) for arguments in inputs]

    def outcome(self, solution: Callable[..., Any], inputs: tuple[Any, ...], seconds: float | None = None) -> Outcome:
        """What a solution does with an input, within a time limit if there is one.

        >>> learn.EXERCISES[0].outcome(lambda a, b, g: (g * b, g * a), (2.0, 3.0, 1.0)).value
        (3.0, 2.0)
        """
        return attempt(lambda *copies: self.run(solution, *copies), inputs, seconds)

    def expected(self, inputs: tuple[Any, ...]) -> Any:
        """What the reference gives.

        >>> learn.EXERCISES[0].expected((2.0, 3.0, 1.0))
        (3.0, 2.0)
        """
        outcome = self.outcome(self.reference, inputs)
        if outcome.raised is not None:
            raise RuntimeError(f"the reference of exercise {self.number} failed") from outcome.raised
        return outcome.value

    def mistake(self, name: str, *, hint: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a wrong implementation: a function (or class) as a learner would write it, whatever it is called.

        name  what went wrong, to be read after "likely:", such as "you returned ∂L/∂a for b"
        hint  the cause, and where to look; not the solution

        >>> callable(learn.EXERCISES[0].mistake)
        True
        """

        def add(solution: Callable[..., Any]) -> Callable[..., Any]:
            self.mistakes.append(Mistake(name, hint, solution))
            return solution

        return add

    def check_with(self, oracle: Callable[..., Any]) -> Callable[..., Any]:
        """Declare an oracle: what the reference must give, from another source; the tests compare the two.

        >>> learn.EXERCISES[0].oracle is not None
        True
        """
        self.oracle = oracle
        return oracle

    def task(self) -> str:
        """What is to be done: the functions to be written, with their docstrings.

        >>> print(learn.EXERCISES[0].task())
        def product_gradient(a, b, g):...
        """
        return self.starter.strip() if self.starter else without_bodies(source_of(self.reference))

    def file(self) -> str:
        """The text of the file with which the learner begins.

        >>> print(learn.EXERCISES[0].file())
        \"""Exercise 1 · The gradient of a product...
        """
        chapter = CHAPTERS[self.chapter - 1]
        return "\n".join([
            f'"""Exercise {self.number} · {self.title}',
            "",
            f"Chapter {self.chapter}, {chapter.title}: docs/course/{chapter.page}.md in the repository",
            f"When it is written: tinygrad-gru learn check {self.number}",
            '"""',
            "",
            *([self.header, "", ""] if self.header else [""]),
            self.task(),
            "",
            "",
            *self._example_lines(),
            "",
        ])  # fmt: skip

    def _example_lines(self) -> list[str]:
        """The example: a call that can be run, or a comment that shows how the grader uses what is written."""
        call = self.show_call(self.example).splitlines()
        result = show_value(self.expected(self.example)).splitlines()
        if self.call is not None:
            return ["# For example,", *(f"#     {t}" for t in call), "# should give", *(f"#     {t}" for t in result)]
        code = [*call[:-1], f"print({call[-1]})", *(f"# {line}" for line in result)]
        if "np." in "".join(call) and "import numpy" not in self.header:
            code = ["import numpy as np", "", *code]
        return ['if __name__ == "__main__":', *(f"    {line}" for line in code)]

    def solution(self) -> str:
        """What one can write below the imports of the learner's file.

        >>> print(learn.EXERCISES[0].solution())
        def product_gradient(a, b, g):...
        """
        return self.written.strip() if self.written else source_of(self.reference)

    def show_call(self, inputs: Sequence[Any]) -> str:
        """The call with these inputs, ready to paste.

        >>> learn.EXERCISES[0].show_call((1.0, 2.0, 1.0))
        'product_gradient(a=1.0, b=2.0, g=1.0)'
        """
        shown = dict(zip(self.arguments, map(show_value, inputs)))
        if self.call is not None:
            return self.call.format(**shown)
        line = f"{self.name}({', '.join(f'{name}={text}' for name, text in shown.items())})"
        if len(line) <= 100 and "\n" not in line:
            return line
        return "\n".join([*(f"{n} = {t}" for n, t in shown.items()), f"{self.name}({', '.join(shown)})"])


def exercise(number: int, title: str, **fields: Any) -> Callable[[Callable[..., Any]], Exercise]:
    """Declare an exercise by its reference; `Exercise` says what the fields mean.

    >>> from tinygrad_gru.learn.draws import numbers
    >>> @learn.exercise(1, "Twice", inputs=(numbers,), example=(2.0,), understood="It is a sum.", hints=["Add."])
    ... def twice(x):
    ...     \"""Return 2x.\"""
    ...     return x + x
    >>> @twice.mistake("you squared", hint="What is twice 1?")
    ... def _(x):
    ...     return x * x
    >>> print(learn.grade(twice, lambda x: x**2))
    twice(x=1.0)
        expected  2.0
        yours     1.0
    likely: you squared
    """
    return lambda reference: Exercise(number=number, title=title, reference=reference, **fields)
