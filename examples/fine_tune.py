"""Fine-tune a character model: it has read two million characters of Python, and learns C from twenty thousand.

The C is that of NumPy's header files. A model that begins with the weights of the one that knows Python is compared
with one that begins with random weights, and with trigrams, on the same few characters. Both stop when the loss on
other text falls no longer, and end with their best weights; the losses printed are those on a third text.

What one learns here: save weights, and load them into a new model; freeze layers and train the others; then train all,
with a learning rate for each group of parameters, so that what was learned before is kept.

    python examples/fine_tune.py                 # half a minute; writes runs/pretrained.safetensors
    python examples/fine_tune.py --from runs/pretrained.safetensors --characters 60000

`tinygrad-gru train --from RUN --text FILE` goes on from another run's weights without a program.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_gru as tg
from tinygrad_gru import data, nn, ops, optim, train

VOCABULARY = data.CharacterVocabulary.code()


def character_model(hidden: int) -> nn.Sequential:
    """Logits of the next character, and the state to go on from."""
    symbols = len(VOCABULARY)
    return nn.Sequential(nn.Embedding(symbols, 32), nn.GRU(32, hidden), nn.Linear(hidden, symbols), returns_state=True)


def fit(model: nn.Sequential, batches: data.TextStream, **settings: Any) -> None:
    train.fit(model, ops.cross_entropy, batches, carry_state=True, clip_norm=1.0, **settings)


def pretrain(model: nn.Sequential, characters: int) -> None:
    ids = VOCABULARY.encode(data.standard_library().training)
    batches = data.TextStream(ids, window=64, batch_size=32, chunk=1024)
    fit(model, batches, steps=max(1, characters // (64 * 32)), lr=5e-3, schedule=optim.WarmupLinear)


def fine_tune(model: nn.Sequential, training: data.TextStream, validation: data.TextStream) -> None:
    embedding, gru, output = model
    embedding.freeze()
    gru.freeze()
    fit(model, training, validation=validation, epochs=3, lr=5e-3)
    model.unfreeze()
    learned = [*embedding.parameters(), *gru.parameters()]
    groups = [{"parameters": output.parameters(), "lr": 3e-3}, {"parameters": learned, "lr": 1e-3}]
    fit(model, training, validation=validation, epochs=30, patience=3, optimizer=optim.Adam(groups))


def headers() -> np.ndarray:
    """The ids of the characters of NumPy's header files, without the generated ones."""
    files = sorted(Path(np.get_include(), "numpy").glob("[a-z]*.h"))
    return VOCABULARY.encode("".join(file.read_text(encoding="utf-8") for file in files))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="weights", type=Path, help="weights of an earlier run, in place of pretraining")
    parser.add_argument("--pretraining", type=int, default=2_000_000, help="characters of Python (%(default)s)")
    parser.add_argument("--characters", type=int, default=20_000, help="characters of C (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=128, help="width of the state (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tg.manual_seed(options.seed)

    path = options.weights or Path("runs/pretrained.safetensors")
    if not options.weights:
        print("a model that reads Python:")
        model = character_model(options.hidden)
        pretrain(model, options.pretraining)
        path.parent.mkdir(exist_ok=True)
        tg.save(model, path)

    ids = headers()
    parts = ids[: options.characters], ids[-60_000:-40_000], ids[-40_000:]
    training, validation, test = [data.TextStream(part, window=32, batch_size=16, chunk=1024) for part in parts]

    def loss(model: nn.Sequential) -> float:
        return train.evaluate(model, ops.cross_entropy, test, carry_state=True)["loss"]

    print("\na model that begins with random weights reads C:")
    beginner = character_model(options.hidden)
    fit(beginner, training, validation=validation, epochs=60, patience=3, lr=5e-3)

    print("\nthe model that knows Python reads C, first with its output layer alone:")
    model = character_model(options.hidden)
    model.load_state_dict(tg.load(path))
    losses = {"trigrams": data.ngram_losses(parts[0], parts[2], len(VOCABULARY), order=3)[-1]}
    losses |= {"random weights, trained": loss(beginner), "weights that know Python": loss(model)}
    fine_tune(model, training, validation)
    losses["the same, fine-tuned"] = loss(model)

    print(f"\nloss on other C, nats/char, after {options.characters:,} characters of C:\n")
    for name, value in losses.items():
        print(f"  {name:26}{value:6.3f}")


if __name__ == "__main__":
    main()
