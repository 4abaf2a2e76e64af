"""Cells with equation keywords, by name, and their equations in NumPy."""

from __future__ import annotations

import numpy as np

#: name → (layer, keywords)
VARIANTS = {
    "RNN, relu": ("RNN", {"activation": "relu"}),
    "RNN, normalized": ("RNN", {"layer_norm": True, "clip": 0.8}),
    "GRU, reset after": ("GRU", {"reset_after": True}),
    "GRU, reset after, normalized": ("GRU", {"reset_after": True, "layer_norm": True}),
    "GRU, other curves": ("GRU", {"gate_activation": "softplus", "activation": "sin", "clip": 0.7}),
    "GRU, normalized": ("GRU", {"layer_norm": True}),
    "LSTM, peepholes": ("LSTM", {"peephole": True}),
    "LSTM, full peepholes": ("LSTM", {"peephole": "full"}),
    "LSTM, projected": ("LSTM", {"proj_size": 3}),
    "LSTM, coupled": ("LSTM", {"coupled": True}),
    "LSTM, other curves": ("LSTM", {"activation": "silu", "output_activation": "elu", "clip": 0.6}),
    "LSTM, everything": (
        "LSTM",
        {"peephole": True, "proj_size": 3, "coupled": True, "layer_norm": True, "gate_activation": "softplus"},
    ),
    "MGU": ("MGU", {}),
    "MGU, normalized": ("MGU", {"layer_norm": True, "activation": "relu"}),
}

FUNCTIONS = {
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "relu": lambda a: np.where(a > 0, a, 0),
    "sin": np.sin,
    "softplus": lambda a: np.log1p(np.exp(a)),
    "silu": lambda a: a / (1 + np.exp(-a)),
    "elu": lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))),
}


def normalized(y, gain):
    return (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5) * gain


def next_state(layer, settings, p, x, state, dropped=1.0):
    """The next state in NumPy, from the equations of the docstrings; `dropped` is the drop mask."""

    def curve(keyword, default):
        function, clip = FUNCTIONS[settings.get(keyword) or default], settings.get("clip", np.inf)
        return lambda a: function(np.clip(a, -clip, clip))

    def product(y, weight):
        y = y @ p[weight]
        return normalized(y, p[f"gain_{weight}"]) if settings.get("layer_norm") else y

    def a(gate, h):
        return product(x, f"W{gate}") + product(dropped * h, f"U{gate}") + p.get(f"b{gate}", 0)

    sigma, phi = curve("gate_activation", "sigmoid"), curve("activation", "tanh")
    h = state[0]
    if layer == "RNN":
        return (phi(a("", h)),)
    if layer == "MGU":
        f = sigma(a("_f", h))
        return ((1 - f) * h + f * phi(a("_h", f * h)),)
    if layer == "GRU":
        r, z = sigma(a("_r", h)), sigma(a("_z", h))
        if settings.get("reset_after"):
            inner = product(dropped * h, "U_h") + p.get("c_h", 0)
            candidate = phi(product(x, "W_h") + p.get("b_h", 0) + r * inner)
        else:
            candidate = phi(a("_h", r * h))
        return ((1 - z) * h + z * candidate,)
    c = state[1]

    def seen_by(gate):
        return c @ p[f"V{gate}"] if settings.get("peephole") == "full" else c * p.get(f"p{gate}", 0)

    i = sigma(a("_i", h) + seen_by("_i"))
    f = 1 - i if settings.get("coupled") else sigma(a("_f", h) + seen_by("_f"))
    c = f * c + i * phi(a("_g", h))
    o = sigma(a("_o", h) + seen_by("_o"))
    seen = normalized(c, p["gain_c"]) + p.get("b_c", 0) if settings.get("layer_norm") else c
    h = o * FUNCTIONS[settings.get("output_activation") or settings.get("activation", "tanh")](seen)
    return h @ p["P"] if "P" in p else h, c
