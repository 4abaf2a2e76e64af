"""Edge cases of compiling a recurrence, each of which was, or easily would be, miscompiled."""

from __future__ import annotations

import inspect
import itertools
import sys

import numpy as np
import pytest

from tests.scan.agreement import LENGTH, H, assert_close, assert_modes_agree, gradients, leaves, run
from tinygrad_gru import Tensor, checkpoint, grad, ops, scan
from tinygrad_gru.testing import gradcheck, gradgradcheck

# -- steps with unusual data flow ----------------------------------------------------------------------------------

STEPS = {  # step(carry, x, *closure), and the shapes of carry, xs and closure
    # the incoming cotangent of the carry is needed after the loop, too
    "the next carry is x": (lambda h, x: (x, ops.tanh(h * x)), [H], [H], []),
    "the carry is passed through": (lambda h, x: (h, ops.tanh(h * x)), [H], [H], []),
    "the next carry is a weight": (lambda h, x, c: (c, ops.tanh(h * x)), [H], [H], [H]),
    "the next carry is computed from a weight": (lambda h, x, c: (ops.tanh(c), h * x + c), [H], [H], [H]),
    "the next carry is a view of x": (lambda h, x: (x[:, ::2], h * x[:, 1:3]), [(3, 2)], [H], []),
    "carries are swapped": (lambda s, x: ((s[1], s[0]), s[0] * x), [H, H], [H], []),
    "carries are swapped and changed": (lambda s, x: ((s[1], ops.tanh(s[0] + x)), s[0] * x), [H, H], [H], []),
    "carries rotate": (lambda s, x: ((s[1], s[2], s[0]), (s[0] * x, s[1], s[1])), [H, H, H], [H], []),
    "carries are one node": (lambda s, x: ((s[0] + x,) * 2, s[1] * x), [H, H], [H], []),
    "carries are one computed node": (lambda s, x: ((ops.tanh(s[0] + x),) * 2, s[1] * x), [H, H], [H], []),
    "a carry is a part of another": (lambda s, x: ((s[0] * x, s[0][:, :2]), s[1]), [H, (3, 2)], [H], []),
    "a cotangent is only added up": (lambda h, x, b: (x[0], ops.tanh(x) * (h + b)), [(4,)], [H], [(4,)]),
    "the carry is not used": (lambda h, x, W: ops.tanh(x @ W), [H], [H], [(4, 4)]),
    "x is not used": (lambda h, x, W: ops.tanh(h @ W), [H], [H], [(4, 4)]),
    # outputs
    "y is a weight": (lambda h, x, c: (ops.tanh(h + x), c), [H], [H], [H]),
    "y is x, the carry, and computed from a weight": (lambda h, x, c: (h * x, (x, h, ops.exp(c))), [H], [H], [H]),
    "one node is several ys": (lambda h, x: ((y := ops.tanh(h + x)), (y, y, y)), [H], [H], []),
    "ys are views": (lambda h, x: (h * x, (ops.transpose(h), x[0], h[:, 1], h[2, 1])), [H], [H], []),
    # slices
    "slices overlap": (
        lambda h, x: (ops.concatenate([h[:, 1:] * h[:, :3], x[:, :1]], axis=1), h[:, :3] + x[:, :3] * x[:, 1:]),
        [H], [H], [],
    ),
    "slices go backwards": (lambda h, x: ops.tanh(h[::-1] * x[:, ::-1] + h[1:2, -1::-1]), [(3, 3)], [(3, 3)], []),
    "slices are empty": (lambda h, x: (h * x, x[:, 2:2] * h[:, 1:1]), [H], [H], []),
    "slices are rotated": (lambda h, x: ops.concatenate([h[:, 1:], h[:, :1]], axis=1) * x, [H], [H], []),
    "scalars are indexed": (lambda h, x: ops.tanh(h[0] * x + x[-1] * h), [(4,)], [(4,)], []),
    "an element of a sum": (lambda h, x: (ops.tanh((h + x)[1] + x), ops.tanh(h * x)[0]), [(4,)], [(4,)], []),
    # products
    "the weight is on the left": (lambda h, x, W, U: ops.tanh(W @ h + U @ x), [(4, 3)], [(4, 3)], [(4, 4)] * 2),
    "neither operand is a weight": (lambda h, x: ops.tanh(h @ ops.transpose(x) @ x), [H], [H], []),
    "the carry times itself": (lambda h, x: ops.tanh(h @ h + h @ x), [(3, 3)], [(3, 3)], []),
    "several matrices": (lambda h, x, W: (h * x, (x @ W, h @ W)), [H], [H], [(2, 4, 4)]),
    "several matrices in the loop": (lambda h, x, W: ops.tanh(ops.sum(h @ W, axis=0) + x), [H], [H], [(2, 4, 4)]),
    # weights
    "a bias after h U": (lambda h, x, W, U, b: ops.tanh(x @ W + h @ U + b), [H], [H], [(4, 4), (4, 4), (4,)]),
    "a weight for x and for h": (lambda h, x, W: ops.tanh(x @ W + h @ W), [H], [H], [(4, 4)]),
    "a bias for x and for h": (lambda h, x, b: ops.tanh(x * b + ops.tanh(x + b) * h + h * b), [H], [H], [(4,)]),
    "a weight and its transpose": (lambda h, x, W: ops.tanh(x @ W + h @ ops.transpose(W)), [H], [H], [(4, 4)]),
    "a weight is clipped": (lambda h, x, W: ops.tanh(h @ ops.clip(W, low=-0.7, high=0.9) + x), [H], [H], [(4, 4)]),
    "a weight is computed from two": (lambda h, x, W, V: ops.tanh(h @ (W * ops.exp(V)) + x), [H], [H], [(4, 4)] * 2),
    # shapes
    "a column plus a row": (lambda h, x, b: ops.tanh((h[:, :1] + b) * x), [H], [H], [(4,)]),
    "a row plus a column": (lambda h, x, b: ops.tanh((b + h[:, :1]) * x), [H], [H], [(4,)]),
    "x is wider than the carry": (lambda h, x: (ops.tanh(h + ops.sum(x, axis=0)), h * x), [(4,)], [H], []),
    "x is joined with a weight": (
        lambda h, x, c: ops.tanh(ops.concatenate([x, c], axis=1) + h), [(3, 6)], [H], [(3, 2)],
    ),
    "all is stacked with a weight": (lambda h, x, c: (h * x, ops.stack([h, x, c], axis=1)), [H], [H], [H]),
    "no axes": (lambda h, x, w: ops.tanh(w * h + x), [()], [()], [()]),
    "some have no axes": (
        lambda s, x, w: ((ops.tanh(s[0] * w + x[1]), s[1] + x[0]), s[0] * s[1]), [H, ()], [(), H], [()],
    ),
    "no batch": (lambda h, x, W: ops.tanh(h @ W + x @ W), [(0, 4)], [(0, 4)], [(4, 4)]),
    # what merge concatenates is used through views, too
    "a part of merged products is reshaped": (
        lambda h, x, A, B: ops.reshape(0.5 * ops.reshape(ops.tanh(h @ A), shape=(12,)), shape=H) + ops.tanh(h @ B) * x,
        [H], [H], [(4, 4)] * 2,
    ),
    "a part of merged products is transposed": (
        lambda h, x, A, B: ops.tanh(h @ A).T @ ops.tanh(h @ B) + x, [(4, 4)], [(4, 4)], [(4, 4)] * 2,
    ),
    "axes are moved twice": (
        lambda h, x: (
            h * x,
            ops.moveaxis(ops.moveaxis(ops.stack([h, x], axis=0), source=0, destination=2), source=0, destination=2),
        ),
        [H], [H], [],
    ),
    # operations that only look mergeable
    "gates with different scalars": (
        lambda h, x, A, B: ops.tanh(2 * (h @ A)) * ops.tanh(3 * (h @ B)) + x, [H], [H], [(4, 4)] * 2,
    ),
    "gates with different column factors": (
        lambda h, x, A, B, a, b: ops.tanh(a * (h @ A)) * ops.tanh(b * (h @ B)) + x,
        [H], [H], [(4, 4), (4, 4), (3, 1), (3, 1)],
    ),
    "gates with biases of several shapes": (
        lambda h, x, A, B, a, b: ops.tanh(h @ A + a) * ops.tanh(h @ B + b) + x, [H], [H], [(4, 4), (4, 4), H, (1, 4)],
    ),
    "gates that meet": (lambda h, x, A, B: ops.tanh(h @ A + h @ B) * x, [H], [H], [(4, 4)] * 2),
    "a gate that is an output": (
        lambda h, x, A, B: (ops.tanh(h @ A) * ops.tanh(h @ B) + x, h @ B), [H], [H], [(4, 4)] * 2,
    ),
    "a product in two sums": (
        lambda h, x, A, B: ((p := ops.tanh(h) @ A) + ops.tanh(x * h) @ B, p * x), [H], [H], [(4, 4)] * 2,
    ),
    "a sum in two sums": (
        lambda h, x, A, B: ops.tanh((s := ops.tanh(h) @ A + ops.tanh(x * h) @ B) + h) * s, [H], [H], [(4, 4)] * 2,
    ),
    "a sum of products of one row": (
        lambda h, x, A, B, C: h * x + (ops.tanh(h[:1]) @ A + ops.sin(h[1:2]) @ B) + ops.tanh(h * x) @ C,
        [H], [H], [(4, 4)] * 3,
    ),
    # decisions
    "comparisons and where": (
        lambda h, x: ops.where(h > x, ops.where(h == h, x, h), ops.where(x <= 0.1, h * x, 1.0)), [H], [H], [],
    ),
    "where with scalars": (lambda h, x: ops.where(h > 0, 1.0, -1.0) * x + 0.1 * h, [H], [H], []),
    "comparisons used as numbers": (lambda h, x: ops.tanh(h * x + (x > 0) + (x > -1)), [H], [H], []),
    "comparisons are counted": (
        lambda h, x: (h * x, (ops.sum(x > 0) * x, ops.sum(h > x, axis=1) * h[:, 0])), [H], [H], [],
    ),
    "maximum, minimum, clip": (
        lambda h, x: ops.clip(ops.maximum(h, 0.1 * x) - ops.minimum(h * x, 0.2), high=0.5), [H], [H], [],
    ),
    "powers": (lambda h, x: ops.tanh(h**2 + x**3 * 2.0**h - (1 + h * h) ** -0.5), [H], [H], []),
    "a detached carry": (lambda h, x: ops.tanh(h.detach() * x + h), [H], [H], []),
    # nested recurrences
    "a nested scan": (
        lambda h, x, b: scan(lambda a, t: ops.tanh(a * t + b), h, ops.stack([x, 0.5 * x]))[0], [H], [H], [(4,)],
    ),
    "a nested scan without xs": (lambda h, x: scan(lambda a, _: ops.tanh(a + x), h, length=2)[0], [H], [H], []),
    "a nested checkpoint": (lambda h, x, b: checkpoint(lambda a, t: ops.tanh(a * t + b), h, x), [H], [H], [(4,)]),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_steps_agree_in_both_modes(name, rng, short_chunks):
    step, carry, xs, closure = STEPS[name]
    for length, reverse in ((1, False), (LENGTH, False), (LENGTH, True)):
        inputs = leaves(rng, carry), leaves(rng, xs, length), leaves(rng, closure)
        assert_modes_agree(step, *inputs, reverse=reverse)
        # Another plan: more may share memory where nothing is kept for backward.
        assert_modes_agree(step, *([x.detach() for x in part] for part in inputs), reverse=reverse)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_some_inputs_require_no_gradient(frozen, rng, cache):
    for name in ("a bias after h U", "a weight for x and for h", "carries are one node"):
        step, *shapes = STEPS[name]
        inputs = [leaves(rng, shape, *lead) for shape, lead in zip(shapes, ((), (LENGTH,), ()))]
        inputs[frozen] = [x.detach() for x in inputs[frozen]]
        assert_modes_agree(step, *inputs)


def test_states_that_are_vectors(rng):
    for step in (lambda h, x, W: ops.tanh(W @ h + x @ W), lambda h, x, W: ops.tanh((h @ x) * h + x @ W @ h)):
        inputs = leaves(rng, [(4,)]), leaves(rng, [(4,)], LENGTH), leaves(rng, [(4, 4)])
        both = [run(step, *inputs, compiled=compiled) for compiled in (True, False)]
        flat = [x for part in inputs for x in part]
        assert_close(*([*(y.numpy() for y in ys), *gradients(ys, flat)] for ys in both))


def test_length_zero(rng):
    step, carry, xs, closure = STEPS["a bias after h U"]
    start, x, weights = leaves(rng, carry), leaves(rng, xs, 0), leaves(rng, closure)
    last, ys = run(step, start, x, weights)
    assert last is start[0] and ys.shape == (0, 3, 4)


def test_a_step_that_closes_over_its_carry(rng):
    (h,), (x,) = leaves(rng, [H]), leaves(rng, [H], LENGTH)
    assert_modes_agree(lambda carry, t, h, x: ops.tanh(carry * t + h * x[2]), [h], [x], [h, x])


def test_long_sums_do_not_recurse(rng):
    def step(h, x):
        return ops.tanh(1e-3 * sum((h * k for k in range(250)), start=x))

    inputs = leaves(rng, [H]), leaves(rng, [H], 2)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        assert_modes_agree(step, *inputs)
    finally:
        sys.setrecursionlimit(limit)


# -- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        lambda h, x: ops.tanh(h + x[0] * x[1]),
        lambda h, x: ops.tanh(h + x[0] * (x[1] / 3)),
        lambda h, x: ops.tanh(h + x[0] * (0.5 * x[1])),
        lambda h, x: ops.tanh(h + x[0] * ops.exp(-x[1])),
        lambda h, x: ops.tanh(h + x[0] * ops.mean(x[1])),
        lambda h, x: ops.tanh(h + x[0] * ops.sum(x[1])),
        lambda h, x: ops.where(x[1] < 2.5, ops.tanh(h + x[0]), h),
        lambda h, x: ops.where(x[1] == 2, ops.tanh(h + x[0]), h),
    ],
    ids=["product", "quotient", "times a float", "exp", "mean", "sum", "less than a float", "equal"],
)
def test_integer_xs(step, rng):
    counts = Tensor(rng.integers(0, 5, (LENGTH, 3, 1)))
    assert_modes_agree(step, leaves(rng, [H]), [*leaves(rng, [H], LENGTH), counts])


def test_integer_and_boolean_carries(rng):
    def step(carry, x):
        h, count, seen = carry
        return (ops.tanh(h + x), count + 1, x > h), (h * count, ops.where(seen, h, x))

    start = [*leaves(rng, [H]), Tensor(np.zeros((3, 1), np.int64)), Tensor(np.zeros(H, bool))]
    assert_modes_agree(step, start, leaves(rng, [H], LENGTH))


def test_float32_beside_float64(rng):
    """The sum h + x + b has the precision of h, in whatever order it is computed."""
    x, b = (Tensor(rng.standard_normal(shape).astype("float32"), requires_grad=True) for shape in ((LENGTH, *H), (4,)))
    start = leaves(rng, [H])
    eager = run(lambda h, x, b: ops.tanh(h + x + b), start, [x], [b], compiled=False)
    compiled = run(lambda h, x, b: ops.tanh(h + x + b), start, [x], [b], compiled=True)
    assert_close([y.numpy() for y in compiled], [y.numpy() for y in eager])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-2)])
@pytest.mark.parametrize("name", ["a bias after h U", "comparisons and where", "ys are views", "powers"])
def test_lower_precision(dtype, tolerance, name, rng, short_chunks):
    step, *shapes = STEPS[name]
    inputs = [
        [Tensor(x.numpy().astype(dtype), requires_grad=True) for x in leaves(rng, shape, *lead)]
        for shape, lead in zip(shapes, ((), (LENGTH,), ()))
    ]
    assert_modes_agree(step, *inputs, tolerance=tolerance)


def test_a_saturated_gate_warns_of_nothing(rng):
    """σ(−1000) is 0, without a warning (which is an error here)."""
    (x,) = leaves(rng, [H], LENGTH)
    assert_modes_agree(lambda h, x: ops.sigmoid(1000 * (h + x)), leaves(rng, [H]), [x])
    x = Tensor(np.full((LENGTH, *H), 200.0, "float32"))
    last, _ = scan(lambda h, x: ops.sigmoid(h - x), Tensor(np.zeros(H, "float32")), x)
    np.testing.assert_array_equal(last.numpy(), 0)


# -- masks -----------------------------------------------------------------------------------------------------------


def gru_step(h, x, W, U):
    z = ops.sigmoid(x @ W + h @ U)
    return (1 - z) * h + z * ops.tanh(x @ U + (z * h) @ W)


@pytest.mark.parametrize("mask_dtype", ["bool", "float64"])
def test_masked_steps_past_the_end_keep_the_state(mask_dtype, rng):
    lengths = np.array([LENGTH, 2, 5])
    mask = Tensor((np.arange(LENGTH)[:, None, None] < lengths[:, None]).astype(mask_dtype))
    start, (x,), weights = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)] * 2)

    def masked(h, xs, W, U):
        x, valid = xs
        return ops.where(valid if mask_dtype == "bool" else valid > 0, gru_step(h, x, W, U), h)

    assert_modes_agree(masked, start, [x, mask], weights)
    last = run(masked, start, [x, mask], weights)[0].numpy()
    for row, length in enumerate(lengths):
        alone = run(gru_step, start, [x[:length]], weights, compiled=False)[0].numpy()[row]
        np.testing.assert_allclose(last[row], alone, rtol=1e-12)


def test_a_dropout_mask_is_read_again_at_every_call(rng, cache):
    start, x, weights = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)] * 2)
    for _ in range(3):
        mask = Tensor((rng.random(H) < 0.5) / 0.5)
        assert_modes_agree(lambda h, x, W, U, m=mask: gru_step(m * h, x, W, U), start, x, weights)
    assert len(cache.plans) == 1


# -- second derivatives ----------------------------------------------------------------------------------------------

TWICE = ["a bias after h U", "carries are swapped and changed", "ys are views", "slices overlap", "powers"]


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives_against_finite_differences(name, rng):
    step, *shapes = STEPS[name]
    inputs = [0.5 * x.numpy() for shape, lead in zip(shapes, ((), (3,), ())) for x in leaves(rng, shape, *lead)]
    ends = list(itertools.accumulate(map(len, shapes)))

    def function(*tensors):
        return tuple(run(step, tensors[: ends[0]], tensors[ends[0] : ends[1]], tensors[ends[1] :]))

    gradcheck(function, inputs, rtol=1e-5)
    gradgradcheck(function, inputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives_against_eager_mode(name, reverse, rng):
    step, *shapes = STEPS[name]
    inputs = [leaves(rng, shape, *lead) for shape, lead in zip(shapes, ((), (LENGTH,), ()))]
    flat = [x for part in inputs for x in part]
    results = []
    for compiled in (True, False):
        outputs = run(step, *inputs, compiled=compiled, reverse=reverse)
        loss = sum((ops.square(y).sum() for y in outputs), start=Tensor(0.0, dtype="float64"))
        first = grad(loss, flat, create_graph=True)
        results.append(gradients(list(first), flat))
    assert_close(*results)


def test_first_and_second_derivatives_of_one_pass(rng):
    start, (x,), (W,) = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)])
    outputs = run(lambda h, x, W: ops.tanh(h @ W + x), start, [x], [W])
    before = gradients(outputs, [x, W])
    (recorded,) = grad(ops.square(outputs[1]).sum(), [W], create_graph=True)
    ops.square(recorded).sum().backward(retain_graph=True)
    assert_close(gradients(outputs, [x, W]), before, tolerance=0)
