"""Short versions of two public programs whose ports to our framework once ended with other weights.

A character RNN like HIPS autograd's example: 40 tanh units, all lines of a text in one batch, Adam with a learning rate
of 0.1. And a bidirectional LSTM of Keras on padded sequences with masks, trained by `fit` from probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

from tinygrad_gru import Tensor, nn, ops, optim, scan

from .training_peers import Batch, KerasAdam, Weights, keras, keras_weights

# -- autograd: a character RNN ---------------------------------------------------------------------------------------

UNITS, SYMBOLS, LENGTH = 40, 128, 30


def lines_of(path: Path) -> np.ndarray:
    """The lines of a text, one-hot, cut and padded to one length: (T, B, symbols)."""
    lines = [line.ljust(LENGTH)[:LENGTH] for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    return np.eye(SYMBOLS)[np.array([[ord(line[t]) for line in lines] for t in range(LENGTH)])]


def characters(seed: int) -> Weights:
    """Initial weights; the last row of a matrix is its bias."""
    random = np.random.RandomState(seed)
    shapes = {"initial": (1, UNITS), "change": (SYMBOLS + UNITS + 1, UNITS), "predict": (UNITS + 1, SYMBOLS)}
    return {name: 0.01 * random.standard_normal(shape) for name, shape in shapes.items()}


class AutogradCharacters:
    """A model that predicts each character from those before it, trained by autograd's own Adam, unrolled."""

    def __init__(self, start: Weights, rate: float = 0.1):
        self._weights, self._rate, self._steps = start, rate, 0
        self._moments = dict.fromkeys(start, (0.0, 0.0))
        self._loss = value_and_grad(self._mean_loss)

    def weights(self) -> Weights:
        return dict(self._weights)

    def set(self, weights: Weights) -> None:
        self._weights = dict(weights)

    def step(self, text: np.ndarray) -> float:
        loss, gradients = self._loss(self._weights, text)
        self._steps += 1
        for name, g in gradients.items():
            m, v = self._moments[name]
            m, v = 0.1 * g + 0.9 * m, (1 - 0.999) * g**2 + 0.999 * v
            self._moments[name] = m, v
            m, v = m / (1 - 0.9**self._steps), v / (1 - 0.999**self._steps)
            self._weights[name] = self._weights[name] - self._rate * m / (np.sqrt(v) + 1e-8)
        return loss

    @staticmethod
    def _mean_loss(weights: Weights, text: np.ndarray) -> Any:
        ones = np.ones((text.shape[1], 1))
        h, total = anp.repeat(weights["initial"], text.shape[1], axis=0), 0.0
        for x in text:
            logits = anp.dot(anp.hstack([h, ones]), weights["predict"])
            total = total + anp.sum(x * logits) - anp.sum(anp.log(anp.sum(anp.exp(logits), axis=1)))
            h = anp.tanh(anp.dot(anp.hstack([x, h, ones]), weights["change"]))
        return -total / (text.shape[0] * text.shape[1])


class OurCharacters:
    """The same model as a scan, trained by our Adam."""

    def __init__(self, start: Weights):
        self._weights = {name: Tensor(value, requires_grad=True) for name, value in start.items()}
        self._optimizer = optim.Adam(list(self._weights.values()), lr=0.1)

    def weights(self) -> Weights:
        return {name: tensor.numpy() for name, tensor in self._weights.items()}

    def set(self, weights: Weights) -> None:
        for name, tensor in self._weights.items():
            tensor.data = weights[name].copy()

    def step(self, text: np.ndarray) -> float:
        change, predict = self._weights["change"], self._weights["predict"]

        def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return ops.tanh(x @ change[:SYMBOLS] + h @ change[SYMBOLS:-1] + change[-1]), h

        first = ops.broadcast_to(self._weights["initial"], shape=(text.shape[1], UNITS))
        _, before = scan(step, first, Tensor(text))
        log_probabilities = ops.log_softmax(before @ predict[:-1] + predict[-1], axis=-1)
        loss = -(log_probabilities * text).sum() / (text.shape[0] * text.shape[1])
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.item()


# -- Keras: a bidirectional LSTM with masks --------------------------------------------------------------------------

COUNT, STEPS, WORDS, FEATURES, CELLS, BATCH, RATE = 400, 20, 20, 8, 16, 32, 2.0**-5


def sentences(dtype: str) -> Batch:
    """Sequences of 3 to 20 symbols, padded with symbol 0; the label is whether exactly one of 3 and 5 occurs."""
    random = np.random.default_rng(0)
    present = np.arange(STEPS) < random.integers(3, STEPS + 1, COUNT)[:, None]
    x = np.where(present, random.integers(1, WORDS, (COUNT, STEPS)), 0)
    return Batch(x, ((x == 3).any(axis=1) != (x == 5).any(axis=1)).astype(dtype)[:, None], present)


class KerasProgram:
    """A Keras model, compiled and fitted as usual, from probabilities; `losses` are those that `fit` reports."""

    def __init__(self) -> None:
        keras.utils.set_random_seed(0)
        layers = keras.layers
        self.model = keras.Sequential([
            layers.Embedding(WORDS, FEATURES, mask_zero=True), layers.Bidirectional(layers.LSTM(CELLS)),
            layers.Dense(1, activation="sigmoid"),
        ])  # fmt: skip
        self.model.build((None, STEPS))
        self.model.compile(keras.optimizers.Adam(RATE), "binary_crossentropy")

    def losses(self, data: Batch, epochs: int) -> list[float]:
        settings = {"batch_size": BATCH, "epochs": epochs, "shuffle": False, "verbose": 0}
        return self.model.fit(data.x, data.target, **settings).history["loss"]


class Classifier(nn.Module):
    def __init__(self, dtype: str):
        self.embedding = nn.Embedding(WORDS, FEATURES, dtype=dtype)
        self.lstm = nn.LSTM(FEATURES, CELLS, bidirectional=True, batch_first=True, dtype=dtype)
        self.out = nn.Linear(2 * CELLS, 1, dtype=dtype)

    def forward(self, x: np.ndarray, mask: np.ndarray) -> Tensor:
        h, _ = self.lstm(self.embedding(x), mask=mask)[1]
        return self.out(ops.concatenate([h[0], h[1]], axis=-1))


def from_probabilities(logits: Tensor, target: np.ndarray) -> Tensor:
    """Keras's binary cross-entropy: probabilities are clipped to 1e-7 from 0 and 1, where the gradient is zero."""
    p = ops.clip(ops.sigmoid(logits), low=1e-7, high=1 - 1e-7)
    return -(ops.log(p) * target + ops.log(1 - p) * (1 - target)).mean()


def our_losses(
    start: list[np.ndarray], data: Batch, epochs: int, loss: Callable[..., Tensor], optimizer: Callable[..., Any]
) -> list[float]:
    model = keras_weights.load(Classifier(str(start[0].dtype)), start)
    update = optimizer(model.parameters())
    means = []
    for _ in range(epochs):
        total = 0.0
        for first in range(0, COUNT, BATCH):
            x, target, mask = (array[first : first + BATCH] for array in data)
            value = loss(model(x, mask), target)
            update.zero_grad()
            value.backward()
            update.step()
            total += value.item() * len(x)
        means.append(total / COUNT)
    return means


def keras_program(dtype: str, epochs: int) -> dict[str, list[float]]:
    """Losses per epoch: Keras's, Keras's from weights one bit apart, and three variants of ours."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        data, program, apart = sentences(dtype), KerasProgram(), KerasProgram()
        start = [value.copy() for value in program.model.get_weights()]
        apart.model.set_weights([np.nextafter(value, np.asarray(np.inf, value.dtype)) for value in start])
        curves = {"Keras": program.losses(data, epochs), "Keras, one bit apart": apart.losses(data, epochs)}
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])

    def as_keras(parameters: Any) -> Any:
        return KerasAdam(parameters, lr=RATE)

    def with_its_eps(parameters: Any) -> Any:
        return optim.Adam(parameters, lr=RATE, eps=1e-7)

    logits = ops.binary_cross_entropy_with_logits
    for name, loss, optimizer in (
        ("ours, its rule and its loss", from_probabilities, as_keras),
        ("ours, its rule, from logits", logits, as_keras),
        ("ours, our Adam with its ε, from logits", logits, with_its_eps),
    ):
        curves[name] = our_losses(start, data, epochs, loss, optimizer)
    return curves
