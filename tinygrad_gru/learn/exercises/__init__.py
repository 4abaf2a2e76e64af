"""The exercises, in the order of the course."""

from __future__ import annotations

from types import ModuleType

from ..exercise import Exercise
from . import chapter_1, chapter_2, chapter_3, chapter_4, chapter_5, chapter_6, chapter_7, second_half


def collect(*modules: ModuleType) -> tuple[Exercise, ...]:
    """All exercises that the modules declare, by number; each number once."""
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Exercise)]
    by_number = {exercise.number: exercise for exercise in found}
    if len(by_number) != len(found):
        raise ValueError(f"two exercises have one number: {sorted(exercise.number for exercise in found)}")
    return tuple(by_number[number] for number in sorted(by_number))


EXERCISES = collect(chapter_1, chapter_2, chapter_3, chapter_4, chapter_5, chapter_6, chapter_7, *second_half.CHAPTERS)

__all__ = ["EXERCISES"]
