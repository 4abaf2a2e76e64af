"""Exercise 40: the weights of another framework."""

from __future__ import annotations

import numpy as np

from ....interop.gates import TORCH, StackedWeights, to_ours
from ...draws import arrays, st
from ...exercise import exercise


# -- 40 ----------------------------------------------------------------------------------------------------------------
@st.composite
def torch_weights(draw):
    inputs, hidden = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rows = 3 * hidden
    return draw(arrays((rows, inputs))), draw(arrays((rows, hidden))), draw(arrays((rows,))), draw(arrays((rows,)))


@exercise(
    40,
    "Read PyTorch's weights",
    inputs=torch_weights(),
    example=(
        np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        np.array([[1.0], [2.0], [3.0]]),
        np.array([1.0, 2.0, 3.0]),
        np.array([10.0, 20.0, 30.0]),
    ),
    understood="Frameworks differ in layout, order and sense; what computes the same can be converted exactly.",
    hints=[
        "np.split(array, 3) cuts the rows into those of r, z and n.",
        "1 − σ(a) = σ(−a): a gate of the other sense has the negative weights and biases.",
        "b_in + b_hn is b_n only if r doesn't come between them: keep them apart, as b_h and c_h.",
    ],
    call="weight_ih = {weight_ih}\nweight_hh = {weight_hh}\nbias_ih = {bias_ih}\nbias_hh = {bias_hh}\n"
    "from_torch(weight_ih, weight_hh, bias_ih, bias_hh)",
)
def from_torch(weight_ih, weight_hh, bias_ih, bias_hh):
    """torch.nn.GRU stacks its gates as r, z, n, with weights (3 · hidden, in), and computes

        r = σ(W_ir x + b_ir + W_hr h + b_hr)           z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))        h' = (1 − z) ⊙ n + z ⊙ h

    Here nn.GRUCell(reset_after=True) has weights (in, hidden), and computes

        r = σ(x W_r + h U_r + b_r)                     z = σ(x W_z + h U_z + b_z)
        h̃ = tanh(x W_h + b_h + r ⊙ (h U_h + c_h))            h' = (1 − z) ⊙ h + z ⊙ h̃

    Return a dict of the arrays W_r, W_z, W_h, U_r, U_z, U_h, b_r, b_z, b_h, c_h with which it computes the same.
    """
    W_r, W_z, W_h = (part.T for part in np.split(weight_ih, 3))
    U_r, U_z, U_h = (part.T for part in np.split(weight_hh, 3))
    (b_r, b_z, b_h), (c_r, c_z, c_h) = np.split(bias_ih, 3), np.split(bias_hh, 3)
    return {
        "W_r": W_r, "W_z": -W_z, "W_h": W_h, "U_r": U_r, "U_z": -U_z, "U_h": U_h,
        "b_r": b_r + c_r, "b_z": -(b_z + c_z), "b_h": b_h, "c_h": c_h,
    }  # fmt: skip


@from_torch.check_with
def _(weight_ih, weight_hh, bias_ih, bias_hh):
    found = to_ours(TORCH, "GRU", StackedWeights(weight_ih, weight_hh, bias_ih, bias_hh), reset_after=True)
    return {name: found[name] for name in from_torch.reference(weight_ih, weight_hh, bias_ih, bias_hh)}


@from_torch.mistake(
    "z is not negated", hint="PyTorch's z = 1 keeps the old state, and yours writes the new one. σ(−a) = 1 − σ(a)."
)
def _(*theirs):
    ours = from_torch.reference(*theirs)
    return {name: -value if name.endswith("_z") else value for name, value in ours.items()}


@from_torch.mistake(
    "1 − W_z in place of −W_z", hint="It is the gate that becomes 1 − z. What goes into its σ is negated."
)
def _(*theirs):
    ours = from_torch.reference(*theirs)
    return {name: 1 + value if name.endswith("_z") else value for name, value in ours.items()}


@from_torch.mistake("z's bias is not negated", hint="σ(−a) needs the whole sum a negated: both matrices, and the bias.")
def _(*theirs):
    ours = from_torch.reference(*theirs)
    return ours | {"b_z": -ours["b_z"]}


@from_torch.mistake("the weights are not transposed", hint="PyTorch has W x, with W (hidden, in); here it is x W.")
def _(*theirs):
    return {name: value.T for name, value in from_torch.reference(*theirs).items()}


@from_torch.mistake("the gates are taken in the order z, r, n", hint="That is Keras's order; PyTorch's is r, z, n.")
def _(*theirs):
    def exchanged(array):
        z, r, n = np.split(array, 3)
        return np.concatenate([r, z, n])

    return from_torch.reference(*map(exchanged, theirs))


@from_torch.mistake(
    "the candidate's two biases are merged",
    hint="b_hn is inside of r ⊙ (…). Where r is 0, it has no say, and b_in has.",
)
def _(*theirs):
    ours = from_torch.reference(*theirs)
    return ours | {"b_h": ours["b_h"] + ours["c_h"], "c_h": 0 * ours["c_h"]}


@from_torch.mistake(
    "bias_hh is left out for r and z", hint="For r and z both biases are only added: one sum replaces them."
)
def _(*theirs):
    ours, hidden = from_torch.reference(*theirs), theirs[1].shape[1]
    return ours | {"b_r": theirs[2][:hidden], "b_z": -theirs[2][hidden : 2 * hidden]}


@from_torch.mistake(
    "c_h is missing", hint="The candidate has a second bias, inside of r ⊙ (…). The dict has ten arrays."
)
def _(*theirs):
    ours = from_torch.reference(*theirs)
    return {name: value + ours["c_h"] if name == "b_h" else value for name, value in ours.items() if name != "c_h"}
