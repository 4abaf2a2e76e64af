"""RMSprop: step sizes per element by a running mean of its squared gradient."""

from __future__ import annotations

from math import inf
from typing import ClassVar

from .elementwise import maximum, sqrt
from .groups import Parameters
from .optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012), optionally centered (Graves 2013).

        g ← g + λ p                     weight decay λ
        v ← α v + (1 − α) g²            running mean of the square
        a ← α a + (1 − α) g             running mean, if centered: then v − a² replaces v below
        p ← p − η g / (√v + ε)          learning rate η

    With momentum μ the last line is b ← μ b + g / (√v + ε), p ← p − η b. Note that ε stands outside of the
    root. Conventions and defaults are those of torch.optim.RMSprop; v − a², which rounding can make negative
    where the gradient hardly changes, counts as 0 then, and not as NaN.

    >>> x = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.RMSprop([x], lr=0.1, alpha=0.9)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x.numpy().round(3)
    array([ 0.684, -1.684], dtype=float32)
    """

    allowed: ClassVar = {
        "lr": (0, inf),
        "alpha": (0, 1),
        "eps": (0, inf),
        "weight_decay": (0, inf),
        "momentum": (0, 1),
        "centered": bool,
    }

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        super().__init__(
            parameters, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered
        )

    @staticmethod
    def rule(p, g, v, a, b, *, step, lr, alpha, eps, weight_decay, momentum, centered):
        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * (g * g)
        state = {"v": v}
        if centered:
            a = state["a"] = alpha * a + (1 - alpha) * g
            v = maximum(v - a * a, 0)
        update = g / (sqrt(v) + eps)
        if momentum:
            update = state["b"] = momentum * b + update
        return {"p": p - lr * update, **state}
