"""Overhead of the tape: a chain of tanh(h ⊙ w + b) on 8 × 8 float32, recorded forward, and backward.

The arrays are so small that nearly all of the time is the framework's. Peers take part if they are installed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from tinygrad_gru import Tensor
from tinygrad_gru.ops import tanh

from .timing import interleaved, ratio, report

LENGTH = 1000
OPS = 3 * LENGTH
COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.overhead"


def _arrays() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal((8, 8)).astype(np.float32) for _ in range(4)]


def ours() -> Callable[[], object]:
    w, b, start = (Tensor(a, requires_grad=True) for a in _arrays()[:3])
    cotangent = _arrays()[3]

    def run() -> None:
        h = start
        for _ in range(LENGTH):
            h = tanh(h * w + b)
        h.backward(cotangent)

    return run


def pytorch() -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)
    w, b, start = (torch.from_numpy(a).requires_grad_() for a in _arrays()[:3])
    cotangent = torch.from_numpy(_arrays()[3])

    def run() -> None:
        h = start
        for _ in range(LENGTH):
            h = torch.tanh(h * w + b)
        h.backward(cotangent)

    return run


def hips_autograd() -> Callable[[], object]:
    import autograd.numpy as anp
    from autograd import make_vjp

    w, b, start, cotangent = _arrays()

    def chain(parameters: tuple) -> object:
        h, w, b = parameters
        for _ in range(LENGTH):
            h = anp.tanh(h * w + b)
        return h

    return lambda: make_vjp(chain)((start, w, b))[0](cotangent)


def dezero() -> Callable[[], object]:
    from dezero import Variable
    from dezero.functions import tanh

    w, b, start = (Variable(a) for a in _arrays()[:3])
    cotangent = Variable(_arrays()[3])

    def run() -> None:
        h = start
        for _ in range(LENGTH):
            h = tanh(h * w + b)
        h.grad = cotangent
        for variable in (w, b, start):
            variable.cleargrad()
        h.backward()

    return run


PEERS = {"torch": pytorch, "autograd": hips_autograd, "dezero": dezero}


def main() -> None:
    runs = {"tinygrad_gru": ours()}
    for name, make in PEERS.items():
        try:
            runs[name] = make()
        except (ImportError, AttributeError) as error:  # DeZero's release does not import under NumPy 2
            print(f"{name} is skipped: {type(error).__name__}: {str(error).splitlines()[0]}")
    seconds = interleaved(runs)
    lines = ["| | µs per op: median | minimum | our time over its |", "| --- | --- | --- | --- |"]
    for name, times in seconds.items():
        own = "" if name == "tinygrad_gru" else ratio(seconds["tinygrad_gru"], times)
        lines.append(f"| {name} | {statistics.median(times) / OPS * 1e6:.2f} | {min(times) / OPS * 1e6:.2f} | {own} |")
    lines += [
        "",
        f"{OPS} ops per run, 15 interleaved runs each; ratios are medians over the runs (interquartile range).",
    ]
    report("overhead", "Overhead of the tape", COMMAND, lines, list(PEERS))


if __name__ == "__main__":
    main()
