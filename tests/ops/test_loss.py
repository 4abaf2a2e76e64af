"""Losses: extremes, ignored targets, reductions and errors."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from support.tensors import constant, gradient, leaf

from tinygrad_gru import Tensor, grad, native, ops
from tinygrad_gru.ops.loss import likelihood
from tinygrad_gru.testing import gradcheck, gradgradcheck

DTYPES = ["float16", "float32", "float64"]
REGRESSION = ["mse", "mae", "huber", "binary_cross_entropy_with_logits", "kl_divergence"]


# -- cross-entropy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_extreme_logits(dtype):
    """0 where the target has the largest logit, else the distance to it; gradients are finite."""
    logits = leaf([[800.0, -800.0, 0.0], [800.0, -800.0, 0.0], [-800.0, -800.0, -800.0]], dtype)
    loss = ops.cross_entropy(logits, [0, 1, 2], reduction="none")
    loss.sum().backward()
    np.testing.assert_allclose(loss.numpy(), [0.0, 1600.0, math.log(3)], rtol=1e-3)
    third = 1 / 3
    np.testing.assert_allclose(logits.grad.numpy(), [[0, 0, 0], [1, -1, 0], [third, third, third - 1]], atol=1e-3)
    assert loss.dtype == logits.grad.dtype == dtype


def test_cross_entropy_with_logits_of_minus_infinity():
    """A class at −∞ has probability 0 and no gradient, for class ids and for probabilities that are 0 there."""
    logits = [[0.5, -np.inf, 1.5]]
    expected = math.log(math.exp(0.5) + math.exp(1.5)) - 1.5
    for targets in ([2], [[0.0, 0.0, 1.0]]):
        x = leaf(logits)
        loss = ops.cross_entropy(x, np.array(targets))
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-14)
        p = 1 / (1 + math.e)
        np.testing.assert_allclose(x.grad.numpy(), [[p, 0.0, -p]], atol=1e-15)
    assert ops.cross_entropy(leaf(logits), [1]).item() == np.inf


def test_gradients_of_probability_targets_at_zero():
    logits, q = np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 0.25, 0.75]])
    _, dq = gradient(ops.cross_entropy, logits, q)
    np.testing.assert_allclose(dq, -ops.log_softmax(logits), rtol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", ["ids", "probabilities", "ignoring"])
def test_cross_entropy_equals_torch(case, reduction, smoothing, rng):
    torch = pytest.importorskip("torch")
    logits = 5 * rng.standard_normal((6, 4))
    targets = rng.dirichlet(np.ones(4), 6) if case == "probabilities" else rng.integers(0, 4, 6)
    if case == "ignoring":
        targets[[1, 4]] = -100
    x, p = leaf(logits), torch.tensor(logits, requires_grad=True)
    mine = ops.cross_entropy(
        x, targets, label_smoothing=smoothing, reduction=reduction, ignore_index=-100 if case == "ignoring" else None
    )
    theirs = torch.nn.functional.cross_entropy(
        p, torch.tensor(targets), label_smoothing=smoothing, reduction=reduction, ignore_index=-100
    )
    mine.sum().backward()
    theirs.sum().backward()
    np.testing.assert_allclose(mine.numpy(), theirs.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), atol=1e-13)


def test_cross_entropy_of_sequences_averages_over_all_steps(rng):
    """(T, B, C) against (T, B): the mean over all T·B targets."""
    logits, targets = rng.standard_normal((3, 2, 5)), rng.integers(0, 5, (3, 2))
    flat = ops.cross_entropy(logits.reshape(6, 5), targets.reshape(6))
    assert ops.cross_entropy(logits, targets) == pytest.approx(flat, rel=1e-14)
    assert ops.cross_entropy(logits, targets, reduction="none").shape == (3, 2)


@pytest.mark.parametrize("function", [ops.cross_entropy, ops.nll])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_and_gradient_are_zero_if_all_targets_are_ignored(function, reduction):
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    loss = function(x, [-100, -100], ignore_index=-100, reduction=reduction)
    loss.sum().backward()
    assert loss.numpy().sum() == 0.0 and not x.grad.numpy().any()


def test_ignore_index_in_and_out_of_range():
    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    alone = ops.cross_entropy(x[1:], [0])
    for ignored in (1, -1, 77):
        assert ops.cross_entropy(x, [ignored, 0], ignore_index=ignored) == pytest.approx(alone)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_class_ids_of_any_integer_dtype(dtype):
    logits = np.eye(200) * 5
    assert ops.cross_entropy(logits[:3], np.array([0, 1, 2], dtype)) == pytest.approx(math.log(1 + 199 * math.exp(-5)))


def test_mean_loss_in_float16_of_a_sum_beyond_its_range():
    """100 000 nats in all, beyond the largest number of float16."""
    logits = leaf(np.tile([0.0, 200.0], (500, 1)), "float16")
    assert ops.cross_entropy(logits, np.zeros(500, int)).item() == 200.0
    assert ops.cross_entropy(logits, np.zeros(500, int), ignore_index=1).item() == pytest.approx(200.0, rel=1e-2)


@pytest.mark.parametrize("function", [ops.cross_entropy, ops.nll])
@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ([0, 3], IndexError, r"targets must lie in 0 … 2, got 3"),
        ([-1, 0], IndexError, r"targets must lie in 0 … 2, got -1"),
        ([0], ValueError, r"scores of shape \(2, 3\) \(classes last\) need targets of shape \(2,\), got \(1,\)"),
        ([[0], [1]], ValueError, r"need targets of shape \(2,\), got \(2, 1\)"),
        ([0.0, 1.0], TypeError, r"targets must be integers, got float64: class ids, such as targets.astype\('int64'\)"),
    ],
)
def test_invalid_class_ids_raise(function, targets, error, message):
    with pytest.raises(error, match=message):
        function(leaf(np.zeros((2, 3))), targets)
    with pytest.raises(error, match=message):
        function(leaf(np.zeros((2, 3))), np.array(targets))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, 2])
def test_label_smoothing_out_of_0_to_1_raises(smoothing):
    with pytest.raises(ValueError, match=rf"label_smoothing: expected a number in \[0, 1\], got {smoothing}"):
        ops.cross_entropy(leaf([[1.0, 2.0]]), [0], label_smoothing=smoothing)


def test_scalar_scores_raise():
    with pytest.raises(ValueError, match="cross_entropy: scores need an axis of classes, got a scalar"):
        ops.cross_entropy(leaf(1.0), 0)
    assert ops.cross_entropy(leaf([1.0, 1.0]), 0).item() == pytest.approx(math.log(2)), "a single target"


def test_shapes_of_class_ids_that_people_try_are_answered():
    logits = leaf(np.zeros((2, 3, 4)))
    for shape, answer in {
        (2, 3, 4): r"one-hot\? Then write targets.argmax\(-1\)",
        (2, 3, 1): r"write targets.squeeze\(-1\)",
        (2, 4): r"as in PyTorch\? Then write ops.moveaxis\(scores, 1, -1\)",
        (3, 2): r"got \(3, 2\)$",
    }.items():
        with pytest.raises(ValueError, match=answer):
            ops.cross_entropy(logits, np.zeros(shape, int))


def test_ignore_index_with_probability_targets_raises():
    with pytest.raises(ValueError, match="ignore_index requires class ids"):
        ops.cross_entropy(leaf([[1.0, 2.0]]), np.array([[0.5, 0.5]]), ignore_index=0)


# -- losses of two arrays of one shape -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_huber_of_large_errors(dtype):
    """The square of 800 is beyond float16, but the loss is linear there."""
    p = leaf([800.0, -800.0, 0.25, 0.0], dtype)
    loss = ops.huber(p, np.zeros(4, dtype), reduction="none")
    loss.sum().backward()
    np.testing.assert_allclose(loss.numpy(), [799.5, 799.5, 0.03125, 0.0])
    assert p.grad.tolist() == [1.0, -1.0, 0.25, 0.0]


def test_the_second_derivative_of_huber_is_1_at_no_error():
    """It is that of ½e² where |e| < δ, also at e = 0, and 0 beyond."""
    x = leaf([0.0, 0.5, -0.5, 3.0, -3.0], "float64")
    first = grad(ops.huber(x, np.zeros(5), reduction="sum"), x, create_graph=True)
    assert grad(first, x, np.ones(5)).tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_huber_needs_a_delta_above_zero():
    for delta in (0, -1.0):
        with pytest.raises(ValueError, match="huber: delta must be above 0, got"):
            ops.huber(leaf([1.0]), [0.0], delta=delta)


@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber_equals_torch_also_where_its_branches_meet(delta, rng):
    torch = pytest.importorskip("torch")
    values = np.concatenate([3 * rng.standard_normal(20), [delta, -delta, 0.0]])
    x, p = leaf(values), torch.tensor(values, requires_grad=True)
    ops.huber(x, np.zeros(23), delta=delta).backward()
    loss = torch.nn.functional.huber_loss(p, torch.zeros(23, dtype=torch.float64), delta=delta)
    loss.backward()
    np.testing.assert_allclose(ops.huber(x, np.zeros(23), delta=delta).item(), loss.item(), rtol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_of_large_logits(dtype):
    x = leaf([800.0, 800.0, -800.0, -800.0, 0.0], dtype)
    t = np.array([1.0, 0.0, 0.0, 1.0, 0.5], dtype)
    loss = ops.binary_cross_entropy_with_logits(x, t, reduction="none")
    loss.sum().backward()
    np.testing.assert_allclose(loss.numpy(), [0.0, 800.0, 0.0, 800.0, math.log(2)], rtol=1e-3)
    np.testing.assert_allclose(x.grad.numpy(), [0.0, 1.0, 0.0, -1.0, 0.0], atol=1e-6)


def test_binary_cross_entropy_equals_torch(rng):
    torch = pytest.importorskip("torch")
    logits, targets = 20 * rng.standard_normal((4, 5)), rng.uniform(size=(4, 5))
    x, p = leaf(logits), torch.tensor(logits, requires_grad=True)
    ops.binary_cross_entropy_with_logits(x, targets).backward()
    torch.nn.functional.binary_cross_entropy_with_logits(p, torch.tensor(targets)).backward()
    np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), atol=1e-15)


def test_kl_divergence_with_zero_probabilities():
    """0 log 0 = 0, also against a q of 0; but p > 0 against q = 0 is infinite."""
    log_q, p = leaf([[-np.inf, 0.0], [math.log(0.5), math.log(0.5)]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    loss = ops.kl_divergence(log_q, p, reduction="none")
    loss.sum().backward()
    np.testing.assert_allclose(loss.numpy(), [0.0, math.log(2)])
    np.testing.assert_allclose(log_q.grad.numpy(), -p)
    assert ops.kl_divergence(constant([[-np.inf, 0.0]]), np.array([[0.5, 0.5]])).item() == np.inf


def test_kl_divergence_equals_torch(rng):
    torch = pytest.importorskip("torch")
    p, q = rng.dirichlet(np.ones(4), 3), np.log(rng.dirichlet(np.ones(4), 3))
    x, peer = leaf(q), torch.tensor(q, requires_grad=True)
    ops.kl_divergence(x, p).backward()
    torch.nn.functional.kl_div(peer, torch.tensor(p), reduction="batchmean").backward()
    np.testing.assert_allclose(x.grad.numpy(), peer.grad.numpy(), atol=1e-15)


def test_kl_divergence_of_equal_distributions_is_zero(rng):
    p = rng.dirichlet(np.ones(5), 3)
    assert ops.kl_divergence(np.log(p), p) == pytest.approx(0.0, abs=1e-15)


def test_gradients_of_regression_losses_at_zero_error():
    for loss in (ops.mse, ops.mae, ops.huber):
        assert gradient(lambda p, loss=loss: loss(p, np.ones(2)), np.ones(2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", REGRESSION)
def test_targets_as_lists(name):
    predictions, targets = [[0.5, 0.25]], [[0.25, 0.75]]
    loss = getattr(ops, name)
    assert loss(leaf(predictions, "float32"), targets).dtype == "float32"
    assert loss(leaf(predictions), targets).item() == loss(leaf(predictions), np.array(targets)).item()
    assert (
        ops.cross_entropy(leaf(predictions), targets).item()
        == ops.cross_entropy(leaf(predictions), [[0.25, 0.75]]).item()
    )


def test_scalar_prediction_and_target():
    assert ops.mse(leaf(3.0), 1.0).item() == 4.0


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("targets", [np.zeros(3), np.zeros((3, 1)), [0.0, 0.0, 0.0], 0.0])
def test_targets_of_another_shape_raise(name, targets):
    shape = str(np.shape(targets)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(
        ValueError, match=rf"{name}: predictions of shape \(1, 3\) and targets of shape {shape} must have"
    ):
        getattr(ops, name)(leaf(np.zeros((1, 3))), targets)


@pytest.mark.parametrize("name", [*REGRESSION, "cross_entropy"])
def test_unknown_reduction_raises(name):
    with pytest.raises(ValueError, match="reduction: expected 'mean', 'sum' or 'none', got 'average'"):
        getattr(ops, name)(leaf([[0.5, 0.5]]), np.array([[0.5, 0.5]]), reduction="average")


@pytest.mark.parametrize("name", REGRESSION)
def test_gradients_of_targets(name, rng):
    predictions, targets = rng.uniform(0.1, 0.9, (3, 4)), rng.uniform(1.1, 1.9, (3, 4))
    assert gradcheck(getattr(ops, name), [predictions, targets])
    assert gradgradcheck(getattr(ops, name), [predictions, targets])


def test_empty_batch():
    with pytest.raises(ValueError, match="no elements to average"):
        ops.cross_entropy(leaf(np.zeros((0, 3))), np.zeros(0, int))
    assert ops.cross_entropy(leaf(np.zeros((0, 3))), np.zeros(0, int), reduction="sum").item() == 0.0
    assert ops.cross_entropy(leaf(np.zeros((0, 3))), np.zeros(0, int), ignore_index=-1).item() == 0.0


def test_integer_targets_of_regression_losses():
    loss = ops.mse(leaf([1.0, 2.0], "float32"), Tensor([0, 1]))
    assert loss.item() == 1.0 and loss.dtype == "float32"


# -- weights and dtypes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", ["ids", "probabilities", "ignoring"])
def test_class_weights_are_those_of_torch(case, reduction, smoothing, rng):
    torch = pytest.importorskip("torch")
    logits, weight = 5 * rng.standard_normal((6, 4)), np.array([0.5, 2.0, 0.0, 3.0])
    targets = rng.dirichlet(np.ones(4), 6) if case == "probabilities" else rng.integers(0, 4, 6)
    if case == "ignoring":
        targets[[1, 4]] = -100
    x, p = leaf(logits), torch.tensor(logits, requires_grad=True)
    settings = {"label_smoothing": smoothing, "reduction": reduction}
    mine = ops.cross_entropy(
        x, targets, weight=weight.tolist(), ignore_index=-100 if case == "ignoring" else None, **settings
    )
    theirs = torch.nn.functional.cross_entropy(p, torch.tensor(targets), torch.tensor(weight), **settings)
    mine.sum().backward()
    theirs.sum().backward()
    np.testing.assert_allclose(mine.numpy(), theirs.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), atol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_of_nll_are_those_of_torch(reduction, rng):
    torch = pytest.importorskip("torch")
    log_p, targets, weight = rng.standard_normal((6, 3)), rng.integers(0, 3, 6), np.array([0.5, 2.0, 3.0])
    mine = ops.nll(log_p, targets, weight=weight, ignore_index=1, reduction=reduction)
    theirs = torch.nn.functional.nll_loss(
        torch.tensor(log_p), torch.tensor(targets), torch.tensor(weight), ignore_index=1, reduction=reduction
    )
    np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-12)


def test_mean_over_weights_that_are_all_zero_is_zero():
    assert ops.cross_entropy(leaf([[1.0, 2.0]]), [0], weight=[0.0, 1.0]).item() == 0.0
    assert ops.cross_entropy(leaf([[1.0, 2.0]]), [0], weight=[0.0, 1.0], label_smoothing=0.1).item() == 0.0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_of_binary_cross_entropy_are_those_of_torch(reduction, rng):
    torch = pytest.importorskip("torch")
    logits, targets, rows = 20 * rng.standard_normal((4, 5)), rng.uniform(size=(4, 5)), rng.uniform(size=(4, 1))
    x, p, pos_weight = leaf(logits), torch.tensor(logits, requires_grad=True), rng.uniform(size=5)
    mine = ops.binary_cross_entropy_with_logits(x, targets, weight=rows, pos_weight=pos_weight, reduction=reduction)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        p, torch.tensor(targets), torch.tensor(rows), pos_weight=torch.tensor(pos_weight), reduction=reduction
    )
    mine.sum().backward()
    theirs.sum().backward()
    np.testing.assert_allclose(mine.numpy(), theirs.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), p.grad.numpy(), atol=1e-13)
    assert ops.binary_cross_entropy_with_logits(leaf([0.0]), [1.0], pos_weight=3).item() == pytest.approx(
        3 * math.log(2)
    )


def test_weights_that_would_get_no_gradient_raise():
    w, x = leaf([1.0, 2.0]), leaf(np.zeros((3, 2)))
    for name, loss in (
        ("weight", lambda w: ops.nll(x, [0, 1, 1], weight=w)),
        ("weight", lambda w: ops.cross_entropy(x, [0, 1, 1], weight=w)),
        ("pos_weight", lambda w: ops.binary_cross_entropy_with_logits(x, np.zeros((3, 2)), pos_weight=w)),
    ):
        with pytest.raises(TypeError, match=rf"{name}: a loss has no gradient for its weights: write {name}.detach"):
            loss(w)
        assert loss(w.detach()).requires_grad


def test_weights_of_another_shape_raise():
    with pytest.raises(ValueError, match=r"weight: expected one number for each of the 3 classes .* got shape \(2,\)"):
        ops.cross_entropy(leaf(np.zeros((2, 3))), [0, 1], weight=[1.0, 1.0])
    for name in ("weight", "pos_weight"):
        with pytest.raises(
            ValueError, match=rf"{name}: shape \(2,\) does not broadcast to that of the scores, \(2, 3\)"
        ):
            ops.binary_cross_entropy_with_logits(leaf(np.zeros((2, 3))), np.zeros((2, 3)), **{name: [1.0, 1.0]})


@pytest.mark.parametrize("name", [*REGRESSION, "cross_entropy"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_converted_to_the_dtype_of_the_predictions(name, dtype, rng):
    """float64 is NumPy's default, not a wish. Half precision is computed in float32: targets are not rounded."""
    values, targets = rng.uniform(-1, 0, (3, 4)), rng.dirichlet(np.ones(4), 3)
    x = leaf(values, dtype)
    loss = getattr(ops, name)(x, targets)
    loss.backward()
    assert loss.dtype == x.grad.dtype == dtype
    exact = getattr(ops, name)(leaf(x.numpy(), "float64"), targets).item()
    assert loss.item() == pytest.approx(exact, rel={"float16": 6e-4, "float32": 1e-6, "float64": 1e-15}[dtype])
    if name != "kl_divergence":  # whose targets are probabilities
        assert getattr(ops, name)(targets, x.detach()).dtype == dtype, "predictions that are an array beside a Tensor"


def test_tensors_of_pytorch_are_targets():
    """As a DataLoader gives them."""
    torch = pytest.importorskip("torch")
    x = leaf([[0.0, 2.0]], "float32")
    assert ops.mse(x, torch.tensor([[1.0, 1.0]], dtype=torch.float64)).item() == 1.0
    assert ops.cross_entropy(x, torch.tensor([1])).item() == ops.cross_entropy(x, [1]).item()


@pytest.mark.parametrize("name", [*REGRESSION, "cross_entropy"])
def test_a_tensor_of_another_dtype_is_refused(name):
    predictions, targets = leaf(np.full((1, 2), -0.5), "float32"), Tensor(np.full((1, 2), 0.5))
    with pytest.raises(
        TypeError,
        match=rf"{name}: predictions are float32 and targets a Tensor of float64: write targets.astype\('float32'\)",
    ):
        getattr(ops, name)(predictions, targets)
    assert getattr(ops, name)(predictions, targets.astype("float32")).dtype == "float32"


def test_arrays_of_the_host_are_moved_to_the_predictions(backend):
    scores = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    x = Tensor(scores, device=backend)
    for loss, targets in (
        (ops.cross_entropy, np.array([0, 2, 1, 1])),
        (ops.mse, np.ones((4, 3))),
        (ops.nll, [0, 1, 2, 0]),
    ):
        there, here = loss(x, targets), loss(Tensor(scores, device="numpy"), targets)
        assert there.device == backend.name
        np.testing.assert_allclose(there.item(), here.item(), rtol=1e-5)


# -- the log-likelihood by tiles -----------------------------------------------------------------------------------


@pytest.fixture(params=["numpy", "native"])
def by(request, monkeypatch):
    """How the log-likelihood is computed on the host, whatever its size."""
    if request.param == "native" and not native.is_available():
        pytest.skip("needs llvmlite")
    monkeypatch.setattr(likelihood, "_LEAST_NATIVE", 0 if request.param == "native" else 10**9)


@pytest.mark.parametrize(
    ("rows", "classes"), [(1500, 100), (3, 70_000), (2, 1), (5000, 1), (9, 15), (9, 16), (9, 17), (9, 31), (300, 33)]
)
@pytest.mark.usefixtures("by")
def test_cross_entropy_of_many_logits_equals_that_of_its_definition(rng, rows, classes):
    """More elements than a tile, rows longer than a tile, one class."""
    x, targets = 3 * rng.standard_normal((rows, classes)), rng.integers(0, classes, rows)
    weights = rng.standard_normal(rows)
    logits = leaf(x)
    loss = ops.cross_entropy(logits, targets, reduction="none")
    loss.backward(weights)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss.numpy(), -np.log(p[np.arange(rows), targets]), rtol=1e-12, atol=1e-15)
    p[np.arange(rows), targets] -= 1
    np.testing.assert_allclose(logits.grad.numpy(), p * weights[:, None], rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("by")
def test_logits_in_the_byte_order_of_other_machines(rng):
    x, targets = rng.standard_normal((30, 20)), rng.integers(0, 20, 30)
    here, other = leaf(x), leaf(x, x.dtype.newbyteorder())
    for logits in (here, other):
        ops.cross_entropy(logits, targets).backward()
    assert ops.cross_entropy(other, targets).item() == pytest.approx(ops.cross_entropy(here, targets).item(), rel=1e-14)
    np.testing.assert_allclose(other.grad.numpy(), here.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.usefixtures("by")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_not_finite_reaches_its_row_alone(classes, dtype):
    """NaN and +∞ make a row NaN, wherever they are; −∞ is a probability of 0; others rows do not change."""
    x = np.zeros((6, classes), dtype)
    x[0, -1], x[1, 0], x[2, 1], x[3], x[4, 2] = np.nan, np.nan, np.inf, -np.inf, -np.inf
    logits = leaf(x, dtype)
    loss = ops.cross_entropy(logits, np.ones(6, int), reduction="none")
    loss.backward(np.ones(6, dtype))
    assert np.isnan(loss.numpy()[:4]).all() and np.isnan(logits.grad.numpy()[:4]).all()
    np.testing.assert_allclose(loss.numpy()[4:], np.log([classes - 1, classes]), rtol=1e-6)
    assert logits.grad.numpy()[4, 2] == 0 and np.isfinite(logits.grad.numpy()[4:]).all()


@pytest.mark.usefixtures("by")
def test_cross_entropy_of_strided_logits_and_narrow_ids(rng):
    x, targets = rng.standard_normal((40, 30)), rng.integers(0, 20, 60)
    logits = leaf(x)
    loss = ops.cross_entropy(ops.matrix_transpose(logits)[:, ::2], targets[::2].astype("int8"), reduction="none")
    loss.backward(np.ones(30)[::-1])
    chosen = x.T[:, ::2]
    e = np.exp(chosen)
    p = e / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss.numpy(), -np.log(p[np.arange(30), targets[::2]]), rtol=1e-12)
    p[np.arange(30), targets[::2]] -= 1
    np.testing.assert_allclose(logits.grad.numpy()[::2], p.T, atol=1e-14)


@pytest.mark.usefixtures("by")
def test_cross_entropy_has_no_array_of_probabilities(rng):
    """Forward needs a tile besides the logits, backward their gradient, too."""
    logits = Tensor(rng.standard_normal((500, 4000)), dtype="float32", requires_grad=True) * 1.0
    targets, bytes_of_logits = rng.integers(0, 4000, 500), logits.data.nbytes
    ops.cross_entropy(logits[:100], targets[:100]).backward()  # compiled
    tracemalloc.start()
    loss = ops.cross_entropy(logits, targets)
    forward = tracemalloc.get_traced_memory()[1]
    grad(loss, logits)
    backward = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert forward < bytes_of_logits / 8
    assert backward < 2.2 * bytes_of_logits, "the gradient, and the copy that belongs to its reader"


def test_class_ids_may_be_overwritten_before_backward():
    x, targets = leaf([[1.0, 2.0, 3.0]]), np.array([0])
    loss = ops.cross_entropy(x, targets)
    targets[:] = 2
    loss.backward()
    assert x.grad.numpy()[0, 0] < 0 < x.grad.numpy()[0, 2]
