"""Cases of recurrent_case.py in PyTorch, with all gradients: `torch.nn.LSTM` and `torch.nn.RNN`, and for the GRU, whose
reset gate PyTorch puts after the product, its four equations as they stand in the paper."""

from __future__ import annotations

import numpy as np
import torch

ROWS = {"RNN": ("",), "LSTM": ("_i", "_f", "_g", "_o")}


def run(case):
    """The result of a case, in our names and layouts."""
    p, x, state = (
        {k: _leaf(v) for k, v in part.items()} for part in (case["parameters"], {"x": case["x"]}, case["state"])
    )
    batch_first = case["settings"].get("batch_first", False)
    time_major = [value.transpose(0, 1) if batch_first else value for value in (x["x"], *state.values())]
    output, last = (_four_equations if case["layer"] == "GRU" else _library)(case, p, time_major[0], time_major[1:])
    results = [value.transpose(0, 1) if batch_first else value for value in (output, *last)]
    result = dict(zip(["output", *state], results))
    sum((result[name] * _leaf(weight)).sum() for name, weight in case["cotangents"].items()).backward()
    return {
        **{name: value.detach().numpy() for name, value in result.items()},
        **{f"d {name}": tensor.grad.numpy() for name, tensor in {**x, **state, **p}.items()},
    }


def _leaf(values):
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=True)


def _library(case, p, x, state):
    """By a layer of torch.nn, given our parameters in its layout: weights (out, in), gates stacked, two biases."""
    settings, gates = {**case["settings"], "batch_first": False}, ROWS[case["layer"]]
    directions = settings.get("bidirectional", False) + 1
    layer = getattr(torch.nn, case["layer"])(*case["sizes"], dtype=torch.float64, **settings)
    given = {}
    for name, parameter in layer.named_parameters():  # weight_ih_l1_reverse: W of direction 1 of layer 1
        kind, place = name.split("_l")
        cell = int(place.removesuffix("_reverse")) * directions + place.endswith("_reverse")
        if kind == "bias_hh":  # a second bias, which we do not have
            given[name] = torch.zeros_like(parameter)
        else:
            letter = {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b"}[kind]
            ours = [p[f"cells.{cell}.{letter}{gate}"] for gate in gates]
            given[name] = torch.cat([value.mT if value.ndim == 2 else value for value in ours])
    output, last = torch.func.functional_call(layer, given, (x, tuple(state) if len(state) > 1 else state[0]))
    return output, last if isinstance(last, tuple) else (last,)


def _four_equations(case, p, x, state):
    """h' = (1 − z) ⊙ h + z ⊙ h̃ with the reset gate before the product (Chung et al. 2014)."""
    directions = case["settings"].get("bidirectional", False) + 1
    last = []
    for layer in range(len(state[0]) // directions):
        outputs = []
        for direction in range(directions):
            cell = layer * directions + direction
            W, U, b = ({gate: p.get(f"cells.{cell}.{letter}_{gate}", 0) for gate in "rzh"} for letter in "WUb")
            h, hs = state[0][cell], {}
            for t in reversed(range(len(x))) if direction else range(len(x)):
                r = torch.sigmoid(x[t] @ W["r"] + h @ U["r"] + b["r"])
                z = torch.sigmoid(x[t] @ W["z"] + h @ U["z"] + b["z"])
                candidate = torch.tanh(x[t] @ W["h"] + (r * h) @ U["h"] + b["h"])
                h = hs[t] = torch.lerp(h, candidate, z)
            last.append(h)
            outputs.append(torch.stack([hs[t] for t in range(len(x))]))
        x = torch.cat(outputs, dim=-1)
    return x, (torch.stack(last),)
