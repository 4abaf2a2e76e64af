"""Sequential: modules in a row."""

from __future__ import annotations

from typing import Any

from .module import Module


class Sequential(Module):
    """Modules in sequence: y = fₙ(… f₂(f₁(x))). A layer may be any function."""

    def __init__(self, *layers: Any):
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
