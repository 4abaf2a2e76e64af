"""Lockstep of NumPy and the GPU: eager mode compared op by op, compiled mode by its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, manual_seed, nn, ops
from tinygrad_gru.debug import lockstep
from tinygrad_gru.train import TextRun, TextSettings

from ..timing import row
from .options import Failures, Options
from .precision import FLOAT32

MODES = {True: "eager, op by op", False: "compiled, results"}


def main(options: Options) -> None:
    report([main_job(options), *layers(options)], options)


def report(cases: list[tuple[str, Callable, tuple]], options: Options, order: int = 1) -> None:
    """Run the cases on both backends, and print how many results agree and their largest difference."""
    FLOAT32.choose_ours(options)
    print(row(["", "mode", "results", "largest difference, relative to the largest value"]))
    print(row(["---"] * 4))
    failures = Failures()
    for name, function, inputs in cases:
        for every_op, mode in MODES.items():
            with failures.collect(f"{name}, {mode}"):
                backends = ("numpy", options.backend)
                found = lockstep(function, *inputs, backends=backends, every_op=every_op, order=order)
                print(row([name, mode, f"{found.results:,}", f"{found.largest:.1e}"]), flush=True)
    failures.raise_if_any()


def main_job(options: Options) -> tuple[str, Callable, tuple]:
    """The first window of the main job: embedding, GRU, output layer, cross-entropy."""
    settings = TextSettings(**options.choose({}, {"window": 32}, {"hidden": 8, "window": 8, "batch": 2}))
    run = TextRun(settings)
    window = run.trainer.source.next_batch()

    def loss(model: nn.Module, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits, state = model(ids.data)
        return ops.cross_entropy(logits, targets.data), state

    return "main job, float32", loss, (run.model, window.inputs, window.targets)


def layers(options: Options) -> list[tuple[str, Callable, tuple]]:
    """Layers of every kind on random input, in float64, where the tolerance is tight, and in float32."""
    steps = options.choose(12, 12, 2)
    double = list(_layers("float64", steps))
    cases = {"float64": double[:1] if options.quick else double, "float32": list(_layers("float32", steps))}
    return [(f"{name}, {dtype}", *case) for dtype, named in cases.items() for name, case in named]


def _layers(dtype: str, steps: int) -> Iterator[tuple[str, tuple[Callable, tuple]]]:
    manual_seed(0)
    random = np.random.default_rng(0)
    x = random.standard_normal((steps, 4, 6)).astype(dtype)
    lengths = np.array([steps, steps // 2, 1, 0])

    def called(layer: Any, x: Tensor) -> Any:
        return layer(x)

    def called_with_lengths(layer: Any, x: Tensor) -> Any:
        return layer(x, lengths=lengths)

    yield "GRU", (called, (nn.GRU(6, 8, dtype=dtype), x))
    yield "GRU, reset after, two layers", (called, (nn.GRU(6, 8, num_layers=2, reset_after=True, dtype=dtype), x))
    yield "LSTM, both directions", (called, (nn.LSTM(6, 8, bidirectional=True, dtype=dtype), x))
    yield "LSTM, peepholes and projection", (called, (nn.LSTM(6, 8, peephole=True, proj_size=3, dtype=dtype), x))
    yield "GRU, layer norm", (called, (nn.GRU(6, 8, layer_norm=True, dtype=dtype), x))
    yield "GRU, lengths", (called_with_lengths, (nn.GRU(6, 8, dtype=dtype), x))
    yield "RNN", (called, (nn.RNN(6, 8, dtype=dtype), x))
