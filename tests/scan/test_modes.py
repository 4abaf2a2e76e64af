import numpy as np
import pytest

from tinygrad_gru import AnomalyError, Tensor, detect_anomaly, grad, no_grad, ops
from tinygrad_gru.scan import scan
from tinygrad_gru.testing import gradcheck, gradgradcheck

pytestmark = [
    pytest.mark.usefixtures("mode"),
    pytest.mark.filterwarnings("ignore::tinygrad_gru.scan.NotCompiledWarning"),
]


def leaf(values):
    return Tensor(np.asarray(values, dtype="float64"), requires_grad=True)


def ones(*shape, dtype="float64"):
    return Tensor(np.ones(shape), dtype=dtype)


# -- what it computes ----------------------------------------------------------------------------------------------


def test_a_running_sum(rng):
    x = rng.standard_normal((5, 2))
    carry, ys = scan(lambda total, x: total + x, Tensor(np.zeros(2)), Tensor(x))
    np.testing.assert_allclose(ys.numpy(), np.cumsum(x, axis=0), atol=1e-15)
    np.testing.assert_array_equal(carry.numpy(), ys.numpy()[-1])


def test_a_step_may_return_a_y_of_any_shape(rng):
    x = rng.standard_normal((5, 2))
    carry, ys = scan(lambda total, x: (total + x, ops.sum(2 * x)), Tensor(np.zeros(2)), Tensor(x))
    np.testing.assert_allclose(carry.numpy(), x.sum(axis=0), atol=1e-15)
    np.testing.assert_allclose(ys.numpy(), 2 * x.sum(axis=1), atol=1e-15)


def test_y_may_read_the_carry_before_or_after_the_update():
    x = Tensor(np.arange(1.0, 5.0).reshape(4, 1))
    _, before = scan(lambda total, x: (total + x, total), Tensor(np.zeros(1)), x)
    _, after = scan(lambda total, x: (total + x, total + x), Tensor(np.zeros(1)), x)
    assert before.tolist() == [[0], [1], [3], [6]]
    assert after.tolist() == [[1], [3], [6], [10]]


def test_several_carries_of_different_shapes(rng):
    """Fibonacci numbers, and a count of another shape and dtype beside them."""

    def step(carry, _):
        a, b, count = carry
        return b, a + b, count + 1

    (a, b, count), ys = scan(step, (Tensor([0.0]), Tensor([1.0]), Tensor([[0]])), length=10)
    assert (a.tolist(), b.tolist(), count.tolist()) == ([55.0], [89.0], [[10]])
    assert ys.numpy().ravel().tolist() == [1, 1, 2, 3, 5, 8, 13, 21, 34, 55], "the first part is the output"


def test_several_carries_and_several_ys(rng):
    def step(carry, x):
        a, b = carry
        return (a + x, b * x), (a, x + b)

    x = rng.standard_normal((4, 2))
    (a, b), (first, second) = scan(step, (Tensor(np.zeros(2)), Tensor(np.ones(2))), Tensor(x))
    np.testing.assert_allclose(a.numpy(), x.sum(axis=0), atol=1e-15)
    np.testing.assert_allclose(b.numpy(), x.prod(axis=0), atol=1e-15)
    np.testing.assert_allclose(first.numpy(), np.cumsum(x, axis=0) - x, atol=1e-15)
    products = np.concatenate([np.ones((1, 2)), np.cumprod(x, axis=0)[:-1]])
    np.testing.assert_allclose(second.numpy(), x + products, atol=1e-15)


def test_several_xs(rng):
    x, scale = rng.standard_normal((4, 2)), rng.standard_normal(4)
    carry, _ = scan(lambda total, xs: total + xs[0] * xs[1], Tensor(np.zeros(2)), (Tensor(x), Tensor(scale)))
    np.testing.assert_allclose(carry.numpy(), scale @ x, atol=1e-15)


def test_ys_is_none_for_a_step_without_y():
    carry, ys = scan(lambda total, x: (total + x, None), Tensor([0.0]), Tensor([[1.0], [2.0]]))
    assert carry.tolist() == [3.0] and ys is None


def test_length_without_xs():
    seen = []
    carry, ys = scan(lambda total, x: seen.append(x) or 2 * total, Tensor([1.0]), length=4)
    assert set(seen) == {None} and carry.tolist() == [16.0] and ys.shape == (4, 1)


def test_reverse_stacks_each_y_at_the_position_of_its_x(rng):
    x = rng.standard_normal((5, 2))
    carry, ys = scan(lambda total, x: total + x, Tensor(np.zeros(2)), Tensor(x), reverse=True)
    np.testing.assert_allclose(ys.numpy(), np.cumsum(x[::-1], axis=0)[::-1], atol=1e-15)
    np.testing.assert_array_equal(carry.numpy(), ys.numpy()[0])


def test_a_single_step():
    carry, ys = scan(lambda total, x: (total + x, 3 * x), Tensor([1.0]), Tensor([[2.0]]))
    assert (carry.tolist(), ys.tolist()) == ([3.0], [[6.0]])


@pytest.mark.parametrize("xs", [ones(0, 2), np.ones((0, 2)), (ones(0, 2), ones(0))])
def test_length_zero_returns_the_carry_and_empty_ys(xs):
    def step(carry, x):
        x, _ = x if isinstance(x, tuple) else (x, None)
        return (carry[0] + x, carry[1]), (x, ops.sum(x), carry[1])

    start = (leaf([1.0, 2.0]), Tensor([[3]]))
    carry, ys = scan(step, start, xs)
    assert carry == start
    assert [y.shape for y in ys] == [(0, 2), (0,), (0, 1, 1)]
    assert ys[0].dtype == np.float64 and ys[2].dtype == start[1].dtype
    carry[0].sum().backward()
    assert start[0].grad.tolist() == [1.0, 1.0]


def test_length_zero_without_y_and_without_xs():
    assert scan(lambda total, x: (total, None), Tensor([1.0]), length=0)[1] is None
    assert scan(lambda total, x: total, Tensor([1.0]), length=0)[1].shape == (0, 1)


# -- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_carry_xs_and_closed_over_tensors(rng, reverse):
    def run(h, c, x, scale, W, bias):
        def step(carry, xs):
            h, c = carry
            x, s = xs
            h_new = ops.tanh(x * s + h @ W + bias)
            return (h_new, 0.5 * c + h_new * x), (h * c, ops.sum(c))

        (h, c), (y, total) = scan(step, (h, c), (x, scale), reverse=reverse)
        return h, c, y, total

    inputs = [rng.standard_normal(shape) for shape in [(2, 3), (2, 3), (4, 2, 3), (4, 1, 1), (3, 3), (3,)]]
    gradcheck(run, inputs, full=True, rtol=1e-5)
    gradgradcheck(run, inputs, rtol=1e-5, atol=1e-7)


def test_gradient_of_a_linear_recurrence_in_closed_form():
    """h' = w h + x: h_T = wᵀ h_0 + Σ w^(T−t) x_t"""
    w, h, x = leaf(0.9), leaf(2.0), leaf(np.linspace(-1, 1, 6))
    last, _ = scan(lambda h, x: w * h + x, h, x)
    last.backward()
    powers = 0.9 ** np.arange(5, -1, -1)
    np.testing.assert_allclose(h.grad.numpy(), 0.9**6, rtol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), powers, rtol=1e-14)
    slope = 6 * 0.9**5 * 2 + sum((5 - t) * 0.9 ** (4 - t) * x.numpy()[t] for t in range(5))
    np.testing.assert_allclose(w.grad.numpy(), slope, rtol=1e-13)


def test_unused_y_has_no_gradient():
    h, x = leaf([1.0]), leaf([[2.0], [3.0]])
    carry, (used, unused) = scan(lambda h, x: (h * x, (h + x, h - x)), h, x)
    used.sum().backward(retain_graph=True)
    assert h.grad.tolist() == [1 + 2.0] and x.grad.tolist() == [[1 + 1.0], [1.0]]
    (by_carry,) = grad(carry.sum(), [h])
    assert by_carry.tolist() == [6.0]
    assert unused.requires_grad


def test_a_detached_carry_stops_the_gradient():
    h, x = leaf([1.0]), leaf([[2.0], [3.0]])
    scan(lambda h, x: h.detach() * x, h, x)[1].sum().backward()
    assert h.grad is None
    assert x.grad.tolist() == [[1.0], [2.0]]


def test_no_grad_records_nothing():
    with no_grad():
        carry, ys = scan(lambda h, x: h * x, leaf([1.0]), leaf([[2.0], [3.0]]))
    assert not carry.requires_grad and not ys.requires_grad


def test_the_dtype_is_kept():
    h, x = Tensor([1.0], requires_grad=True), ones(3, 1, dtype="float32")
    carry, ys = scan(lambda h, x: 0.5 * h + x, h, x)
    ys.sum().backward()
    assert carry.dtype == ys.dtype == h.grad.dtype == np.float32


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step, given, returned",
    [
        (lambda h, x: ops.expand_dims(h, axis=0), r"\(2,\) float64", r"\(1, 2\) float64"),
        (lambda h, x: ops.sum(h), r"\(2,\) float64", r"\(\) float64"),
        (lambda h, x: h.astype("float32"), r"\(2,\) float64", r"\(2,\) float32"),
        (lambda h, x: None, r"\(2,\) float64", "None"),
        (lambda h, x: [h], r"\(2,\) float64", r"\[\(2,\) float64\]"),
        (lambda h, x: h.numpy(), r"\(2,\) float64", "ndarray"),
        (lambda h, x: ((h, h), h), r"\(2,\) float64", r"\(\(2,\) float64, \(2,\) float64\)"),
    ],
)
def test_a_carry_that_changes_shape_or_dtype_raises(step, given, returned):
    with pytest.raises(ValueError, match=rf"carry must keep .* step 0 was given {given} and returned {returned} \("):
        scan(step, ones(2), ones(3, 2))


@pytest.mark.parametrize(
    "step, returned",
    [
        (lambda carry, x: carry[0], r"\(2,\) float64"),
        (lambda carry, x: (carry[0],), r"\(\(2,\) float64\)"),
        (lambda carry, x: (carry[1], carry[0]), r"\(\(3,\) float64, \(2,\) float64\)"),
        (lambda carry, x: list(carry), r"\[\(2,\) float64, \(3,\) float64\]"),
        (lambda carry, x: ((carry[0], None), x), r"\(\(2,\) float64, None\)"),
    ],
)
def test_a_carry_that_changes_its_parts_raises(step, returned):
    with pytest.raises(
        ValueError, match=rf"step 0 was given \(\(2,\) float64, \(3,\) float64\) and returned {returned} \("
    ):
        scan(step, (ones(2), ones(3)), ones(4, 2))


def test_the_error_names_the_step_at_which_the_carry_changed():
    """A step whose shapes depend on values cannot be compiled."""
    x = Tensor(np.arange(3.0))
    with pytest.raises(ValueError, match="step 1 was given"):
        scan(lambda h, x: h if float(x) == 0 else ops.sum(h), ones(2), x)
    with pytest.raises(ValueError, match="step 0 was given"):
        scan(lambda h, x: h if float(x) > 0 else ops.sum(h), ones(2), x, reverse=True)


def test_the_error_suggests_an_x_of_another_dtype():
    with pytest.raises(ValueError, match="an x of another dtype"):
        scan(lambda h, x: h + x, ones(2, dtype="float32"), ones(3, 2))


@pytest.mark.parametrize("result", [(1, 2, 3), (1,), ()])
def test_a_step_that_returns_neither_carry_nor_pair_raises(result):
    with pytest.raises(ValueError, match=rf"step must return carry or \(carry, y\), got a tuple of {len(result)}"):
        scan(lambda h, x: result, ones(2), ones(3, 2))


@pytest.mark.parametrize(
    "carry, got",
    [
        (None, "None "), (1.0, "float"), ((ones(2), 0), r"int as carry\[1\]"),
        ({"h": [1.0]}, r"float as carry\['h'\]\[0\]"),
    ],
)  # fmt: skip
def test_a_carry_that_is_not_a_tensor_raises(carry, got):
    with pytest.raises(TypeError, match=f"carry must be a Tensor or a tuple, list or dictionary of them, got {got}"):
        scan(lambda h, x: h, carry, length=2)


@pytest.mark.parametrize(
    "xs, length, message",
    [
        (None, None, "the number of steps is unknown; give xs or length"),
        (ones(3, 2), 4, r"xs and length must agree on the number of steps, got 3 \(xs\), 4 \(length\)"),
        ((ones(3, 2), ones(5, 2)), None, r"must agree on the number of steps, got 3 \(xs\[0\]\), 5 \(xs\[1\]\)"),
        ((), None, "the number of steps is unknown"),
        (None, -1, "length must not be negative, got -1"),
    ],
)
def test_lengths_that_disagree_raise(xs, length, message):
    with pytest.raises(ValueError, match=message):
        scan(lambda h, x: h, ones(2), xs, length=length)


def test_xs_without_a_time_axis_raises():
    with pytest.raises(TypeError, match="without axes"):
        scan(lambda h, x: h, ones(2), Tensor(1.0))


def test_an_error_in_the_step_propagates():
    with pytest.raises(ValueError, match=r"matmul.*\(inputs: \(2,\) float64, \(3, 3\) float64\)"):
        scan(lambda h, x: h @ x, ones(2), ones(4, 3, 3))


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("reverse", [False, True])
def test_anomaly_mode_names_the_step(reverse):
    x = np.ones((5, 2))
    x[3] = 0
    with pytest.raises(AnomalyError, match=r"^log gave .* in step 3, at .*test_modes\.py"), detect_anomaly():
        scan(lambda h, x: h + ops.log(x), ones(2), Tensor(x), reverse=reverse)
