"""A step that is a plain function of everything that one may read, and everything that may change of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_gru import Tensor, ops

_SOURCE = """
def helper(x, k=0.5, *, j=1.0):
    return own(k * j * x + shift)

def own(x):
    return ops.tanh(x)

def make(extra, holder, cell):
    def step(h, x, gain=0.8):
        a = x @ parameters["W"] + h @ parameters["U"] + extra
        for factor in factors:
            a = factor * a
        if settings["gain"] > 0.45:
            a = a + settings["shift"]
        if {looks}:
            a = a - holder[0]
        return gain * h + helper(a) * parameters["b"] + 0.1 * cell.step(h, x)
    return step
"""
_HELPERS = ["ops.sin(x)", "0.3 * x", "ops.tanh(k * x)", "own(x) + x * settings['k']"]


class PlainStep:
    """The step, and `change`, which changes one of the things that it reads.

    holder  a list with a constant
    looks   whether the step looks at its values
    fresh   whether the step is another function at every call, of the same code
    """

    def __init__(self, world: Any, cell: Any, looks: bool):
        self.factors, self.holder, self.cell, self.fresh = [0.5, 1.5], [world.new_tensor(np.full(3, 0.2))], cell, False
        self.extra = 0.1
        self.scope: dict[str, Any] = {
            "ops": ops, "parameters": dict(world.parameters), "settings": world.settings, "factors": self.factors,
            "shift": 0.1,
        }  # fmt: skip
        exec(_SOURCE.replace("{looks}", "holder[0].sum() > 0" if looks else "True"), self.scope)
        self._step = self.scope["make"](self.extra, self.holder, self.cell)

    def step(self) -> Any:
        """The function, as it is now."""
        if self.fresh:
            self._step = self.scope["make"](self.extra, self.holder, self.cell)
        return self._step

    def change(self, world: Any, random: np.random.Generator) -> None:
        """Change something."""
        value, scope = float(random.choice([0.2, 0.7, -0.0, 1.1])), self.scope
        helper = scope["helper"]
        changes = [
            lambda: exec(f"def helper(x, k={value}, *, j=1.0): return {_HELPERS[random.integers(4)]}", scope),
            lambda: exec(f"def own(x): return {value} * x", scope),
            lambda: setattr(helper, "__defaults__", (value,)),
            lambda: helper.__kwdefaults__.update(j=value),
            lambda: setattr(self._step, "__defaults__", (value,)),
            lambda: scope.update(shift=value),
            lambda: self.factors.append(value) if len(self.factors) < 4 else self.factors.pop(),
            lambda: self.factors.__setitem__(0, value),
            lambda: (self.holder[0].data.__setitem__(..., value - 0.5), self.holder[0].mark_changed()),
            lambda: self.holder.__setitem__(0, world.new_tensor(np.full(3, value - 0.5))),
            lambda: scope["parameters"].update(b=world.new_tensor(np.full(3, value), requires_grad=True)),
            lambda: scope["parameters"].update(b=world.parameters["b"] * value),  # with a history
            lambda: setattr(self, "extra", value),
            lambda: setattr(self, "fresh", not self.fresh),
            lambda: scope.update(ops=_Ops if scope["ops"] is ops else ops),
            lambda: setattr(type(self.cell), "rate", value),
            lambda: setattr(self.cell, "w", world.new_tensor(np.full(3, value), requires_grad=True)),
            lambda: setattr(self.cell, "act", (ops.sin, ops.tanh, lambda x: value * x)[random.integers(3)]),
            lambda: self.cell.freeze() if random.random() < 0.5 else self.cell.unfreeze(),
        ]
        changes[random.integers(len(changes))]()


class _Ops:
    """A stand-in for the module of ops."""

    @staticmethod
    def tanh(x: Tensor) -> Tensor:
        return 0.5 * ops.sin(x)
