"""Cases of recurrent_case.py in PyTorch, with all gradients: the layers of `torch.nn`, and for the GRU whose reset gate
acts before the product, which PyTorch does not have, the four equations of the paper."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# Our gates in the order of PyTorch. Its GRU is h' = (1 − z) ⊙ h̃ + z ⊙ h: our z is its 1 − z, and σ(−a) = 1 − σ(a).
ROWS = {"RNN": ("",), "GRU": ("_r", "_z", "_h"), "LSTM": ("_i", "_f", "_g", "_o")}
LETTERS = {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b"}


def run(case):
    """The result of a case, in our names and layouts."""
    p, x, state = (
        {k: _leaf(v) for k, v in part.items()} for part in (case["parameters"], {"x": case["x"]}, case["state"])
    )
    batch_first = case["settings"].get("batch_first", False)
    inputs = x["x"].transpose(0, 1) if batch_first else x["x"]
    by_hand = case["layer"] == "GRU" and not case["settings"].get("reset_after")
    output, last = (_gru_of_the_paper if by_hand else _library)(case, p, inputs, list(state.values()))
    output = output.transpose(0, 1) if batch_first else output
    result = dict(zip(["output", *state], (output, *last)))
    sum((result[name] * _leaf(weight)).sum() for name, weight in case["cotangents"].items()).backward()
    return {
        **{name: value.detach().numpy() for name, value in result.items()},
        **{f"d {name}": tensor.grad.numpy() for name, tensor in {**x, **state, **p}.items()},
    }


def _leaf(values):
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=True)


def _library(case, p, x, state):
    """A layer of torch.nn with our parameters in its layout: weights (out, in), gates stacked, two biases."""
    settings = {name: value for name, value in case["settings"].items() if name not in ("batch_first", "reset_after")}
    directions = settings.get("bidirectional", False) + 1
    layer = getattr(torch.nn, case["layer"])(*case["sizes"], dtype=torch.float64, **settings)
    given = {}
    for name, parameter in layer.named_parameters():  # weight_ih_l1_reverse: W of direction 1 of layer 1
        kind, suffix = name.split("_l")
        cell = int(suffix.removesuffix("_reverse")) * directions + suffix.endswith("_reverse")
        given[name] = _in_their_layout(case["layer"], kind, f"cells.{cell}", p, parameter)
    lengths, steps = case.get("lengths"), len(x)
    packed = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, last = torch.func.functional_call(layer, given, (packed, tuple(state) if len(state) > 1 else state[0]))
    if lengths is not None:
        output, _ = pad_packed_sequence(output, total_length=steps)
    return output, last if isinstance(last, tuple) else (last,)


def _in_their_layout(layer, kind, cell, p, parameter):
    if kind == "weight_hr":
        return p[f"{cell}.P"].mT
    if kind == "bias_hh":  # a second bias, which we have for the candidate of a GRU alone
        zeros = torch.zeros_like(parameter)
        return torch.cat([zeros[: len(zeros) // 3 * 2], p[f"{cell}.c_h"]]) if layer == "GRU" else zeros
    ours = {gate: p[f"{cell}.{LETTERS[kind]}{gate}"] for gate in ROWS[layer]}
    if layer == "GRU":
        ours["_z"] = -ours["_z"]
    return torch.cat([value.mT if value.ndim == 2 else value for value in ours.values()])


def _gru_of_the_paper(case, p, x, state):
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
                there = torch.tensor([[t < length] for length in case.get("lengths") or [len(x)] * x.shape[1]])
                h = torch.where(there, torch.lerp(h, candidate, z), h)
                hs[t] = torch.where(there, h, 0.0)
            last.append(h)
            outputs.append(torch.stack([hs[t] for t in range(len(x))]))
        x = torch.cat(outputs, dim=-1)
    return x, (torch.stack(last),)
