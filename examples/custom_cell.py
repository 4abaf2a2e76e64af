"""A user-defined recurrent cell: the minGRU of "Were RNNs All We Needed?" (Feng et al. 2024), in a dozen lines.

It is a GRU whose gate and candidate depend on the input alone:

    z  = σ(x W_z + b_z)
    h̃  = x W_h + b_h
    h' = (1 − z) ⊙ h + z ⊙ h̃

so that only the last line is a recurrence; the paper computes it in parallel. Two layers of it are enough to solve the
adding problem (see adding_problem.py), here with sequences of different lengths in one batch.

What one learns here: a cell is its parameters and a `step`; from these follow stacked and bidirectional layers,
lengths, masks, compilation, gradients that can be checked, and weights that can be saved.

    python examples/custom_cell.py            # a quarter of a minute
    python examples/custom_cell.py --length 200 --steps 1500
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from tinygrad_gru import Tensor, manual_seed, no_grad, ops
from tinygrad_gru.nn import GRU, Cell, Linear, Module, Recurrent
from tinygrad_gru.ops import sigmoid
from tinygrad_gru.optim import Adam, clip_gradient_norm
from tinygrad_gru.scan import explain, pure
from tinygrad_gru.testing import gradcheck, gradgradcheck
from tinygrad_gru.train import progress


class MinGRUCell(Cell):
    """z  = σ(x W_z + b_z),    h' = (1 − z) ⊙ h + z ⊙ (x W_h + b_h)"""

    def __init__(self, input_size: int, hidden_size: int, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W_z, self.W_h = self.new_W(), self.new_W()
        self.b_z, self.b_h = self.new_b(), self.new_b()

    @pure  # it depends on the weights and its arguments alone, so that its trace is cached
    def step(self, h, x):
        z = sigmoid(x @ self.W_z + self.b_z)
        h_tilde = x @ self.W_h + self.b_h
        return (1 - z) * h + z * h_tilde


MinGRU = Recurrent.of(MinGRUCell)


class Adder(Module):
    """Regression of the sum from the last state of each sequence."""

    def __init__(self, recurrence: Recurrent):
        self.recurrence = recurrence
        self.output = Linear(recurrence.output_size, 1)

    def forward(self, x: Tensor, lengths: np.ndarray) -> Tensor:
        _, h = self.recurrence(x, lengths=lengths)
        return self.output(h[-1])[:, 0]


def sample_batch(random: np.random.Generator, longest: int, count: int) -> tuple[Tensor, np.ndarray, Tensor]:
    """Sequences (longest, count, 2) of numbers and marks, their lengths, and the sums (count), the targets."""
    lengths = random.integers(longest // 2, longest + 1, count)
    numbers, marks = random.random((longest, count), dtype=np.float32), np.zeros((longest, count), dtype=np.float32)
    column, half = np.arange(count), lengths // 2
    marks[(random.random(count) * half).astype(int), column] = 1
    marks[half + (random.random(count) * (lengths - half)).astype(int), column] = 1
    sums = (numbers * marks).sum(axis=0)
    numbers[np.arange(longest)[:, None] >= lengths] = np.nan  # padding is never read
    return Tensor(np.stack([numbers, marks], axis=-1)), lengths, Tensor(sums)


def check_derivatives() -> None:
    """Check derivatives by x and every parameter against finite differences, bidirectional and with lengths."""
    layer = MinGRU(2, 3, num_layers=2, bidirectional=True, dtype="float64")
    names, values = zip(*layer.named_parameters())

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return layer.with_tensors(dict(zip(names, parameters)))(x, lengths=[4, 2, 0])[0]

    inputs = [np.random.default_rng(0).standard_normal((4, 3, 2)), *values]
    print("first derivatives agree:", gradcheck(function, inputs))
    print("second derivatives agree:", gradgradcheck(function, inputs, rtol=1e-5, atol=1e-7))


def train(model: Adder, options: argparse.Namespace, display) -> list[float]:
    """Train on new sequences at every step; return the losses."""
    random, optimizer = np.random.default_rng(options.seed), Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(options.steps):
        x, lengths, sums = sample_batch(random, options.length, 32)
        loss = ops.mse(model(x, lengths), sums)
        optimizer.zero_grad()
        loss.backward()
        clip_gradient_norm(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        display.advance(1, loss=losses[-1])
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=50, help="of the longest sequence (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="training steps per network (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=32, help="width of the states (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    check_derivatives()
    cell = MinGRUCell(2, 3)
    print("\nThe operations of a step, forward and backward, that stay in the loop over time:")
    plan = explain(cell.step, cell.initial_state(4), Tensor(np.zeros((10, 4, 2), dtype="float32")))
    print(*(line for line in plan.splitlines() if line.strip().startswith("in the loop")), sep="\n")

    rows, models = [], {}
    with progress(2 * options.steps, unit="steps") as display:
        for layer in (GRU, MinGRU):
            manual_seed(options.seed)
            name, began = layer.__name__, time.perf_counter()
            models[name] = Adder(layer(2, options.hidden, num_layers=2))
            losses = train(models[name], options, display)
            milliseconds = 1000 * (time.perf_counter() - began) / options.steps
            loss = np.mean(losses[-options.steps // 10 :])
            rows.append(f"{name:8}{models[name].parameter_count():10,}{milliseconds:12.1f}{loss:12.5f}")
    print(
        f"\n{'':8}{'parameters':>10}{'ms per step':>12}{'loss':>12}      (0.1667: always predicting 1)", *rows, sep="\n"
    )

    Path("runs").mkdir(exist_ok=True)
    np.savez("runs/min_gru.npz", **models["MinGRU"].state_dict())
    restored = Adder(MinGRU(2, options.hidden, num_layers=2))
    restored.load_state_dict(np.load("runs/min_gru.npz"))
    print("\nruns/min_gru.npz has its weights:", ", ".join(restored.state_dict()))
    with no_grad():
        x, lengths, sums = sample_batch(np.random.default_rng(options.seed + 1), options.length, 5)
        predictions = np.round(restored(x, lengths).numpy(), 2)
        print("sums:", np.round(sums.numpy(), 2), "predicted from the saved weights:", predictions)


if __name__ == "__main__":
    main()
