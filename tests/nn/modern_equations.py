"""The modern cells' equations as loops over time in NumPy, from the papers: no code of ours, and often another form.

output, state = EQUATIONS[layer](p, x, settings)      x (T, B, features); the state starts at zero
"""

from __future__ import annotations

import numpy as np

#: name → (layer, keywords)
VARIANTS = {
    "minGRU": ("MinGRU", {}),
    "minGRU, positive": ("MinGRU", {"positive": True}),
    "minLSTM": ("MinLSTM", {}),
    "minLSTM, positive, not normalized": ("MinLSTM", {"positive": True, "normalized": False}),
    "SRU": ("SRU", {"highway_bias": -1.0}),
    "SRU, peephole": ("SRU", {"peephole": True}),
    "SRU, no highway": ("SRU", {"highway": False}),
    "QRNN, fo": ("QRNN", {}),
    "QRNN, f, 1 input": ("QRNN", {"pooling": "f", "window": 1}),
    "QRNN, ifo, 3 inputs": ("QRNN", {"pooling": "ifo", "window": 3}),
    "LRU": ("LRU", {}),
    "LRU, 5 units": ("LRU", {"state_size": 5}),
    "sLSTM": ("SLSTM", {}),
    "sLSTM, 2 heads": ("SLSTM", {"heads": 2}),
    "sLSTM, exp": ("SLSTM", {"forget_gate": "exp", "heads": 2}),
}


def sigma(a):
    return 1 / (1 + np.exp(-a))


def candidate(a, settings):
    return np.where(a >= 0, a + 0.5, sigma(a)) if settings.get("positive") else a


def min_gru(p, x, settings):
    h, outputs = 0, []
    for x_t in x:
        z = sigma(x_t @ p["W_z"] + p["b_z"])
        h = (1 - z) * h + z * candidate(x_t @ p["W_h"] + p["b_h"], settings)
        outputs.append(h)
    return np.array(outputs), [h]


def min_lstm(p, x, settings):
    h, outputs = 0, []
    for x_t in x:
        f, i = sigma(x_t @ p["W_f"] + p["b_f"]), sigma(x_t @ p["W_i"] + p["b_i"])
        if settings.get("normalized", True):
            f, i = f / (f + i), i / (f + i)
        h = f * h + i * candidate(x_t @ p["W_h"] + p["b_h"], settings)
        outputs.append(h)
    return np.array(outputs), [h]


def sru(p, x, settings):
    width = p["W"].shape[1]
    c, outputs = np.zeros((x.shape[1], width)), []
    v_f, v_r = p.get("v_f", 0), p.get("v_r", 0)
    alpha = np.sqrt(1 + 2 * np.exp(settings.get("highway_bias", 0.0)))
    for x_t in x:
        f, r = sigma(x_t @ p["W_f"] + v_f * c + p["b_f"]), sigma(x_t @ p["W_r"] + v_r * c + p["b_r"])
        c = f * c + (1 - f) * (x_t @ p["W"])
        through = x_t @ p["W_x"] if "W_x" in p else alpha * x_t
        outputs.append(r * c + ((1 - r) * through if settings.get("highway", True) else 0))
    return np.array(outputs), [c]


def qrnn(p, x, settings):
    """A convolution over all of x, with zeros before it, and a loop over time that only pools."""
    k, pooling = settings.get("window", 2), settings.get("pooling", "fo")
    padded = np.concatenate([np.zeros((k - 1, *x.shape[1:])), x])

    def convolution(gate):
        taps = [p[f"W_{gate}{j or ''}"] for j in range(k)]
        return sum(padded[k - 1 - j : len(padded) - j] @ taps[j] for j in range(k)) + p[f"b_{gate}"]

    z, f = np.tanh(convolution("z")), sigma(convolution("f"))
    i = sigma(convolution("i")) if "i" in pooling else 1 - f
    c, states = 0, []
    for t in range(len(x)):
        c = f[t] * c + i[t] * z[t]
        states.append(c)
    return np.array(states) * (sigma(convolution("o")) if "o" in pooling else 1), [c]


def lru(p, x, settings):
    """With complex numbers."""
    eigenvalues = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    b, c = np.exp(p["gamma_log"]) * (p["B_re"] + 1j * p["B_im"]), p["C_re"] + 1j * p["C_im"]
    s, outputs = 0, []
    for x_t in x:
        s = eigenvalues * s + x_t @ b
        outputs.append((s @ c).real + (x_t * p["D"] if p["D"].ndim == 1 else x_t @ p["D"]))
    return np.array(outputs), [s.real, s.imag]


def slstm(p, x, settings):
    """Without the stabiliser: exp of the gates themselves."""
    heads, width = settings.get("heads", 1), p["W_z"].shape[1]
    h = c = n = np.zeros((x.shape[1], width))
    outputs, unit = [], width // heads

    def a(gate, x_t, h):
        u = np.zeros((width, width))
        for k in range(heads):
            u[k * unit : (k + 1) * unit, k * unit : (k + 1) * unit] = p[f"U_{gate}"][k]
        return x_t @ p[f"W_{gate}"] + h @ u + p[f"b_{gate}"]

    for x_t in x:
        a_z, a_i, a_f, a_o = (a(gate, x_t, h) for gate in "zifo")
        z, i, o = np.tanh(a_z), np.exp(a_i), sigma(a_o)
        f = np.exp(a_f) if settings.get("forget_gate") == "exp" else sigma(a_f)
        c, n = f * c + i * z, f * n + i
        h = o * c / n
        outputs.append(h)
    return np.array(outputs), [h, None, None, None]  # c and n are in other units


EQUATIONS = {"MinGRU": min_gru, "MinLSTM": min_lstm, "SRU": sru, "QRNN": qrnn, "LRU": lru, "SLSTM": slstm}
