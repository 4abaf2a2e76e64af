"""Exercise 21: a cell of one's own."""

from __future__ import annotations

import numpy as np

from .... import nn, ops
from ....ops import sigmoid
from ....scan import compiling, scan
from ....tensor import Tensor
from ...differences import gradients_by_differences
from ...draws import arrays, st
from ...exercise import exercise

PARAMETERS = ("W_r", "W_z", "W_h", "U_r", "U_z", "U_h", "b_r", "b_z", "b_h")


@st.composite
def cell_inputs(draw):
    steps, batch, inputs, hidden = (draw(st.integers(1, 2)) for _ in range(4))
    shapes = {"W": (inputs, hidden), "U": (hidden, hidden), "b": (hidden,)}
    parameters = {name: draw(arrays(shapes[name[0]])) for name in PARAMETERS}
    return draw(arrays((steps, batch, inputs))), draw(arrays((batch, hidden))), parameters


def run_cell(solution, xs, h, parameters):
    """The last state of a cell after `xs`, and the gradients of its sum, weighted 1, 2, … by unit."""
    cell = solution(xs.shape[-1], h.shape[-1], dtype="float64")
    cell.load_state_dict(parameters)
    start = Tensor(h, requires_grad=True)
    with compiling(False):  # a program for each shape that is drawn would take longer than these few steps
        last, _ = scan(cell.step, start, Tensor(xs))
    (last * np.arange(1.0, 1 + h.shape[-1])).sum().backward()
    gradients = {f"∂L/∂{name}": getattr(cell, name).grad for name in PARAMETERS} | {"∂L/∂h": start.grad}
    found = {name: None if g is None else g.numpy() for name, g in gradients.items()}
    return {"the last state": last.numpy(), **found}


def run_compiled(solution):
    """A step that cannot be compiled raises NotCompiledError, which says why."""
    cell = solution(2, 3)
    with compiling(True):
        scan(cell.step, Tensor(np.zeros((1, 3), "float32")), Tensor(np.zeros((2, 1, 2), "float32")))


@exercise(
    21,
    "A GRU in four lines",
    inputs=cell_inputs(),
    example=(
        np.array([[[1.0]]]),
        np.array([[0.5, -0.5]]),
        {name: np.full({"W": (1, 2), "U": (2, 2), "b": (2,)}[name[0]], 0.25 * n) for n, name in enumerate(PARAMETERS)},
    ),
    understood="A cell is its equations. Its gradient, its loop over time and its compiled program are made from them.",
    hints=[
        "r and z are made alike, each with parameters of its own; the candidate is that of exercise 20.",
        "h' = (1 − z) ⊙ h + z ⊙ h̃: z near 0 keeps the old state.",
        "r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r), and z likewise.",
    ],
    run=run_cell,
    call="xs = {xs}\nh = {h}\nparameters = {parameters}\nscan(cell.step, h, xs)",
    header="from tinygrad_gru import nn, ops",
    audit=run_compiled,
)
class GRU(nn.Cell):
    """A recurrent cell of your own: `nn.Recurrent.of(GRU)` is the layer, as fast as one that is built in."""

    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size, **options)
        self.W_r, self.W_z, self.W_h = self.new_W(), self.new_W(), self.new_W()
        self.U_r, self.U_z, self.U_h = self.new_U(), self.new_U(), self.new_U()
        self.b_r, self.b_z, self.b_h = self.new_b(), self.new_b(), self.new_b()

    def step(self, h, x):
        """Return the next state h'. x is (batch, inputs), h is (batch, hidden); `ops.sigmoid` is σ, `ops.tanh` is tanh.

            r  = σ(x W_r + h U_r + b_r)               reset gate
            z  = σ(x W_z + h U_z + b_z)               update gate
            h̃  = tanh(x W_h + (r ⊙ h) U_h + b_h)      candidate
            h' = (1 − z) ⊙ h + z ⊙ h̃

        There is no backward to write: the grader runs `scan` over your step, compares the gradients, too, and looks
        whether it can be compiled. The loss is L = Σ_k k · h'_k, k = 1, 2, … over the units of the last state.
        """
        r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = ops.sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        h_tilde = ops.tanh(x @ self.W_h + (r * h) @ self.U_h + self.b_h)
        return (1 - z) * h + z * h_tilde


@GRU.check_with
def _(xs, h, parameters):
    def gates(x, h, W_r, W_z, W_h, U_r, U_z, U_h, b_r, b_z, b_h):
        r, z = sigmoid(x @ W_r + h @ U_r + b_r), sigmoid(x @ W_z + h @ U_z + b_z)
        return (1 - z) * h + z * np.tanh(x @ W_h + (r * h) @ U_h + b_h)

    def last(*arguments):
        *given, h = arguments
        for x in xs:
            h = gates(x, h, *given)
        return h

    arguments = *parameters.values(), h
    found = gradients_by_differences(last, arguments, np.arange(1.0, 1 + h.shape[-1]))
    names = [f"∂L/∂{name}" for name in (*PARAMETERS, "h")]
    return {"the last state": last(*arguments), **dict(zip(names, found))}


@GRU.mistake(
    "z and 1 − z exchanged",
    hint="This is the sense of PyTorch and Keras, where z = 1 keeps the old state. Here z says how much of the new is "
    "written: z = 0 keeps the old.",
)
class Exchanged(GRU.reference):
    def step(self, h, x):
        r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = ops.sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        return z * h + (1 - z) * ops.tanh(x @ self.W_h + (r * h) @ self.U_h + self.b_h)


@GRU.mistake(
    "z and 1 − z exchanged, and the reset gate acts after the product",
    hint="Both are PyTorch's conventions. Here z = 0 keeps the old state, and r chooses before U_h.",
)
class Torch(GRU.reference):
    def step(self, h, x):
        r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = ops.sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        return z * h + (1 - z) * ops.tanh(x @ self.W_h + r * (h @ self.U_h) + self.b_h)


@GRU.mistake(
    "the reset gate acts after the product",
    hint="r ⊙ (h U_h) is PyTorch's variant. Exercise 20 is about the difference.",
)
class ResetAfter(GRU.reference):
    def step(self, h, x):
        r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = ops.sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        return (1 - z) * h + z * ops.tanh(x @ self.W_h + r * (h @ self.U_h) + self.b_h)


@GRU.mistake(
    "r and z exchanged", hint="The reset gate is inside the candidate, the update gate mixes the old and the new."
)
class OtherGates(GRU.reference):
    def step(self, h, x):
        r = ops.sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        z = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        return (1 - z) * h + z * ops.tanh(x @ self.W_h + (r * h) @ self.U_h + self.b_h)


@GRU.mistake("σ in place of tanh", hint="A gate lies between 0 and 1. The candidate is no gate.")
class NoTanh(GRU.reference):
    def step(self, h, x):
        r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = ops.sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        return (1 - z) * h + z * ops.sigmoid(x @ self.W_h + (r * h) @ self.U_h + self.b_h)


@GRU.mistake(
    "the candidate is added to the whole old state",
    hint="What is written takes the place of something: the shares of the old and the new add up to 1.",
)
class Added(GRU.reference):
    def step(self, h, x):
        r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = ops.sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        return h + z * ops.tanh(x @ self.W_h + (r * h) @ self.U_h + self.b_h)


@GRU.mistake(
    "the state is right, but no gradient goes through (1 − z) ⊙ h",
    hint="`detach`, `data` or NumPy gives a number without a past. This path is the one on which gradients go far.",
)
class Detached(GRU.reference):
    def step(self, h, x):
        r = ops.sigmoid(x @ self.W_r + h @ self.U_r + self.b_r)
        z = ops.sigmoid(x @ self.W_z + h @ self.U_z + self.b_z)
        return (1 - z) * h.detach() + z * ops.tanh(x @ self.W_h + (r * h) @ self.U_h + self.b_h)
