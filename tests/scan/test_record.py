"""`scan(…, record=names)`: the values of a step's local variables at every step."""

import os

import numpy as np
import pytest

from tinygrad_gru import Tensor, compiling, grad, no_grad, ops, scan
from tinygrad_gru.nn import GRUCell, LSTMCell
from tinygrad_gru.scan import NotCompiledError, NotCompiledWarning
from tinygrad_gru.testing import gradcheck, gradgradcheck

MODES = [False, True, "llvm"]


def mode_or_skip(mode):
    if mode in ("llvm", "llvm:2"):
        pytest.importorskip("llvmlite")
    if mode == "llvm:2" and (os.cpu_count() or 1) < 2:
        pytest.skip("needs two cores")
    return mode


def case(seed=0, steps=5, **options):
    cell = GRUCell(3, 4, dtype="float64")
    random = np.random.default_rng(seed)
    h, xs = random.standard_normal((2, 4)), random.standard_normal((steps, 2, 3))
    return cell, Tensor(h, **options), Tensor(xs, **options)


def sigma(a):
    return 1 / (1 + np.exp(-a))


def by_numpy(cell, h, xs, reverse=False):
    """The local variables of a GRU's step at every step, from its equations."""
    p = {name: value.numpy() for name, value in cell.named_parameters()}
    found = {name: np.empty((len(xs), *h.shape)) for name in ("h", "r", "z", "h_tilde", "h'")}
    for t in range(len(xs))[:: -1 if reverse else 1]:
        x = xs[t]
        r = sigma(x @ p["W_r"] + h @ p["U_r"] + p["b_r"])
        z = sigma(x @ p["W_z"] + h @ p["U_z"] + p["b_z"])
        h_tilde = np.tanh(x @ p["W_h"] + (r * h) @ p["U_h"] + p["b_h"])
        new = (1 - z) * h + z * h_tilde
        for name, value in zip(found, (h, r, z, h_tilde, new)):
            found[name][t] = value
        h = new
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("every", [None, 2])
def test_records_are_what_the_equations_give(mode, reverse, every):
    cell, h, xs = case()
    expected = by_numpy(cell, h.numpy(), xs.numpy(), reverse)
    options = {"reverse": reverse, "compiled": mode_or_skip(mode), "checkpoint_every": every}
    last, ys, records = scan(cell.step, h, xs, record=tuple(expected), **options)
    assert list(records) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(records[name].numpy(), value, rtol=1e-12, err_msg=name)
    plain_last, plain_ys = scan(cell.step, h, xs, **options)
    for a, b in ((last, plain_last), (ys, plain_ys), (ys, records["h'"])):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-13)


@pytest.mark.parametrize("mode", [True, "llvm", "llvm:2"])
@pytest.mark.parametrize("every", [None, 2])
def test_records_of_any_shape_and_their_gradients_are_those_of_eager_mode(mode, every):
    """A sum over the batch, which two threads share, a mean, a slice, booleans, and what no step changes."""
    random = np.random.default_rng(2)
    shapes = ((4, 3), (5, 4, 3), (3, 3))
    h, xs, W = (Tensor(random.standard_normal(shape), requires_grad=True) for shape in shapes)

    def step(h, x):
        a = ops.tanh(h @ W + x)
        total, mean, part = ops.sum(a), ops.mean(a, axis=0), a[:, :1]  # noqa: F841
        positive, weight = a > 0, W  # noqa: F841
        return a + 0.1 * part

    def results(mode, every=None):
        names = ("a", "total", "mean", "part", "positive", "weight", "h", "h'")
        options = {"record": names, "compiled": mode, "checkpoint_every": every}
        last, ys, records = scan(step, h, xs, **options)
        loss = (ys * last).sum() + sum((r**2).sum() * i for i, r in enumerate(records.values()) if r.requires_grad)
        return [*(r.numpy() for r in records.values()), *(g.numpy() for g in grad(loss, [h, xs, W]))]

    for got, expected in zip(results(mode_or_skip(mode), every), results(False), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("every", [None, 3])
def test_gradients_flow_through_records_to_second_order(mode, every):
    cell, h, xs = case(steps=4)

    def records(h, xs, *_):
        return tuple(
            scan(cell.step, h, xs, record=("r", "z", "h_tilde"), compiled=mode, checkpoint_every=every)[2].values()
        )

    inputs = [Tensor(t.numpy(), requires_grad=True) for t in (h, xs)]
    gradcheck(records, [*inputs, cell.U_z, cell.b_r])
    gradgradcheck(lambda h, xs: records(h, xs)[1].sum(), inputs)


@pytest.mark.parametrize("mode", [False, True])
def test_each_shape_of_y_comes_back_as_it_was(mode):
    h, xs = Tensor(np.ones((2, 3))), Tensor(np.arange(24.0).reshape(4, 2, 3))

    def step(result):
        def function(h, x):
            doubled = 2 * x
            return result(h, x, doubled)

        return function

    steps = {
        "one": step(lambda h, x, d: (h, d + h)),
        "tuple of one": step(lambda h, x, d: (h, (d,))),
        "tuple with nothing": step(lambda h, x, d: (h, (None, d, None))),
        "none": step(lambda h, x, d: (h, None)),
        "the carry": step(lambda h, x, d: h + d),
    }
    for name, function in steps.items():
        plain = scan(function, h, xs, compiled=mode)
        carry, ys, records = scan(function, h, xs, compiled=mode, record="doubled")
        assert np.array_equal(records["doubled"].numpy(), 2 * xs.numpy()), name
        assert np.array_equal(carry.numpy(), plain[0].numpy()), name
        assert type(ys) is type(plain[1]), name
        for a, b in zip(*(y if isinstance(y, tuple) else (y,) for y in (ys, plain[1])), strict=True):
            assert (a is None) == (b is None) and (a is None or np.array_equal(a.numpy(), b.numpy())), name

    def pair(carry, x):
        a, b = carry
        total = a + x
        return (total, b), None

    for steps_count in (4, 0):  # of no steps, too
        (a, b), ys, records = scan(pair, (h, h), xs[:steps_count], compiled=mode, record=("total", "carry[1]", "x"))
        assert ys is None and b.shape == (2, 3)
        assert {name: r.shape for name, r in records.items()} == dict.fromkeys(records, (steps_count, 2, 3))
        assert np.array_equal(records["x"].numpy(), xs[:steps_count].numpy())


@pytest.mark.parametrize("mode", [False, True])
def test_booleans_integers_and_constants_are_recorded_too(mode):
    W = Tensor(np.eye(3), requires_grad=True)

    def step(h, x):
        weight = W
        positive = x > 1
        kept = h
        return ops.where(positive, h @ weight, kept)

    xs = Tensor(np.arange(12.0).reshape(2, 2, 3))
    _, _, records = scan(step, Tensor(np.ones((2, 3))), xs, compiled=mode, record=("weight", "positive", "kept"))
    assert np.array_equal(records["positive"].numpy(), xs.numpy() > 1)
    assert np.array_equal(records["weight"].numpy(), np.stack([np.eye(3)] * 2))
    (gradient,) = grad(records["weight"].sum(), [W])
    assert np.array_equal(gradient.numpy(), np.full((3, 3), 2.0))
    assert not records["positive"].requires_grad


@pytest.mark.parametrize("mode", [False, None, True])
def test_a_name_that_the_step_does_not_have_is_an_error_that_lists_those_it_has(mode):
    cell, h, xs = case()
    message = r"the step GRUCell.step has no Tensor named 'h_tild' \(did you mean 'h_tilde'\?\); it has h, x, r, z, "
    with pytest.raises(ValueError, match=f"record: {message}h_tilde, h' " + r"\(.*cells.py:\d+: def step"):
        scan(cell.step, h, xs, compiled=mode, record=("r", "h_tild"))
    with pytest.raises(TypeError, match=r"record: expected names of local variables .* got 3"):
        scan(cell.step, h, xs, compiled=mode, record=3)
    with pytest.raises(TypeError, match="scan: step must be a function"):
        scan(cell, h, xs, compiled=mode, record="r")
    assert scan(cell.step, h, xs, compiled=mode, record=())[2] == {}


@pytest.mark.parametrize("mode", [False, True])
def test_of_a_step_without_ops_only_arguments_that_stay_are_recorded(mode):
    def swapping(h, x):
        h, x = x, h
        return h

    def returning(h, x):
        return x

    h, xs = Tensor(np.ones(2)), Tensor(np.arange(6.0).reshape(3, 2))
    assert np.array_equal(scan(swapping, h, xs, record="h'", compiled=mode)[2]["h'"].numpy(), xs.numpy())
    with pytest.raises(ValueError, match=r"has no Tensor named 'h' .*; it has h' "):
        scan(swapping, h, xs, record="h", compiled=mode)  # what `h` is when it returns is not known
    records = scan(returning, h, xs, record=("h", "x"), compiled=mode)[2]
    assert np.array_equal(records["h"].numpy(), [[1, 1], [0, 1], [2, 3]])
    assert np.array_equal(records["x"].numpy(), xs.numpy())


def test_a_step_that_returns_another_carry_has_the_error_that_it_has_without_records():
    def step(carry, x):
        h, c = carry
        total = h + x
        return [total, c]

    carry = (Tensor(np.ones(3)), Tensor(np.ones(3)))
    with pytest.raises(ValueError, match="return a tuple, not a list"):
        scan(step, carry, Tensor(np.ones((2, 3))), record="total")


def test_recorded_and_other_traces_share_no_plan():
    cell, h, xs = case()
    plain = scan(cell.step, h, xs, compiled=True)
    runs = {record: scan(cell.step, h, xs, record=record, compiled=True)[-1] for record in ("r", "z")}
    both = scan(cell.step, h, xs, record=("r", "z"), compiled=True)[2]
    swapped = scan(cell.step, h, xs, record=("z", "r"), compiled=True)[2]
    again = scan(cell.step, h, xs, compiled=True)
    assert len(again) == len(plain) == 2
    assert np.array_equal(again[1].numpy(), plain[1].numpy())
    for name in ("r", "z"):
        for other in (runs[name], swapped):
            assert np.array_equal(both[name].numpy(), other[name].numpy())
    cell.b_z.data = cell.b_z.data + 1.0
    assert scan(cell.step, h, xs, record="z", compiled=True)[2]["z"].numpy().mean() > both["z"].numpy().mean()


def test_side_effects_are_found_and_named_as_without_records():
    seen = []

    def counting(h, x):
        seen.append(1)
        total = h + x
        return total

    xs = Tensor(np.ones((3, 2)))
    with pytest.warns(NotCompiledWarning, match="the step `.*counting` .* changes a list"):
        _, _, records = scan(counting, Tensor(np.zeros(2)), xs, record="total")
    assert len(seen) == 3 and np.array_equal(records["total"].numpy()[:, 0], [1, 2, 3])
    with pytest.raises(NotCompiledError, match="counting"):
        scan(counting, Tensor(np.zeros(2)), xs, record="total", compiled=True)


def test_a_name_that_is_not_assigned_at_some_step_is_an_error_in_eager_mode():
    def step(h, x):
        if x.item() > 1:
            late = h * 2
            return late
        return h + x

    with compiling(False), pytest.raises(ValueError, match="no Tensor named 'late'"):
        scan(step, Tensor(0.0), Tensor([2.0, 0.0]), record="late")


def test_without_gradients_and_in_another_backend(device):
    cell = LSTMCell(3, 4, device=device)
    xs = Tensor(np.random.default_rng(0).standard_normal((5, 2, 3)).astype("float32"), device=device)
    with no_grad():
        _, ys, records = scan(cell.step, cell.initial_state(2), xs, record=("o", "c", "h'"))
    assert not records["o"].requires_grad and records["o"].device == ys.device
    np.testing.assert_allclose((records["o"] * ops.tanh(records["c"])).numpy(), ys.numpy(), rtol=1e-5, atol=1e-6)
    assert np.array_equal(records["h'"].numpy(), ys.numpy())
