"""Plays of Shakespeare, character by character: GRU, LSTM and tanh-RNN with as many parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ... import nn, ops
from ...data import CharacterVocabulary, TextStream, ngram_losses
from ...optim import Adam, WarmupCosine
from ...train import CharacterModel, Trainer, evaluate
from ..datafile import DataFile
from ..study import Result, Run, Study, Task, validation_curve
from .cells import with_units

_CELLS = {"rnn": (nn.RNN, 220), "gru": (nn.GRU, 128), "lstm": (nn.LSTM, 110)}
#: Where the text is cut: parts of it that end before these shares.
_SPLITS = {"train": (0.0, 0.9), "valid": (0.9, 0.95), "test": (0.95, 1.0)}


class Shakespeare(Study):
    """The next character of a text from all before it."""

    name = "shakespeare"
    title = "Tiny Shakespeare, by characters: GRU, LSTM and tanh-RNN with as many parameters"
    reference = (
        "The text is that of Karpathy's char-rnn, 2015 (github.com/karpathy/char-rnn), for which we know of no "
        "published table of these cells"
    )
    protocol = (
        "Data: the first 90 % of the text are for training, the next 5 % for validation, the last 5 % for the test. "
        "The vocabulary is that of the whole text.",
        "An embedding of width 32, one recurrent layer, a linear layer: about 72,000 parameters.",
        "Nats/char: the mean of −log p over all characters of the test text but the first, read once from its start "
        "with the state carried from each to the next; of the weights after the last step.",
        "Truncated backpropagation through windows of 64 characters with the state carried, in batches of 32 streams, "
        "which are cut anew from shuffled pieces of 1,024 characters in every epoch.",
        "Adam for 4 epochs, the learning rate falling to 0 as a cosine after a rise over 5 % of the steps; the "
        "gradient's norm clipped at 1. The rate is the best one for each cell on the validation text, of 0.0025, "
        "0.005, 0.01 and 0.02 (and 0.04 for the LSTM, for which 0.02 was the best of these), with seed 10, which is "
        "not among those of the report: 0.01 for tanh-RNN and GRU, 0.02 for the LSTM.",
        "Gates start as the layers have them: an LSTM's b_f = 1, a GRU's biases 0. That is not tuned.",
        "The baselines are n-gram models of the training text, each smoothed by that of the next lower order; "
        "for orientation also the entropies of the whole text, unigram and bigram, which no model is measured on.",
    )
    metric, unit = "test cross-entropy", "nats/char"
    tasks: Mapping[str, Task] = {
        "text": Task(
            "Tiny Shakespeare", {}, margin=0.01,
            file=DataFile(
                "tinyshakespeare.txt",
                "https://raw.githubusercontent.com/karpathy/char-rnn/"
                "d1d7aa34fdb3626174bce1d753e6cc6845ce7087/data/tinyshakespeare/input.txt",
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed", "MIT",
            ),
        ),
    }  # fmt: skip
    cells: Mapping[str, str] = with_units(_CELLS)
    takes = "10 minutes on one core"
    settings: Mapping[str, Any] = {
        "epochs": 4, "lr": {"rnn": 0.01, "gru": 0.01, "lstm": 0.02},
        "batch": 32, "window": 64, "chunk": 1024, "embedding": 32, "clip_norm": 1.0, "characters": None,
    }  # fmt: skip
    quick: Mapping[str, Any] = {"epochs": 1, "characters": 100_000}
    loss = staticmethod(ops.cross_entropy)

    def load(self, task: str, path: Path | None, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The ids of each split."""
        assert path is not None
        text = path.read_text(encoding="utf-8")[: settings["characters"]]
        ids = CharacterVocabulary.from_text(text).encode(text)
        return {split: ids[round(begin * len(ids)) : round(end * len(ids))] for split, (begin, end) in _SPLITS.items()}

    def model(self, run: Run) -> CharacterModel:
        _, units = _CELLS[run.cell]
        return CharacterModel(_symbols(run.data), run.settings["embedding"], units, cell=run.cell)

    def batches(self, run: Run) -> TextStream:
        """The windows of the training text."""
        settings = run.settings
        return TextStream(run.data["train"], settings["window"], settings["batch"], settings["chunk"], run.seed)

    def run(self, run: Run) -> Result:
        """Train for the study's epochs, and measure the weights at their end."""
        model, settings = self.model(run), run.settings
        history = run.fit(
            model, self.loss, self.batches(run), validation=as_one(run.data["valid"]), epochs=settings["epochs"],
            lr=run.setting("lr"), clip_norm=settings["clip_norm"], schedule=WarmupCosine, carry_state=True,
        )  # fmt: skip
        losses = {split: evaluate(model, self.loss, as_one(run.data[split]))["loss"] for split in ("valid", "test")}
        return Result(model.parameter_count(), losses["test"], validation_curve(history), losses)

    def trainer(self, run: Run) -> Trainer:
        """On the windows of the training text."""
        model, settings = self.model(run), run.settings
        return Trainer(
            model, self.loss, Adam(model.parameters()), self.batches(run), clip_norm=settings["clip_norm"],
            carry_state=True,
        )  # fmt: skip

    def baselines(self, task: str, data: Any) -> dict[str, float]:
        """n-gram models of the training text on the test text, and of the whole text on itself: their entropies."""
        symbols, whole = _symbols(data), np.concatenate([data[split] for split in _SPLITS])
        losses = ngram_losses(data["train"], data["test"], symbols, order=3)
        entropies = ngram_losses(whole, whole, symbols, order=2, strength=1e-9)
        names = ("unigram", "bigram", "trigram")
        return {
            **{f"baseline: {name}": loss for name, loss in zip(names, losses)},
            **{f"whole text on itself: {name}": loss for name, loss in zip(names, entropies)},
        }

    def steps(self, run: Run) -> int:
        return run.settings["epochs"] * len(self.batches(run))


def as_one(ids: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """A text as one batch of one sequence: the ids from the first, and those that follow them, (T − 1, 1)."""
    return [(ids[:-1, None], ids[1:, None])]


def _symbols(data: Mapping[str, np.ndarray]) -> int:
    return 1 + max(int(ids.max()) for ids in data.values())
