"""Recurrent layers of Keras with random weights, inputs and states, and all results and gradients, in float64.

A case is a dictionary, which test_keras.py compares our layers with, live and frozen in a file.
"""

from __future__ import annotations

import itertools
import os

import numpy as np
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
from keras.src.backend.common import dtypes

# Keras multiplies float64 in float32 on all backends but TensorFlow's. Its layers are compared, not its precision.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")

LAYERS = {"RNN": keras.layers.SimpleRNN, "GRU": keras.layers.GRU, "LSTM": keras.layers.LSTM}
MERGES = {"concat": "concat", "sum": "sum", "mul": "mul", "mean": "ave"}  # ours: theirs
MASK = [[True, True, False, True], [False, True, True, False], [True, False, False, False]]


def grid():
    """(kind, our settings, mask), both conventions of the reset gate among them."""
    for (kind, more), bias, merge, mask in itertools.product(
        [("RNN", {}), ("GRU", {"reset_after": True}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"activation": "relu"})],
        (True, False), (None, *MERGES), (None, MASK),
    ):  # fmt: skip
        yield kind, {**more, "bias": bias, **({"bidirectional": True, "merge": merge} if merge else {})}, mask


def make(kind, settings, mask=None, seed=0, steps=4, batch=3, inputs=2, hidden=3, decimals=None):
    """One case. Its states are in Keras's order: of each direction h, and c if there is one."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        sample = random.standard_normal(shape)
        return sample if decimals is None else sample.round(decimals)

    options = {"use_bias": settings["bias"], "activation": settings.get("activation", "tanh")}
    if kind == "GRU":
        options["reset_after"] = settings.get("reset_after", False)
    layer = LAYERS[kind](hidden, return_sequences=True, return_state=True, zero_output_for_mask=True, **options)
    directions = 2 if settings.get("bidirectional") else 1
    if directions == 2:
        layer = keras.layers.Bidirectional(layer, merge_mode=MERGES[settings["merge"]])
    layer.build((batch, steps, inputs))
    layer.set_weights([draw(*weight.shape) for weight in layer.get_weights()])
    x, states = draw(batch, steps, inputs), [draw(batch, hidden) for _ in range(directions * (1 + (kind == "LSTM")))]
    leaves = [torch.tensor(value, requires_grad=True) for value in (x, *states)]
    given = None if mask is None else torch.tensor(mask)
    results = layer(leaves[0], initial_state=leaves[1:], mask=given)
    cotangents = [draw(*result.shape) for result in results]
    sum((result * torch.tensor(c)).sum() for result, c in zip(results, cotangents)).backward()
    return {
        "kind": kind, "settings": settings, "sizes": [inputs, hidden], "mask": mask, "weights": layer.get_weights(),
        "x": x, "states": states, "cotangents": cotangents, "results": [result.detach().numpy() for result in results],
        "d_x": leaves[0].grad.numpy(), "d_states": [leaf.grad.numpy() for leaf in leaves[1:]],
        "d_weights": [weight.value.grad.numpy() for weight in layer.weights],
    }  # fmt: skip
