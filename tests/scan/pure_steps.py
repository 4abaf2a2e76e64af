"""A pure step, and a scan of it."""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, scan
from tinygrad_gru.nn import Module, Parameter
from tinygrad_gru.scan import pure


class Decay(Module):
    """h' = factor · h + x w"""

    def __init__(self, factor=0.5):
        self.factor, self.w = factor, Parameter(np.ones(2))

    @pure
    def step(self, h, x):
        return self.factor * h + x * self.w


X = np.ones((3, 2))


def run(cell, x=X):
    return scan(cell.step, Tensor(np.zeros(x.shape[1:], x.dtype)), x)[0]
