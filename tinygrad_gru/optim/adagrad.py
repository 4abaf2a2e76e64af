"""Adagrad: step sizes per element that decrease with the sum of its squared gradients."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, ClassVar

from .elementwise import sqrt
from .groups import Parameters
from .optimizer import Optimizer


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011).

        g ← g + λ p                                 weight decay λ
        s ← s + g²                                  starts at `initial_accumulator_value`
        p ← p − η / (1 + (t − 1) ζ) · g / (√s + ε)  learning rate η, its decay ζ, update t = 1, 2, …

    Conventions and defaults are those of torch.optim.Adagrad.

    >>> x = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Adagrad([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x.numpy().round(3)
    array([ 0.9, -1.9], dtype=float32)
    """

    allowed: ClassVar = {
        "lr": (0, inf),
        "lr_decay": (0, inf),
        "weight_decay": (0, inf),
        "initial_accumulator_value": (0, inf),
        "eps": (0, inf),
    }

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ):
        super().__init__(
            parameters,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )

    def initial(self, name: str, settings: Mapping[str, Any]) -> float:
        return settings["initial_accumulator_value"]

    @staticmethod
    def rule(p, g, s, *, step, lr, lr_decay, weight_decay, initial_accumulator_value, eps):
        g = g + weight_decay * p
        s = s + g * g
        return {"p": p - lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps), "s": s}
