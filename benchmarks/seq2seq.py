"""A decoder with attention, teacher-forced: `scan` over a step that attends to the encoder's outputs, beside PyTorch.

`--quick` measures the smallest size and writes no results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from tinygrad_gru import Tensor, nn, ops, scan

from .timing import installed, interleaved, ratio, report, row

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.seq2seq"
SIZES = [(20, 16, 20, 64), (20, 32, 20, 128), (20, 32, 40, 256)]
EXPLANATION = """\
Forward and backward of a decoder, a GRU cell that reads the token's embedding and a context at every step, float32,
with the gradients of all weights, of the embeddings and of the memory. Context: scores = memory · h, masked by lengths,
softmax, weighted mean of the memory. "products" writes it by matmul, "sums" by products of elements and sums. PyTorch
runs a loop of `GRUCell`s. Time of PyTorch over ours: above 1 we are faster. Medians over interleaved rounds, with the
interquartile range."""


def arrays(size: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Memory (batch, source, hidden), embeddings (steps, batch, hidden), and 0 or −10⁹ past the length of a source."""
    steps, batch, source, hidden = size
    random = np.random.default_rng(0)
    memory, x = random.standard_normal((batch, source, hidden)), random.standard_normal((steps, batch, hidden))
    past_end = np.where(np.arange(source) < random.integers(source // 2, source + 1, (batch, 1)), 0.0, -1e9)
    return memory.astype("float32"), x.astype("float32"), past_end.astype("float32")


def ours(size: tuple[int, ...], compiled: str, by_sums: bool) -> Callable[[], None]:
    (memory, x, past_end), (_, batch, _, hidden) = arrays(size), size
    cell, memory, x = nn.GRUCell(2 * hidden, hidden), Tensor(memory, requires_grad=True), Tensor(x, requires_grad=True)

    def step(h: Tensor, x: Tensor) -> Tensor:
        if by_sums:
            weights = ops.softmax(ops.sum(memory * ops.expand_dims(h, axis=1), axis=2) + past_end)
            context = ops.sum(memory * ops.expand_dims(weights, axis=2), axis=1)
        else:
            weights = ops.softmax(ops.squeeze(memory @ ops.expand_dims(h, axis=2), axis=2) + past_end)
            context = ops.squeeze(ops.expand_dims(weights, axis=1) @ memory, axis=1)
        return cell.step(h, ops.concatenate([x, context], axis=1))

    def run() -> None:
        for tensor in (*cell.parameters(), memory, x):
            tensor.zero_grad()
        scan(step, cell.initial_state(batch), x, compiled=compiled)[1].sum().backward()

    return run


def pytorch(size: tuple[int, ...]) -> Callable[[], None]:
    import torch

    torch.set_num_threads(1)
    (memory, x, past_end), (steps, batch, _, hidden) = map(torch.tensor, arrays(size)), size
    cell, memory, x = torch.nn.GRUCell(2 * hidden, hidden), memory.requires_grad_(), x.requires_grad_()

    def run() -> None:
        h, states = torch.zeros(batch, hidden), []
        for t in range(steps):
            weights = torch.softmax((memory @ h[:, :, None])[:, :, 0] + past_end, 1)
            h = cell(torch.cat([x[t], (weights[:, None] @ memory)[:, 0]], 1), h)
            states.append(h)
        for tensor in (*cell.parameters(), memory, x):
            tensor.grad = None
        torch.stack(states).sum().backward()

    return run


def main(quick: bool = False) -> None:
    targets = ["numpy", "llvm"] if installed("llvmlite") else ["numpy"]
    forms = {f"{target}, {by}": (target, by == "sums") for target in targets for by in ("products", "sums")}
    lines = [EXPLANATION, "", row(["(T, B, source, H)", *(f"PyTorch over {form}" for form in forms)])]
    lines.append(row(["---"] * (1 + len(forms))))
    for size in SIZES[: 1 if quick else None]:
        passes = {"PyTorch": pytorch(size)} | {form: ours(size, *how) for form, how in forms.items()}
        seconds = interleaved(passes, 3 if quick else 9)
        lines.append(row([str(size), *(ratio(seconds["PyTorch"], seconds[form]) for form in forms)]))
    if quick:
        print("\n".join(lines))
    else:
        report("seq2seq", "A decoder with attention, beside PyTorch's loop", COMMAND, lines, ["torch", "llvmlite"])


if __name__ == "__main__":
    main("--quick" in sys.argv)
