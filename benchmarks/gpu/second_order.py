"""Second derivatives of recurrent layers on the GPU (cuDNN's have none), compared with NumPy's."""

from __future__ import annotations

import numpy as np

from tinygrad_gru import manual_seed, nn

from .lockstep import report
from .options import Options


def main(options: Options) -> None:
    """Compare the gradients of random combinations of the gradients of input, initial state and parameters."""
    manual_seed(0)
    random = np.random.default_rng(0)
    cases, steps = [], options.choose(10, 10, 2)
    for dtype in ("float64", "float32"):
        x, h, c = (random.standard_normal(shape).astype(dtype) for shape in ((steps, 3, 5), (1, 3, 7), (1, 3, 7)))
        gru, lstm = nn.GRU(5, 7, dtype=dtype), nn.LSTM(5, 7, dtype=dtype)
        cases.append((f"GRU, {dtype}", lambda layer, x, h: layer(x, h), (gru, x, h)))
        cases.append((f"LSTM, {dtype}", lambda layer, x, state: layer(x, state), (lstm, x, (h, c))))
    report(cases, options, order=2)
