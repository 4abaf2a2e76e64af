"""Learn XOR with Tensors alone: no layers, no optimizer.

What one learns here: a Tensor with requires_grad=True is a leaf; what is computed from it is recorded on the tape;
`backward` walks the tape from its end and leaves ∂loss/∂leaf in `leaf.grad`; and learning is to take a small step
against that, again and again.

    python examples/xor_by_hand.py
"""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, ops, tape

x = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
truth = Tensor([[0.0], [1.0], [1.0], [0.0]])

random = np.random.default_rng(0)
leaves = {
    "W1": Tensor(random.standard_normal((2, 8)), dtype="float32", requires_grad=True),
    "b1": Tensor(np.zeros(8), dtype="float32", requires_grad=True),
    "W2": Tensor(random.standard_normal((8, 1)), dtype="float32", requires_grad=True),
    "b2": Tensor(np.zeros(1), dtype="float32", requires_grad=True),
}
for name, leaf in leaves.items():
    leaf.name = name  # what the tape is to call it
W1, b1, W2, b2 = leaves.values()


def network(x: Tensor) -> Tensor:
    """The logits of exactly one of the two inputs being 1; σ of a logit is a probability."""
    return ops.tanh(x @ W1 + b1) @ W2 + b2


def loss_now() -> Tensor:
    return ops.binary_cross_entropy_with_logits(network(x), truth)


loss = loss_now()
print("What the loss was made of, in the order in which it was computed:\n")
print(tape(loss))

loss.backward()
by_tape = W1.grad.numpy()[0, 0]
W1.data[0, 0] += 1e-2
higher = loss_now().item()
W1.data[0, 0] -= 2e-2
lower = loss_now().item()
W1.data[0, 0] += 1e-2
print(f"\n∂loss/∂W1[0, 0] = {by_tape:.5f}; by moving W1[0, 0] a little either way: {(higher - lower) / 2e-2:.5f}\n")

for step in range(1001):
    loss = loss_now()
    for leaf in leaves.values():
        leaf.zero_grad()  # backward adds to what is there
    loss.backward()
    for leaf in leaves.values():
        leaf.data -= 0.5 * leaf.grad.data
    if step % 200 == 0:
        print(f"step {step:4}   loss {loss.item():.4f}")

print()
for (a, b), p in zip(x.tolist(), ops.sigmoid(network(x))[:, 0].tolist()):
    print(f"{a:.0f} xor {b:.0f} = {round(p)}   (the network says 1 with probability {p:.3f})")
