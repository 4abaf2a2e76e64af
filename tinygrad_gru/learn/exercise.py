"""Exercise: a task, its reference, its known mistakes, and the inputs on which solutions are compared with it."""

from __future__ import annotations

import ast
import copy
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .draws import as_strategy


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


@dataclass(eq=False)
class Exercise:
    """An exercise: `exercise` declares one; what its fields mean stands there.

    >>> learn.EXERCISES[0].name
    'product_gradient'
    """

    number: int
    title: str
    reference: Callable[..., Any]
    inputs: Any
    example: tuple[Any, ...]
    cases: Sequence[tuple[Any, ...]]
    understood: str
    hints: Sequence[str]
    run: Callable[..., Any]
    call: str | None
    outputs: Sequence[str]
    header: str
    starter: str | None
    written: str | None
    audit: Callable[[Any], Any] | None
    rtol: float
    atol: float

    def __post_init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.oracle: Callable[..., Any] | None = None
        self.drawn: list[tuple[Any, ...]] | None = None  # once they are

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
        """The file with which the learner begins.

        >>> print(learn.EXERCISES[0].task())
        \"""Exercise 1 · The gradient of a product...
        """
        chapter = CHAPTERS[self.chapter - 1]
        lines = [
            f'"""Exercise {self.number} · {self.title}',
            "",
            f"Chapter {self.chapter}, {chapter.title}: docs/course/{chapter.page}.md",
            f"When it is written: tinygrad-gru learn check {self.number}",
            '"""',
            "",
            *([self.header, "", ""] if self.header else [""]),
            self.starter.strip() if self.starter else _without_bodies(_source_of(self.reference)),
            *("", "", *self._example_lines()),
        ]
        return "\n".join(lines) + "\n"

    def _example_lines(self) -> list[str]:
        """The example: a call that can be run, or a comment that shows how the grader uses what is written."""
        call = self.show_call(self.example).splitlines()
        if self.call is None:
            result = show_value(self.reference(*copy.deepcopy(self.example))).splitlines()
            code = [*call[:-1], f"print({call[-1]})", *(f"# {line}" for line in result)]
            return ['if __name__ == "__main__":', *(f"    {line}" for line in code)]
        result = show_value(self.run(self.reference, *copy.deepcopy(self.example))).splitlines()
        return ["# For example,", *(f"#     {t}" for t in call), "# should give", *(f"#     {t}" for t in result)]

    def solution(self) -> str:
        """What one can write below the imports of the learner's file.

        >>> print(learn.EXERCISES[0].solution())
        def product_gradient(a, b, g):...
        """
        return self.written.strip() if self.written else _source_of(self.reference)

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


def call_solution(solution: Callable[..., Any], *inputs: Any) -> Any:
    """How an exercise runs a solution, unless it says otherwise: it calls it with the inputs."""
    return solution(*inputs)


def exercise(
    number: int,
    title: str,
    *,
    inputs: Any,
    example: tuple[Any, ...],
    understood: str,
    hints: Sequence[str],
    cases: Sequence[tuple[Any, ...]] = (),
    run: Callable[..., Any] = call_solution,
    call: str | None = None,
    outputs: Sequence[str] = (),
    header: str = "import numpy as np",
    starter: str | None = None,
    solution: str | None = None,
    audit: Callable[[Any], Any] | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> Callable[[Callable[..., Any]], Exercise]:
    """Declare an exercise by its reference: a function, or a class, whose signature and docstrings are the task.

    number      in the order of the course, which gives the chapter
    title       in plain words; the name of the file is made from it
    inputs      Hypothesis strategies, one an argument, or one that draws the tuple of all arguments
    example     arguments that the learner is shown, with the result; they are checked first
    understood  one sentence for those who solved it: what they have understood
    hints       what `learn hint` gives after the hint of the mistake, one at each call
    cases       more arguments that are always checked: those that draws rarely meet
    run         run(solution, *inputs) -> result: how a solution is run, if not by solution(*inputs); the names of its
                parameters are those of the inputs. A dict as result has labels for its parts
    call        how a call is shown, if not as `name(a=…, b=…)`: a format with the names of the inputs, "{a} * {b}"
    outputs     labels for the parts of a tuple that the solution returns
    header      the imports of the learner's file
    starter     what is in the learner's file below the imports; by default the reference without bodies: a function
                with a docstring is to be written, a method without one is given
    solution    what `learn solution` shows, if the source of the reference does not say it all
    audit       audit(solution): a last check, once all results agree; it raises if something is wrong
    rtol, atol  tolerances; rtol is at least 32 units in the last place of the expected dtype

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

    def declare(reference: Callable[..., Any]) -> Exercise:
        fields = (
            number,
            title,
            reference,
            inputs,
            example,
            cases,
            understood,
            hints,
            run,
            call,
            outputs,
            header,
            starter,
        )
        return Exercise(*fields, solution, audit, rtol, atol)

    return declare


def _source_of(reference: Callable[..., Any]) -> str:
    """The source of a reference, without the decorator that declares the exercise."""
    text = textwrap.dedent(inspect.getsource(reference))
    node = ast.parse(text).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.ClassDef))
    return "\n".join(text.splitlines()[node.lineno - 1 :])


def _without_bodies(source: str) -> str:
    """The source with `raise NotImplementedError` for the body of what has a docstring."""
    lines = source.splitlines()
    for node in reversed(list(ast.walk(ast.parse(source)))):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            end = node.body[0].end_lineno
            assert end is not None
            lines[end : node.end_lineno] = [" " * (node.col_offset + 4) + "raise NotImplementedError"]
    return "\n".join(lines)


def show_value(value: Any) -> str:
    """A value as Python text that makes it again, with `np`."""
    if isinstance(value, np.ndarray):
        dtype = "" if value.dtype in (np.float64, np.int64, np.bool_) else f", dtype=np.{value.dtype}"
        if value.size == 0:
            return f"np.zeros({value.shape}, dtype=np.{value.dtype})"
        text = np.array2string(value, separator=", ", prefix="np.array(", threshold=100)
        text = re.sub(r"\b(nan|inf)\b", r"np.\1", re.sub(r"\[ +", "[", text))
        one_line = re.sub(r"\s+", " ", text)
        text = one_line if len(one_line) <= 80 else re.sub(r"\n\s*\n", "\n", text)
        return f"np.array({text}{dtype})"
    if isinstance(value, np.generic):
        return show_value(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return "np.nan" if value != value else "np.inf" if value > 0 else "-np.inf"
    if isinstance(value, np.ufunc):
        return f"np.{value.__name__}"
    if isinstance(value, tuple):
        return _joined("(", list(map(show_value, value)), ",)" if len(value) == 1 else ")")
    if isinstance(value, list):
        return _joined("[", list(map(show_value, value)), "]")
    if isinstance(value, dict):
        return _joined("{", [f"{show_value(k)}: {show_value(v)}" for k, v in value.items()], "}")
    return repr(value)


def _joined(opening: str, parts: list[str], closing: str) -> str:
    """The parts on one line, or on one each if that is too long."""
    line = f"{opening}{', '.join(parts)}{closing}"
    return (
        line if len(line) <= 90 else f"{opening}\n" + "".join(f"    {part},\n" for part in parts) + closing.lstrip(",")
    )
