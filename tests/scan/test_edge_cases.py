"""Edge cases of compiling a recurrence, each of which was, or easily would be, computed wrongly."""

from __future__ import annotations

import inspect
import itertools
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from tinygrad_gru import TapeError, Tensor, checkpoint, explain, grad, no_grad, op, ops, scan
from tinygrad_gru.backend import IDLE_POOL
from tinygrad_gru.nn import GRU, LSTM, GRUCell
from tinygrad_gru.scan import api as scan_api
from tinygrad_gru.scan import plan_cache as compiled_module
from tinygrad_gru.scan.eager import scan_eager
from tinygrad_gru.scan.passes import plan as plan_module
from tinygrad_gru.scan.plan_cache import PlanCache
from tinygrad_gru.scan.tracing.traced_array import TracedArray, Untraceable
from tinygrad_gru.scan.tracing.tracer import trace_forward
from tinygrad_gru.testing import gradcheck, gradgradcheck

LENGTH = 7


@pytest.fixture
def cache(monkeypatch):
    """An empty plan cache."""
    cache = PlanCache(8)
    monkeypatch.setattr(compiled_module, "_cache", cache)
    return cache


@pytest.fixture
def short_chunks(monkeypatch, cache):
    """Chunks of two or three steps, so that sums are accumulated over chunks."""
    monkeypatch.setattr(plan_module, "CHUNK_ROWS", 6)


def leaves(rng, shapes, *lead):
    return [Tensor(rng.standard_normal((*lead, *shape)), requires_grad=True) for shape in shapes]


def packed(tensors):
    """The structure that `scan` takes: None, one Tensor, or a tuple."""
    return tuple(tensors) if len(tensors) > 1 else tensors[0] if tensors else None


def unpacked(tensors):
    return list(tensors) if isinstance(tensors, tuple) else [] if tensors is None else [tensors]


def run(step, carry, xs, closure=(), **options):
    """All outputs of a scan of step(carry, x, *closure)."""
    last, ys = scan(lambda h, x: step(h, x, *closure), packed(carry), packed(xs), **options)
    return [*unpacked(last), *unpacked(ys)]


def gradients(outputs, inputs):
    """The gradient of a weighted sum of the outputs for every input; zeros where there is none."""
    random = np.random.default_rng(0)
    weights = [Tensor(random.standard_normal(y.shape).astype(y.dtype)) for y in outputs]
    wanted = [(y, w) for y, w in zip(outputs, weights) if y.requires_grad]
    found = grad([y for y, _ in wanted], inputs, [w for _, w in wanted], allow_unused=True, retain_graph=True)
    return [np.zeros(x.shape, x.dtype) if g is None else g.numpy() for x, g in zip(inputs, found)]


def assert_close(compiled, eager, tolerance=1e-10):
    for a, b in zip(compiled, eager, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@contextmanager
def really_compiling():
    """In this block a step that cannot be compiled is an error; a nested scan runs eagerly, on traced arrays."""

    def refuse(step, carry, xs, **options):
        if isinstance(unpacked(carry)[0].data, TracedArray):
            return scan_eager(step, carry, xs, **options)
        raise AssertionError(explain(step, carry, xs))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_api, "scan_eager", refuse)
        yield


def assert_modes_agree(step, carry, xs=(), closure=(), tolerance=1e-10, **options):
    """Compare values, and gradients of all outputs together and of each alone; raise if the step is not compiled."""
    eager = run(step, carry, xs, closure, compiled=False, **options)
    with really_compiling():
        compiled = run(step, carry, xs, closure, compiled=True, **options)
    assert_close([y.numpy() for y in compiled], [y.numpy() for y in eager], tolerance)
    inputs = [x for x in (*carry, *xs, *closure) if x.requires_grad]
    for used in ([*range(len(eager))], *([k] for k in range(len(eager)))):
        if any(eager[k].requires_grad for k in used):
            both = ([outputs[k] for k in used] for outputs in (compiled, eager))
            assert_close(*(gradients(outputs, inputs) for outputs in both), tolerance)


# -- steps with unusual data flow ----------------------------------------------------------------------------------

H = (3, 4)  # the shape of a state
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
    # what looks as if it could be merged
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


# -- closed-over values -----------------------------------------------------------------------------------------------

FROM_WEIGHTS = {
    "times a mask": lambda W, m: W * m,
    "where": lambda W, m: ops.where(m > 0, W, 0.5 * W),
    "squared": lambda W, m: ops.square(W),
    "exp": lambda W, m: ops.exp(W),
    "at least": lambda W, m: ops.maximum(W, 0.3 * m),
    "softmax": lambda W, m: ops.softmax(W + m),
    "normalized": lambda W, m: W / ops.sqrt(ops.sum(ops.square(W), axis=0, keepdims=True)) * m,
}


@pytest.mark.parametrize("name", FROM_WEIGHTS)
def test_values_computed_from_weights_alone_are_recomputed(name, rng, cache):
    """Two models of one architecture share a plan, but no values."""
    make = FROM_WEIGHTS[name]
    start, x = leaves(rng, [H]), leaves(rng, [H], LENGTH)
    for _ in range(3):
        mask, weights = rng.standard_normal((4, 4)), leaves(rng, [(4, 4)])
        assert_modes_agree(lambda h, x, W, m=mask: ops.tanh(h @ make(W, Tensor(m)) + x), start, x, weights)
        assert_modes_agree(lambda h, x, W, m=mask: ops.tanh(h @ make(W, m) + x), start, x, weights)
    assert len(cache.plans) <= 2


def test_closed_over_arrays_are_read_at_every_call(rng, cache):
    start, x = leaves(rng, [H]), leaves(rng, [H], LENGTH)
    array = rng.standard_normal(H)
    for change in ("none", "its content", "another array"):
        if change == "its content":
            array[...] = rng.standard_normal(H)
        elif change == "another array":
            array = rng.standard_normal(H)
        assert_modes_agree(lambda h, x, a=array: ops.tanh(h * a + x), start, x)
    assert len(cache.plans) == 1


def test_one_array_used_twice_and_two_arrays_are_different_programs(rng, cache):
    start, x, (a, b) = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [H, H])
    for closure in ([a, a], [a, b], [b, b]):
        assert_modes_agree(lambda h, x, a, b: ops.tanh(h * a + x * b), start, x, closure)
    assert len(cache.plans) == 2


@pytest.mark.parametrize("scalars", [(0.5, -2.0, 0.5), (1, 1.0, True), (2, 2.5), (math.inf, 3.0)])
def test_scalars_that_change_between_calls(scalars, rng, cache):
    start, x, weights = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)])
    for scalar in scalars:
        step = lambda h, x, W, k=scalar: ops.tanh(ops.minimum(h @ W, k) + x * (1.0 if math.isinf(k) else k))  # noqa: E731
        assert_modes_agree(step, start, x, weights)


def test_nan_makes_no_new_plan(rng, cache):
    x, start = Tensor(np.ones((1, 2))), Tensor(np.ones(2))
    for _ in range(3):
        last, _ = scan(lambda h, x: ops.where(x > 0, h * float("nan"), h), start, x)
        assert np.isnan(last.numpy()).all()
    assert len(cache.plans) == 1


def test_zero_and_negative_zero_are_different_scalars(rng):
    x, start = Tensor(np.ones((1, 2))), Tensor(np.ones(2))
    signs = []
    for zero in (0.0, -0.0):
        last, _ = scan(lambda h, x, k=zero: h * k, start, x)
        signs.append(np.signbit(last.numpy()).tolist())
    assert signs == [[False] * 2, [True] * 2]


def test_requires_grad_may_change_between_calls(rng):
    for wanted in itertools.product([False, True], repeat=3):
        inputs = [
            [Tensor(x.numpy(), requires_grad=yes) for x in leaves(rng, [shape], *lead)]
            for yes, shape, lead in zip(wanted, (H, H, (4, 4)), ((), (LENGTH,), ()))
        ]
        assert_modes_agree(lambda h, x, W: ops.tanh(h @ W + x), *inputs)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("which", ["weight", "x"])
def test_a_write_between_forward_and_backward_raises(which, compiled, rng):
    start, (x,), (W,) = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)])
    last, _ = run(lambda h, x, W: ops.tanh(h @ W + x * x), start, [x], [W], compiled=compiled)
    written = {"weight": W, "x": x}[which]
    written.data[...] *= 2
    written.mark_changed()
    with pytest.raises(TapeError, match="changed in place"):
        last.sum().backward()


def test_backward_uses_the_weight_of_its_forward(rng):
    start, x, (W,) = leaves(rng, [H]), leaves(rng, [H], LENGTH), leaves(rng, [(4, 4)])
    expected = gradients(run(lambda h, x, W: ops.tanh(h @ W + x), start, x, [W]), [W, *x])
    outputs = run(lambda h, x, W: ops.tanh(h @ W + x), start, x, [W])
    W.data = 2 * W.data
    assert_close(gradients(outputs, [W, *x]), expected)


# -- steps that run eagerly ------------------------------------------------------------------------------------------


KNOWN_LATE = "values that are known only when it runs"


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda h, x: h + x if ops.sum(x) > 0 else h, KNOWN_LATE),
        (lambda h, x: h + (x if x[0, 0] else h), KNOWN_LATE),
        (lambda h, x: h * max(x[0, 0], h[0, 0]), KNOWN_LATE),
        (lambda h, x: h * float(ops.sum(x)), KNOWN_LATE),
        (lambda h, x: h + x.numpy(), KNOWN_LATE),
        (lambda h, x: h + x[:, np.array([0, 1, 1, 2])], "indexes with an array|array function"),
        (lambda h, x: ops.dropout(h, p=0.5) + x, "random numbers"),
    ],
    ids=["if", "if an element", "max", "float", "numpy", "an index of an array", "dropout"],
)
def test_steps_that_depend_on_values_run_eagerly_and_say_why(step, reason, rng, request):
    (start,), (x,) = leaves(rng, [H]), leaves(rng, [H], LENGTH)
    with pytest.raises(Untraceable, match=reason):
        trace_forward(step, start, x)
    results = []
    for compiled in (True, False):
        request.getfixturevalue("seeded")
        outputs = run(step, [start], [x], compiled=compiled)
        results.append([*(y.numpy() for y in outputs), *gradients(outputs, [start, x])])
    if request.node.callspec.id != "dropout":
        assert_close(*results, tolerance=0)


@op
def cubed(x):
    """y = x³"""
    return x * x * x


cubed.vjp(x=lambda g, x: g * np.float64(3) * np.square(x))  # a rule that traced arrays do not support


def test_explain_says_why_only_backward_cannot_be_compiled():
    x, start = Tensor(np.ones((3, 2)), requires_grad=True), Tensor(np.ones(2))
    text = explain(lambda h, x: h * cubed(x), start, x)
    assert text.startswith("This step runs eagerly") and "on traced arrays it fails" in text
    scan(lambda h, x: h * cubed(x), start, x)[0].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((3, 2), 3.0))


def test_both_modes_check_the_carry():
    x, start = Tensor(np.ones((2, 3))), Tensor(np.ones(3))
    for step in (
        lambda h, x: h.astype("float32"), lambda h, x: h[:2], lambda h, x: ((h, h), x), lambda h, x: h[None, ...],
        lambda h, x: None,
    ):  # fmt: skip
        errors = []
        for compiled in (False, True):
            with pytest.raises(ValueError, match="carry must keep its parts, shapes and dtypes") as raised:
                scan(step, start, x, compiled=compiled)
            errors.append(str(raised.value))
        assert errors[0] == errors[1]


def test_errors_in_the_step_are_the_same_in_both_modes():
    x, start = Tensor(np.ones((2, 3, 4))), Tensor(np.ones((3, 5)))
    errors = []
    for compiled in (False, True):
        with pytest.raises(ValueError, match="add") as raised:
            scan(lambda h, x: h + x, start, x, compiled=compiled)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


# -- several passes at once ------------------------------------------------------------------------------------------


def pending(x, W):
    """A forward pass whose backward has not run."""
    x = Tensor(x, requires_grad=True)
    outputs = run(lambda h, x, W: ops.tanh(h @ W + x), [Tensor(np.zeros(H))], [x], [W])
    return x, outputs


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("dropped", [None, 0, 1])
def test_backward_passes_in_any_order(count, dropped, rng, cache):
    arrays, (W,) = rng.standard_normal((count, LENGTH, *H)), leaves(rng, [(4, 4)])
    alone = [gradients(outputs, [x, W]) for x, outputs in (pending(array, W) for array in arrays)]
    for order in itertools.permutations(range(count)):
        waiting = [pending(array, W) for array in arrays]
        if dropped is not None:
            waiting[dropped] = None
            waiting.append(pending(rng.standard_normal((LENGTH, *H)), W))  # it may take the place of the other
        for k in order:
            if k != dropped:
                x, outputs = waiting[k]
                assert_close(gradients(outputs, [x, W]), alone[k], tolerance=0)
                assert_close(gradients(outputs, [x, W]), alone[k], tolerance=0)  # and once more
    assert len(cache.plans) == 1


def test_results_of_a_pass_are_not_overwritten_by_the_next(rng, cache):
    arrays, (W,) = rng.standard_normal((3, LENGTH, *H)), leaves(rng, [(4, 4)])
    given = []
    for array in arrays:
        x, outputs = pending(array, W)
        given += [*outputs, *grad([y.sum() for y in outputs], [x, W])]
    kept = [tensor.numpy() for tensor in given]
    for array in arrays[::-1]:
        x, outputs = pending(array, W)
        gradients(outputs, [x, W])
    assert_close([tensor.numpy() for tensor in given], kept, tolerance=0)
    assert len(cache.plans) == 1


def test_pending_passes_of_several_lengths_and_directions(rng, cache):
    (W,) = leaves(rng, [(4, 4)])
    cases = [(leaves(rng, [H]), leaves(rng, [H], length), reverse) for length in (1, 5, 9) for reverse in (False, True)]

    def go(case, compiled):
        start, x, reverse = case
        return run(lambda h, x, W: ops.tanh(h @ W + x), start, x, [W], reverse=reverse, compiled=compiled)

    waiting = [go(case, True) for case in cases]
    for case, outputs in reversed([*zip(cases, waiting)]):
        inputs = [*case[0], *case[1], W]
        assert_close(gradients(outputs, inputs), gradients(go(case, False), inputs))
    assert len(cache.plans) == 1


def test_a_scan_over_the_outputs_of_another(rng):
    """Both have one plan; the second one's xs are the first one's ys, and its carry the first one's last."""
    weights, start, x = leaves(rng, [(4, 4)]), leaves(rng, [H]), leaves(rng, [H], LENGTH)
    results = []
    for compiled in (False, True):
        step = partial(run, lambda h, x, W: ops.tanh(h @ W + x), closure=weights, compiled=compiled)
        last, ys = step(start, x)
        outputs = [*step([last], [ys]), last, ys]
        results.append([*(y.numpy() for y in outputs), *gradients(outputs, [*weights, *start, *x])])
    assert_close(results[1], results[0])


def test_a_pass_after_an_error(rng, cache):
    cell, x = GRUCell(4, 4, dtype="float64"), leaves(rng, [H], LENGTH)
    start = [cell.initial_state(3)]
    step = lambda h, x: cell.step(h, x)  # noqa: E731
    before = gradients(run(step, start, x), x)
    (plan,) = cache.steps
    function, plan.forward.function = plan.forward.function, lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run(step, start, x)
    plan.forward.function = function
    assert_close(gradients(run(step, start, x), x), before, tolerance=0)


def test_backward_in_other_threads(rng, cache):
    arrays, (W,) = rng.standard_normal((12, LENGTH, *H)), leaves(rng, [(4, 4)])
    alone = [gradients(outputs, [x, W]) for x, outputs in (pending(array, W) for array in arrays)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            waiting = list(pool.map(lambda array: pending(array, W), arrays))
            found = pool.map(lambda pair: gradients(pair[1], [pair[0], W]), reversed(waiting))
            for mine, right in zip(found, reversed(alone)):
                assert_close(mine, right, tolerance=0)
    assert len(cache.plans) == 1


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_type", [GRU, LSTM])
def test_inference_stores_only_its_outputs_over_time(layer_type, short_chunks, cache):
    """Only x and the output h grow with the length; an LSTM's c is only carried."""
    batch, size, hidden, held = 8, 3, 16, []
    layer = layer_type(size, hidden)
    for length in (100, 200):
        with no_grad():
            layer(Tensor(np.zeros((length, batch, size), "float32")))
        (plan,) = cache.steps
        workspaces = IDLE_POOL.acquire((plan, length, False))
        assert not workspaces.backwards and IDLE_POOL.acquire((plan, length, False)) is None
        held.append(workspaces.size())
    assert held[1] - held[0] == 100 * batch * (size + hidden) * 4


def test_a_dropped_pass_releases_its_workspace(rng, cache):
    (W,) = leaves(rng, [(4, 4)])
    array = rng.standard_normal((LENGTH, *H))
    for _ in range(5):
        pending(array, W)
    (plan,) = cache.steps
    assert IDLE_POOL.acquire((plan, LENGTH, False)) is not None and IDLE_POOL.acquire((plan, LENGTH, False)) is None


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
