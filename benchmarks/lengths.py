"""The cost of variable lengths: a padded batch with `lengths=`, compared with the same batch without.

`--quick` measures few sizes and writes no results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_gru import Tensor, nn

from .timing import installed, interleaved, ratio, report, row

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.lengths"
SIZES = [(50, 16, 64, 64), (100, 32, 128, 128)]
EXPLANATION = """\
A training pass, forward and backward with all gradients, float32. Lengths are uniform between T/2 and T, unsorted.
PyTorch packs (`enforce_sorted=False`) and unpacks. Medians over interleaved rounds, with the interquartile range. We
compute the padding too, and mask it; PyTorch skips it."""


def ours(kind: str, size: tuple[int, ...], lengths: Any) -> Callable[[], None]:
    steps, batch, features, hidden = size
    layer = getattr(nn, kind)(features, hidden)
    array = np.random.default_rng(0).standard_normal((steps, batch, features)).astype("float32")

    def run() -> None:
        layer.zero_grad()
        layer(Tensor(array, requires_grad=True), lengths=lengths)[0].sum().backward()

    return run


def pytorch(kind: str, size: tuple[int, ...], lengths: Any) -> Callable[[], None]:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    steps, batch, features, hidden = size
    layer = getattr(torch.nn, kind)(features, hidden)
    array = np.random.default_rng(0).standard_normal((steps, batch, features)).astype("float32")

    def run() -> None:
        layer.zero_grad()
        x = torch.tensor(array, requires_grad=True)
        if lengths is None:
            output = layer(x)[0]
        else:
            packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
            output = pad_packed_sequence(layer(packed)[0])[0]
        output.sum().backward()

    return run


def main(quick: bool = False) -> None:
    makers = {"ours": ours} | ({"PyTorch": pytorch} if installed("torch") else {})
    lines = [EXPLANATION, "", row(["", "(T, B, I, H)", *(f"{name}, lengths over dense" for name in makers)])]
    lines.append(row(["---"] * (2 + len(makers))))
    for kind in ("GRU", "LSTM"):
        for size in SIZES[: 1 if quick else None]:
            lengths = np.random.default_rng(1).integers(size[0] // 2, size[0], size[1], endpoint=True)
            lengths[0] = size[0]
            passes = {}
            for name, make in makers.items():
                passes |= {name: make(kind, size, None), f"{name}, lengths": make(kind, size, lengths)}
            seconds = interleaved(passes, 3 if quick else 15, min_run_time=0.1)
            cells = [ratio(seconds[f"{name}, lengths"], seconds[name]) for name in makers]
            lines.append(row([kind, str(size), *cells]))
    if quick:
        print("\n".join(lines))
    else:
        report("lengths", "Sequences of variable lengths", COMMAND, lines, ["torch"])


if __name__ == "__main__":
    main("--quick" in sys.argv)
