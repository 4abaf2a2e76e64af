"""SGD: stochastic gradient descent with momentum."""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar

from .groups import Parameters
from .optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent, with optional momentum (Polyak 1964; Nesterov's as in Sutskever et al. 2013).

        g ← g + λ p                     weight decay λ
        b ← μ b + (1 − d) g             momentum μ, dampening d; the first time b ← g
        p ← p − η b                     learning rate η; with Nesterov's look-ahead p ← p − η (g + μ b)

    Without momentum there is no b: p ← p − η g. Conventions and defaults are those of torch.optim.SGD.

    >>> x = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.SGD([x], lr=0.1, momentum=0.9)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x.numpy().round(3)
    array([ 0.8, -1.6], dtype=float32)
    """

    allowed: ClassVar = {
        "lr": (0, inf),
        "momentum": (0, 1),
        "dampening": (0, 1),
        "weight_decay": (0, inf),
        "nesterov": bool,
    }

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(
            parameters, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )

    def check(self, **settings: Any) -> None:
        if settings["nesterov"] and (settings["momentum"] == 0 or settings["dampening"] != 0):
            raise ValueError("nesterov: the look-ahead needs momentum above 0 and dampening 0")

    @staticmethod
    def rule(p, g, b, *, step, lr, momentum, dampening, weight_decay, nesterov):
        g = g + weight_decay * p
        if momentum == 0:
            return {"p": p - lr * g}
        b = g if step == 1 else momentum * b + (1 - dampening) * g
        return {"p": p - lr * (g + momentum * b if nesterov else b), "b": b}
