"""find_lr: the learning rate range test."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..html import Markup, figure
from ..nn import Module
from ..optim import Optimizer
from ..show.figures import new_figure, save_figure
from ..show.svg import line_chart
from ..tensor import Tensor
from .batches import batches_of
from .fit import optimizer_of
from .trainer import Trainer, TrainingError

#: Weight of the past in the smoothed loss.
_SMOOTHING = 0.9
#: The sweep ends when the smoothed loss has risen from its lowest value by so many times that value, or its fall.
_RISE = 3.0


class LRSweep:
    """What `find_lr` measured: the loss at each learning rate, and a suggestion.

    lr        the suggestion: a tenth of the rate at which the smoothed loss is lowest; None if it never fell
    lrs       the learning rates of the steps, growing exponentially
    losses    the loss of each step, on its batch, before the step
    smoothed  their exponential mean, by a weight of 0.9 of the past, corrected for its start
    diverged  whether the sweep ended because the loss exploded

    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> sweep = train.find_lr(nn.Linear(1, 1), ops.mse, (x, 3 * x), steps=40)
    >>> 1e-6 < sweep.lr < 10, sweep.lrs.shape == sweep.losses.shape
    (True, True)
    """

    def __init__(self, lrs: np.ndarray, losses: np.ndarray, diverged: bool) -> None:
        self.lrs, self.losses, self.diverged = lrs, losses, diverged
        self.smoothed = _smoothed(losses)
        self._lowest = int(self.smoothed.argmin())

    @property
    def lr(self) -> float | None:
        return float(self.lrs[self._lowest]) / 10 if self._lowest else None

    @property
    def reason(self) -> str:
        """How the suggestion comes about."""
        if self.lr is None:
            return f"no suggestion: the loss did not fall at any rate from {self.lrs[0]:.2g} to {self.lrs[-1]:.2g}"
        text = (
            f"lr {self.lr:.2g}, a tenth of {self.lrs[self._lowest]:.2g}, where the smoothed loss is lowest, "
            f"{self.smoothed[self._lowest]:.4g}"
        )
        return text if self.diverged else f"{text}; it did not diverge up to {self.lrs[-1]:.2g}: try a larger high="

    def __repr__(self) -> str:
        return f"LRSweep of {len(self.lrs)} steps: {self.reason}"

    def _repr_html_(self) -> str:
        losses, smoothed = self._drawn()
        curves = {"loss": (self.lrs, losses), "smoothed": (self.lrs, smoothed)}
        if self.lr is not None:
            curves["suggestion"] = (np.full(2, self.lr), np.array([losses.min(), losses.max()]))
        return figure(self.reason, Markup(line_chart(curves, "learning rate range test", "learning rate", log_x=True)))

    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """The losses and the smoothed ones, cut off where they explode, so that a picture shows the others."""
        before = self.losses[: self._lowest + 1]
        top = before.max() + 0.5 * np.ptp(before) if self._lowest else math.inf
        return np.minimum(self.losses, top), np.minimum(self.smoothed, top)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the losses and the suggestion with matplotlib; returns the figure. With a `path` it is saved too.

        Raises PlotError if matplotlib is not installed.
        """
        picture = new_figure("the learning rate range test")
        (axes,) = picture.axes
        losses, smoothed = self._drawn()
        axes.plot(self.lrs, losses, color="tab:blue", alpha=0.25, linewidth=0.8)
        axes.plot(self.lrs, smoothed, color="tab:blue", linewidth=1.5, label="smoothed loss")
        if self.lr is not None:
            axes.axvline(self.lr, color="tab:green", linestyle="--", linewidth=1, label=f"suggestion, {self.lr:.2g}")
        axes.set(title="learning rate range test", xlabel="learning rate", ylabel="loss", xscale="log")
        axes.legend()
        if path is not None:
            save_figure(picture, path)
        return picture


def find_lr(
    model: Module,
    loss: Callable[[Any, Any], Tensor],
    data: Any,
    *,
    optimizer: str | Optimizer = "adam",
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    seed: int | None = 0,
    clip_norm: float | None = None,
    carry_state: bool = False,
    compiled: bool | str | None = None,
) -> LRSweep:
    """The learning rate range test (Smith 2017): train while the rate grows from `low` to `high`, until it is too high.

        lr at step k = low · (high / low)^(k / (steps − 1))

    The sweep ends early when the loss is no longer finite, or has risen from its lowest value by three times that value
    or its fall, whichever is larger (smoothed). Then weights, optimizer, gradients, random state and the position in
    the data are as they were before, bit for bit. Groups of an optimizer keep the ratios of their rates.

    model, loss, data, batch_size, seed, clip_norm, carry_state, compiled   as `fit` takes them
    optimizer   a name, or an optim.Optimizer; the suggestion is one for this optimizer

    Raises ValueError for data that can be passed over only once, and TrainingError if the first loss is not finite.

    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> sweep = train.find_lr(nn.Linear(1, 1), ops.mse, (x, 3 * x + 1), optimizer="sgd")
    >>> 0.005 < sweep.lr < 0.5
    True
    """
    if not 0 < low < high < math.inf:
        raise ValueError(f"expected 0 < low < high, got low={low!r} and high={high!r}")
    if steps < 2:
        raise ValueError(f"steps: expected 2 or more, got {steps!r}")
    if hasattr(data, "__next__") and not hasattr(data, "load_state_dict"):
        raise ValueError(f"data: a {type(data).__name__} would be used up by the sweep: give a list of its batches")
    batches, _ = batches_of(model, data, None, batch_size, seed)
    optimizer = optimizer_of(optimizer, None, model, loss)
    trainer = Trainer(
        model, loss, optimizer, batches, clip_norm=clip_norm, carry_state=carry_state, compiled=compiled
    )  # fmt: skip
    before = trainer.state_dict()
    gradients = [(parameter, parameter.grad) for parameter in optimizer.parameters() if parameter.requires_grad]
    try:
        return _sweep(trainer, low * (high / low) ** np.linspace(0, 1, steps))
    finally:
        trainer.load_state_dict(before)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _sweep(trainer: Trainer, lrs: np.ndarray) -> LRSweep:
    groups = trainer.optimizer.groups
    ratios = [group["lr"] / groups[0]["lr"] if groups[0]["lr"] else 1.0 for group in groups]
    losses: list[float] = []
    for lr in lrs:
        for group, ratio in zip(groups, ratios):
            group["lr"] = float(lr) * ratio
        try:
            losses.append(trainer.step().loss)
        except TrainingError:
            if not losses:
                raise
            return LRSweep(lrs[: len(losses)], np.array(losses), diverged=True)
        smoothed = _smoothed(np.array(losses))
        lowest = smoothed.min()
        if smoothed[-1] > lowest + _RISE * max(abs(lowest), smoothed[0] - lowest):
            return LRSweep(lrs[: len(losses)], np.array(losses), diverged=True)
    return LRSweep(lrs, np.array(losses), diverged=False)


def _smoothed(losses: np.ndarray) -> np.ndarray:
    """The exponential mean m ← β m + (1 − β) loss, divided by 1 − βᵏ for its start at 0."""
    smoothed, mean = np.empty(len(losses)), 0.0
    for k, loss in enumerate(losses):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        smoothed[k] = mean / (1 - _SMOOTHING ** (k + 1))
    return smoothed
