"""The exercises, in the order of the course: a module a page of it, in folders by its parts."""

from __future__ import annotations

from types import ModuleType

from ..exercise import Exercise
from .compiler import javascript_and_gpu, passes
from .further import higher_derivatives, rest_of_the_world, testing
from .gradients import broadcasting, derivative, devices, op, order, tape
from .recurrent import batches, gru, gru_cell, lstm, rnn, through_time


def collect(*modules: ModuleType) -> tuple[Exercise, ...]:
    """All exercises that the modules declare, by number."""
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Exercise)]
    return tuple(sorted(found, key=lambda exercise: exercise.number))


EXERCISES = collect(
    *(derivative, tape, order, broadcasting, op, devices),
    *(rnn, gru, gru_cell, lstm, through_time, batches),
    *(passes, javascript_and_gpu),
    *(higher_derivatives, testing, rest_of_the_world),
)

__all__ = ["EXERCISES"]
