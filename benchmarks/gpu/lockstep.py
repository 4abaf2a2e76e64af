"""The same computations on NumPy and on the GPU: op by op in the plain reading, and the ends of the compiled one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, manual_seed, nn, ops
from tinygrad_gru.debug import lockstep
from tinygrad_gru.train import TextRun, TextSettings

from ..timing import row
from .options import Complaints, Options
from .precision import FLOAT32

READINGS = {True: "plain, op by op", False: "compiled, at its ends"}


def main(options: Options) -> None:
    report([main_job(options), *layers(options)], options)


def report(cases: list[tuple[str, Callable, tuple]], options: Options, order: int = 1) -> None:
    """Print in what both backends agree; where they part, how."""
    FLOAT32.choose_ours(options)
    print(row(["", "reading", "results", "largest difference, of the largest value"]))
    print(row(["---"] * 4))
    complaints = Complaints()
    for name, function, inputs in cases:
        for every_op, reading in READINGS.items():
            with complaints.about(f"{name}, {reading}"):
                backends = ("numpy", options.backend)
                found = lockstep(function, *inputs, backends=backends, every_op=every_op, order=order)
                print(row([name, reading, f"{found.results:,}", f"{found.largest:.1e}"]), flush=True)
    complaints.judge()


def main_job(options: Options) -> tuple[str, Callable, tuple]:
    """The first window of the main job: embedding, GRU, output layer, cross-entropy."""
    settings = TextSettings(**options.choose({}, {"window": 32}, {"hidden": 8, "window": 8, "batch": 2}))
    run = TextRun(settings)
    window = run.trainer.stream.next_batch()

    def loss(model: nn.Module, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits, state = model(ids.data)
        return ops.cross_entropy(logits, targets.data), state

    return "main job, float32", loss, (run.model, window.inputs, window.targets)


def layers(options: Options) -> list[tuple[str, Callable, tuple]]:
    """Layers of every kind on random input; in float64, where the tolerance is tight, and as usual."""
    steps = options.choose(12, 12, 2)
    wide = list(_layers("float64", steps))
    chosen = {"float64": wide[:1] if options.quick else wide, "float32": list(_layers("float32", steps))}
    return [(f"{name}, {dtype}", *made) for dtype, all_made in chosen.items() for name, made in all_made]


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
