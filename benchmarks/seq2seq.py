"""A decoder with attention, teacher-forced and by itself: `scan` over a step that attends to a memory, beside PyTorch.

`--quick` measures the smallest size and writes no results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from tinygrad_gru import Tensor, nn, no_grad, ops, scan

from .timing import installed, interleaved, ratio, report, row

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.seq2seq"
SIZES = [(20, 16, 20, 64), (20, 32, 20, 128), (20, 32, 40, 256)]
SYMBOLS = 64
EXPLANATION = """\
A GRU cell that reads an embedding and a context at every step, float32. Context: scores = memory · h, masked by
lengths, softmax, weighted mean of the memory. "products" writes it by matmul, "sums" by products of elements and sums.
PyTorch runs a loop of `GRUCell`s. Milliseconds are the least of interleaved rounds; the other figures are PyTorch's
time over ours, median and interquartile range: above 1 we are faster."""
TRAINING = "Teacher-forced: forward and backward, with the gradients of all weights, the embeddings and the memory."
DECODING = f"Greedy: the most probable of {SYMBOLS} symbols is the next input, in a scan without xs, without gradients."


def arrays(size: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Memory (batch, source, hidden), embeddings (steps, batch, hidden), and 0 or −10⁹ past the length of a source."""
    steps, batch, source, hidden = size
    random = np.random.default_rng(0)
    memory, x = random.standard_normal((batch, source, hidden)), random.standard_normal((steps, batch, hidden))
    past_end = np.where(np.arange(source) < random.integers(source // 2, source + 1, (batch, 1)), 0.0, -1e9)
    return memory.astype("float32"), x.astype("float32"), past_end.astype("float32")


def context(h: Tensor, memory: Tensor, past_end: np.ndarray, by_sums: bool) -> Tensor:
    if by_sums:
        weights = ops.softmax(ops.sum(memory * ops.expand_dims(h, axis=1), axis=2) + past_end)
        return ops.sum(memory * ops.expand_dims(weights, axis=2), axis=1)
    weights = ops.softmax(ops.squeeze(memory @ ops.expand_dims(h, axis=2), axis=2) + past_end)
    return ops.squeeze(ops.expand_dims(weights, axis=1) @ memory, axis=1)


def ours(size: tuple[int, ...], compiled: str, by_sums: bool) -> Callable[[], None]:
    (memory, x, past_end), (_, batch, _, hidden) = arrays(size), size
    cell, memory, x = nn.GRUCell(2 * hidden, hidden), Tensor(memory, requires_grad=True), Tensor(x, requires_grad=True)

    def step(h: Tensor, x: Tensor) -> Tensor:
        return cell.step(h, ops.concatenate([x, context(h, memory, past_end, by_sums)], axis=1))

    def run() -> None:
        for tensor in (*cell.parameters(), memory, x):
            tensor.zero_grad()
        scan(step, cell.initial_state(batch), x, compiled=compiled)[1].sum().backward()

    return run


def our_decoding(size: tuple[int, ...], compiled: str, by_sums: bool) -> Callable[[], None]:
    (memory, _, past_end), (steps, batch, _, hidden) = arrays(size), size
    cell, memory = nn.GRUCell(2 * hidden, hidden), Tensor(memory)
    embedding, output = nn.Embedding(SYMBOLS, hidden), nn.Linear(hidden, SYMBOLS)

    def step(carry: tuple[Tensor, Tensor], _: None) -> tuple:
        h, symbol = carry
        h = cell.step(h, ops.concatenate([embedding(symbol), context(h, memory, past_end, by_sums)], axis=1))
        symbol = ops.argmax(output(h), axis=1)
        return (h, symbol), symbol

    def run() -> None:
        with no_grad():
            scan(step, (cell.initial_state(batch), Tensor(np.zeros(batch, int))), length=steps, compiled=compiled)

    return run


def pytorch(size: tuple[int, ...], decodes: bool = False) -> Callable[[], None]:
    import torch

    torch.set_num_threads(1)
    (memory, x, past_end), (steps, batch, _, hidden) = map(torch.tensor, arrays(size)), size
    cell, embedding = torch.nn.GRUCell(2 * hidden, hidden), torch.nn.Embedding(SYMBOLS, hidden)
    output = torch.nn.Linear(hidden, SYMBOLS)
    memory, x = memory.requires_grad_(), x.requires_grad_()

    def step(h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax((memory @ h[:, :, None])[:, :, 0] + past_end, 1)
        return cell(torch.cat([x, (weights[:, None] @ memory)[:, 0]], 1), h)

    def train() -> None:
        h, states = torch.zeros(batch, hidden), []
        for t in range(steps):
            h = step(h, x[t])
            states.append(h)
        for tensor in (*cell.parameters(), memory, x):
            tensor.grad = None
        torch.stack(states).sum().backward()

    def decode() -> None:
        with torch.no_grad():
            h, symbol, symbols = torch.zeros(batch, hidden), torch.zeros(batch, dtype=torch.long), []
            for _ in range(steps):
                h = step(h, embedding(symbol))
                symbol = output(h).argmax(1)
                symbols.append(symbol)
            torch.stack(symbols)

    return decode if decodes else train


def main(quick: bool = False) -> None:
    targets = ["numpy", "llvm"] if installed("llvmlite") else ["numpy"]
    forms = {f"{target}, {by}": (target, by == "sums") for target in targets for by in ("products", "sums")}
    fastest = f"{targets[-1]}, products"
    lines = [EXPLANATION]
    for title, peer, mine in (
        (TRAINING, pytorch, ours),
        (DECODING, lambda size: pytorch(size, decodes=True), our_decoding),
    ):
        lines += ["", title, "", row(["(T, B, source, H)", "PyTorch, ms", f"{fastest}, ms", *forms])]
        lines.append(row(["---"] * (3 + len(forms))))
        for size in SIZES[: 1 if quick else None]:
            passes = {"PyTorch": peer(size)} | {form: mine(size, *how) for form, how in forms.items()}
            seconds = interleaved(passes, 3 if quick else 9, min_run_time=0.02)
            least = [f"{min(seconds[name]) * 1e3:.2f}" for name in ("PyTorch", fastest)]
            lines.append(row([str(size), *least, *(ratio(seconds["PyTorch"], seconds[form]) for form in forms)]))
    if quick:
        print("\n".join(lines))
    else:
        report("seq2seq", "A decoder with attention, beside PyTorch's loop", COMMAND, lines, ["torch", "llvmlite"])


if __name__ == "__main__":
    main("--quick" in sys.argv)
