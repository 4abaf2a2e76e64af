"""Classify handwritten digits row by row: a GRU over 8 steps of 8 pixels.

The 1 797 images are those of scikit-learn; every fifth is held out. No single row determines a digit: the state must
accumulate the image, which is classified after the last row.

What one learns here: sequences need not be text; classification from the last state; `train()` and `eval()`.

    python examples/digits_by_row.py             # a few seconds
"""

from __future__ import annotations

import argparse

import numpy as np

from tinygrad_gru import Tensor, manual_seed, no_grad, ops
from tinygrad_gru.nn import GRU, Dropout, Linear, Module
from tinygrad_gru.optim import Adam, WarmupLinear, clip_gradient_norm
from tinygrad_gru.train import progress

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit("this example needs the digits of scikit-learn: pip install scikit-learn") from None


class RowClassifier(Module):
    """Logits (images, 10) of the digits in images (images, rows, pixels), whose rows are the time steps."""

    def __init__(self, hidden: int):
        self.gru = GRU(8, hidden, batch_first=True)
        self.dropout = Dropout(0.2)
        self.output = Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        _, h_n = self.gru(images)
        return self.output(self.dropout(h_n[-1]))


def train(model: RowClassifier, images: np.ndarray, labels: np.ndarray, epochs: int, batch: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    batches = len(images) // batch
    optimizer = Adam(model.parameters(), lr=0.01)
    schedule = WarmupLinear(optimizer, epochs * batches)
    with progress(epochs * batches * batch, unit="images") as display:
        for _ in range(epochs):
            for batch_indices in np.split(random.permutation(len(images))[: batches * batch], batches):
                loss = ops.cross_entropy(model(Tensor(images[batch_indices])), labels[batch_indices])
                optimizer.zero_grad()
                loss.backward()
                clip_gradient_norm(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                display.advance(batch, loss=loss.item())


def side_by_side(images: np.ndarray, titles: list[str]) -> str:
    """Images as text in five shades, two characters per pixel, under their titles."""
    shades = np.array(list(" ░▒▓█"))[(4.99 * images).astype(int)].repeat(2, axis=-1)
    rows = ["  ".join(f"{title:16}" for title in titles)]
    return "\n".join(rows + ["  ".join("".join(image[row]) for image in shades) for row in range(8)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="passes over the images (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images per step (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=64, help="width of the state (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    digits = load_digits()
    images, labels = (digits.images / 16).astype("float32"), digits.target
    held_out = np.arange(len(images)) % 5 == 0
    manual_seed(options.seed)
    model = RowClassifier(options.hidden)
    print(f"{model}\n")
    train(model, images[~held_out], labels[~held_out], options.epochs, options.batch, options.seed)

    model.eval()
    with no_grad():
        predictions = model(Tensor(images[held_out])).numpy().argmax(axis=-1)
    images, labels = images[held_out], labels[held_out]
    wrong = predictions != labels
    print(f"\nheld out: {1 - wrong.mean():.1%} right, {wrong.sum()} of {len(labels)} wrong\n")
    for number in range(10):
        count = (labels == number).sum()
        right = count - (wrong & (labels == number)).sum()
        print(f"  {number}  {'█' * right}{'░' * (count - right)}  {right} of {count}")
    if wrong.any():
        some = np.flatnonzero(wrong)[:5]
        print("\nMisclassified:\n")
        print(side_by_side(images[some], [f"{labels[i]}, predicted {predictions[i]}" for i in some]))


if __name__ == "__main__":
    main()
