"""A GRU as the four equations of the paper (Chung et al. 2014) on Tensors, without a layer or a hand-written backward.

What one learns here: gradients flow through any computation on Tensors; the tape shows how; gradcheck verifies it, to
second order as well.

    python examples/gru_from_the_paper.py
"""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, tape
from tinygrad_gru.ops import sigmoid, tanh
from tinygrad_gru.testing import gradcheck, gradgradcheck

STEPS, BATCH, INPUT, HIDDEN = 3, 2, 2, 4
NAMES = ["W_r", "U_r", "b_r", "W_z", "U_z", "b_z", "W_h", "U_h", "b_h"]


def gru(x, h, W_r, U_r, b_r, W_z, U_z, b_z, W_h, U_h, b_h):
    """The states after each step, from x (time, batch, input) and the initial state h (batch, hidden)."""
    states = []
    for x_t in x:
        r = sigmoid(x_t @ W_r + h @ U_r + b_r)  # reset gate: how much of h the candidate sees
        z = sigmoid(x_t @ W_z + h @ U_z + b_z)  # update gate: how much of the candidate h takes
        h_tilde = tanh(x_t @ W_h + (r * h) @ U_h + b_h)  # candidate
        h = (1 - z) * h + z * h_tilde
        states.append(h)
    return states


random = np.random.default_rng(0)
shapes = [(INPUT, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,)] * 3
parameters = [Tensor(0.5 * random.standard_normal(shape), requires_grad=True) for shape in shapes]
for name, parameter in zip(NAMES, parameters):
    parameter.name = name
x, h = Tensor(random.standard_normal((STEPS, BATCH, INPUT))), Tensor(np.zeros((BATCH, HIDDEN)))

first, *_, last = gru(x, h, *parameters)
print("One step on the tape:\n")
print(tape(first))

loss = (last * last).sum()
loss.backward()
print(f"\n{STEPS} steps are {len(tape(loss))} records. Norms of the gradients through all of them:\n")
for name, parameter in zip(NAMES, parameters):
    print(f"  ‖∂loss/∂{name}‖ = {np.linalg.norm(parameter.grad.numpy()):.6f}")

inputs = [x, h, *parameters]
print("\nAgainst finite differences:")
print("  first derivatives agree:", gradcheck(gru, inputs))
print("  second derivatives agree:", gradgradcheck(gru, inputs, rtol=1e-5))
