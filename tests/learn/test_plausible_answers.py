"""Wrong solutions that are right on easy inputs: small, positive, square, of few axes. None may pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinygrad_gru
from tinygrad_gru import Tensor, grad, ops, vjp
from tinygrad_gru.learn import EXERCISES, grade
from tinygrad_gru.learn.exercises.compiler.passes import merged, without_dead_code

RIGHT = {exercise.number: exercise.reference for exercise in EXERCISES}


class SineInPlace(RIGHT[4]):
    def sin(self):
        self.value, self.derivative = math.sin(self.value), math.cos(self.value) * self.derivative
        return self


class ProductInPlace(RIGHT[4]):
    def __mul__(self, other):
        self.value, self.derivative = (product := super().__mul__(other)).value, product.derivative
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


def silu_without_a_rule(x):
    return x * ops.sigmoid(x)


def order_along_all_paths(inputs_of, root):
    def paths(node):
        return [n for source in inputs_of[node] for n in paths(source)] + [node]

    return list(dict.fromkeys(paths(root)))


def masked_mean_of_numbers(losses, lengths):
    real = np.arange(len(losses))[:, None] < lengths
    return np.where(np.isnan(losses) | ~real, 0, losses).sum() / real.sum(), real / real.sum()


def product_beside_einsum(xs, gs, matmul):
    matmul(np.zeros((1, 1)), np.zeros((1, 1)))
    return np.einsum("tbi,tbh->ih", xs, gs)


def fuse_as_python(program):
    texts = {"x": "x[i]", "y": "y[i]"}
    for name, op, arguments in program:
        a, b = (*(texts[a] for a in arguments), "")[:2]
        texts[name] = {"-": f"({a}).__sub__({b})", "*": f"({a} * {b})"}.get(op, f"Math.{op}({a})")
    return texts[name]


def jvp_from_the_jacobian(f, x, t):
    y, pull = vjp(f, x)
    return np.array([pull(Tensor(row))[0].numpy() for row in np.eye(len(y))]) @ t.numpy()


def jvp_by_differences(f, x, t):
    a, b = ((f(x + s * t) - f(x - s * t)) / (2 * s) for s in (1e-3, 2e-3))
    return (4 * a - b) / 3


def hvp_from_the_hessian(f, x, v):
    g = grad(f(x), x, create_graph=True)
    return np.stack([grad(g[i], x, create_graph=True).numpy() for i in range(2)]) @ v.numpy()


def hvp_by_differences(f, x, v):
    def gradient(s):
        there = Tensor((x + s * v).numpy(), requires_grad=True)
        return grad(f(there), there)

    a, b = ((gradient(s) - gradient(-s)) / (2 * s) for s in (1e-3, 2e-3))
    return (4 * a - b) / 3


def differences(f, x):
    return RIGHT[3](f, x, 1e-5)


def norm_and_scale(gradients, limit):
    xp = gradients[0].__array_namespace__()
    norm = xp.sqrt(sum(xp.sum(g * g) for g in gradients))
    return xp, norm, limit / norm


def clip_by_nonzero(gradients, limit):
    xp, norm, scale = norm_and_scale(gradients, limit)
    return [g * scale for g in gradients] if xp.nonzero(xp.reshape(norm > limit, (1,)))[0].shape[0] else list(gradients)


def clip_by_booleans(gradients, limit):
    xp, norm, scale = norm_and_scale(gradients, limit)
    norm = xp.reshape(norm, (1,))
    return [g * scale for g in gradients] if norm[norm > limit].shape[0] else list(gradients)


ANSWERS = [
    (4, SineInPlace),
    (4, ProductInPlace),
    (4, ProductInTheOther),
    (4, SumOfOneNumberTwice),
    (5, lambda tape, inputs: RIGHT[5](tape[:5], inputs)),
    (7, order_by_counts),
    (7, order_along_all_paths),
    (7, lambda inputs_of, root: RIGHT[7]({n: inputs_of[n][:2] for n in inputs_of}, root)),
    (8, gradients_by_name),
    (9, sum_one_stretched_axis),
    (9, lambda g, shape: g.reshape(-1, *shape).sum(axis=0)),
    (12, silu_without_a_rule),
    (12, ops.silu),
    (12, tinygrad_gru.op(silu_without_a_rule)),
    (13, lambda x: RIGHT[13](x).ravel()),
    (15, softmax(lambda xp, x: xp.max(x))),
    (15, softmax(lambda xp, x: xp.max(xp.abs(x), axis=-1, keepdims=True))),
    (15, softmax(lambda xp, x: xp.mean(x, axis=-1, keepdims=True))),
    (15, softmax(lambda xp, x: xp.max(x, axis=-1, keepdims=True), rest=1e-9)),
    (16, clip_by_booleans),
    (16, clip_by_nonzero),
    (17, lambda x, *rest: RIGHT[17](x[:5], *rest)),
    (18, lambda x, h0, U, h, g: RIGHT[18](x[-3:], h0 if len(x) < 4 else h[-4], U, h[-3:], g[-3:])),
    (19, lambda h, U: np.append(np.zeros(len(h[:-3])), RIGHT[19](h[-3:], U))),
    (26, lambda inputs, hidden: float(RIGHT[26](inputs, hidden))),
    (28, clip_if_first_is_finite),
    (29, lambda xs, starts, h, w: RIGHT[29](xs, starts & (np.arange(len(xs)) < 3)[:, None], h, w)),
    (30, masked_mean_of_numbers),
    (30, masked_mean_without_nan),
    (31, hoistable_to_a_depth),
    (31, lambda program, carry: RIGHT[31](program, carry[:1])),
    (31, lambda program, carry: sorted(RIGHT[31](program, carry))),
    (32, product_beside_einsum),
    (
        33,
        lambda p, outputs: without_dead_code(
            *merged(p, outputs, lambda op, a, _: (op, *(sorted(a) if op == "mul" else a)))
        ),
    ),
    (33, dead_code_in_three_rounds),
    (33, lambda p, outputs: without_dead_code(*merged(p, outputs, key=lambda op, renamed, _: renamed))),
    (34, lambda i, shape: sum(k * n for k, n in zip(i[len(i) - len(shape) :], (*shape[1:], 1)))),
    (34, lambda i, shape: RIGHT[34](i, shape) if shape else 1),
    (35, fuse_as_python),
    (35, fuse_without_some_brackets),
    (36, jvp_by_differences),
    (36, jvp_from_the_jacobian),
    (37, hvp_by_differences),
    (37, hvp_from_the_hessian),
    (38, lambda f, gradient, x: bool((abs(differences(f, x) - gradient) <= 1e-3 * abs(gradient)).all())),
    (
        38,
        lambda f, gradient, x: math.isclose(np.linalg.norm(differences(f, x)), np.linalg.norm(gradient), rel_tol=1e-3),
    ),
    (38, gradcheck_of_the_ends),
    (39, lambda rule: int(RIGHT[39](rule))),
]


@pytest.mark.parametrize(("number", "answer"), ANSWERS, ids=[f"{n}-{a.__name__}" for n, a in ANSWERS])
def test_it_does_not_pass(number, answer):
    assert not grade(EXERCISES[number - 1], answer, shrink=False).passed


def clip_by_vector_norm(gradients, limit):
    xp = gradients[0].__array_namespace__()
    norm = xp.linalg.norm(xp.concatenate([xp.reshape(g, (-1,)) for g in gradients]))
    return [g * xp.minimum(limit / norm, 1.0) for g in gradients]


def is_right_with_numbers(rule):
    random = np.random.default_rng(0)
    for a, b in [
        ((), (3,)),
        ((3,), ()),
        ((), ()),
        ((2, 1), (2, 3)),
        ((1, 3), (2, 1)),
        ((2, 1), (1, 3)),
        ((2, 3), (3,)),
    ]:
        a, b = np.array(random.normal(size=a)), np.array(random.normal(size=b))
        g = random.normal(size=np.shape(a * b))
        for found, own, other in zip(rule(g, a, b), (a, b), (b, a)):
            expected = RIGHT[9](np.asarray(g * other), own.shape)
            if np.shape(found) != own.shape or not np.allclose(found, expected):
                return False
    return True


def fuse_with_many_brackets(program):
    texts = {"x": "(x[i])", "y": "( y[i] )"}
    for name, op, arguments in program:
        a, b = (*(texts[a] for a in arguments), "")[:2]
        texts[name] = f"(({a}){op}({b}))" if b else f"Math.{op}( {a} )"
    return texts[name]


def jvp_with_a_call_of_its_own(f, x, t):
    v = f(x) * 0 + 1
    return vjp(lambda v: vjp(f, x)[1](v)[0], v)[1](t)[0]


def norm_of_the_deviation(f, gradient, x):
    found = RIGHT[3](f, x, 1e-5)
    return bool(np.linalg.norm(found - gradient) <= 1e-3 * np.linalg.norm(found))


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (16, clip_by_vector_norm),
        (35, fuse_with_many_brackets),
        (36, jvp_with_a_call_of_its_own),
        (38, norm_of_the_deviation),
        (39, is_right_with_numbers),
    ],
)
def test_another_right_answer_passes(number, answer):
    verdict = grade(EXERCISES[number - 1], answer, shrink=False)
    assert verdict.passed, str(verdict)
