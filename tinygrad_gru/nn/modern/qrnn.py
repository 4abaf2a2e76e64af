"""QRNN, the quasi-recurrent network: a convolution over time, and pooling."""

from __future__ import annotations

from typing import Any, ClassVar

from ...ops import sigmoid, tanh
from ...scan import pure
from ...tensor import Tensor
from .. import init
from ..base.recurrent_docs import documented
from ..cell import Cell
from ..checks import check_sizes
from ..module import Parameter

#: What has weights, by pooling.
_GATES = {"f": "zf", "fo": "zfo", "ifo": "zfoi"}


@documented
class QRNNCell(Cell):
    """Cell of a quasi-recurrent network: gates by a causal convolution over time, and pooling (Bradbury et al. 2016):

        z  = tanh(x W_z + x₁ W_z1 + … + b_z)        x₁ is the input of the step before, `window` inputs in all
        f  = σ(x W_f + x₁ W_f1 + … + b_f)           forget gate; the output gate o and the input gate i likewise
        c' = f ⊙ c + (1 − f) ⊙ z                    'ifo': f ⊙ c + i ⊙ z
        h' = o ⊙ c'                                 'f': c'

    The state is c, and what the inputs seen so far contribute to the gates of the steps to come: z1 = x W_z1 for the
    next z, and so on for f, o and i, z2 for the z after that. So one step is a pure function of state and input, a
    sequence may go on in a second call, and at padding nothing moves; all products are of x alone, and run before the
    loop. `zoneout` acts on c alone, which is the paper's.

    >>> cell = nn.QRNNCell(3, 8)
    >>> state, h = cell(np.ones((4, 3)))
    >>> state
    State(c=(4, 8) float32, z1=(4, 8) float32, f1=(4, 8) float32, o1=(4, 8) float32)
    """

    equation_keywords = ("window", "pooling")
    argument_texts: ClassVar[dict[str, str]] = {
        "window": "width k of the convolution: how many inputs, up to the present one, a gate sees",
        "pooling": "'f', 'fo' or 'ifo': which gates there are",
        "zoneout": "in training each unit of c keeps its previous value with this probability, in evaluation the two "
        "are averaged with this weight (the paper's zoneout, Krueger et al. 2016)",
    }
    starts = """Every W starts Xavier uniform, U(−a, a) with a = √(6 / (window · input_size + hidden_size)), and every b
at 0. The paper names no start."""
    window = 2
    pooling = "fo"

    def __init__(self, input_size: int, hidden_size: int, **options: Any):
        super().__init__(input_size, hidden_size, **options)
        if not isinstance(self.zoneout, tuple):
            self._zoneout_rates = (self.zoneout, *(0.0 for _ in self.states[1:]))
        for gate in _GATES[self.pooling]:
            for name in self._weights(gate):
                setattr(self, name, self.new_W())
        for gate in _GATES[self.pooling]:
            setattr(self, f"b_{gate}", self.new_b())

    def check_settings(self) -> None:
        check_sizes(window=self.window)
        if self.pooling not in _GATES:
            raise ValueError(f"pooling: expected one of {', '.join(map(repr, _GATES))}, got {self.pooling!r}")
        super().check_settings()

    def new_W(self) -> Tensor:  # noqa: N802
        """A weight of one of the `window` inputs, (input_size, hidden_size): Xavier uniform."""
        weights = init.xavier_uniform(self.window * self.input_size, self.hidden_size)
        return Parameter(weights[: self.input_size], self._dtype, self._device)

    def _weights(self, gate: str) -> list[str]:
        """The names of a gate's weights, that of the present input first."""
        return [f"W_{gate}", *(f"W_{gate}{k}" for k in range(1, self.window))]

    @property
    def states(self) -> tuple[str, ...]:  # type: ignore[override]
        """c, and for every gate what earlier inputs contribute to the next steps."""
        return ("c", *(f"{gate}{k}" for gate in _GATES[self.pooling] for k in range(1, self.window)))

    @pure
    def step(self, carry, x):
        c, *past = carry if self.window > 1 else (carry,)
        sums, later = {}, []
        for gate in _GATES[self.pooling]:
            taps = [x @ getattr(self, name) for name in self._weights(gate)]
            for k in range(self.window - 1):
                taps[k] = taps[k] + past.pop(0)
            sums[gate] = taps[0] + getattr(self, f"b_{gate}")
            later += taps[1:]
        z, f = tanh(sums["z"]), sigmoid(sums["f"])
        i = sigmoid(sums["i"]) if self.pooling == "ifo" else 1 - f
        c = f * c + i * z
        carry = (c, *later) if later else c
        return carry if self.pooling == "f" else (carry, sigmoid(sums["o"]) * c)
