"""Exercises 17 to 19: RNN and the vanishing gradient."""

from __future__ import annotations

import numpy as np

from ...differences import gradients_by_differences
from ...draws import arrays, sizes, st
from ...exercise import exercise

LONG = np.array([1.0, -1.0, 0.5, 2.0, -0.5, 1.5]).reshape(6, 1, 1)  # six steps, where draws have three


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
    cases=[(LONG, np.array([[0.5]]), np.ones((1, 1)), np.array([[-0.75]]), np.array([0.25]))],
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
        inner = sum(x[t, i, f] * W[f, j] for f in range(len(W))) + sum(found[t, i, k] * U[k, j] for k in range(len(U)))
        found[t + 1, i, j] = 1 - 2 / (np.exp(2 * (inner + b[j])) + 1)
    return found[1:]


@rnn.mistake("every step begins from h0", hint="What does step 2 read as h: h0, or what step 1 has just made?")
def _(x, h0, W, U, b):
    return np.stack([np.tanh(x_t @ W + h0 @ U + b) for x_t in x])


@rnn.mistake(
    "it begins from zeros, not from h0", hint="h0 is what was read before x, such as the end of the last batch."
)
def _(x, h0, W, U, b):
    return rnn.reference(x, np.zeros_like(h0), W, U, b)


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
    hint="h0 is given, and not to be returned: the first is after step 1.",
)
def _(x, h0, W, U, b):
    return np.concatenate([h0[None], rnn.reference(x, h0, W, U, b)])[:-1]


@st.composite
def rnn_cotangents(draw):
    """The inputs of an RNN, its outputs h, and the cotangent of each."""
    x, h0, W, U, b = draw(rnn_inputs())
    h = rnn.reference(x, h0, W, U, b)
    return x, h0, U, h, draw(arrays(h.shape))


@exercise(
    18,
    "Backpropagation through time",
    inputs=rnn_cotangents(),
    example=(np.ones((2, 1, 1)), np.zeros((1, 1)), np.full((1, 1), 2.0), np.full((2, 1, 1), 0.5), np.ones((2, 1, 1))),
    cases=[(LONG, np.array([[0.5]]), np.array([[1.5]]), LONG / 4, LONG[::-1])],
    outputs=("∂L/∂W", "∂L/∂U", "∂L/∂b", "∂L/∂h0"),
    understood="Each h has two users, the loss and the next step: their cotangents add up, and go on through Uᵀ.",
    hints=[
        "Go from the last step to the first, with `carry`, what comes from the step after: zeros at first.",
        "At step t: a = (g[t] + carry) · (1 − h[t]²) is ∂L/∂(what is in tanh). What do W, U, b and h_{t−1} get from a?",
    ],
)
def rnn_gradients(x, h0, U, h, g):
    """The network of exercise 17, h_t = tanh(x_t W + h_{t−1} U + b), has run over x (T, B, F) from h0 (B, H), and h
    (T, B, H) are its states. g[t] is the direct part of ∂L/∂h_t, with all other states held fixed; the part through the
    steps that follow is for you to add.

    Return (∂L/∂W, ∂L/∂U, ∂L/∂b, ∂L/∂h0). tanh′ = 1 − tanh².
    """
    gW, gU, gb = np.zeros((x.shape[-1], U.shape[0])), np.zeros_like(U), np.zeros(U.shape[0])
    carry = np.zeros_like(h0)
    for t in reversed(range(len(x))):
        before = h[t - 1] if t > 0 else h0
        a = (g[t] + carry) * (1 - h[t] ** 2)
        gW += x[t].T @ a
        gU += before.T @ a
        gb += a.sum(axis=0)
        carry = a @ U.T
    return gW, gU, gb, carry


@rnn_gradients.check_with
def _(x, h0, U, h, g):
    """By differences of a network that adds changes to W, U, b and h0, in a form that needs no W: h is given."""
    before = np.concatenate([h0[None], h[:-1]])
    fixed = np.arctanh(np.clip(h, -1 + 1e-16, 1 - 1e-16)) - before @ U  # x W + b

    def run(dW, dU, db, dh0):
        state, found = h0 + dh0, []
        for t in range(len(x)):
            state = np.tanh(fixed[t] + x[t] @ dW + state @ (U + dU) + db)
            found.append(state)
        return np.stack(found)

    zeros = np.zeros((x.shape[-1], len(U))), np.zeros_like(U), np.zeros(len(U)), np.zeros_like(h0)
    return gradients_by_differences(run, zeros, g)


def _bptt(x, h0, U, h, g, *, carried=True, direct=True, transposed=True, slope=True, previous=True, wraps=False):
    """The reference with something wrong."""
    gW, gU, gb = np.zeros((x.shape[-1], len(U))), np.zeros_like(U), np.zeros(len(U))
    carry = np.zeros_like(h0)
    for t in reversed(range(len(x))):
        a = (g[t] if direct or t == len(x) - 1 else 0) + (carry if carried else 0)
        a = a * (1 - h[t] ** 2) if slope else a
        gW, gb = gW + x[t].T @ a, gb + a.sum(axis=0)
        gU += ((h[t - 1] if t or wraps else h0) if previous else h[t]).T @ a
        carry = a @ (U.T if transposed else U)
    return gW, gU, gb, carry


@rnn_gradients.mistake(
    "the path through the later steps is missing", hint="h_t is also read by step t + 1: what comes back from there?"
)
def _(x, h0, U, h, g):
    return _bptt(x, h0, U, h, g, carried=False)


@rnn_gradients.mistake(
    "only the last step's g is used", hint="L sees every h directly, so g[t] is added at each step, to what is carried."
)
def _(x, h0, U, h, g):
    return _bptt(x, h0, U, h, g, direct=False)


@rnn_gradients.mistake(
    "carried back by U, without the transpose", hint="Forward h @ U; the transpose of that is a @ Uᵀ (exercise 11)."
)
def _(x, h0, U, h, g):
    return _bptt(x, h0, U, h, g, transposed=False)


@rnn_gradients.mistake(
    "tanh′ is missing", hint="On the way to W and U the cotangent passes through tanh: times 1 − h²."
)
def _(x, h0, U, h, g):
    return _bptt(x, h0, U, h, g, slope=False)


@rnn_gradients.mistake(
    "∂L/∂U is built with h_t, where U was multiplied by h_{t−1}",
    hint="Which h stands beside U in the equation of step t?",
)
def _(x, h0, U, h, g):
    return _bptt(x, h0, U, h, g, previous=False)


@rnn_gradients.mistake(
    "h[t − 1] at t = 0 is h[−1], the last state",
    hint="Before the first step the state is h0: Python counts −1 from the end.",
)
def _(x, h0, U, h, g):
    return _bptt(x, h0, U, h, g, wraps=True)


@st.composite
def states(draw):
    """h (T, H) between −¾ and ¾, and U (H, H)."""
    steps, hidden = draw(sizes), draw(sizes)
    return draw(arrays((steps, hidden))) * 0.375, draw(arrays((hidden, hidden)))


@exercise(
    19,
    "How far back the gradient reaches",
    inputs=states(),
    example=(np.array([[0.5], [0.0], [0.5]]), np.array([[0.5]])),
    cases=[(LONG[:, 0] / 4, np.array([[1.5]]))],
    understood="What reaches t steps back is a product of t Jacobians: by and large it shrinks or grows like λᵗ.",
    hints=[
        "∂h_t/∂h_{t−1} has the entry (1 − h_t[j]²) · U[i, j] for output j and input i: which is row, which is column?",
        "From the end: J = identity; then, for t = T, T − 1, …, J = J @ ∂h_t/∂h_{t−1}; np.linalg.norm(J, 2) each time.",
    ],
)
def gradient_norms(h, U):
    """A tanh-RNN without batch, h_t = tanh(x_t W + h_{t−1} U + b), has gone through the states h, (T, H).

    Return the array (T,) of ‖∂h_last/∂h_t‖ for every t: how much a change of h_t can still move the last state. The
    norm is the largest singular value, np.linalg.norm(J, 2). For t = last it is 1.
    """
    J = np.eye(len(U))
    norms = [1.0]
    for h_t in h[:0:-1]:
        J = J @ ((1 - h_t**2)[:, None] * U.T)
        norms.append(np.linalg.norm(J, 2))
    return np.array(norms[::-1])


@gradient_norms.check_with
def _(h, U):
    offsets = np.arctanh(h[1:]) - h[:-1] @ U  # x W + b
    norms = []
    for t in range(len(h)):
        J, step = np.zeros((len(U), len(U))), 1e-5
        for i in range(len(U)):
            ends = []
            for change in (step, -step):
                state = h[t] + change * np.eye(len(U))[i]
                for offset in offsets[t:]:
                    state = np.tanh(offset + state @ U)
                ends.append(state)
            J[:, i] = (ends[0] - ends[1]) / (2 * step)
        norms.append(np.sqrt(np.linalg.eigvalsh(J.T @ J).max()))
    return np.array(norms)


def _norms(h, U, *, jacobian=lambda h_t, h_before, U: (1 - h_t**2)[:, None] * U.T, norm=2, reverse=False, bound=False):
    """The reference with something wrong."""
    J, norms = np.eye(len(U)), [1.0]
    for t in range(len(h) - 1, 0, -1):
        step = jacobian(h[t], h[t - 1], U)
        J = step @ J if reverse else J @ step
        norms.append(norms[-1] * np.linalg.norm(step, norm) if bound else np.linalg.norm(J, norm))
    return np.array(norms[::-1])


@gradient_norms.mistake(
    "the product of the norms, not the norm of the product",
    hint="That is an upper bound: what one step stretches, the next may shrink.",
)
def _(h, U):
    return _norms(h, U, bound=True)


@gradient_norms.mistake(
    "the Jacobians are multiplied in the wrong order",
    hint="∂h₃/∂h₁ = ∂h₃/∂h₂ · ∂h₂/∂h₁: the later step is on the left.",
)
def _(h, U):
    return _norms(h, U, reverse=True)


@gradient_norms.mistake(
    "tanh′ is missing: this is the norm of a power of U",
    hint="Each unit's slope, 1 − h_t², is at most 1, and 0 if saturated.",
)
def _(h, U):
    return _norms(h, U, jacobian=lambda h_t, h_before, U: U.T)


@gradient_norms.mistake(
    "tanh′ at the state before the step, not after it", hint="tanh′ = 1 − tanh²: tanh's value at step t is h_t itself."
)
def _(h, U):
    return _norms(h, U, jacobian=lambda h_t, h_before, U: (1 - h_before**2)[:, None] * U.T)


@gradient_norms.mistake(
    "the slope scales the wrong side of U",
    hint="1 − h_t² belongs to the outputs of the step: the columns of U, the rows of J.",
)
def _(h, U):
    return _norms(h, U, jacobian=lambda h_t, h_before, U: U.T * (1 - h_t**2))


@gradient_norms.mistake(
    "the norm is Frobenius', over all entries",
    hint="np.linalg.norm(J) without the 2 is another norm: √n for the identity.",
)
def _(h, U):
    return np.array([*_norms(h, U, norm="fro")[:-1], np.sqrt(len(U))])
