"""Recurrent layers of Keras with everything drawn at random, and what they compute, in float64."""

from __future__ import annotations

import itertools
import os

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
from keras.src.backend.common import dtypes

# Keras multiplies float64 in float32 on all backends but TensorFlow's. Its layers are compared, not its precision.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
keras.config.set_floatx("float64")

LAYERS = {"RNN": keras.layers.SimpleRNN, "GRU": keras.layers.GRU, "LSTM": keras.layers.LSTM}
MERGES = {"concat": "concat", "sum": "sum", "mul": "mul", "mean": "ave"}  # ours: theirs


def grid():
    """(kind, our settings), both conventions of the reset gate among them."""
    for (kind, more), bias, merge in itertools.product(
        [("RNN", {}), ("GRU", {"reset_after": True}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"activation": "relu"})],
        (True, False), (None, *MERGES),
    ):  # fmt: skip
        yield kind, {**more, "bias": bias, **({"bidirectional": True, "merge": merge} if merge else {})}


def make(kind, settings, seed=0, steps=4, batch=3, inputs=2, hidden=3, decimals=None):
    """One case; the state is that after the last step, of both directions if there are two."""
    random = np.random.default_rng(seed)

    def draw(*shape):
        drawn = random.standard_normal(shape)
        return drawn if decimals is None else drawn.round(decimals)

    options = {"use_bias": settings["bias"], "activation": settings.get("activation", "tanh")}
    if kind == "GRU":
        options["reset_after"] = settings.get("reset_after", False)
    layer = LAYERS[kind](hidden, return_sequences=True, return_state=True, **options)
    if settings.get("bidirectional"):
        layer = keras.layers.Bidirectional(layer, merge_mode=MERGES[settings["merge"]])
    x = draw(batch, steps, inputs)
    layer(x)
    layer.set_weights([draw(*weight.shape) for weight in layer.get_weights()])
    output, *states = (keras.ops.convert_to_numpy(result) for result in layer(x))
    return {
        "kind": kind, "settings": settings, "sizes": [inputs, hidden], "weights": layer.get_weights(), "x": x,
        "output": output, "states": states,
    }  # fmt: skip
