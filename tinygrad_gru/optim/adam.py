"""Adam and AdamW."""

from __future__ import annotations

from math import inf
from typing import ClassVar

from .elementwise import maximum, sqrt
from .groups import Parameters
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), with optional AMSGrad (Reddi, Kale & Kumar 2018).

        g ← g + λ p                     weight decay λ, as a term of the loss; AdamW has it decoupled
        m ← β₁ m + (1 − β₁) g           running mean of the gradient
        v ← β₂ v + (1 − β₂) g²          and of its square
        m̂ = m / (1 − β₁ᵗ)               bias correction, for both start at 0: update t = 1, 2, …
        v̂ = v / (1 − β₂ᵗ)               with AMSGrad v̂ = max over all v so far / (1 − β₂ᵗ)
        p ← p − η m̂ / (√v̂ + ε)          learning rate η

    Conventions and defaults are those of torch.optim.Adam.

    >>> x = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Adam([x], lr=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x.numpy().round(3)
    array([ 0.9, -1.9], dtype=float32)
    """

    allowed: ClassVar = {
        "lr": (0, inf),
        "betas": [(0, 1), (0, 1)],
        "eps": (0, inf),
        "weight_decay": (0, inf),
        "amsgrad": bool,
    }

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ):
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    @staticmethod
    def rule(p, g, m, v, v_max, *, step, lr, betas, eps, weight_decay, amsgrad):
        beta1, beta2 = betas
        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (g * g)
        state = {"m": m, "v": v}
        if amsgrad:
            v = state["v_max"] = maximum(v_max, v)
        # η m̂ / (√v̂ + ε), with both corrections in the scalars, which saves passes over the arrays.
        root = (1 - beta2**step) ** 0.5
        return {"p": p - lr * root / (1 - beta1**step) * m / (sqrt(v) + eps * root), **state}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

        p ← (1 − η λ) p                 then Adam's update, whose gradient has no term of λ

    Conventions and defaults are those of torch.optim.AdamW.

    >>> x = Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.AdamW([x], lr=0.1, weight_decay=0.1)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x.numpy().round(3)
    array([ 0.89, -1.88], dtype=float32)
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay, amsgrad)

    @staticmethod
    def rule(p, g, m, v, v_max, *, lr, weight_decay, **settings):
        return Adam.rule((1 - lr * weight_decay) * p, g, m, v, v_max, lr=lr, weight_decay=0.0, **settings)
