"""Who is speaking? A bidirectional recurrent network classifies nine speakers by recordings of the vowels "ae".

Each of the 640 recordings is a sequence of 7 to 29 steps of 12 features (Kudo, Toyama & Shimbo 1999; 270 for training,
370 for testing, as published). They are batched in any order, without sorting or packing. Short ones are padded with
NaN, in training and testing, so that a value that was read from the padding would show.

What one learns here: `data.SequenceBatches` pads sequences and tells the network their lengths; `LastStep` takes the
output of each one's last step, where the backward direction starts; padding is never read, as the program shows.

The paper's classifier has a test accuracy of 94.1 %, and a hidden Markov model with five states up to 96.2 % (both from
the paper). The settings below were chosen on the 270 alone.

    python examples/speakers_by_vowel.py         # 20 seconds; needs the recordings: pip install --no-deps aeon
    python examples/speakers_by_vowel.py --seeds 1
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tinygrad_gru import data, manual_seed, nn, no_grad, ops, optim, train

PUBLISHED = {"Kudo et al. 1999": 0.941, "hidden Markov model, there": 0.962}


def recordings(path: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Sounds (steps, channels) and their speakers, from 0."""
    cases = [line.split(":") for line in path.read_text().partition("@data")[2].split()]
    sounds = [np.array([channel.split(",") for channel in case[:-1]], dtype=float).T for case in cases]
    return sounds, np.array([int(case[-1]) - 1 for case in cases])


def padded(sounds: list[np.ndarray], speakers: np.ndarray, batch: int, seed: int | None = None) -> data.SequenceBatches:
    return data.SequenceBatches(sounds, speakers, batch, seed, padding_value=np.nan)


def folder_of_recordings() -> Path:
    """The folder of an installed package that contains them; the package is not imported."""
    for spec in filter(None, map(find_spec, ("aeon", "sktime"))):
        folder = Path(spec.origin).parent / "datasets" / "data" / "JapaneseVowels"
        if folder.exists():
            return folder
    raise SystemExit("this example reads recordings that come with the package aeon: pip install --no-deps aeon")


@no_grad()
def show_that_padding_is_not_read(model: nn.Module, sounds: list[np.ndarray], speakers: np.ndarray) -> None:
    """Run the recordings with other padding, and each by itself without padding."""
    x, lengths, _ = padded(sounds, speakers, len(sounds)).next_batch()
    logits = model(x, lengths=lengths).numpy()
    print(f"\nlengths of the first recordings: {', '.join(map(str, lengths[:12]))}, …")
    for filler in (0.0, 1e30, np.inf):
        same = np.array_equal(model(np.where(np.isnan(x), filler, x), lengths=lengths).numpy(), logits)
        print(f"logits padded with {filler:<5g} and with NaN: {'the same, bit for bit' if same else 'NOT THE SAME'}")
    alone = [model(sound[:, None]).numpy()[0] for sound in sounds]
    print(f"largest difference of a logit to that of a recording by itself: {np.abs(alone - logits).max():.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="passes over the recordings (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=30, help="recordings per step (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=64, help="width of each direction (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="networks per layer type (default: %(default)s)")
    options = parser.parse_args()

    parts = [recordings(folder_of_recordings() / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST")]
    standardizer = data.Standardizer().fit(np.concatenate(parts[0][0]))
    training, test = [(list(map(standardizer.transform, sounds)), speakers) for sounds, speakers in parts]
    count, channels = training[1].max() + 1, training[0][0].shape[1]
    print(f"{len(training[1])} and {len(test[1])} recordings of {count} speakers\n")

    rows = []
    with train.progress(2 * options.seeds, unit="networks") as display:
        for layer in (nn.GRU, nn.LSTM):
            accuracies, began = [], time.perf_counter()
            for seed in range(options.seeds):
                manual_seed(seed)
                model = nn.Sequential(
                    layer(channels, options.hidden, bidirectional=True),
                    nn.LastStep(),
                    nn.Dropout(0.5),
                    nn.Linear(2 * options.hidden, count),
                )
                history = train.fit(
                    model, ops.cross_entropy, padded(*training, options.batch, seed), epochs=options.epochs, lr=0.01,
                    schedule=optim.WarmupLinear, clip_norm=1.0, progress=False,
                )  # fmt: skip
                result = train.evaluate(model, ops.cross_entropy, padded(*test, options.batch), metrics=["accuracy"])
                accuracies.append(result["accuracy"])
                display.advance(1, loss=history["loss"][-1])
            seconds = (time.perf_counter() - began) / options.seeds
            name = f"{layer.__name__}, both directions"
            figures = f"{model.parameter_count():10,}{seconds:9.1f}{np.mean(accuracies):8.1%}"
            rows.append(f"{name:26}{figures}   ({min(accuracies):.1%} to {max(accuracies):.1%})")
    rows += [f"{name:26}{'':19}{share:8.1%}" for name, share in PUBLISHED.items()]
    print(f"\n{'':26}{'parameters':>10}{'seconds':>9}{'test':>8}", *rows, sep="\n")
    show_that_padding_is_not_read(model.eval(), *test)


if __name__ == "__main__":
    main()
