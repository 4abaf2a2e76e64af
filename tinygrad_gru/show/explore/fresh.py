"""How far back the gradient reaches in models of a size, as they are before training: a GRU, an LSTM and a tanh-RNN."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import manual_seed, random_state, set_random_state
from ...nn import GRU, LSTM, RNN, Embedding, Linear, Module
from ...nn.recurrent import Recurrent
from ...ops import cross_entropy
from ...scan import compiling
from ...transforms import grad

LONGEST = 200  # steps


def fresh_curves(model: Module, ids: Any) -> list[dict[str, Any]]:
    """Name, and norms of the gradient of the last loss of `ids` by the state 1, 2, 3 … steps before it.

    The models have the widths of `model`, and the weights that the seed 0 gives; the global random numbers are left as
    they were. None for a model without an embedding and a recurrent layer.
    """
    embedding = next((module for module in model.modules() if isinstance(module, Embedding)), None)
    recurrence = next((module for module in model.modules() if isinstance(module, Recurrent)), None)
    ids = np.asarray(ids)[-LONGEST - 1 :]
    if embedding is None or recurrence is None or len(ids) < 3:
        return []
    symbols, width = embedding.W.shape
    kept, curves = random_state(), []
    try:
        for kind in (GRU, LSTM, RNN):
            manual_seed(0)
            layers = Embedding(symbols, width), kind(width, recurrence.hidden_size, recurrence.num_layers)
            norms = gradient_norms(*layers, Linear(recurrence.hidden_size, symbols), ids)
            curves.append({"name": f"{kind.__name__} before training", "values": norms})
    finally:
        set_random_state(kept)
    return curves


def gradient_norms(embedding: Module, recurrence: Module, output: Module, ids: Any) -> list[float]:
    """Norms of ∂L/∂(the whole state k steps before), k = 1, 2, 3 …; L is the loss of the last id after the others."""
    xs, states, state = embedding(ids[:-1, None]), [], None
    with compiling(False):
        for t in range(len(xs)):
            y, state = recurrence(xs[t : t + 1], state)
            states.append(state if isinstance(state, tuple) else (state,))
        loss = cross_entropy(output(y)[0], ids[-1:])
    gradients = iter(grad(loss, [part for parts in states[:-1] for part in parts]))
    norms = [
        np.linalg.norm([float(np.linalg.norm(next(gradients).numpy().astype("float64"))) for _ in parts])
        for parts in states[:-1]
    ]
    return [float(norm) for norm in reversed(norms)]
