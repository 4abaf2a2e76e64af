"""How many characters a run can train on in so many seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from .evaluate import excerpts
from .run import TextRun
from .settings import TextSettings

_WARMUP_STEPS = 2
_MEASURED_SHARE = 0.1
_MEASURED_SECONDS = 2.0
_EVALUATED_SHARE = 0.5
_MAX_SECONDS = 1e9  # thirty years


class TimePlan(NamedTuple):
    """What a run does in its seconds: measuring its speed, training on `characters`, and so many evaluations.

    >>> print(train.TimePlan(characters=64_000, measuring=1.0, training=6.0, evaluating=1.0, evaluations=10))
    1.0 s to measure the speed...
    """

    characters: int
    measuring: float
    training: float
    evaluating: float
    evaluations: int

    def __str__(self) -> str:
        return (
            f"{self.measuring:.1f} s to measure the speed, about {self.training:.1f} s of training on "
            f"{self.characters:,} characters, with {self.evaluations} evaluation{'s' * (self.evaluations > 1)} and the "
            f"summary in {self.evaluating:.1f} s"
        )


def time_plan(seconds: float, settings: TextSettings, device: str | None = None) -> TimePlan:
    """A plan for a run with these settings that takes about `seconds` in all, from this call on.

    Speed is measured by a short run, which is discarded: the learning-rate schedule needs the number of steps in
    advance, and a run that depends on the clock could not be repeated. Evaluations are fewer than the settings say
    where they would take more than half of the time. At least a tenth of it is for training.

    >>> with open("text.txt", "w") as file:
    ...     _ = file.write("the cat sat on the mat. " * 40)
    >>> plan = train.time_plan(0.1, train.TextSettings("text.txt", embedding=4, hidden=8, batch=4, window=16))
    >>> plan.characters % 64
    0
    """
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError(f"seconds must be positive and at most {_MAX_SECONDS:.0e}, got {seconds}")
    began = time.perf_counter()
    run = TextRun(settings, device)
    run.sample()  # the first call of a model compiles and fills caches
    scored, sampled = _seconds_of(run.evaluate), _seconds_of(run.sample)
    for _ in range(_WARMUP_STEPS):
        run.trainer.step()
    per_step, steps, started = 0.0, 0, time.perf_counter()
    while per_step * steps < min(_MEASURED_SECONDS, _MEASURED_SHARE * seconds):
        run.trainer.step()
        steps += 1
        per_step = (time.perf_counter() - started) / steps
    evaluated = scored + sampled
    summary = scored * len(run.held_out) / len(excerpts(run.held_out))  # on all held-out text
    affordable = int((_EVALUATED_SHARE * seconds - summary) / evaluated) - 1  # there is one before the first step
    evaluations = max(1, min(settings.evaluations, affordable))
    evaluating = (evaluations + 1) * evaluated + summary
    measuring = time.perf_counter() - began
    training = max(seconds - measuring - evaluating, _MEASURED_SHARE * seconds)
    characters = max(1, int(training / per_step)) * settings.characters_per_step
    return TimePlan(characters, measuring, training, evaluating, evaluations)


def _seconds_of(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
