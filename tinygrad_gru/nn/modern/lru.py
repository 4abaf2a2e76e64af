"""LRU, the linear recurrent unit: a complex diagonal recurrence, as two real ones."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ...ops import cos, exp, sin
from ...scan import pure
from ...tensor import Tensor
from .. import init
from ..base.recurrent_docs import documented
from ..cell import Cell
from ..checks import check_sizes
from ..module import Parameter


@documented
class LRUCell(Cell):
    """Linear recurrent unit: a complex diagonal recurrence (Orvieto et al. 2023):

        λ = exp(−exp(ν_log) + i exp(θ_log))         |λ| < 1 whatever ν_log is
        s' = λ ⊙ s + exp(γ_log) ⊙ (x B)             complex, of `state_size` units
        y  = Re(s' C) + D ⊙ x                       x D, a matrix, if x has other features than y

    The state is s in two real parts, re and im; the output, y, is linear in all inputs, so what is not linear stands
    between layers: `Sequential(nn.LRU(…), nn.GELU(), …)`, or the paper's block of a normalization, this layer, a GELU,
    a gated linear unit and a skip connection. Parameters: nu_log, theta_log, gamma_log, B_re, B_im, C_re, C_im, D.
    There are no biases.

    >>> cell = nn.LRUCell(8, 8, r_min=0.9, r_max=0.999)      # forgets slowly
    >>> state, y = cell(np.ones((4, 8)))
    >>> state, y.shape
    (State(re=(4, 8) float32, im=(4, 8) float32), (4, 8))
    """

    states = ("re", "im")
    keywords = ("state_size", "r_min", "r_max", "max_phase")  # not zoneout: a part of a complex number has no sense
    argument_texts: ClassVar[dict[str, str]] = {
        "hidden_size": "features of the output of one direction, and of the state unless `state_size` is given",
        "bias": "without effect: there are no b",
        "state_size": "complex units of the state; None: hidden_size",
        "r_min": "at the start |λ| is in r_min … r_max: near 1 remembers long",
        "r_max": "see r_min",
        "max_phase": "at the start the angle of λ is in 0 … max_phase",
    }
    starts = """λ starts uniform on the ring r_min ≤ |λ| ≤ r_max, with an angle below max_phase; γ = √(1 − |λ|²), which
keeps the variance of the state that of x B; B_re and B_im N(0, 1 / (2 input_size)), C_re and C_im N(0, 1 / state_size),
D N(0, 1), all as in the paper; as a matrix, which the paper does not have, D is N(0, 1 / input_size)."""
    state_size: int | None = None
    r_min = 0.0
    r_max = 1.0
    max_phase = 2 * math.pi

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        n = self.state_sizes[0]
        of_radius, of_angle = init.uniform(2, n, bound=0.5) + 0.5  # U(0, 1)
        square = self.r_min**2 + of_radius * (self.r_max**2 - self.r_min**2)  # |λ|²: uniform by area
        self.nu_log = self._parameter(np.log(-0.5 * np.log(square)))
        self.theta_log = self._parameter(np.log(self.max_phase * of_angle))
        self.gamma_log = self._parameter(0.5 * np.log1p(-square))
        self.B_re, self.B_im = self._normal(input_size, n, 2 * input_size), self._normal(input_size, n, 2 * input_size)
        self.C_re, self.C_im = self._normal(n, hidden_size, n), self._normal(n, hidden_size, n)
        if input_size == hidden_size:
            self.D = self._parameter(init.normal(hidden_size))
        else:
            self.D = self._normal(input_size, hidden_size, input_size)

    def check_settings(self) -> None:
        super().check_settings()
        if self.state_size is not None:
            check_sizes(state_size=self.state_size)
        if not 0 <= self.r_min < self.r_max <= 1:
            raise ValueError(f"r_min, r_max: expected 0 ≤ r_min < r_max ≤ 1, got {self.r_min!r} and {self.r_max!r}")
        if not self.max_phase > 0:
            raise ValueError(f"max_phase: expected a positive angle, got {self.max_phase!r}")

    @property
    def state_sizes(self) -> tuple[int, ...]:
        return (self.state_size or self.hidden_size,) * 2

    @property
    def output_size(self) -> int:
        return self.hidden_size

    def _parameter(self, values: np.ndarray) -> Tensor:
        return Parameter(values, self._dtype, self._device)

    def _normal(self, rows: int, columns: int, divisor: int) -> Tensor:
        return self._parameter(init.normal(rows, columns, scale=1 / math.sqrt(divisor)))

    @pure
    def step(self, carry, x):
        re, im = carry
        size, angle, gamma = exp(-exp(self.nu_log)), exp(self.theta_log), exp(self.gamma_log)
        a, b = size * cos(angle), size * sin(angle)  # λ = a + i b
        re, im = a * re - b * im + gamma * (x @ self.B_re), a * im + b * re + gamma * (x @ self.B_im)
        through = self.D * x if self.D.ndim == 1 else x @ self.D
        return (re, im), re @ self.C_re - im @ self.C_im + through
