"""SRU, the simple recurrent unit."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ...ops import sigmoid
from ...scan import pure
from ...tensor import Tensor
from .. import init
from ..base.recurrent_docs import documented
from ..cell import Cell
from ..module import Parameter


@documented
class SRUCell(Cell):
    """Simple recurrent unit, with its highway connection (Lei et al. 2018):

        f  = σ(x W_f + b_f)                         forget gate; with `peephole` σ(x W_f + v_f ⊙ c + b_f)
        r  = σ(x W_r + b_r)                         reset gate;  with `peephole` σ(x W_r + v_r ⊙ c + b_r)
        c' = f ⊙ c + (1 − f) ⊙ (x W)
        h' = r ⊙ c' + (1 − r) ⊙ α x                 x W_x in place of α x if x has other features than h'

    The state is c, the output h'. Without `peephole`, as in the paper's first version (2017), c' is linear in c, unit
    by unit; with it, as in the one of 2018, it is not. α = √(1 + 2 exp(highway_bias)) keeps the variance of h' that of
    x from layer to layer. Without `highway` the output is r ⊙ c'.

    >>> cell = nn.SRUCell(8, 8, highway_bias=-2.0)
    >>> c, h = cell(np.ones((4, 8)))
    >>> c.shape, h.shape
    ((4, 8), (4, 8))
    """

    states = ("c",)
    equation_keywords = ("peephole", "highway")
    keywords = ("highway_bias", *Cell.keywords)
    argument_texts: ClassVar[dict[str, str]] = {
        "peephole": "True: the gates see the cell, v ⊙ c, and the recurrence is not linear any more",
        "highway": "whether x is added to the output, (1 − r) ⊙ α x",
        "highway_bias": "at which b_r starts; the paper has 0, or −3 … −1 where layers are many",
    }
    starts = """Every W starts U(−a, a), a = √(3 / input_size), and every b at 0 (b_r at highway_bias): the paper's.
With `peephole` v starts U(−√1.5, √1.5), and W_f and W_r at √½ times the others: those of the authors' library."""
    peephole = False
    highway = True
    highway_bias = 0.0

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        self.W, self.W_f, self.W_r = self.new_W(), self.new_W(self._gate_scale), self.new_W(self._gate_scale)
        if self.highway and input_size != hidden_size:
            self.W_x = self.new_W(self.alpha)
        self.b_f, self.b_r = self.new_b(), self.new_b(self.highway_bias)
        if self.peephole:
            self.v_f, self.v_r = self._new_v(), self._new_v()

    @property
    def alpha(self) -> float:
        """α = √(1 + 2 exp(highway_bias))"""
        return math.sqrt(1 + 2 * math.exp(self.highway_bias))

    @property
    def _gate_scale(self) -> float:
        return math.sqrt(0.5) if self.peephole else 1.0

    def new_W(self, scale: float = 1.0) -> Tensor:  # noqa: N802
        """A weight of the input, (input_size, hidden_size): uniform, of the variance scale² / input_size."""
        bound = scale * math.sqrt(3 / self.input_size)
        return Parameter(init.uniform(self.input_size, self.hidden_size, bound=bound), self._dtype, self._device)

    def _new_v(self) -> Tensor:
        return Parameter(init.uniform(self.hidden_size, bound=math.sqrt(1.5)), self._dtype, self._device)

    @pure
    def step(self, c, x):
        f, r = x @ self.W_f + self.b_f, x @ self.W_r + self.b_r
        if self.peephole:
            f, r = f + self.v_f * c, r + self.v_r * c
        f, r = sigmoid(f), sigmoid(r)
        c = f * c + (1 - f) * (x @ self.W)
        if not self.highway:
            return c, r * c
        through = self.alpha * x if self.input_size == self.hidden_size else x @ self.W_x
        return c, r * c + (1 - r) * through
