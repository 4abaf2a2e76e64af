"""Recurrent cells as equations on arrays of any library: ours, PyTorch's or JAX's.

A cell is two functions, so that the input contributions can be hoisted by hand for peers that do not hoist:

    a = contributions(w, x)                    x W + b for every gate, of one step or of all steps
    carry, ys = step(math, w, carry, a)        one step; `math` has the library's sigmoid and tanh

`w` has the weights by name. The joined cells have fewer, wider products, as users of JAX write them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


def contributions(w: dict[str, Any], x: Any) -> dict[str, Any]:
    gates = [name.removeprefix("W_") for name in w if name.startswith("W_")]
    return {gate: x @ w[f"W_{gate}"] + w[f"b_{gate}"] for gate in gates}


def gru(math: Any, w: dict, carry: tuple, a: dict) -> tuple:
    """The GRU of `nn.GRUCell`, with the reset gate before the product."""
    (h,) = carry
    r = math.sigmoid(a["r"] + h @ w["U_r"])
    z = math.sigmoid(a["z"] + h @ w["U_z"])
    h = (1 - z) * h + z * math.tanh(a["h"] + (r * h) @ w["U_h"])
    return (h,), (h,)


def joined_gru(math: Any, w: dict, carry: tuple, a: dict) -> tuple:
    (h,) = carry
    width = h.shape[-1]
    gates = math.sigmoid(a["rzh"][:, : 2 * width] + h @ w["U_rz"])
    r, z = gates[:, :width], gates[:, width:]
    h = (1 - z) * h + z * math.tanh(a["rzh"][:, 2 * width :] + (r * h) @ w["U_h"])
    return (h,), (h,)


def lstm(math: Any, w: dict, carry: tuple, a: dict) -> tuple:
    h, c = carry
    i = math.sigmoid(a["i"] + h @ w["U_i"])
    f = math.sigmoid(a["f"] + h @ w["U_f"])
    o = math.sigmoid(a["o"] + h @ w["U_o"])
    c = f * c + i * math.tanh(a["g"] + h @ w["U_g"])
    h = o * math.tanh(c)
    return (h, c), (h,)


def joined_lstm(math: Any, w: dict, carry: tuple, a: dict) -> tuple:
    h, c = carry
    width = h.shape[-1]
    gates = a["ifgo"] + h @ w["U_ifgo"]
    i, f, g, o = (gates[:, k * width : (k + 1) * width] for k in range(4))
    c = math.sigmoid(f) * c + math.sigmoid(i) * math.tanh(g)
    h = math.sigmoid(o) * math.tanh(c)
    return (h, c), (h,)


def two_speed(math: Any, w: dict, carry: tuple, a: dict) -> tuple:
    """A custom cell: a fast memory m like a GRU's, and a slow one s that follows it.

        m' = (1 − z) ⊙ m + z ⊙ tanh(x W_m + h U_m + b_m)
        s' = s + f · (m' − s)                               f is a scalar per sequence, (B, 1)
        h' = o ⊙ tanh(m' + s')

    z, f and o are gates σ(x W + h U + b). It returns h', s' and f at every step.
    """
    h, fast, slow = carry
    z = math.sigmoid(a["z"] + h @ w["U_z"])
    f = math.sigmoid(a["f"] + h @ w["U_f"])
    o = math.sigmoid(a["o"] + h @ w["U_o"])
    fast = (1 - z) * fast + z * math.tanh(a["m"] + h @ w["U_m"])
    slow = slow + f * (fast - slow)
    h = o * math.tanh(fast + slow)
    return (h, fast, slow), (h, slow, f)


class Cell(NamedTuple):
    """A cell: its step, the parts of its carry, and the widths of gates and ys, in hidden sizes, or 0 for a scalar."""

    step: Callable
    parts: int
    gates: dict[str, int]
    ys: tuple[int, ...] = (1,)


CELLS = {
    "GRU": Cell(gru, 1, {"r": 1, "z": 1, "h": 1}),
    "LSTM": Cell(lstm, 2, {"i": 1, "f": 1, "g": 1, "o": 1}),
    "two-speed": Cell(two_speed, 3, {"z": 1, "f": 0, "o": 1, "m": 1}, (1, 1, 0)),
}
#: The joined form of a cell, and the groups of gates that share a product with h.
JOINED = {"GRU": (joined_gru, ("rz", "h")), "LSTM": (joined_lstm, ("ifgo",))}


def joined(w: dict[str, np.ndarray], groups: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The weights of the gates, joined as in a joined cell."""

    def concatenated(letter: str, gates: str) -> np.ndarray:
        return np.concatenate([w[f"{letter}_{gate}"] for gate in gates], axis=-1)

    every = "".join(groups)
    recurrent = {f"U_{gates}": concatenated("U", gates) for gates in groups}
    return {f"W_{every}": concatenated("W", every), f"b_{every}": concatenated("b", every), **recurrent}
