"""Exercises and their grader: 40 tasks in the order of the course, with counter-examples, named mistakes and hints.

Strategies for inputs are in `learn.draws`.
"""

from __future__ import annotations

from .differences import gradients_by_differences
from .exercise import CHAPTERS, Exercise, Mistake, exercise
from .exercises import EXERCISES
from .grading import Verdict, grade
from .solution import SolutionError, load
from .workspace import Workspace

__all__ = [
    "CHAPTERS", "EXERCISES", "Exercise", "Mistake", "SolutionError", "Verdict", "Workspace", "exercise", "grade",
    "gradients_by_differences", "load",
]  # fmt: skip
