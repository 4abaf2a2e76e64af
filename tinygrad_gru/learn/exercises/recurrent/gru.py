"""Exercises 20, 22 and 23: the reset gate, what a state remembers, and the update's gradient."""

from __future__ import annotations

import numpy as np

from ....ops import sigmoid
from ...differences import gradients_by_differences
from ...draws import arrays, numbers, sizes, st
from ...exercise import exercise


# -- 20 ----------------------------------------------------------------------------------------------------------------
@st.composite
def candidate_inputs(draw):
    batch, inputs, hidden = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(sizes)
    states = draw(arrays((batch, hidden))), draw(arrays((batch, hidden), st.sampled_from((0.0, 0.25, 0.5, 1.0))))
    W, U, b = draw(arrays((inputs, hidden))), draw(arrays((hidden, hidden))), draw(arrays((hidden,)))
    return draw(arrays((batch, inputs))), *states, W, U, b


@exercise(
    20,
    "The reset gate acts before the product",
    inputs=candidate_inputs(),
    example=(
        np.array([[1.0]]),
        np.array([[1.0, -1.0]]),
        np.array([[1.0, 0.0]]),
        np.array([[0.5, 0.5]]),
        np.eye(2),
        np.zeros(2),
    ),
    understood="The reset gate chooses, unit by unit, which part of the old state the candidate may see.",
    hints=[
        "There are two products of matrices, x with W and the old state with U. Where does r come in, before or after?",
        "r * h is what is seen of the old state; only then comes `@ U`.",
    ],
)
def candidate(x, h, r, W, U, b):
    """The candidate h̃ is what a GRU would write if it wrote now: the tanh of a sum, of the input through W, the old
    state through U, and b. But of the old state h it sees only what the reset gate r lets through, unit by unit: a unit
    whose r is 0 is hidden from all units of the candidate. If all of r is 0, the cell writes as if its text began here.

    x is (batch, inputs), h and r are (batch, hidden), W is (inputs, hidden), U (hidden, hidden), b (hidden,).
    Return h̃, (batch, hidden).
    """
    return np.tanh(x @ W + (r * h) @ U + b)


@candidate.check_with
def _(x, h, r, W, U, b):
    def unit(n, k):
        old = sum(r[n, j] * h[n, j] * U[j, k] for j in range(h.shape[1]))
        return np.tanh(sum(x[n, i] * W[i, k] for i in range(x.shape[1])) + old + b[k])

    return np.array([[unit(n, k) for k in range(h.shape[1])] for n in range(h.shape[0])])


@candidate.mistake(
    "the reset gate acts after the product",
    hint="r ⊙ (h U) is the variant of PyTorch and cuDNN. With one unit both are the same, with two they aren't: in "
    "which of them can a gate hide one unit of the old state from all the others?",
)
def _(x, h, r, W, U, b):
    return np.tanh(x @ W + r * (h @ U) + b)


@candidate.mistake(
    "the reset gate acts on the input, too",
    hint="With r = 0 the candidate is tanh(x W + b), not 0: the old state is hidden, what was just read is not.",
)
def _(x, h, r, W, U, b):
    return np.tanh(r * (x @ W + h @ U + b))


@candidate.mistake("r and 1 − r exchanged", hint="r = 1 shows the whole old state, r = 0 nothing of it.")
def _(x, h, r, W, U, b):
    return np.tanh(x @ W + ((1 - r) * h) @ U + b)


@candidate.mistake(
    "the reset gate is not used", hint="This is the step of a plain RNN. What should it be where r is 0?"
)
def _(x, h, r, W, U, b):
    return np.tanh(x @ W + h @ U + b)


@candidate.mistake(
    "σ in place of tanh",
    hint="A gate lies between 0 and 1, a state between −1 and 1. Which of the two is the candidate?",
)
def _(x, h, r, W, U, b):
    return sigmoid(x @ W + (r * h) @ U + b)


@candidate.mistake("tanh is missing", hint="The sum has no bounds. A state lies between −1 and 1.")
def _(x, h, r, W, U, b):
    return x @ W + (r * h) @ U + b


@candidate.mistake("U is transposed", hint="Row j of U says what unit j of the old state does to the others: h @ U.")
def _(x, h, r, W, U, b):
    return np.tanh(x @ W + (r * h) @ U.T + b)


# -- 22 ----------------------------------------------------------------------------------------------------------------
def gates(shape):
    """Gates: from 0 to 1, in quarters."""
    return arrays(shape, st.integers(0, 4).map(lambda n: n / 4))


@exercise(
    22,
    "What a state remembers",
    inputs=(gates(st.tuples(st.integers(1, 5))),),
    example=(np.array([0.5, 0.25]),),
    understood="A GRU's state is a weighted mean of all its candidates: the weights are shares, and they sum to 1.",
    hints=[
        "Write down h_2 with h_1 put in: (1 − z_2) ((1 − z_1) h_0 + z_1 h̃_1) + z_2 h̃_2.",
        "h̃_k comes in by z_k, and each later step j leaves 1 − z_j of it.",
        "A loop from the end, with the product of the 1 − z_j so far, does it; so does np.cumprod of z[::-1].",
    ],
)
def memory(z):
    """A unit's state is h_t = (1 − z_t) h_{t−1} + z_t h̃_t. Put h_{t−1} in, and h_{t−2}, back to the start: h_T is a
    weighted sum of h_0 and of all the candidates there were,

        h_T = w_0 h_0 + w_1 h̃_1 + … + w_T h̃_T

    z is the array of z_1 … z_T of one unit. Return the array of the T + 1 weights w_0 … w_T.
    What is their sum, whatever the gates do?
    """
    kept = np.cumprod(1 - z[::-1])[::-1]  # kept[k] is the part that steps k … T leave
    return np.append(kept[0], z * np.append(kept[1:], 1.0))


@memory.check_with
def _(z):
    weights = np.eye(len(z) + 1)  # row k: what h is if h̃_k (or h_0) is 1 and all others are 0
    h = weights[:, 0]
    for t, gate in enumerate(z, 1):
        h = (1 - gate) * h + gate * weights[:, t]
    return h


@memory.mistake(
    "z and 1 − z exchanged", hint="z = 0 keeps the old state. If all gates are 0, only h_0 is left: w_0 is 1 then."
)
def _(z):
    kept = np.cumprod(z[::-1])[::-1]
    return np.append(kept[0], (1 - z) * np.append(kept[1:], 1.0))


@memory.mistake(
    "a step forgets the candidate that it has just written",
    hint="h̃_k comes in at step k, whole, by z_k; only later steps can forget it. What is w_T?",
)
def _(z):
    kept = np.cumprod(1 - z[::-1])[::-1]
    return np.append(kept[0], z * kept)


@memory.mistake(
    "forgotten by the steps before, in place of those after",
    hint="Which gates must h̃_1 survive until the end: those of the steps before it, or after it?",
)
def _(z):
    kept = np.cumprod(1 - z)
    return np.append(kept[-1], z * np.append(1.0, kept[:-1]))


@memory.mistake(
    "what is written is never forgotten",
    hint="z_k would be the weight if step k were the last. With z = (1, 1) the second step overwrites the first: is "
    "your w_1 then 0?",
)
def _(z):
    return np.append(np.prod(1 - z), z)


@memory.mistake("w_0 is missing", hint="There are T + 1 weights: the first says what is left of h_0.")
def _(z):
    return memory.reference(z)[1:]


@memory.mistake("h_0 is never forgotten", hint="Every step leaves 1 − z_t of what was there, of h_0 too.")
def _(z):
    return np.append(1.0, memory.reference(z)[1:])


# -- 23 ----------------------------------------------------------------------------------------------------------------
@exercise(
    23,
    "The update's gradient by hand",
    inputs=(numbers, numbers, numbers, numbers),
    example=(1.0, 0.0, 0.0, 1.0),
    understood="The way back through (1 − z) ⊙ h has no weight matrix and no tanh on it: a gradient can go far on it.",
    hints=[
        "First ∂h'/∂h, ∂h'/∂z and ∂h'/∂h̃, then one factor more for σ and for tanh.",
        "z stands in h' twice: ∂h'/∂z = h̃ − h.",
        "σ′ = z (1 − z), tanh′ = 1 − h̃².",
    ],
    outputs=("∂L/∂h", "∂L/∂a_z", "∂L/∂a_h"),
)
def update_gradient(h, a_z, a_h, g):
    """The end of a GRU's step, from the sums a_z and a_h that go into the update gate and the candidate:

        z = σ(a_z)      h̃ = tanh(a_h)      h' = (1 − z) h + z h̃

    g is ∂L/∂h'. Return (∂L/∂h, ∂L/∂a_z, ∂L/∂a_h), each with the other two held fixed. All are numbers here.
    How much of g comes through to h when z is near 0?
    """
    z, h_tilde = 1 / (1 + np.exp(-a_z)), np.tanh(a_h)
    return g * (1 - z), g * (h_tilde - h) * z * (1 - z), g * z * (1 - h_tilde**2)


@update_gradient.check_with
def _(h, a_z, a_h, g):
    def update(h, a_z, a_h):
        return (1 - sigmoid(a_z)) * h + sigmoid(a_z) * np.tanh(a_h)

    return gradients_by_differences(update, (h, a_z, a_h), g)


@update_gradient.mistake("the sign of ∂L/∂a_z", hint="Where h̃ > h and z grows, does h' grow or fall?")
def _(h, a_z, a_h, g):
    z, h_tilde = sigmoid(a_z), np.tanh(a_h)
    return g * (1 - z), g * (h - h_tilde) * z * (1 - z), g * z * (1 - h_tilde**2)


@update_gradient.mistake("z stands in two places, and you took one", hint="(1 − z) h depends on z as well as z h̃ does.")
def _(h, a_z, a_h, g):
    z, h_tilde = sigmoid(a_z), np.tanh(a_h)
    return g * (1 - z), g * h_tilde * z * (1 - z), g * z * (1 - h_tilde**2)


@update_gradient.mistake(
    "the derivative of σ is left out", hint="You gave ∂L/∂z. Asked is ∂L/∂a_z, where z = σ(a_z): one factor more."
)
def _(h, a_z, a_h, g):
    z, h_tilde = sigmoid(a_z), np.tanh(a_h)
    return g * (1 - z), g * (h_tilde - h), g * z * (1 - h_tilde**2)


@update_gradient.mistake(
    "the derivative of tanh is left out", hint="You gave ∂L/∂h̃. Asked is ∂L/∂a_h, where h̃ = tanh(a_h): one factor more."
)
def _(h, a_z, a_h, g):
    z, h_tilde = sigmoid(a_z), np.tanh(a_h)
    return g * (1 - z), g * (h_tilde - h) * z * (1 - z), g * z


@update_gradient.mistake(
    "z and 1 − z exchanged", hint="z near 0 keeps the old state: which of ∂L/∂h and ∂L/∂a_h is near 0 then?"
)
def _(h, a_z, a_h, g):
    z, h_tilde = sigmoid(a_z), np.tanh(a_h)
    return g * z, g * (h - h_tilde) * z * (1 - z), g * (1 - z) * (1 - h_tilde**2)


@update_gradient.mistake(
    "∂h'/∂h is taken for z, and ∂h'/∂h̃ for 1 − z", hint="h' = (1 − z) h + z h̃: which factor stands beside h?"
)
def _(h, a_z, a_h, g):
    z, h_tilde = sigmoid(a_z), np.tanh(a_h)
    return g * z, g * (h_tilde - h) * z * (1 - z), g * (1 - z) * (1 - h_tilde**2)


@update_gradient.mistake("tanh is taken twice", hint="tanh′(a) = 1 − tanh²(a), and h̃ is tanh(a_h) already.")
def _(h, a_z, a_h, g):
    z, h_tilde = sigmoid(a_z), np.tanh(a_h)
    return g * (1 - z), g * (h_tilde - h) * z * (1 - z), g * z * (1 - np.tanh(h_tilde) ** 2)


@update_gradient.mistake("g is not used", hint="What you have is how h' changes. The loss sees h' through g.")
def _(h, a_z, a_h, g):
    return update_gradient.reference(h, a_z, a_h, 1.0)
