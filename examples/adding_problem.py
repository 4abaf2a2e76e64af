"""Who can remember over a long time? A tanh-RNN, a GRU and an LSTM on the adding problem.

The input is a sequence of pairs: a random number between 0 and 1, and a mark, which is 1 at two steps and 0 elsewhere.
The target is the sum of the two marked numbers (Hochreiter & Schmidhuber 1997). One mark is in the first half, so the
state must keep its number over dozens of steps. Always predicting 1 has a mean squared error of 1/6: a network whose
loss stays there has learned nothing.

What one learns here: a layer is called as `output, h_n = layer(x)` on x (time, batch, features); a loss, backward, a
clipped step; and why gates were invented.

    python examples/adding_problem.py            # half a minute to a minute
    python examples/adding_problem.py --length 300 --steps 4000
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from tinygrad_gru import Tensor, manual_seed, no_grad, ops
from tinygrad_gru.nn import GRU, LSTM, RNN, Linear, Module
from tinygrad_gru.optim import Adam, clip_gradient_norm
from tinygrad_gru.train import progress

BASELINE = 1 / 6  # the variance of a sum of two numbers from U(0, 1)
SOLVED = 0.01
WINDOW = 50  # steps over which the loss is averaged to find when it fell below that


class Adder(Module):
    """Regression of the sum from the last state of a recurrent layer."""

    def __init__(self, layer: type, hidden: int):
        self.recurrence = layer(2, hidden)
        self.output = Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.recurrence(x)
        h = state[0] if isinstance(state, tuple) else state  # an LSTM's state is (h, c)
        return self.output(h[-1])[:, 0]


def sample_batch(random: np.random.Generator, length: int, count: int) -> tuple[Tensor, Tensor]:
    """Sequences (length, count, 2) of numbers and marks, and the sums (count), which are the targets."""
    numbers, marks = random.random((length, count), dtype=np.float32), np.zeros((length, count), dtype=np.float32)
    column = np.arange(count)
    marks[random.integers(0, length // 2, count), column] = 1
    marks[random.integers(length // 2, length, count), column] = 1
    return Tensor(np.stack([numbers, marks], axis=-1)), Tensor((numbers * marks).sum(axis=0))


def train(model: Adder, options: argparse.Namespace, display) -> list[float]:
    """Train on new sequences at every step; return the losses."""
    random = np.random.default_rng(options.seed)  # every network sees the same sequences
    optimizer = Adam(model.parameters(), lr=options.lr)
    losses = []
    for _ in range(options.steps):
        x, sums = sample_batch(random, options.length, options.batch)
        loss = ops.mse(model(x), sums)
        optimizer.zero_grad()
        loss.backward()
        clip_gradient_norm(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        display.advance(1, loss=losses[-1])
    return losses


def verdict(losses: list[float], error: float, batch: int) -> str:
    """The result of a network in words, from its training losses and its test error."""
    if error > 0.9 * BASELINE:
        return "no better than the baseline"
    averaged = np.convolve(losses, np.ones(WINDOW) / WINDOW, mode="valid")
    if error > SOLVED or averaged.min() > SOLVED:
        return "not solved yet"
    return f"solved after {(int(np.argmax(averaged <= SOLVED)) + WINDOW) * batch:,} sequences"


def curve(losses: list[float], width: int = 32) -> str:
    """The learning curve in one line of text, from the baseline (high) to 0 (low)."""
    means = [part.mean() for part in np.array_split(losses, min(width, len(losses)))]
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * mean / (1.1 * BASELINE)))] for mean in means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=100, help="steps of a sequence (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1500, help="training steps per network (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="sequences per step (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=32, help="width of the state (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.01, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    test_set = sample_batch(np.random.default_rng(options.seed + 1), options.length, 1000)
    print(f"{options.length} numbers, two of them marked; the error of always predicting 1 is {BASELINE:.4f}\n")
    rows = []
    with progress(3 * options.steps, unit="steps") as display:
        for layer in (RNN, GRU, LSTM):
            manual_seed(options.seed)
            model, began = Adder(layer, options.hidden), time.perf_counter()
            losses = train(model, options, display)
            seconds = time.perf_counter() - began
            with no_grad():
                error = ops.mse(model(test_set[0]), test_set[1]).item()
            figures = f"{layer.__name__:6}{model.parameter_count():10,}{seconds:9.1f}{error:12.5f}"
            rows.append(f"{figures}   {curve(losses)}   {verdict(losses, error, options.batch)}")
    print(f"\n{'':6}{'parameters':>10}{'seconds':>9}{'test error':>12}   {'training loss':32}", *rows, sep="\n")


if __name__ == "__main__":
    main()
