"""Overhead of the tape: chains of ops on 8 × 8 float32, recorded forward, and backward.

The arrays are so small that nearly all of the time is the framework's. Peers take part if they are installed; the
chains of one op are measured beside PyTorch's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_gru import Tensor
from tinygrad_gru.ops import tanh

from .timing import interleaved, ratio, report, row

LENGTH = 1000
COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.overhead"
#: For each chain the ops of a step, and the step, with the library's tanh.
CHAINS: dict[str, tuple[int, Callable]] = {
    "tanh(h ⊙ w + b)": (3, lambda h, w, b, tanh: tanh(h * w + b)),
    "tanh": (1, lambda h, w, b, tanh: tanh(h)),
    "hadamard": (1, lambda h, w, b, tanh: h * w),
    "add": (1, lambda h, w, b, tanh: h + b),
    "matmul": (1, lambda h, w, b, tanh: h @ w),
}
MIXED = next(iter(CHAINS))
OPS = LENGTH * CHAINS[MIXED][0]


def _arrays() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal((8, 8)).astype(np.float32) / 4 for _ in range(4)]


def chain(name: str, start: Any, w: Any, b: Any, cotangent: Any, tanh: Callable) -> Callable[[], object]:
    """A pass forward and backward, of our Tensors or of PyTorch's: the code is the same."""
    step = CHAINS[name][1]

    def run() -> None:
        h = start
        for _ in range(LENGTH):
            h = step(h, w, b, tanh)
        h.backward(cotangent)

    return run


def ours(name: str = MIXED) -> Callable[[], object]:
    w, b, start = (Tensor(a, requires_grad=True) for a in _arrays()[:3])
    return chain(name, start, w, b, _arrays()[3], tanh)


def pytorch(name: str = MIXED) -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)
    w, b, start = (torch.from_numpy(a).requires_grad_() for a in _arrays()[:3])
    return chain(name, start, w, b, torch.from_numpy(_arrays()[3]), torch.tanh)


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


def microseconds(name: str, times: list[float]) -> list[str]:
    """Of one op of a chain: the median and the minimum."""
    ops = LENGTH * CHAINS[name][0]
    return [f"{statistics.median(times) / ops * 1e6:.2f}", f"{min(times) / ops * 1e6:.2f}"]


def main() -> None:
    runs = {"tinygrad_gru": ours()}
    for name, make in PEERS.items():
        try:
            runs[name] = make()
        except (ImportError, AttributeError) as error:  # DeZero's release does not import under NumPy 2
            print(f"{name} is skipped: {type(error).__name__}: {str(error).splitlines()[0]}")
    seconds = interleaved(runs)
    lines = [f"| {MIXED} | µs per op: median | minimum | our time over its |", "| --- | --- | --- | --- |"]
    for name, times in seconds.items():
        own = "" if name == "tinygrad_gru" else ratio(seconds["tinygrad_gru"], times)
        lines.append(row([name, *microseconds(MIXED, times), own]))
    if "torch" in runs:
        lines += ["", "| chain of | µs per op: median | minimum | PyTorch: median | minimum | our time over its |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        for name in list(CHAINS)[1:]:
            both = interleaved({"ours": ours(name), "torch": pytorch(name)})
            columns = [text for times in both.values() for text in microseconds(name, times)]
            lines.append(row([name, *columns, ratio(both["ours"], both["torch"])]))
    lines += ["", f"{LENGTH} steps a run, 15 interleaved runs; ratios are medians over the runs (interquartile range)."]
    report("overhead", "Overhead of the tape", COMMAND, lines, list(PEERS))


if __name__ == "__main__":
    main()
