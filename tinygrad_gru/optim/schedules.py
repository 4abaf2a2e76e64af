"""Learning rate schedules: the learning rate as a formula of the step.

A schedule multiplies the initial learning rates of the groups by a factor f(t), where t counts the updates so far. Call
`schedule.step()` after `optimizer.step()`:

    schedule = WarmupLinear(optimizer, total_steps=2000)
    for batch in batches:
        ...
        optimizer.step()
        schedule.step()
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from math import cos, inf, isinf, isnan, pi
from numbers import Integral, Real
from typing import Any, ClassVar

from ..keywords import AnsweredKeywords
from .groups import KEYWORDS, read_setting
from .optimizer import Optimizer


class Schedule(AnsweredKeywords):
    """Base class of schedules: each group's lr is base_lr · f(t). A new schedule defines `factor(t)`.

    `state_dict` has the attributes listed in `remembered`, not the settings of the formula. Those are given to the
    constructor, so that a resumed run may have more steps.

    >>> class Halving(optim.Schedule):
    ...     def factor(self, t):
    ...         return 0.5**t
    >>> schedule = Halving(optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0))
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    _keyword_hints = KEYWORDS
    remembered: ClassVar[tuple[str, ...]] = ("steps", "base_lrs")

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            got = "None" if optimizer is None else f"a {type(optimizer).__name__}"
            raise TypeError(f"optimizer: expected an optimizer, which comes first, got {got}")
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.groups]
        self.steps = 0
        self._apply()

    def factor(self, t: int) -> float:
        """f(t), the factor of the learning rates after t updates."""
        raise NotImplementedError

    def step(self) -> None:
        """Count one update and set the learning rates for the next."""
        self.steps += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups now, by PyTorch's name."""
        return [group["lr"] for group in self.optimizer.groups]

    def _apply(self) -> None:
        factor = self.factor(self.steps)
        for group, base in zip(self.optimizer.groups, self.base_lrs, strict=True):
            group["lr"] = base * factor

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs, JSON-serializable."""
        return {"schedule": type(self).__name__, **{name: deepcopy(getattr(self, name)) for name in self.remembered}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Resume from a `state_dict` and set the learning rates. ValueError if it does not fit."""
        if saved.get("schedule") != type(self).__name__:
            raise ValueError(f"saved schedule: expected {type(self).__name__}, got {saved.get('schedule')}")
        absent = [name for name in self.remembered if name not in saved]
        if absent:
            raise ValueError(f"saved schedule: {', '.join(absent)} missing")
        if len(saved["base_lrs"]) != len(self.base_lrs):
            raise ValueError(f"saved schedule: {len(saved['base_lrs'])} groups, expected {len(self.base_lrs)}")
        _count("saved schedule: steps", saved["steps"], minimum=0)
        for number, lr in enumerate(saved["base_lrs"]):
            read_setting(f"saved schedule: base_lrs[{number}]", lr, (0, inf))
        for name in self.remembered:
            setattr(self, name, deepcopy(saved[name]))
        self._apply()


class StepDecay(Schedule):
    """f(t) = decay^⌊t / every⌋, a step function of the updates.

    >>> optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = optim.StepDecay(optimizer, every=10, decay=0.5)
    >>> [schedule.factor(t) for t in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, every: int, decay: float = 0.1):
        self.every = _count("every", every)
        self.decay = _number("decay", decay)
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return self.decay ** (t // self.every)


class Warmup(Schedule):
    """Base class of schedules with linear warmup over the first w updates, then a decay until N = total_steps.

        f(t) = (t + 1) / (w + 1)            t < w, where w is N · warmup to the nearest whole number
        f(t) = fall((t − w) / (N − w))      w ≤ t < N;  fall(1) from there on

    f is above 0 at the first update, so that it is not a no-op.

    >>> class WarmupConstant(optim.Warmup):
    ...     def fall(self, progress):
    ...         return 1.0
    >>> schedule = WarmupConstant(optim.SGD(nn.Linear(2, 1).parameters()), total_steps=100, warmup=0.1)
    >>> round(schedule.factor(4), 3), schedule.factor(50)
    (0.455, 1.0)
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.05):
        self.total_steps = _count("total_steps", total_steps)
        self.warmup_steps = round(_number("warmup", warmup) * total_steps)
        super().__init__(optimizer)

    def fall(self, progress: float) -> float:
        """The factor at a fraction `progress` of the decay; fall(0) = 1."""
        raise NotImplementedError

    def factor(self, t: int) -> float:
        if t < self.warmup_steps:
            return (t + 1) / (self.warmup_steps + 1)
        if t >= self.total_steps:
            return self.fall(1.0)
        return self.fall((t - self.warmup_steps) / (self.total_steps - self.warmup_steps))


class WarmupLinear(Warmup):
    """Linear warmup over a fraction `warmup` of the steps (see Warmup), then linear decay: fall(u) = 1 − u.

    >>> optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = optim.WarmupLinear(optimizer, total_steps=100, warmup=0.1)
    >>> [round(schedule.factor(t), 3) for t in (0, 10, 55, 100)]
    [0.091, 1.0, 0.5, 0.0]
    """

    def fall(self, progress: float) -> float:
        return 1.0 - progress


class WarmupCosine(Warmup):
    """Linear warmup over a fraction `warmup` of the steps (see Warmup), then cosine decay to `floor`:

    fall(u) = floor + (1 − floor) · ½ (1 + cos πu)          (Loshchilov & Hutter 2017, without restarts)

    >>> optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = optim.WarmupCosine(optimizer, total_steps=100, floor=0.1)
    >>> [round(schedule.factor(t), 3) for t in (0, 5, 50, 100)]
    [0.167, 1.0, 0.587, 0.1]
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.05, floor: float = 0.0):
        self.floor = _number("floor", floor)
        super().__init__(optimizer, total_steps, warmup)

    def fall(self, progress: float) -> float:
        return _cosine(1.0, self.floor, progress)


class OneCycle(Schedule):
    """One cycle: cosine annealing up to a peak and down (Smith & Topin 2019). The lr of a group is the peak.

        f(t) = 1 + (start − 1) · ½ (1 + cos(π t / T))                   t < T
        f(t) = end + (1 − end) · ½ (1 + cos(π (t − T) / (N − T)))       T ≤ t < N;  end from there on

    where the peak is at T = rise · total_steps − 1 and the last update at N = total_steps − 1. These are the
    rates of torch.optim.lr_scheduler.OneCycleLR, with start = 1 / div_factor and end = start /
    final_div_factor. Momentum is not changed.

    >>> optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = optim.OneCycle(optimizer, total_steps=100)
    >>> [round(schedule.factor(t), 3) for t in (0, 29, 64, 99)]
    [0.04, 1.0, 0.5, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, rise: float = 0.3, start: float = 0.04, end: float = 4e-6
    ):
        self.total_steps = _count("total_steps", total_steps)
        self.rise = _number("rise", rise)
        self.start = _number("start", start)
        self.end = _number("end", end)
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        peak, last = self.rise * self.total_steps - 1, self.total_steps - 1
        if t < peak:
            return _cosine(self.start, 1.0, t / peak)
        return _cosine(1.0, self.end, (t - peak) / (last - peak)) if t < last else self.end


class ReduceOnPlateau(Schedule):
    """f = max(decayᵏ, floor), where k counts the plateaus of a metric.

    Call `schedule.step(metric)` after each evaluation, such as an epoch. The metric improves if it is lower
    (mode="max": higher) than the best so far by more than `threshold`, a fraction of the best, or with relative=False a
    difference. More than `patience` calls in a row without improvement add 1 to k; the next `cooldown` calls do not
    count. NaN is no improvement.

    >>> optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0)
    >>> schedule = optim.ReduceOnPlateau(optimizer, decay=0.5, patience=1)
    >>> for validation_loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(validation_loss)
    >>> optimizer.lr
    0.5
    """

    remembered = (*Schedule.remembered, "reductions", "best", "waited", "resting")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        decay: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        relative: bool = True,
        cooldown: int = 0,
        floor: float = 0.0,
    ):
        if mode not in ("min", "max"):
            raise ValueError(f"mode: expected 'min' or 'max', got {mode!r}")
        self.mode = mode
        self.decay = _number("decay", decay)
        self.patience = _count("patience", patience, minimum=0)
        self.threshold = _number("threshold", threshold, maximum=inf)
        self.relative = relative
        self.cooldown = _count("cooldown", cooldown, minimum=0)
        self.floor = _number("floor", floor)
        self.reductions = 0
        self.best: float | None = None
        self.waited = 0
        self.resting = 0
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return max(self.decay**self.reductions, self.floor)

    def step(self, metric: float) -> None:  # type: ignore[override]
        """Compare a new value of the metric with the best and set the learning rates."""
        metric = float(metric)
        if self._improves(metric):
            self.best, self.waited = metric, 0
        elif self.resting == 0:
            self.waited += 1
        self.resting = max(self.resting - 1, 0)
        if self.waited > self.patience:
            self.reductions += 1
            self.waited, self.resting = 0, self.cooldown
        super().step()

    def _improves(self, metric: float) -> bool:
        if self.best is None:
            return not isnan(metric)
        gain = self.best - metric if self.mode == "min" else metric - self.best
        if isinf(self.best):  # a fraction of it is infinite too
            return gain > 0
        return gain > self.threshold * (abs(self.best) if self.relative else 1.0)


def _cosine(begin: float, end: float, progress: float) -> float:
    """The value at a fraction `progress` of a half cosine from `begin` to `end`."""
    return end + (begin - end) * (1.0 + cos(pi * progress)) / 2.0


def _count(name: str, value: int, minimum: int = 1) -> int:
    if not isinstance(value, Integral) or value < minimum:
        raise ValueError(f"{name}: expected a whole number of at least {minimum}, got {value!r}")
    return int(value)


def _number(name: str, value: float, maximum: float = 1.0) -> float:
    if not isinstance(value, Real) or not 0 <= value <= maximum:
        raise ValueError(f"{name}: expected a number from 0 to {maximum}, got {value!r}")
    return float(value)
