"""Classify handwritten digits row by row: a GRU over 8 steps of 8 pixels.

The 1 797 images are those of scikit-learn; every fifth is held out. No single row determines a digit: the state must
accumulate the image, which is classified after the last row.

What one learns here: sequences need not be text; a network as a list of layers, of which `LastStep` keeps the output
after the last row; `train.fit` and `train.predict` with arrays.

    python examples/digits_by_row.py             # a few seconds
"""

from __future__ import annotations

import argparse

import numpy as np

from tinygrad_gru import manual_seed, nn, ops, optim, train

try:
    from sklearn.datasets import load_digits
except ImportError:
    raise SystemExit("this example needs the digits of scikit-learn: pip install scikit-learn") from None


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
    images, labels = digits.images / 16, digits.target
    held_out = np.arange(len(images)) % 5 == 0
    manual_seed(options.seed)
    model = nn.Sequential(
        nn.GRU(8, options.hidden, batch_first=True), nn.LastStep(), nn.Dropout(0.2), nn.Linear(options.hidden, 10)
    )
    print(f"{model}\n")
    train.fit(
        model, ops.cross_entropy, (images[~held_out], labels[~held_out]), epochs=options.epochs, lr=0.01,
        schedule=optim.WarmupLinear, batch_size=options.batch, clip_norm=1.0, seed=options.seed,
    )  # fmt: skip

    predictions = train.predict(model, images[held_out]).argmax(axis=-1)
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
