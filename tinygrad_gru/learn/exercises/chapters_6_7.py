"""Exercises 15 to 19: arrays on another device; RNN and the vanishing gradient."""

from __future__ import annotations

import numpy as np

from ..draws import arrays, sizes, st
from ..exercise import exercise


@st.composite
def rnn_inputs(draw):
    """x (T, B, F), h0 (B, H), W (F, H), U (H, H), b (H,)."""
    steps, batch, features, hidden = (draw(sizes) for _ in range(4))
    shapes = (steps, batch, features), (batch, hidden), (features, hidden), (hidden, hidden), (hidden,)
    return tuple(draw(arrays(shape)) for shape in shapes)


@exercise(
    17,
    "A tanh-RNN over time",
    inputs=rnn_inputs(),
    example=(np.ones((2, 1, 1)), np.zeros((1, 1)), np.ones((1, 1)), np.full((1, 1), 0.5), np.zeros(1)),
    understood="A recurrent layer is one small function used again at each step; all that it knows of the past is h.",
    hints=[
        "h is (B, H) at every step: begin with h0, and in a loop over the steps of x make the next h of x[t] and h.",
        "Collect each new h in a list; np.stack makes one array of shape (T, B, H) of it.",
    ],
)
def rnn(x, h0, W, U, b):
    """A recurrent network, h_t = tanh(x_t W + h_{t−1} U + b), over all steps of x.

    x is (T, B, F): T steps, B sequences side by side, F features. h0 (B, H) is h before the first step; W is (F, H),
    U is (H, H), b is (H,). Return h after every step, as one array (T, B, H).
    """
    h, all_h = h0, []
    for x_t in x:
        h = np.tanh(x_t @ W + h @ U + b)
        all_h.append(h)
    return np.stack(all_h)


@rnn.check_with
def _(x, h0, W, U, b):
    found = np.zeros((len(x) + 1, *h0.shape))
    found[0] = h0
    for t, i, j in np.ndindex(len(x), *h0.shape):
        s = (
            b[j]
            + sum(x[t, i, f] * W[f, j] for f in range(len(W)))
            + sum(found[t, i, k] * U[k, j] for k in range(len(U)))
        )
        found[t + 1, i, j] = (np.exp(s) - np.exp(-s)) / (np.exp(s) + np.exp(-s))
    return found[1:]


@rnn.mistake("every step begins from h0", hint="What does step 2 read as h: h0, or what step 1 has just made?")
def _(x, h0, W, U, b):
    return np.stack([np.tanh(x_t @ W + h0 @ U + b) for x_t in x])


@rnn.mistake("only the last h came back", hint="All T values of h are wanted, stacked along a new first axis.")
def _(x, h0, W, U, b):
    return rnn.reference(x, h0, W, U, b)[-1]


@rnn.mistake("U transposed", hint="h is a row here: h @ U, so that U[i, j] leads from unit i to unit j.")
def _(x, h0, W, U, b):
    return rnn.reference(x, h0, W, U.T, b)


@rnn.mistake("tanh is missing", hint="Without it this is one large linear map: what bounds h?")
def _(x, h0, W, U, b):
    all_h = [h0]
    for x_t in x:
        all_h.append(x_t @ W + all_h[-1] @ U + b)
    return np.stack(all_h[1:])


@rnn.mistake(
    "each h is stored before its step, not after",
    hint="h0 is given, and is not to be returned: the first is after step 1.",
)
def _(x, h0, W, U, b):
    return np.concatenate([h0[None], rnn.reference(x, h0, W, U, b)])[:-1]
