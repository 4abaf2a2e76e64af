"""Train XOR with Tensors alone: no layers, no optimizer.

What one learns here: a Tensor with requires_grad=True is a leaf; what is computed from it is recorded on the tape;
`backward` walks the tape from its end and accumulates ∂loss/∂leaf in `leaf.grad`; and gradient descent is to repeat a
small step against that.

    python examples/xor_by_hand.py
"""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, ops, tape

x = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
target = Tensor([[0.0], [1.0], [1.0], [0.0]])

random = np.random.default_rng(0)
leaves = {
    "W1": Tensor(random.standard_normal((2, 8)), dtype="float32", requires_grad=True),
    "b1": Tensor(np.zeros(8), dtype="float32", requires_grad=True),
    "W2": Tensor(random.standard_normal((8, 1)), dtype="float32", requires_grad=True),
    "b2": Tensor(np.zeros(1), dtype="float32", requires_grad=True),
}
for name, leaf in leaves.items():
    leaf.name = name  # shown on the tape
W1, b1, W2, b2 = leaves.values()


def network(x: Tensor) -> Tensor:
    """The logits that exactly one of the two inputs is 1."""
    return ops.tanh(x @ W1 + b1) @ W2 + b2


def compute_loss() -> Tensor:
    return ops.binary_cross_entropy_with_logits(network(x), target)


loss = compute_loss()
print("The records that led to the loss, in execution order:\n")
print(tape(loss))

loss.backward()
by_tape = W1.grad.numpy()[0, 0]
W1.data[0, 0] += 1e-2
higher = compute_loss().item()
W1.data[0, 0] -= 2e-2
lower = compute_loss().item()
W1.data[0, 0] += 1e-2
print(f"\n∂loss/∂W1[0, 0] = {by_tape:.5f}; by central differences: {(higher - lower) / 2e-2:.5f}\n")

for step in range(1001):
    loss = compute_loss()
    for leaf in leaves.values():
        leaf.zero_grad()  # backward accumulates
    loss.backward()
    for leaf in leaves.values():
        leaf.data -= 0.5 * leaf.grad.data
    if step % 200 == 0:
        print(f"step {step:4}   loss {loss.item():.4f}")

print()
for (a, b), p in zip(x.tolist(), ops.sigmoid(network(x))[:, 0].tolist()):
    print(f"{a:.0f} xor {b:.0f} = {round(p)}   (predicted probability {p:.3f})")
