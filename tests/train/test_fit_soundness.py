"""train.fit, evaluate, predict: what would give a wrong number without a word."""

from functools import partial

import numpy as np
import pytest
from fit_case import SEQUENCES, STREAM, Stateful, X, Y, assert_identical, network, quiet
from support.strict import STRICT

from tinygrad_gru import Tensor, data, manual_seed, nn, ops, optim, train
from tinygrad_gru.train import CheckpointError

CLASSES = np.array([0, 1, 0, 0, 2, 1, 2, 2, 2, 0])
WEIGHT = np.array([1.0, 5.0, 0.2])
LOSSES = {
    "ignore_index": (nn.CrossEntropyLoss(ignore_index=2), {"ignore_index": 2}),
    "class weights": (nn.CrossEntropyLoss(WEIGHT), {"weight": WEIGHT}),
    "both, a partial": (
        partial(ops.cross_entropy, weight=WEIGHT.tolist(), ignore_index=0), {"weight": WEIGHT, "ignore_index": 0},
    ),
}  # fmt: skip


def expected_loss(scores, weight=None, ignore_index=None):
    """Σ w L / Σ w over all targets that count, by the definition."""
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    w = (np.ones(10) if weight is None else weight[CLASSES]) * [id_ != ignore_index for id_ in CLASSES]
    return float((-w * log_p[np.arange(10), CLASSES]).sum() / w.sum())


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_over_some_targets_does_not_depend_on_the_batches(name, backend):
    loss, settings = LOSSES[name]
    manual_seed(0)
    model = nn.Linear(3, 3)
    expected = expected_loss(X[:10].astype("float32") @ model.W.numpy() + model.b.numpy(), **settings)
    model.to(backend)
    for batch_size in (10, 4):
        given = {"batch_size": batch_size, "metrics": [train.MeanLoss(loss, "same")]}
        values = train.evaluate(model, loss, (X[:10], CLASSES), **given)
        assert list(values.values()) == [pytest.approx(expected, rel=1e-5)] * 2


@pytest.mark.parametrize("name", LOSSES)
def test_accumulated_gradients_of_a_mean_over_some_targets_are_those_of_one_batch(name):
    loss, _ = LOSSES[name]
    weights, losses = [], []
    for batch_size, accumulate in ((10, 1), (4, 3)):
        manual_seed(0)
        model = nn.Linear(3, 3)
        history = quiet(
            model, loss, (X[:10], CLASSES), steps=2, batch_size=batch_size, accumulate=accumulate, seed=None,
            optimizer="sgd", lr=1.0,
        )  # fmt: skip
        weights.append(model.W.numpy())
        losses.append([history["loss"], [epoch["loss"] for epoch in history.epochs]])
    np.testing.assert_allclose(*weights, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_step_without_a_target_that_counts_changes_nothing():
    model = nn.Linear(3, 3)
    before = model.W.numpy()
    loss, settings = nn.CrossEntropyLoss(ignore_index=1), {"batch_size": 8, "accumulate": 2, "optimizer": "sgd"}
    history = quiet(model, loss, (X, np.ones(50, int)), steps=2, **settings)
    assert np.array_equal(model.W.numpy(), before) and history["loss"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", [nn.MSELoss(reduction="sum"), partial(ops.mse, reduction="none")])
def test_a_loss_that_is_no_mean_is_refused(loss):
    for call in (partial(quiet, steps=1), train.evaluate):
        with pytest.raises(ValueError, match="mean over the targets, by which batches are weighted"):
            call(network(), loss, (X, Y))


@pytest.mark.parametrize("metrics", [["mae", train.MeanLoss(ops.mse, "mae")], [train.MeanLoss(ops.mae, "loss")]])
def test_two_values_of_one_name_are_refused(metrics):
    with pytest.raises(ValueError, match="would be two values of one record"):
        train.evaluate(network(), ops.mse, (X, Y), metrics=metrics)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_generator_may_write_each_batch_into_the_same_arrays(accumulate):
    def batches(copies):
        x, y = np.empty((5, 3), "float32"), np.empty((5, 2), "float32")
        for start in range(0, 50, 5):
            x[:], y[:] = X[start : start + 5], Y[start : start + 5]
            yield (x.copy(), y.copy()) if copies else (x, y)

    models = [network(), network()]
    for model, copies in zip(models, (True, False)):
        manual_seed(3)
        quiet(model, ops.mse, batches(copies), epochs=1, accumulate=accumulate, lr=0.1)
    assert_identical(*models)


def test_a_carried_state_is_detached_between_accumulated_batches():
    history = quiet(Stateful(), ops.mse, STREAM, epochs=2, accumulate=3, carry_state=True)
    assert history["loss"].size == 8


def test_a_layer_that_was_replaced_after_the_optimizer_was_made_is_told():
    model = network()
    sgd = optim.SGD(model.parameters(), lr=0.1)
    model[3] = nn.Linear(8, 2)
    with pytest.raises(ValueError, match=r"has not the parameter layers\.3\.W of the model, and has others"):
        quiet(model, ops.mse, (X, Y), steps=1, optimizer=sgd)


def test_a_carried_state_of_a_resumed_run_is_a_state(tmp_path):
    """The model may write `state.detach()`, and name the parts of a state."""

    class Named(nn.Module):
        def __init__(self):
            self.lstm, self.rest = nn.LSTM(3, 4), nn.Sequential(nn.GRU(4, 4), nn.LSTM(4, 1), returns_state=True)

        def forward(self, x, state=None):
            if state is not None:
                assert state["first"].detach().h is not None and state["others"].detach()[1].c is not None
            y, first = self.lstm(x, None if state is None else state["first"])
            y, others = self.rest(y, None if state is None else state["others"])
            return y, {"first": first, "others": others}

    for steps in (3, 9):
        history = quiet(Named(), ops.mse, STREAM, steps=steps, carry_state=True, folder=tmp_path, resume=True)
    assert history["loss"].size == 9


class Scaled(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self):
        self.scale = nn.Parameter(np.ones(1), dtype="float32")

    def forward(self, outputs, targets):
        return ops.mse(outputs * self.scale, targets)


def test_parameters_of_a_loss_are_trained_scaled_back_and_saved(tmp_path):
    scales = {}
    for precision in ("float32", "float16"):
        model, loss = network(dropout=0), Scaled()
        quiet(model, loss, (X, Y), steps=12, lr=0.1, optimizer="sgd", precision=precision)
        scales[precision] = loss.scale.item()
    assert scales["float32"] != 1 and scales["float16"] == pytest.approx(scales["float32"], rel=0.02)
    model, whole, loss = network(dropout=0), Scaled(), Scaled()
    quiet(model, whole, (X, Y), steps=6)
    for steps in (3, 6):
        model, loss = network(dropout=0), Scaled()
        quiet(model, loss, (X, Y), steps=steps, folder=tmp_path, resume=True)
    assert loss.scale.item() == whole.scale.item() != 1
    before = loss.scale.item()
    train.find_lr(model, loss, (X, Y), steps=5)
    assert loss.scale.item() == before


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"clip_norm": 1.0}, {"optimizer": "sgd"}, {"metrics": ["mae"]}])
def test_a_resumed_run_does_not_ignore_another_setting(change, tmp_path):
    quiet(network(), ops.mse, (X, Y), steps=2, folder=tmp_path)
    with pytest.raises(CheckpointError, match="of a run with other settings"):
        quiet(network(), ops.mse, (X, Y), steps=4, folder=tmp_path, resume=True, **change)


@pytest.mark.parametrize("targets", [None, np.zeros(40, int)])
def test_predictions_at_every_step_are_not_joined_along_time(targets):
    batches = data.SequenceBatches([s[: 2 + k % 5] for k, s in enumerate(SEQUENCES)], targets, batch_size=8)
    with pytest.raises(ValueError, match=r"not one for each of 8 sequences: put nn.LastStep\(\)"):
        train.predict(nn.GRU(3, 2), batches)


def test_the_end_is_told_to_every_callback():
    told = []

    class Raises(train.Callback):
        def on_train_end(self, loop):
            told.append("first")
            raise RuntimeError("first")

    callbacks = [Raises(), train.LambdaCallback(on_train_end=lambda loop: told.append("second"))]
    with pytest.raises(RuntimeError, match="first"):
        quiet(network(), ops.mse, (X, Y), steps=1, callbacks=callbacks)
    assert told == ["first", "second"]


def test_a_metric_may_count_by_the_size_of_a_tensor_and_return_any_number(tmp_path):
    class Bias(train.Metric):
        name = "bias"

        def update(self, outputs, targets):
            self.add(error=outputs - targets, count=targets.size)

        def compute(self):
            return np.float32(self.ratio("error", "count"))

    model = network()
    history = quiet(model, ops.mse, (X, Y), epochs=1, validation=(X, Y), metrics=[Bias()], folder=tmp_path)
    expected = (train.predict(model, X) - Y).mean()
    assert history.last["validation_bias"] == pytest.approx(expected, rel=1e-4)


def test_a_run_goes_on_on_another_device(tmp_path):
    models = [network(dropout=0), network(dropout=0)]
    settings = {"metrics": ["r2"], "validation": (X, Y), "accumulate": 2}
    histories = []
    for name, model, devices in zip("ab", models, (("numpy", "numpy"), ("numpy", STRICT))):
        for epochs, device in zip((1, 3), devices):
            callbacks = [train.WeightAverage(0.9)]
            given = {"epochs": epochs, "callbacks": callbacks, "folder": tmp_path / name, "resume": True}
            histories.append(quiet(model.to(device), ops.mse, (X, Y), **settings, **given))
    np.testing.assert_allclose(histories[3]["validation_r2"], histories[1]["validation_r2"], rtol=1e-5)


@pytest.mark.parametrize(("value", "expected"), [(np.float32(0.5), 0.5), (Tensor(0.5), 0.5), (None, None)])
def test_evaluations_of_a_loop_are_numbers(value, expected, tmp_path):
    model = network()
    trainer = train.Trainer(model, ops.mse, optim.SGD(model.parameters(), lr=0.1), [(X, Y)])
    values = {} if value is None else {"validation_loss": value}
    loop = train.Loop(trainer, steps=2, evaluate=lambda: values, folder=tmp_path)
    if expected is None:
        with pytest.raises(ValueError, match="evaluate: it must return the loss"):
            loop.run(train.Progress())
    else:
        assert loop.run(train.Progress()) and loop.history.last["validation_loss"] == expected
