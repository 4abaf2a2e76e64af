"""Trainers of a small model, a recurrent layer and a linear one, in our framework, PyTorch and Keras, in float64.

Where a peer's optimizer differs from ours of the same name, its rule is implemented here as an optimizer of ours. Where
it has two biases instead of our one, the second stays at zero: trained, their sum would take twice the step.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
from keras.src.backend.common import dtypes

from tinygrad_gru import Tensor, nn, ops, optim
from tinygrad_gru.interop import keras as keras_weights
from tinygrad_gru.interop import torch as torch_weights

# Keras multiplies float64 in float32 on all backends except TensorFlow's: this compares training, not precision.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"

INPUTS, HIDDEN, OUTPUTS = 3, 4, 2
Weights = dict[str, np.ndarray]


class Batch(NamedTuple):
    """x (B, T, features), targets (B, T, outputs), and a mask of the valid steps (B, T), if not all are."""

    x: np.ndarray
    target: np.ndarray
    mask: np.ndarray | None = None

    @property
    def error_weights(self) -> np.ndarray:
        """The weight of each squared error in the mean."""
        mask = np.ones(self.x.shape[:2]) if self.mask is None else self.mask
        return (mask / (mask.sum() * self.target.shape[-1]))[..., None]


class Trainer(Protocol):
    """A model with its optimizer; weights have the peer's names and layouts."""

    def weights(self) -> Weights: ...
    def set(self, weights: Weights) -> None: ...
    def step(self, batch: Any) -> float:
        """Take one step of the optimizer; returns the loss before it."""


# -- ours ------------------------------------------------------------------------------------------------------------


class Model(nn.Module):
    def __init__(self, kind: str, settings: dict[str, Any]):
        self.layer = getattr(nn, kind)(INPUTS, HIDDEN, batch_first=True, dtype="float64", **settings)
        self.head = nn.Linear(self.layer.output_size, OUTPUTS, dtype="float64")

    def forward(self, x: Tensor, mask: Any) -> Tensor:
        return self.head(self.layer(x, mask=mask)[0])


class Ours:
    """Our model, trained with the optimizer of `peer` of that name."""

    def __init__(self, peer: type, kind: str, settings: dict[str, Any], rule: str):
        self._peer, self._model = peer, Model(kind, settings)
        self._optimizer = peer.rules[rule].ours(self._model.parameters())

    def weights(self) -> Weights:
        return self._peer.read(self._model)

    def set(self, weights: Weights) -> None:
        self._peer.write(self._model, weights)

    def step(self, batch: Batch) -> float:
        self._optimizer.zero_grad()
        error = self._model(Tensor(batch.x), batch.mask) - batch.target
        loss = (ops.square(error) * batch.error_weights).sum()
        loss.backward()
        self._optimizer.step()
        return loss.item()


class Rule(NamedTuple):
    """Factories of an optimizer of ours and of the same one of the peer."""

    ours: Callable[[Any], optim.Optimizer]
    theirs: Callable[[Any], Any]


# -- PyTorch, whose rules are ours -------------------------------------------------------------------------------------


def _same(kind: str, **settings: Any) -> Rule:
    return Rule(
        lambda parameters: getattr(optim, kind)(parameters, **settings),
        lambda parameters: getattr(torch.optim, kind)(parameters, **settings),
    )


class PyTorch:
    rules: ClassVar = {
        "SGD": _same("SGD", lr=0.125),
        "momentum": _same("SGD", lr=0.03125, momentum=0.9),
        "Nesterov": _same("SGD", lr=0.03125, momentum=0.9, nesterov=True),
        "RMSprop": _same("RMSprop", lr=0.0078125),
        "RMSprop, centered, momentum": _same("RMSprop", lr=0.001953125, centered=True, momentum=0.9),
        "Adagrad": _same("Adagrad", lr=0.0625),
        "Adam": _same("Adam", lr=0.0078125),
        "AMSGrad": _same("Adam", lr=0.0078125, amsgrad=True),
        "AdamW": _same("AdamW", lr=0.0078125, weight_decay=0.125),
    }

    def __init__(self, kind: str, settings: dict[str, Any], rule: str, both_biases: bool = False):
        torch.manual_seed(0)
        settings = {name: value for name, value in settings.items() if name != "reset_after"}
        layer = getattr(torch.nn, kind)(INPUTS, HIDDEN, batch_first=True, dtype=torch.float64, **settings)
        head = torch.nn.Linear(HIDDEN * (1 + layer.bidirectional), OUTPUTS, dtype=torch.float64)
        self._model = torch.nn.ModuleDict({"layer": layer, "head": head})
        self._optimizer = self.rules[rule].theirs(self._model.parameters())
        # Of a GRU's second bias our layer has the last third, the candidate's.
        self._second = 2 * HIDDEN if kind == "GRU" else None
        self._both_biases = both_biases
        with torch.no_grad():
            for bias in self._second_biases():
                bias[: self._second] = 0

    def _second_biases(self) -> list[Any]:
        return [value for name, value in self._model.named_parameters() if "bias_hh" in name]

    def weights(self) -> Weights:
        return {name: value.detach().numpy().copy() for name, value in self._model.named_parameters()}

    def set(self, weights: Weights) -> None:
        self._model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})

    def step(self, batch: Batch) -> float:
        layer, head = self._model["layer"], self._model["head"]
        x = torch.tensor(batch.x)
        if batch.mask is None:
            hidden, _ = layer(x)
        else:
            packed = pack_padded_sequence(x, torch.tensor(batch.mask.sum(axis=1)), True, enforce_sorted=False)
            hidden, _ = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])
        loss = ((head(hidden) - torch.tensor(batch.target)) ** 2 * torch.tensor(batch.error_weights)).sum()
        self._optimizer.zero_grad()
        loss.backward()
        for bias in [] if self._both_biases else self._second_biases():
            bias.grad[: self._second] = 0
        self._optimizer.step()
        return loss.item()

    @staticmethod
    def read(model: Model) -> Weights:
        return torch_weights.state_dict(model)

    @staticmethod
    def write(model: Model, weights: Weights) -> None:
        torch_weights.load(model, weights)


# -- Keras, whose ε is elsewhere -----------------------------------------------------------------------------------


class KerasRMSprop(optim.Optimizer):
    """p ← p − η g / √(v + ε): ε is under the root."""

    allowed: ClassVar = {"lr": (0, inf), "rho": (0, 1), "eps": (0, inf)}

    def __init__(self, parameters: Any, lr: float, rho: float = 0.9, eps: float = 1e-7):
        super().__init__(parameters, lr=lr, rho=rho, eps=eps)

    @staticmethod
    def rule(p, g, v, *, step, lr, rho, eps):
        v = rho * v + (1 - rho) * (g * g)
        return {"p": p - lr * g / optim.sqrt(v + eps), "v": v}


class KerasAdagrad(optim.Optimizer):
    """p ← p − η g / √(s + ε), and s starts at 0.1."""

    allowed: ClassVar = {"lr": (0, inf), "start": (0, inf), "eps": (0, inf)}

    def __init__(self, parameters: Any, lr: float, start: float = 0.1, eps: float = 1e-7):
        super().__init__(parameters, lr=lr, start=start, eps=eps)

    def initial(self, name, settings):
        return settings["start"]

    @staticmethod
    def rule(p, g, s, *, step, lr, start, eps):
        s = s + g * g
        return {"p": p - lr * g / optim.sqrt(s + eps), "s": s}


class KerasAdam(optim.Optimizer):
    """p ← p − η √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε): ε is added before v is corrected, so that it counts for
    ε / √(1 − β₂ᵗ), 32 times as much in the first step; weight decay is that of AdamW."""

    allowed: ClassVar = {"lr": (0, inf), "betas": [(0, 1), (0, 1)], "eps": (0, inf), "decay": (0, inf), "amsgrad": bool}

    def __init__(
        self,
        parameters: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        decay: float = 0.0,
        amsgrad: bool = False,
    ):
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, decay=decay, amsgrad=amsgrad)

    @staticmethod
    def rule(p, g, m, v, v_max, *, step, lr, betas, eps, decay, amsgrad):
        beta1, beta2 = betas
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * (g * g)
        state = {"m": m, "v": v}
        if amsgrad:
            v = state["v_max"] = optim.maximum(v_max, v)
        rate = lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        return {"p": (1 - lr * decay) * p - rate * m / (optim.sqrt(v) + eps), **state}


class Keras:
    rules: ClassVar = {
        "SGD": Rule(lambda p: optim.SGD(p, lr=0.125), lambda: keras.optimizers.SGD(0.125)),
        "momentum": Rule(
            lambda p: optim.SGD(p, lr=0.03125, momentum=0.9), lambda: keras.optimizers.SGD(0.03125, momentum=0.9)
        ),
        "Nesterov": Rule(
            lambda p: optim.SGD(p, lr=0.03125, momentum=0.9, nesterov=True),
            lambda: keras.optimizers.SGD(0.03125, momentum=0.9, nesterov=True),
        ),
        "RMSprop": Rule(lambda p: KerasRMSprop(p, lr=0.001953125), lambda: keras.optimizers.RMSprop(0.001953125)),
        "Adagrad": Rule(lambda p: KerasAdagrad(p, lr=0.0625), lambda: keras.optimizers.Adagrad(0.0625)),
        "Adam": Rule(lambda p: KerasAdam(p, lr=0.0078125), lambda: keras.optimizers.Adam(0.0078125)),
        "AMSGrad": Rule(
            lambda p: KerasAdam(p, lr=0.0078125, amsgrad=True), lambda: keras.optimizers.Adam(0.0078125, amsgrad=True)
        ),
        "AdamW": Rule(
            lambda p: KerasAdam(p, lr=0.0078125, decay=0.125),
            lambda: keras.optimizers.AdamW(0.0078125, weight_decay=0.125),
        ),
    }

    def __init__(self, kind: str, settings: dict[str, Any], rule: str):
        keras.utils.set_random_seed(0)
        options = {"reset_after": settings.get("reset_after", False)} if kind == "GRU" else {}
        layer = getattr(keras.layers, kind)(HIDDEN, return_sequences=True, dtype="float64", **options)
        if settings.get("bidirectional"):
            layer = keras.layers.Bidirectional(layer, dtype="float64")
        self._layer, self._head = layer, keras.layers.Dense(OUTPUTS, dtype="float64")
        layer.build((None, None, INPUTS))
        self._head.build((None, None, HIDDEN * (1 + settings.get("bidirectional", False))))
        self._variables = [*layer.trainable_variables, *self._head.trainable_variables]
        self._optimizer = self.rules[rule].theirs()

    def weights(self) -> Weights:
        values = [*self._layer.get_weights(), *self._head.get_weights()]
        return {str(position): value.copy() for position, value in enumerate(values)}

    def set(self, weights: Weights) -> None:
        for variable, value in zip(self._variables, weights.values(), strict=True):
            variable.assign(value)

    def step(self, batch: Batch) -> float:
        mask = None if batch.mask is None else torch.tensor(batch.mask)
        output = self._head(self._layer(torch.tensor(batch.x), mask=mask))
        loss = ((output - torch.tensor(batch.target)) ** 2 * torch.tensor(batch.error_weights)).sum()
        leaves = [variable.value for variable in self._variables]
        gradients = torch.autograd.grad(loss, leaves)
        for gradient in gradients:
            if gradient.shape == (2, 3 * HIDDEN):  # a GRU's two biases; ours has the second for the candidate alone
                gradient[1, : 2 * HIDDEN] = 0
        with torch.no_grad():
            self._optimizer.apply(list(gradients), self._variables)
        return loss.item()

    @staticmethod
    def read(model: Model) -> Weights:
        return {str(position): value for position, value in enumerate(keras_weights.weights(model))}

    @staticmethod
    def write(model: Model, weights: Weights) -> None:
        keras_weights.load(model, list(weights.values()))


PEERS = {"PyTorch": PyTorch, "Keras": Keras}
