"""Recurrent layers of PyTorch with random weights, inputs and states, and all results and gradients.

A case is a dictionary, which test_torch.py compares our layers with, live and frozen in a file.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

KINDS = {"RNN": torch.nn.RNN, "GRU": torch.nn.GRU, "LSTM": torch.nn.LSTM}


def grid():
    """(kind, settings, lengths) over layers, directions, biases, projection, and sequences of several lengths."""
    for kind, layers, both, bias, first, lengths in itertools.product(
        KINDS, (1, 2), (False, True), (False, True), (False, True), (None, [4, 1, 3])
    ):
        settings = {"num_layers": layers, "bidirectional": both, "bias": bias, "batch_first": first}
        yield kind, settings, lengths
        if kind == "LSTM":
            yield kind, {**settings, "proj_size": 2}, lengths
    yield "RNN", {"nonlinearity": "relu"}, None


def make(kind, settings, lengths=None, seed=0, steps=4, batch=3, inputs=2, hidden=3, decimals=None):
    """One case in float64. With lengths, PyTorch packs the sequences; padding is NaN in x."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)

    def draw(*shape):
        sample = random.standard_normal(shape)
        return sample if decimals is None else sample.round(decimals)

    layer = KINDS[kind](inputs, hidden, dtype=torch.float64, **settings)
    weights = {name: draw(*value.shape) for name, value in layer.state_dict().items()}
    layer.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    first = settings.get("batch_first", False)
    directions = 2 if settings.get("bidirectional") else 1
    count = settings.get("num_layers", 1) * directions
    sizes = [settings.get("proj_size") or hidden, hidden][: 2 if kind == "LSTM" else 1]
    x = draw(*((batch, steps) if first else (steps, batch)), inputs)
    states = [draw(count, batch, size) for size in sizes]
    leaves = [torch.tensor(value, requires_grad=True) for value in (x, *states)]
    given = leaves[0] if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(
        leaves[0], torch.tensor(lengths), batch_first=first, enforce_sorted=False
    )  # fmt: skip
    output, last = layer(given, tuple(leaves[1:]) if kind == "LSTM" else leaves[1])
    if lengths is not None:
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=first, total_length=steps)
        mask = np.arange(steps)[:, None] < np.array(lengths)
        x = np.where((mask.T if first else mask)[..., None], x, np.nan)
    results = [output, *(last if kind == "LSTM" else (last,))]
    cotangents = [draw(*result.shape) for result in results]
    sum((result * torch.tensor(c)).sum() for result, c in zip(results, cotangents)).backward()
    return {
        "kind": kind, "settings": settings, "sizes": [inputs, hidden], "lengths": lengths, "weights": weights, "x": x,
        "states": states, "cotangents": cotangents, "results": [result.detach().numpy() for result in results],
        "d_x": leaves[0].grad.numpy(), "d_states": [leaf.grad.numpy() for leaf in leaves[1:]],
        "d_weights": {name: parameter.grad.numpy() for name, parameter in layer.named_parameters()},
    }  # fmt: skip
