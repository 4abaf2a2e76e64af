"""Python function calls per training pass of a compiled layer, warm and cold, counted by cProfile.

    python -m benchmarks.calls              # GRU(32, 64) and LSTM(32, 64), T=20, B=8
    python -m benchmarks.calls --list GRU   # the functions that a warm pass of a GRU calls most

A call is one of a Python function outside of NumPy: built-in functions and NumPy's own are not counted. A cold pass is
the first of a layer (ops have been called before, no plan is cached); a warm one is the third, after `zero_grad`.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
from collections.abc import Callable

import numpy as np

from tinygrad_gru import Tensor, nn

#: The folder of NumPy's own functions.
NUMPY = os.path.dirname(np.__file__)
LAYERS = {"GRU": nn.GRU, "LSTM": nn.LSTM}


def training_pass(layer: nn.Recurrent, x: np.ndarray) -> None:
    """Forward and backward, from a fresh x to the gradients of the parameters."""
    layer(Tensor(x))[0].sum().backward()


def calls(run: Callable[[], None]) -> dict[tuple[str, int, str], int]:
    """How often each Python function outside of NumPy was called, by (file, line, name)."""
    profile = cProfile.Profile()
    profile.runcall(run)
    stats: dict = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return {
        function: counts[1]
        for function, counts in stats.items()
        if function[0] != "~" and not function[0].startswith(NUMPY)
    }


def measure(name: str, hidden: int = 64) -> tuple[dict, dict]:
    """The calls of a cold and of a warm pass."""
    random = np.random.default_rng(0)
    x = random.standard_normal((20, 8, 32)).astype("float32")
    training_pass(LAYERS[name](32, hidden + 1), x)  # the ops write their functions at their first call
    layer = LAYERS[name](32, hidden)
    cold = calls(lambda: training_pass(layer, x))
    training_pass(layer, x)
    layer.zero_grad()
    return cold, calls(lambda: training_pass(layer, x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", choices=LAYERS, help="show the functions called most")
    parser.add_argument("--cold", action="store_true", help="of a cold pass")
    options = parser.parse_args()
    if options.list:
        cold, warm = measure(options.list)
        found = cold if options.cold else warm
        for (file, line, function), count in sorted(found.items(), key=lambda item: -item[1])[:60]:
            print(f"{count:>7} {function:<32} {'/'.join(file.split('/')[-3:])}:{line}")
        print(f"{sum(found.values()):>7} in all")
        return
    print(f"{'layer':<8}{'warm':>8}{'cold':>8}")
    for name in LAYERS:
        cold, warm = measure(name)
        print(f"{name:<8}{sum(warm.values()):>8}{sum(cold.values()):>8}")


if __name__ == "__main__":
    main()
