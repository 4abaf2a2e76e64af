"""Exercises 24 to 26: an LSTM's step, its gates as a GRU's, and a fair comparison of the two."""

from __future__ import annotations

import math

import numpy as np

from .... import nn
from ....ops import sigmoid
from ...draws import arrays, st
from ...exercise import exercise


# -- 24 ----------------------------------------------------------------------------------------------------------------
@st.composite
def lstm_inputs(draw):
    batch, inputs, hidden = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    x, h, c = draw(arrays((batch, inputs))), draw(arrays((batch, hidden))), draw(arrays((batch, hidden)))
    return x, h, c, draw(arrays((inputs, 4 * hidden))), draw(arrays((hidden, 4 * hidden))), draw(arrays((4 * hidden,)))


@exercise(
    24,
    "An LSTM step",
    inputs=lstm_inputs(),
    example=(
        np.array([[1.0]]),
        np.array([[0.5]]),
        np.array([[2.0]]),
        np.array([[0.0, 1.0, 0.5, 0.0]]),
        np.zeros((1, 4)),
        np.zeros(4),
    ),
    outputs=("h'", "c'"),
    understood="An LSTM keeps what it knows (c) apart from what it shows (h). A GRU has one state for both.",
    hints=[
        "np.split(a, 4, axis=-1) gives the four quarters.",
        "c' first: forget a part of the old c, add a part of the candidate. Then h' from c', the new one.",
    ],
    header="import numpy as np\n\nfrom tinygrad_gru.ops import sigmoid",
)
def lstm_step(x, h, c, W, U, b):
    """One product serves all gates: a = x W + h U + b is (batch, 4 · hidden). Its quarters along the last axis are the
    sums of the input gate, the forget gate, the candidate and the output gate, in this order, i, f, g, o:

        i = σ(a_i)      f = σ(a_f)      g = tanh(a_g)      o = σ(a_o)
        c' = f ⊙ c + i ⊙ g
        h' = o ⊙ tanh(c')

    Return (h', c'). Can |h'| be above 1? Can |c'|?
    """
    i, f, g, o = np.split(x @ W + h @ U + b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@lstm_step.check_with
def _(x, h, c, W, U, b):
    cell, n = nn.LSTMCell(W.shape[0], U.shape[0], dtype="float64"), U.shape[0]
    blocks = {gate: slice(k * n, (k + 1) * n) for k, gate in enumerate("ifgo")}
    stacked = {"W": W, "U": U, "b": b}
    cell.load_state_dict({f"{s}_{gate}": a[..., at] for s, a in stacked.items() for gate, at in blocks.items()})
    return tuple(part.numpy() for part in cell(x, (h, c)))


@lstm_step.mistake(
    "forget gate and input gate exchanged", hint="f = 1 and i = 0 keep c as it is. What do they do in your step?"
)
def _(x, h, c, W, U, b):
    i, f, g, o = np.split(x @ W + h @ U + b, 4, axis=-1)
    c = sigmoid(i) * c + sigmoid(f) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@lstm_step.mistake(
    "h' = o ⊙ c', without the tanh", hint="c may grow from step to step. What is shown of it stays between −1 and 1."
)
def _(x, h, c, W, U, b):
    i, f, g, o = np.split(x @ W + h @ U + b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * c, c


@lstm_step.mistake(
    "the gates in the order i, o, f, g", hint="This is ONNX's order. Here it is i, f, g, o, as in PyTorch and Keras."
)
def _(x, h, c, W, U, b):
    i, o, f, g = np.split(x @ W + h @ U + b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@lstm_step.mistake("the gates in the order i, f, o, g", hint="The candidate is the third quarter here: i, f, g, o.")
def _(x, h, c, W, U, b):
    i, f, o, g = np.split(x @ W + h @ U + b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@lstm_step.mistake("h' is made of the old c", hint="The output gate shows the cell as it is after this step.")
def _(x, h, c, W, U, b):
    i, f, g, o = np.split(x @ W + h @ U + b, 4, axis=-1)
    return sigmoid(o) * np.tanh(c), sigmoid(f) * c + sigmoid(i) * np.tanh(g)


@lstm_step.mistake("σ in place of tanh for the candidate", hint="Three quarters are gates, from 0 to 1. g is none.")
def _(x, h, c, W, U, b):
    i, f, g, o = np.split(x @ W + h @ U + b, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * sigmoid(g)
    return sigmoid(o) * np.tanh(c), c


@lstm_step.mistake("(c', h') in place of (h', c')", hint="Both are right, in the other order.")
def _(x, h, c, W, U, b):
    return lstm_step.reference(x, h, c, W, U, b)[::-1]


# -- 25 ----------------------------------------------------------------------------------------------------------------
@exercise(
    25,
    "To remember for n steps",
    inputs=(st.integers(1, 60),),
    example=(10,),
    outputs=("b_f", "b_z"),
    understood="f and 1 − z are one and the same gate, and its bias is the length of a memory. b_f = 1 is 2.2 steps.",
    hints=[
        "After n steps fⁿ is left. Which f leaves a half?",
        "Which bias gives that f? Solve f = 1 / (1 + e^(−b)) for b.",
        "1 − σ(a) = σ(−a).",
    ],
    header="import math",
)
def biases_for(n):
    """Let all weights be zero, so that a gate is σ(its bias) at each step. And let nothing new come in: then an LSTM's
    c is multiplied by f = σ(b_f) at each step, and a GRU's h by 1 − z, with z = σ(b_z).

    Return (b_f, b_z), the two biases with which one half of the state is left after n steps.
    LSTMs often start with b_f = 1. Is that a long memory?
    """
    f = 0.5 ** (1 / n)
    b_f = math.log(f / (1 - f))
    return b_f, -b_f


@biases_for.check_with
def _(n):
    low, high = -1.0, 10.0  # by bisection, on what is left after n steps
    for _ in range(100):
        middle = (low + high) / 2
        c = 1.0
        for _ in range(n):
            c *= 1 / (1 + math.exp(-middle))
        low, high = (middle, high) if c < 0.5 else (low, middle)
    return low, math.log((1 + math.exp(-low)) - 1)


@biases_for.mistake(
    "b_z has the sign of b_f",
    hint="f near 1 keeps the state. A GRU keeps it with z near 0: with one sign, one of the two forgets.",
)
def _(n):
    b_f, _ = biases_for.reference(n)
    return b_f, b_f


@biases_for.mistake("b_z = 1 − b_f", hint="f and z add up to 1. The biases are what goes into the σ, and don't.")
def _(n):
    b_f, _ = biases_for.reference(n)
    return b_f, 1 - b_f


@biases_for.mistake("these are the gates, f and z", hint="The gates are right. With which biases does σ give them?")
def _(n):
    f = 0.5 ** (1 / n)
    return f, 1 - f


@biases_for.mistake(
    "1/e of the state is left, not a half",
    hint="f = e^(−1/n) leaves 1/e after n steps, the time constant. Asked is the half-life.",
)
def _(n):
    b_f = -math.log(math.expm1(1 / n))
    return b_f, -b_f


@biases_for.mistake(
    "each step takes the same amount away",
    hint="f = 1 − 1/(2n) would do if each step took 1/(2n) of the *first* state. It takes that part of what is left.",
)
def _(n):
    b_f = math.log(2 * n - 1)
    return b_f, -b_f


@biases_for.mistake("the logarithm of f", hint="σ(log f) is not f: the inverse of σ is another function.")
def _(n):
    return math.log(0.5) / n, -math.log(0.5) / n


# -- 26 ----------------------------------------------------------------------------------------------------------------
def gate_size(inputs, hidden):
    return inputs * hidden + hidden * hidden + hidden


@exercise(
    26,
    "A fair comparison",
    inputs=(st.integers(1, 20), st.integers(2, 60)),
    example=(10, 46),
    cases=[(10, 5), (3, 6)],  # with as many parameters as the GRU
    understood="Compare cells at equal parameters, or at equal time, and say at which: an LSTM has a third more.",
    hints=[
        "How many parameters has one gate of n units? Count its two matrices and its bias.",
        "Try the sizes one after another: the largest with 4 gates' worth at most 3 gates' worth of the GRU.",
    ],
    header="",
)
def fair_hidden(inputs, hidden):
    """An LSTM that beats a GRU of its own hidden size has had more parameters to do so. Each gate, and the candidate
    likewise, has one matrix for the input, one for the state, and one bias. A GRU has three such sets, an LSTM four.

    Return the largest hidden size (an int) with which an LSTM has at most as many parameters as a GRU of `hidden`
    units. Both have `inputs` inputs.
    """

    def parameters(sets, n):
        return sets * (inputs * n + n * n + n)

    return max(n for n in range(hidden) if parameters(4, n) <= parameters(3, hidden))


@fair_hidden.check_with
def _(inputs, hidden):
    def parameters(cell, n):
        return sum(p.size for p in cell(inputs, n).parameters())

    budget = parameters(nn.GRUCell, hidden)
    return next(n for n in range(hidden, -1, -1) if n == 0 or parameters(nn.LSTMCell, n) <= budget)


@fair_hidden.mistake(
    "three quarters of the units",
    hint="A gate's matrix for the state is hidden × hidden: it grows with the square. Count, then compare.",
)
def _(inputs, hidden):
    return 3 * hidden // 4


@fair_hidden.mistake("the biases are left out", hint="Compare your count with that of nn.GRUCell(1, 2).parameters().")
def _(inputs, hidden):
    return max(n for n in range(hidden) if 4 * (inputs * n + n * n) <= 3 * (inputs * hidden + hidden * hidden))


@fair_hidden.mistake(
    "the input's matrices are left out", hint="Each gate sees the input through a matrix of its own, inputs × hidden."
)
def _(inputs, hidden):
    return max(n for n in range(hidden) if 4 * (n * n + n) <= 3 * (hidden * hidden + hidden))


@fair_hidden.mistake("rounded up", hint="At most as many: your LSTM has more parameters than the GRU.")
def _(inputs, hidden):
    budget = 3 * gate_size(inputs, hidden)
    return min(n for n in range(hidden + 1) if 4 * gate_size(inputs, n) >= budget)


@fair_hidden.mistake("two biases a gate", hint="PyTorch has a bias beside each matrix. Here a gate has one.")
def _(inputs, hidden):
    budget = 3 * (gate_size(inputs, hidden) + hidden)
    return max(n for n in range(hidden) if 4 * (gate_size(inputs, n) + n) <= budget)


@fair_hidden.mistake("three sets for the LSTM, four for the GRU", hint="An LSTM has a gate more than a GRU.")
def _(inputs, hidden):
    budget = 4 * gate_size(inputs, hidden)
    return max(n for n in range(2 * hidden) if 3 * gate_size(inputs, n) <= budget)


@fair_hidden.mistake("fewer parameters, never as many", hint="At most as many: an LSTM with just as many is allowed.")
def _(inputs, hidden):
    budget = 3 * gate_size(inputs, hidden)
    return max(n for n in range(hidden) if 4 * gate_size(inputs, n) < budget)
