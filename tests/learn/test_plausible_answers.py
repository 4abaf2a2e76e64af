"""Wrong solutions that are right on easy inputs: small, positive, square, of few axes. None may pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinygrad_gru.learn import EXERCISES, grade
from tinygrad_gru.learn.exercises.compiler.passes import merged, without_dead_code

RIGHT = {exercise.number: exercise.reference for exercise in EXERCISES}


class SineInPlace(RIGHT[4]):
    def sin(self):
        self.value, self.derivative = math.sin(self.value), math.cos(self.value) * self.derivative
        return self


class ProductInTheOther(RIGHT[4]):
    def __mul__(self, other):
        other.value, other.derivative = (product := super().__mul__(other)).value, product.derivative
        return other


class SumOfOneNumberTwice(RIGHT[4]):
    def __add__(self, other):
        return self if self is other else super().__add__(other)


def order_by_counts(inputs_of, root):
    """Counts a node once for each user, though a user may use it twice."""
    needed, found, ready = RIGHT[7](inputs_of, root), [], [root]
    users = {node: sum(node in inputs_of[user] for user in needed) for node in needed}
    while ready:
        node = ready.pop(0)
        found.append(node)
        for source in inputs_of[node]:
            users[source] -= 1
            ready += [source] if users[source] == 0 else []
    return found[::-1]


def gradients_by_name(edges, root):
    found = {root: 1.0}
    for node in sorted(edges, reverse=True):
        for source, derivative in edges[node] if node in found else []:
            found[source] = found.get(source, 0.0) + found[node] * derivative
    return found


def sum_one_stretched_axis(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = [axis for axis, n in enumerate(shape) if n != g.shape[axis]]
    return g.sum(axis=stretched[0], keepdims=True) if stretched else g


def softmax(shift, rest=0.0):
    def softmax(x):
        xp = x.__array_namespace__()
        e = xp.exp(x - shift(xp, x))
        return e / (xp.sum(e, axis=-1, keepdims=True) + rest)

    return softmax


def clip_if_first_is_finite(windows, limit):
    mean = [sum(parts) / len(windows) for parts in zip(*windows)]
    if not all(np.isfinite(g.flat[0]) for g in mean):
        return [np.zeros_like(g) for g in mean]
    norm = np.sqrt(sum((g * g).sum() for g in mean))
    return [g * (limit / norm) if norm > limit else g for g in mean]


def masked_mean_without_nan(losses, lengths):
    real = np.arange(len(losses))[:, None] < lengths
    return (np.where(np.isnan(losses), 0, losses) * real).sum() / real.sum(), real / real.sum()


def hoistable_to_a_depth(program, carry):
    made = {name: arguments for name, _, arguments in program}

    def depends(name, depth):
        return name in carry or (depth > 0 and any(depends(a, depth - 1) for a in made.get(name, ())))

    return [name for name in made if not depends(name, 3)]


def dead_code_in_three_rounds(program, outputs):
    program, outputs = merged(program, outputs)
    for _ in range(3):
        used = {a for _, _, arguments in program for a in arguments} | set(outputs)
        program = [record for record in program if record[0] in used]
    return program, outputs


def fuse_without_some_brackets(program):
    texts = {"x": "x[i]", "y": "y[i]"}
    for name, op, arguments in program:
        a, b = (*(texts[a] for a in arguments), "")[:2]
        texts[name] = {"-": f"{a} - {b}", "*": f"({a}) * ({b})"}.get(op, f"Math.{op}({a})")
    return texts[name]


def gradcheck_of_the_ends(f, gradient, x):
    found = RIGHT[3](f, x, 1e-5)
    return bool(abs(found - gradient)[[0, -1]].max() <= 1e-3 * abs(found).max())


ANSWERS = [
    (4, SineInPlace),
    (4, ProductInTheOther),
    (4, SumOfOneNumberTwice),
    (7, order_by_counts),
    (8, gradients_by_name),
    (9, sum_one_stretched_axis),
    (9, lambda g, shape: g.reshape(-1, *shape).sum(axis=0)),
    (13, lambda x: RIGHT[13](x).ravel()),
    (15, softmax(lambda xp, x: xp.max(x))),
    (15, softmax(lambda xp, x: xp.max(xp.abs(x), axis=-1, keepdims=True))),
    (15, softmax(lambda xp, x: xp.mean(x, axis=-1, keepdims=True))),
    (15, softmax(lambda xp, x: xp.max(x, axis=-1, keepdims=True), rest=1e-9)),
    (26, lambda inputs, hidden: float(RIGHT[26](inputs, hidden))),
    (28, clip_if_first_is_finite),
    (30, masked_mean_without_nan),
    (31, hoistable_to_a_depth),
    (31, lambda program, carry: RIGHT[31](program, carry[:1])),
    (31, lambda program, carry: sorted(RIGHT[31](program, carry))),
    (33, dead_code_in_three_rounds),
    (33, lambda p, outputs: without_dead_code(*merged(p, outputs, key=lambda op, renamed, _: renamed))),
    (34, lambda i, shape: sum(k * n for k, n in zip(i[len(i) - len(shape) :], (*shape[1:], 1)))),
    (34, lambda i, shape: RIGHT[34](i, shape) if shape else 1),
    (35, fuse_without_some_brackets),
    (38, gradcheck_of_the_ends),
    (39, lambda rule: int(RIGHT[39](rule))),
]


@pytest.mark.parametrize(("number", "answer"), ANSWERS, ids=[f"{n}-{a.__name__}" for n, a in ANSWERS])
def test_it_does_not_pass(number, answer):
    assert not grade(EXERCISES[number - 1], answer, shrink=False).passed
