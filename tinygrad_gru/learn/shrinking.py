"""The smallest input on which a solution fails."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from .draws import smallest
from .exercise import Exercise
from .running import TimeUp

SECONDS_TO_SHRINK = 0.4
SECONDS_TO_SIMPLIFY = 0.2


def shrunk(
    exercise: Exercise, failing: tuple[Any, ...], is_wrong: Callable[[tuple[Any, ...]], bool]
) -> tuple[Any, ...]:
    """The smallest input for which `is_wrong` that is found in time; `failing` is one of them."""
    found, until = [failing], time.process_time() + SECONDS_TO_SHRINK

    def fails(inputs: tuple[Any, ...]) -> bool:
        if time.process_time() > until:
            raise TimeUp  # through Hypothesis, which would go on with an answer
        if is_wrong(inputs):
            found.append(inputs)
        return found[-1] is inputs

    with suppress(TimeUp):
        smallest(exercise.strategy, fails)
    shortest = min(reversed(found), key=lambda inputs: len(exercise.show_call(inputs)))
    return simplified(exercise, shortest, is_wrong)


def simplified(
    exercise: Exercise, inputs: tuple[Any, ...], is_wrong: Callable[[tuple[Any, ...]], bool]
) -> tuple[Any, ...]:
    """The input with 0 or 1 for the elements that don't matter; Hypothesis takes long for this where there are many."""
    until = time.process_time() + SECONDS_TO_SIMPLIFY
    drawn = [value for value, _ in exercise.checks]
    for i in range(len(inputs)):
        seen = {float(x) for value in drawn for array in _float_arrays(value[i]) for x in array.flat}
        for simple in sorted(seen & {0.0, 1.0}):
            for k, array in enumerate(_float_arrays(inputs[i])):
                for place in [..., *np.ndindex(array.shape)]:
                    if time.process_time() > until:
                        return inputs
                    candidate = copy.deepcopy(inputs)
                    changed = _float_arrays(candidate[i])[k]
                    changed[place] = np.where(changed[place] == 0, 0, simple)
                    if not np.array_equal(changed, _float_arrays(inputs[i])[k]) and is_wrong(candidate):
                        inputs = candidate
    return inputs


def _float_arrays(value: Any) -> list[np.ndarray]:
    """The arrays of floats in a tree."""
    if isinstance(value, np.ndarray):
        return [value] if value.dtype.kind == "f" else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [array for part in parts for array in _float_arrays(part)]
