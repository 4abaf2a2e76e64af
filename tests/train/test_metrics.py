"""Metrics agree with scikit-learn, PyTorch or NumPy, however the data are cut into batches."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_gru import Tensor, ops, train

IGNORED = -100


def scores(rng, *shape):
    return rng.standard_normal(shape).astype("float32")


def cases():
    """For each metric how to make it, outputs, targets, and the value by plain NumPy in float64."""
    rng = np.random.default_rng(0)
    logits, ids = scores(rng, 60, 7), rng.integers(0, 7, 60)
    ignoring = np.where(rng.random(60) < 0.3, IGNORED, ids)
    kept = ignoring != IGNORED
    binary, labels = scores(rng, 60, 1), rng.integers(0, 2, 60)
    p, t = scores(rng, 60, 3), scores(rng, 60, 3) + 100
    ranks = (logits > np.take_along_axis(logits, ids[:, None], 1)).sum(1)
    log_p = logits.astype(float) - np.log(np.exp(logits.astype(float)).sum(1, keepdims=True))
    nats = -np.take_along_axis(log_p, ids[:, None], 1)[:, 0]
    p64, t64 = p.astype(float), t.astype(float)
    columns = [1 - ((t64 - p64)[:, k] ** 2).sum() / ((t64[:, k] - t64[:, k].mean()) ** 2).sum() for k in range(3)]
    right = logits.argmax(1) == ids
    return {
        "accuracy": (train.Accuracy, logits, ids, right.mean()),
        "accuracy, ignoring": (lambda: train.Accuracy(ignore_index=IGNORED), logits, ignoring, right[kept].mean()),
        "accuracy, binary": (lambda: train.Accuracy(threshold=0), binary, labels,
                             ((binary[:, 0] > 0) == labels).mean()),
        "accuracy, 0.5": (lambda: train.Accuracy(threshold=0.5), binary[:, 0], labels,
                          ((binary[:, 0] > 0.5) == labels).mean()),
        "top3": (lambda: train.TopK(3), logits, ids, (ranks < 3).mean()),
        "top3, ignoring": (lambda: train.TopK(3, IGNORED), logits, ignoring, (ranks < 3)[kept].mean()),
        "perplexity": (train.Perplexity, logits, ids, math.exp(nats.mean())),
        "perplexity, ignoring": (lambda: train.Perplexity(IGNORED), logits, ignoring, math.exp(nats[kept].mean())),
        "bits": (train.BitsPerCharacter, logits, ids, nats.mean() / math.log(2)),
        "mse": (train.MSE, p, t, ((p64 - t64) ** 2).mean()),
        "rmse": (train.RMSE, p, t, math.sqrt(((p64 - t64) ** 2).mean())),
        "mae": (train.MAE, p, t, np.abs(p64 - t64).mean()),
        "r2": (train.R2, p, t, np.mean(columns)),
        "mean loss": (lambda: train.MeanLoss(ops.mse), p, t, ((p64 - t64) ** 2).mean()),
        "mean loss, ignoring": (lambda: train.MeanLoss(ops_cross_entropy, ignore_index=IGNORED), logits, ignoring,
                                nats[kept].mean()),
    }  # fmt: skip


def ops_cross_entropy(outputs, targets):
    return ops.cross_entropy(outputs, targets, ignore_index=IGNORED)


CASES = cases()


@pytest.mark.parametrize("name", CASES)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_the_value_does_not_depend_on_the_batches(name, cuts):
    make, outputs, targets, expected = CASES[name]
    metric, exact = make(), "mean loss" not in name and name.partition(",")[0] not in ("perplexity", "bits")
    bounds = [0, *sorted(cuts), 60]
    for begin, end in pairwise(bounds):
        if begin < end or exact:  # an empty batch counts nothing; ops.mse has no mean of nothing
            metric.update(outputs[begin:end], targets[begin:end])
    assert metric.compute() == pytest.approx(expected, rel=1e-12 if exact else 2e-7)


@pytest.mark.parametrize("name", [name for name in CASES if "mean loss" not in name])
def test_on_every_backend_and_in_several_axes(name, backend):
    make, outputs, targets, expected = CASES[name]
    metric = make()
    for half in (slice(0, 20), slice(20, 60)):
        o = outputs[half].reshape(2, -1, *outputs.shape[1:])
        t = targets[half].reshape(2, -1, *targets.shape[1:])
        metric.update(Tensor(o, device=backend), t if half.start else Tensor(t, device=backend))
    assert metric.compute() == pytest.approx(expected, rel=1e-6)
    assert type(metric.compute()) is float
    first, again = make(), make()
    first.update(Tensor(outputs[:20], device=backend), targets[:20])
    again.load_state_dict(first.state_dict())
    assert again.compute() == first.compute()
    again.update(Tensor(outputs[20:], device=backend), targets[20:])
    assert again.compute() == pytest.approx(expected, rel=1e-6), "goes on from a saved state"
    metric.reset()
    assert math.isnan(metric.compute())


def test_sums_are_float64():
    metric = train.Mean()
    metric.add(total=np.full(10, 2**24, "float32"), count=1)
    metric.add(total=np.ones(10, "float32"), count=0)
    assert metric.compute() == 10 * 2**24 + 10, "in float32 the ones are lost"
    half = train.MAE()
    half.update(np.full(1000, 100, "float16"), np.zeros(1000, "float16"))
    assert half.compute() == 100, "the sum overflows float16"
    error = train.RMSE()
    error.update(np.full(3, 300, "float16"), np.zeros(3, "float16"))
    assert error.compute() == 300, "the square overflows float16"


def test_accuracy_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    for make, outputs, targets, value in (CASES["accuracy"], CASES["top3"]):
        classes = np.arange(7)
        expected = (
            sklearn.accuracy_score(targets, outputs.argmax(1))
            if make is train.Accuracy
            else sklearn.top_k_accuracy_score(targets, outputs, k=3, labels=classes)
        )
        assert value == pytest.approx(expected, rel=1e-12)


def test_regression_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    _, p, t, _ = CASES["rmse"]
    p, t = p.astype(float), t.astype(float)
    assert CASES["rmse"][3] == pytest.approx(math.sqrt(sklearn.mean_squared_error(t, p)))
    assert CASES["mae"][3] == pytest.approx(sklearn.mean_absolute_error(t, p))
    assert CASES["r2"][3] == pytest.approx(sklearn.r2_score(t, p))
    constant = np.ones((4, 2))
    for outputs in (constant, constant + [0, 1], np.arange(8.0).reshape(4, 2)):
        metric = train.R2()
        metric.update(outputs[:1], constant[:1])
        metric.update(outputs[1:], constant[1:])
        assert metric.compute() == pytest.approx(sklearn.r2_score(constant, outputs))


def test_perplexity_agrees_with_torch():
    torch = pytest.importorskip("torch")
    _, logits, targets, expected = CASES["perplexity, ignoring"]
    loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(targets), ignore_index=IGNORED)
    assert expected == pytest.approx(math.exp(loss.item()), rel=1e-6)


def test_r2_does_not_cancel_far_from_zero():
    t = 1e8 + np.arange(1000.0)
    metric = train.R2()
    for part in np.split(t, 10):
        metric.update(part + 1, part)
    assert metric.compute() == pytest.approx(1 - 1000 / ((t - t.mean()) ** 2).sum(), abs=1e-9)


def test_of_equal_scores_the_lower_class_comes_first():
    constant, ids = np.zeros((8, 4), "float32"), np.array([0, 1, 2, 3] * 2)
    for k in (1, 2, 3):
        metric = train.TopK(k)
        metric.update(constant, ids)
        assert metric.compute() == k / 4
    metric.reset()
    metric.update(constant * np.nan, ids)
    assert metric.compute() == 0, "a NaN is no hit"


def test_scores_that_are_nan_predict_no_class():
    """And not class 0, or whatever comes first: a model that has diverged would look as if it had learned."""
    nan = np.nan
    outputs, targets = np.array([[nan, 0.0, 1.0], [nan, nan, nan], [0.0, nan, 2.0], [0.0, 1.0, 2.0]]), [0, 0, 2, 2]
    for metric in (train.Accuracy(), train.TopK(1), train.TopK(2)):
        metric.update(outputs, np.array(targets))
        assert metric.compute() == 0.25
    binary = train.Accuracy(threshold=0.5)
    binary.update(np.array([nan, nan, 0.0, 1.0]), np.array([0, 1, 0, 1]))
    assert binary.compute() == 0.5
    for confusion, values in ((train.ConfusionMatrix(), outputs), (train.ConfusionMatrix(threshold=0), outputs[:, 1])):
        confusion.update(values, np.array([0, 0, 1, 1]))
        unknown = np.isnan(values.reshape(4, -1)).any(axis=1).sum()
        assert confusion.matrix.sum() == 4 - unknown and f"{unknown} whose outputs are NaN" in str(confusion)
        assert np.isnan([*confusion.precision, *confusion.recall, *confusion.f1, confusion.accuracy]).all()
        assert np.isnan(confusion.compute())
        confusion.reset()
        confusion.update(values[3:], np.array([1]))
        assert confusion.accuracy == float(values.ndim == 1)


def test_probabilities_as_targets():
    metric = train.Accuracy()
    metric.update(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[0.1, 0.9], [0.0, 1.0]]))
    assert metric.compute() == 0.5


@pytest.mark.parametrize(
    "make, outputs, targets, message",
    [
        (train.Accuracy, (4, 1), np.zeros(4, int), "Accuracy\\(threshold=0\\), by name 'binary_accuracy'"),
        (train.Accuracy, (4, 3), np.ones((4, 3)), "several labels at once"),
        (train.Accuracy, (4, 3), np.zeros((4, 1), int), r"outputs \(4, 3\), classes last, need targets \(4,\)"),
        (train.Accuracy, (3,), np.zeros(3, int), r"need targets \(\), got \(3,\)"),
        (lambda: train.Accuracy(threshold=0), (4, 1), np.full(4, 2), "must be 0 or 1"),
        (lambda: train.Accuracy(threshold=0), (4, 2), np.zeros(4, int), "same shape"),
        (train.RMSE, (4, 2), np.zeros((2, 4)), "rmse: expected outputs and targets of the same shape"),
        (train.RMSE, (4, 1), np.zeros((1, 4)), "same shape"),
        (lambda: train.TopK(3), (4, 3), np.zeros(4, int), "of 3 classes the target is always among 3"),
        (lambda: train.ConfusionMatrix(["a", "b"]), (4, 3), np.zeros(4, int), "3 classes, but 2 were named"),
    ],
)
def test_errors(make, outputs, targets, message):
    with pytest.raises(ValueError, match=message):
        make().update(np.zeros(outputs), targets)


def test_errors_of_class_ids():
    with pytest.raises(TypeError, match="targets must be class ids, integers, got float64"):
        train.Accuracy().update(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(IndexError, match=r"accuracy: targets must lie in 0 … 2, got -100"):
        train.Accuracy().update(np.zeros((2, 3)), np.array([0, IGNORED]))
    with pytest.raises(ValueError, match="k: expected a number of classes"):
        train.TopK(0)
    metric = train.R2()
    metric.update(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="expected 3 outputs, as in earlier batches, got 1"):
        metric.update(np.zeros((2, 1)), np.zeros((2, 1)))


def test_perplexity_of_a_hopeless_model_is_infinite():
    metric = train.Perplexity()
    metric.update(np.array([[0.0, 1000.0]]), np.array([0]))
    assert metric.compute() == math.inf


def test_metrics_by_name():
    types = {
        "accuracy": train.Accuracy, "mae": train.MAE, "mse": train.MSE, "rmse": train.RMSE, "r2": train.R2,
        "perplexity": train.Perplexity, "bits_per_character": train.BitsPerCharacter,
        "confusion": train.ConfusionMatrix, "top5": train.TopK, "top12": train.TopK,
    }  # fmt: skip
    for name, kind in types.items():
        assert type(train.metric(name)) is kind
    assert train.metric("top12").k == 12 and train.metric("top12").name == "top12"
    assert train.metric("binary_accuracy").threshold == 0
    own = train.RMSE()
    assert train.metric(own) is own and type(train.metric(train.MAE)) is train.MAE
    for name in ("accurracy", "Accuracy"):
        with pytest.raises(ValueError, match="did you mean 'accuracy'"):
            train.metric(name)
    with pytest.raises(ValueError, match="there is no 'xyz'; there are accuracy, binary_accuracy"):
        train.metric("xyz")
    with pytest.raises(TypeError, match="expected a name, a Metric or a function"):
        train.metric(3)


def test_a_metric_of_ones_own():
    class Bias(train.Metric):
        name, average = "bias", "elements"

        def update(self, outputs, targets):
            self.add(error=outputs - targets, count=targets.size)

        def compute(self):
            return self.ratio("error", "count")

    bias = train.metric(Bias)
    bias.update(Tensor([1.0, 2.0]), np.zeros(2, "float32"))
    bias.update(Tensor([6.0]), np.zeros(1, "float32"))
    assert bias.compute() == 3 and repr(bias) == "bias 3 over elements"
    with pytest.raises(NotImplementedError, match=r"Metric has no update"):
        train.Metric().update(0, 0)


def test_confusion_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    logits, ids = scores(rng, 100, 5), rng.integers(0, 3, 100)  # classes 3 and 4 are never targets
    logits[:, 4] = -9  # and 4 is never predicted
    confusion = train.ConfusionMatrix()
    for begin in range(0, 100, 30):
        confusion.update(Tensor(logits[begin : begin + 30]), ids[begin : begin + 30])
    predicted = logits.argmax(1)
    assert np.array_equal(confusion.matrix, sklearn.confusion_matrix(ids, predicted, labels=range(5)))
    expected = sklearn.precision_recall_fscore_support(ids, predicted, labels=range(5), zero_division=np.nan)
    for value, other in zip((confusion.precision, confusion.recall, confusion.f1), expected):
        np.testing.assert_allclose(value, other)
    assert confusion.compute() == pytest.approx(sklearn.f1_score(ids, predicted, average="macro", zero_division=0))
    assert confusion.accuracy == pytest.approx(sklearn.accuracy_score(ids, predicted))


def test_confusion_shows_names(device):
    confusion = train.ConfusionMatrix(["<no>", "yes"], threshold=0, ignore_index=-1)
    assert confusion.matrix.tolist() == [[0, 0], [0, 0]] and math.isnan(confusion.compute())
    confusion.update(Tensor([2.0, -1.0, 3.0, 1.0], device=device), np.array([1, 0, 0, -1]))
    assert confusion.matrix.tolist() == [[1, 1], [0, 1]]
    lines = str(confusion).splitlines()
    assert lines[0].split() == ["target", "\\", "predicted", "<no>", "yes", "precision", "recall", "F1", "count"]
    assert lines[1].split() == ["<no>", "1", "1", "1.000", "0.500", "0.667", "2"]
    assert lines[2].split() == ["yes", "0", "1", "0.500", "1.000", "0.667", "1"]
    assert len({len(line) for line in lines[:3]}) == 1, "columns are aligned"
    assert "&lt;no&gt;" in confusion._repr_html_()
    assert train.ConfusionMatrix(3).classes == ["0", "1", "2"]
