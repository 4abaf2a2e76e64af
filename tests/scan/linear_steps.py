"""Steps that are linear and diagonal in their carry, steps that are just not, and random ones."""

from __future__ import annotations

import numpy as np

from tinygrad_gru import Tensor, ops

H = (2, 3)  # the shape of a state


# -- steps that are linear and diagonal in their carry -----------------------------------------------------------------


def min_gru(h, x, W, U):
    z = ops.sigmoid(x @ W)
    return (1 - z) * h + z * (x @ U)


def min_gru_by_difference(h, x, W, U):
    return h + ops.sigmoid(x @ W) * (x @ U - h)


def min_lstm(h, x, W, U):
    f, i = ops.sigmoid(x @ W), ops.sigmoid(x @ U)
    return f / (f + i) * h + i / (f + i) * ops.tanh(x)


def sru(c, x, W, U):
    f = ops.sigmoid(x @ W)
    c = f * c + (1 - f) * (x @ U)
    return c, f * ops.tanh(c) + (1 - f) * x


def average(h, x, W, U):
    return 0.9 * h + 0.1 * x


def sums(h, x, W, U):
    return -(x - 0.5 * h) / 2.0 - -0.5 * h


def decay_by_vector(h, x, W, U):
    return h * ops.sigmoid(U[0]) + x @ W


def decay_by_row(h, x, W, U):
    return h * ops.sigmoid(x[:, :1]) + x


def masked(h, x, W, U):
    return ops.where(x[:, :1] > -0.5, min_gru(h, x, W, U), h)


def restarted(h, x, W, U):
    return ops.where(x[:, :1] > 1.5, 0.0, min_gru(h, x, W, U))


def two_parts(carry, x, W, U):
    h, c = carry
    return (min_gru(h, x, W, U), 0.5 * c + x), h + c


def chain(carry, x, W, U):
    """The second part is an average of a layer above the first one; a third one is the input before."""
    h, c, before = carry
    h = min_gru(h, before, W, U)
    c = ops.sigmoid(h @ U) * c + ops.tanh(h @ W)
    return (h, c, x), c * h


def backwards_chain(carry, x, W, U):
    """The first part needs the second as it was."""
    h, c = carry
    return (ops.sigmoid(x) * h + ops.square(c), 0.8 * c - x @ W), ops.tanh(h)


def constant_part(carry, x, W, U):
    h, k = carry
    return (0.5 * h + k * x, k), h


def rotated(carry, x, W, U):
    """Complex numbers, as in an LRU, and an average of their real parts."""
    re, im, mean = carry
    a, b = 0.9 * ops.cos(U[0]), 0.9 * ops.sin(U[0])
    re, im = a * re - b * im + x @ W, a * im + b * re - x
    return (re, im, 0.5 * mean + re * im), re - 2.0 * im


def rotated_by_gates(carry, x, W, U):
    im, re = carry
    a, b = 0.7 * ops.sigmoid(x @ W), 0.7 * ops.tanh(x @ U)
    return (a * im + (re + x) * b, a * re - b * im), im * re


LINEAR = {
    min_gru: 1, min_gru_by_difference: 1, min_lstm: 1, sru: 1, average: 1, sums: 1, decay_by_vector: 1,
    decay_by_row: 1, masked: 1, restarted: 1, two_parts: 2, chain: 3, backwards_chain: 2, constant_part: 2,
    rotated: 3, rotated_by_gates: 2,
}  # fmt: skip


# -- steps just outside of that ----------------------------------------------------------------------------------------


def reset_by_state(h, x, W, U):
    return ops.where(h > 1.0, 0.0, 0.9 * h + x)


def rectified(h, x, W, U):
    return ops.maximum(0.9 * h + x, 0.0)


def squared(h, x, W, U):
    return 0.5 * h * h + x


def inverse(h, x, W, U):
    return x / (2.0 + ops.square(h))


def gate_sees_state(h, x, W, U):
    z = ops.sigmoid(x + 0.1 * h)
    return (1 - z) * h + z * x


def rounded(h, x, W, U):
    return (0.5 * h + x).astype("float32").astype("float64")


def times_condition(h, x, W, U):
    return -(h * (x > 0)) + x


def mixing(h, x, W, U):
    return 0.5 * (h @ W) + x


def shifted(h, x, W, U):
    return 0.5 * ops.concatenate([h[:, 1:], h[:, :1]], axis=1) + x


def centred(h, x, W, U):
    return 0.5 * (h - ops.mean(h, axis=1, keepdims=True)) + x


def in_a_circle(carry, x, W, U):
    h, c = carry
    return (0.5 * h + ops.tanh(c), 0.5 * c + h * x), h


def almost_rotated(carry, x, W, U):
    re, im = carry
    a, b = ops.sigmoid(x), ops.sigmoid(-x)
    return (a * re - b * im, a * im + 0.5 * b * re + x), re


def product_of_parts(carry, x, W, U):
    h, c = carry
    return (0.5 * h + x, ops.tanh(c) * h), c


NOT_LINEAR = {
    reset_by_state: 1, rectified: 1, squared: 1, inverse: 1, gate_sees_state: 1, rounded: 1, times_condition: 1,
    mixing: 1, shifted: 1, centred: 1, in_a_circle: 2, almost_rotated: 2, product_of_parts: 2,
}  # fmt: skip


def arguments(parts, rng, length, shape=H, dtype="float64"):
    """A carry, xs, and weights."""

    def normal(*shape):
        return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)

    return [normal(*shape) for _ in range(parts)], [normal(length, *shape)], [normal(shape[1], shape[1]) for _ in "WU"]


class RandomLinear:
    """A step drawn from a seed that is linear and diagonal in each part of its carry, given the parts before."""

    def __init__(self, seed):
        self.seed, self.parts = seed, 1 + seed % 3

    def __call__(self, carry, x, W, U):
        random = np.random.default_rng(self.seed)
        old = list(carry) if self.parts > 1 else [carry]
        pool, new = [x, ops.tanh(x @ W), ops.sigmoid(x), x[:, :1]], []

        def pick():
            return pool[random.integers(len(pool))]

        for h in random.permutation(self.parts):
            state = old[h]
            for _ in range(random.integers(1, 5)):
                p, q = pick(), pick()
                state = [
                    lambda s, h, p, q: s + p, lambda s, h, p, q: p - s, lambda s, h, p, q: ops.sigmoid(p) * s,
                    lambda s, h, p, q: ops.where(p > q, s, h), lambda s, h, p, q: ops.where(p > 0.3, q + 0 * x, s),
                    lambda s, h, p, q: ops.tanh(p) * h + 0.5 * s, lambda s, h, p, q: -s / (1.0 + ops.square(q)),
                    lambda s, h, p, q: s * 0.7,
                ][random.integers(8)](state, old[h], p, q)  # fmt: skip
            state = 0.3 * state + 0.1 * pick()
            pool += [state, ops.tanh(state @ U), old[h], ops.sigmoid(old[h])]
            new.append((h, state))
        new = [state for _, state in sorted(new, key=lambda pair: pair[0])]
        y = pool[random.integers(len(pool))] * new[0]
        return (tuple(new) if self.parts > 1 else new[0]), y
