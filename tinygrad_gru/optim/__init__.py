"""Optimizers, learning rate schedules and gradient clipping.

`Optimizer` documents how to write a new one: its rule is the equations of the paper, which `elementwise` runs in place.
"""

from __future__ import annotations

from ..hints import OPTIM, missing_name
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .clipping import clip_gradient_norm, clip_gradient_value
from .elementwise import maximum, sqrt
from .lbfgs import LBFGS
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .schedules import OneCycle, ReduceOnPlateau, Schedule, StepDecay, Warmup, WarmupCosine, WarmupLinear
from .sgd import SGD

__all__ = [
    "LBFGS", "SGD", "Adagrad", "Adam", "AdamW", "OneCycle", "Optimizer", "RMSprop", "ReduceOnPlateau", "Schedule",
    "StepDecay", "Warmup", "WarmupCosine", "WarmupLinear", "clip_gradient_norm", "clip_gradient_value",
    "maximum", "sqrt",
]  # fmt: skip


def __getattr__(name: str) -> object:
    raise missing_name(__name__, name, OPTIM, __all__)
