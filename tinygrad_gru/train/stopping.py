"""Reasons to stop or to doubt a training run: early stopping, signals such as Ctrl-C, a loss that did not improve."""

from __future__ import annotations

import _thread
import math
import signal
import statistics
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from types import FrameType
from typing import Any

from .trainer import check_positive

_STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_ONE_SIGNAL = 1.0  # seconds in which a signal that comes twice is the same one


class EarlyStop:
    """Early stopping: due after more than `patience` evaluations in a row without a better one.

    With `patience` None it only remembers the best loss. A loss must be lower than the best by more than
    `min_improvement` to count as better; one that is not finite never is.

    >>> stop = train.EarlyStop(patience=1)
    >>> [stop.update(loss) for loss in (3.0, 2.0, 2.5, 2.1)], stop.best, stop.due
    ([True, True, False, False], 2.0, True)
    """

    def __init__(self, patience: int | None, min_improvement: float = 0.0) -> None:
        if patience is not None and (not isinstance(patience, Integral) or isinstance(patience, bool) or patience < 0):
            raise ValueError(f"patience: expected a number of evaluations, 0 or more, or None, got {patience!r}")
        self.patience = patience
        self.min_improvement = min_improvement
        self.best: float | None = None
        self.since_best = 0

    def update(self, loss: float) -> bool:
        """Count an evaluation; returns whether it is the best so far."""
        if math.isfinite(loss) and (self.best is None or loss < self.best - self.min_improvement):
            self.best, self.since_best = loss, 0
            return True
        self.since_best += 1
        return False

    @property
    def due(self) -> bool:
        return self.patience is not None and self.since_best > self.patience

    @property
    def reason(self) -> str:
        best = "no finite loss" if self.best is None else f"no better loss than {self.best:.4g}"
        return f"early stopping: {best} in {self.since_best} evaluations"

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since_best": self.since_best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.since_best = state["best"], state["since_best"]


class StopRequest:
    """A signal handler: within the block SIGINT (Ctrl-C), SIGTERM and SIGHUP only set `requested`, for a loop to check.

    `number` is that of the first one. So every saved state is one between two steps.

    grace   seconds after SIGTERM or SIGHUP until KeyboardInterrupt is raised, if the block has not ended by then; None:
            never. What sends such a signal kills some time later: 30 s in Kubernetes and at the end of a Slurm job

    A second Ctrl-C raises KeyboardInterrupt at once, and so does a second SIGTERM that comes a second or more after the
    first signal: both the group of a process and the process itself may be sent it. A second SIGHUP does not, for a
    terminal that closes may well send two. A signal that is ignored, as under nohup, stays ignored. Only the main
    thread handles signals; in another one the block changes nothing.
    """

    def __init__(self, grace: float | None = None) -> None:
        if grace is not None and not 0 <= grace <= threading.TIMEOUT_MAX:
            raise ValueError(f"grace: expected seconds from 0 to {threading.TIMEOUT_MAX:.0e}, or None, got {grace!r}")
        self.grace = grace
        self.number: int | None = None
        self._at = 0.0
        self._deadline: threading.Timer | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _STOP_SIGNALS:
                # None: a handler that was not installed by Python, and that it could not restore
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._at = number, now
            if self.grace is not None and number != signal.SIGINT:
                self._deadline = threading.Timer(self.grace, _thread.interrupt_main, [number])
                self._deadline.daemon = True
                self._deadline.start()
        elif (
            number == signal.SIGINT or (number == signal.SIGTERM and now - self._at > _ONE_SIGNAL) or self._is_late(now)
        ):
            raise KeyboardInterrupt

    def _is_late(self, now: float) -> bool:
        return self._deadline is not None and self.grace is not None and now - self._at >= self.grace

    @property
    def requested(self) -> bool:
        return self.number is not None


def check_end(**ends: float | None) -> None:
    """Raise ValueError unless exactly one of the ends of a run is given, and is positive."""
    given = {name: value for name, value in ends.items() if value is not None}
    if len(given) != 1:
        what = "none of them" if not given else " and ".join(given)
        raise ValueError(f"give exactly one of epochs, steps and seconds, when the run is to end; got {what}")
    ((name, value),) = given.items()
    if name != "seconds":
        check_positive(name, value)
    elif not 0 < value < math.inf:
        raise ValueError(f"seconds: expected a number above 0, got {value!r}")


#: The least steps, and targets per step, for training losses to be compared: fewer are mostly noise.
_LEAST_STEPS, _LEAST_TARGETS = 10, 16


def losses_in(history: Iterable[Mapping[str, Any]], position: Mapping[str, int]) -> tuple[list[float], list[float]]:
    """The losses of the steps, whose records have the norm of their gradient, and those of the evaluations.

    Of an evaluation it is the first value that is not one of `position`.
    """
    steps = [record["loss"] for record in history if "gradient_norm" in record]
    evaluations = [record for record in history if "gradient_norm" not in record]
    return steps, [next(value for name, value in record.items() if name not in position) for record in evaluations]


def diagnosis(losses: Sequence[float], evaluations: Sequence[float], targets: float, keeps_best: bool) -> str | None:
    """What is wrong with a run whose loss is worse at its end than at its start; None if it is not.

    losses       of the steps
    evaluations  on validation data, the first before training, which are compared if there are two or more
    targets      the number of them in a step
    keeps_best   whether the weights in the end are those of the best evaluation

    So that noise raises no alarm, an evaluation must be worse by 5 %. Training losses must all be worse in the second
    half of the run than in its first step, and their median by half, in ten steps or more of 16 targets or more.
    """
    if len(evaluations) > 1:
        first, *later = evaluations
        best = min(filter(math.isfinite, later), default=math.nan)
        end = best if keeps_best else later[-1]
        if end <= first + 0.05 * abs(first) or (math.isfinite(end) and not math.isfinite(first)):
            return None
        if not math.isfinite(first):
            return f"the loss on validation data was never a number, but {end}: a NaN or infinity in these data?"
        what = f"the loss on validation data was {first:.4g} before training and is {end:.4g} after it"
        if best < first:
            return f"{what}, although it was {best:.4g} in between: overfitting? patience=3 keeps the best weights"
    else:
        half = list(losses[(len(losses) + 1) // 2 :])
        if len(losses) < _LEAST_STEPS or targets < _LEAST_TARGETS:
            return None
        first, median = losses[0], statistics.median(half)
        if min(half) <= first or median <= first + 0.5 * abs(first):
            return None
        what = f"the loss was {first:.4g} in the first step and is around {median:.4g} in the second half of the run"
    return f"{what}: the model has not learned (the learning rate may be too high)"
